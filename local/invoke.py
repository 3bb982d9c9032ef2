"""`make invoke FUNCTION=checkout EVENT=events/checkout.json`: one built function against the running local world."""

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import boto3

from local import stack
from local.run import STATE_DIR
from local.runtime_api import BuiltFunction, invoke
from local.sample_events import read_sample


def logical_id(operation: str) -> str:
    """The template's name of the function in functions/<operation>."""
    return "".join(word.capitalize() for word in operation.split("_")) + "Function"


def read_run_env(state_dir: Path) -> dict[str, str]:
    """How to talk to the running world. Raises FileNotFoundError when none runs."""
    lines = (state_dir / "run.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def built_function(operation: str, env: Mapping[str, str]) -> BuiltFunction:
    """The function as last built, with the environment that CloudFormation gave it."""
    name = stack.function_names(env, stack.STACK)[logical_id(operation)]
    configuration = boto3.client("lambda", **stack.aws(env)).get_function_configuration(FunctionName=name)
    # SAM names a layer after its logical id, and so is the folder that it builds it into.
    layers = [layer["Arn"].split(":")[6] for layer in configuration.get("Layers", [])]
    aws_variables = {variable: value for variable, value in env.items() if variable.startswith("AWS_")}
    return BuiltFunction(
        name=name,
        arn=configuration["FunctionArn"],
        handler=configuration["Handler"],
        code_dir=stack.BUILD_DIR / logical_id(operation),
        layer_dirs=tuple(stack.BUILD_DIR / layer for layer in layers),
        environment={**configuration["Environment"]["Variables"], **aws_variables},
        timeout_seconds=configuration["Timeout"],
    )


def main() -> int:
    """Print the function's answer. Returns 1 when it failed."""
    parser = argparse.ArgumentParser(prog="make invoke", description="Run one built function on a sample event.")
    parser.add_argument("operation", help="a folder of functions/, such as checkout")
    parser.add_argument("event", type=Path, help="a file of events/ or events/stripe/")
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
        webhook_secret=run["webhook_secret"],
        now=datetime.now(UTC),
    )
    result = invoke(built_function(arguments.operation, env), event)
    print(json.dumps(result.payload, indent=2))
    return 0 if result.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
