"""`make invoke FUNCTION=checkout EVENT=events/checkout.json`: invoke one function of the running local environment."""

import argparse
import json
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import stack
from local.environment import CODE_DIR_NAME
from local.run import STATE_DIR
from local.runtime_api import ExecutionEnvironment, InvocationResult, make_runtime_dir
from local.sample_events import read_sample


def logical_id(operation: str) -> str:
    """Return the logical id of the function in functions/<operation>."""
    return "".join(word.capitalize() for word in operation.split("_")) + "Function"


def operations() -> list[str]:
    """Return the names of the folders in functions/."""
    return sorted(path.parent.name for path in stack.ROOT.glob("functions/*/app.py"))


def _sample_path(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"file {path} does not exist")
    return path


def read_run_env(state_dir: Path) -> dict[str, str]:
    """Return the variables in run.env. Raises FileNotFoundError if no local environment is running."""
    lines = (state_dir / "run.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def invoke(operation: str, event: Mapping[str, Any], env: Mapping[str, str], state_dir: Path) -> InvocationResult:
    """Invoke an operation's deployed function once, in a new execution environment. Its logs go to standard error."""
    name = stack.function_names(env, stack.STACK)[logical_id(operation)]
    function = stack.fetch_function(env, name, state_dir / CODE_DIR_NAME)
    execution_environment = ExecutionEnvironment(
        function, make_runtime_dir(state_dir / CODE_DIR_NAME / "runtime"), sys.stderr.fileno()
    )
    try:
        return execution_environment.invoke(event, str(uuid.uuid4()))
    finally:
        execution_environment.close()


def main() -> int:
    """Print the function's result. Returns 1 if the function failed."""
    parser = argparse.ArgumentParser(prog="make invoke", description="Invoke one function with a sample event.")
    parser.add_argument("operation", choices=operations(), metavar="FUNCTION", help="name of a folder in functions/")
    parser.add_argument("event", type=_sample_path, metavar="EVENT", help="file in events/ or events/stripe/")
    arguments = parser.parse_args()
    try:
        env = read_run_env(STATE_DIR)
        run = json.loads((STATE_DIR / "run.json").read_text())
    except FileNotFoundError:
        print("No local environment is running. Start one with `make run` in another terminal.", file=sys.stderr)
        return 1
    event = read_sample(
        arguments.event,
        secret_key=run["accounts"]["acme"]["secret_key"],
        # The secret in run.json may have been rotated since.
        webhook_secret=stack.webhook_secret(env, stack.STACK),
        now=datetime.now(UTC),
    )
    result = invoke(arguments.operation, event, env, STATE_DIR)
    print(json.dumps(result.payload, indent=2))
    return 0 if result.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
