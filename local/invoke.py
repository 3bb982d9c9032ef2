"""`make invoke FUNCTION=checkout EVENT=events/checkout.json`: one built function against the running local world."""

import argparse
import json
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import stack
from local.run import STATE_DIR
from local.runtime_api import ExecutionEnvironment, Result, make_runtime_dir
from local.sample_events import read_sample
from local.world import CODE


def logical_id(operation: str) -> str:
    """The template's name of the function in functions/<operation>."""
    return "".join(word.capitalize() for word in operation.split("_")) + "Function"


def operations() -> list[str]:
    """The folders of functions/."""
    return sorted(path.parent.name for path in stack.ROOT.glob("functions/*/app.py"))


def _sample(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path


def read_run_env(state_dir: Path) -> dict[str, str]:
    """How to talk to the running world. Raises FileNotFoundError when none runs."""
    lines = (state_dir / "run.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def invoke(operation: str, event: Mapping[str, Any], env: Mapping[str, str], state_dir: Path) -> Result:
    """Run the deployed function of an operation once, in a new execution environment; it logs to standard error."""
    name = stack.function_names(env, stack.STACK)[logical_id(operation)]
    function = stack.fetch_function(env, name, state_dir / CODE)
    environment = ExecutionEnvironment(function, make_runtime_dir(state_dir / CODE / "runtime"), sys.stderr.fileno())
    try:
        return environment.invoke(event, str(uuid.uuid4()))
    finally:
        environment.close()


def main() -> int:
    """Print the function's answer. Returns 1 when it failed."""
    parser = argparse.ArgumentParser(prog="make invoke", description="Run one built function on a sample event.")
    parser.add_argument("operation", choices=operations(), metavar="FUNCTION", help="a folder of functions/")
    parser.add_argument("event", type=_sample, metavar="EVENT", help="a file of events/ or events/stripe/")
    arguments = parser.parse_args()
    try:
        env = read_run_env(STATE_DIR)
        run = json.loads((STATE_DIR / "run.json").read_text())
    except FileNotFoundError:
        print("No local world is running. Start one with `make run` in another terminal.", file=sys.stderr)
        return 1
    event = read_sample(
        arguments.event,
        secret_key=run["accounts"]["acme"]["secret_key"],
        # Not run.json's: it may have been rotated since.
        webhook_secret=stack.webhook_secret(env, stack.STACK),
        now=datetime.now(UTC),
    )
    result = invoke(arguments.operation, event, env, STATE_DIR)
    print(json.dumps(result.payload, indent=2))
    return 0 if result.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
