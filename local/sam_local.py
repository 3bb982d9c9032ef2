"""`make sam-local`: run every sample event with `sam local invoke`, and the API with `sam local start-api`.

The functions run in Docker containers, against a new local environment. SAM_LOCAL_IMAGE replaces AWS's image. The
check compares the functions' responses, because `sam local invoke` also succeeds if its function fails.
"""

import argparse
import json
import logging
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import boto3
import httpx

from local import stack
from local.environment import EnvironmentConfig, LocalEnvironment, running_environment
from local.invoke import logical_id
from local.ports import free_port, is_listening
from local.processes import StartFailed, finish, start, stop, wait_until
from local.run import STATE_DIR
from local.sample_events import EVENTS, operation_of, read_sample

# All others are 200. The account acme has never subscribed, so it has no portal. It has no webhook endpoint either.
EXPECTED_STATUSES = {
    "portal": 400,
    "unknown_route": 404,
    "get_webhook_endpoint": 404,
    "update_webhook_endpoint": 404,
    "delete_webhook_endpoint": 404,
    "rotate_webhook_secret": 404,
    "send_test_event": 404,
    "list_webhook_deliveries": 404,
    "replay_events": 404,
    "redeliver": 404,
}
# Successful responses of functions that a queue, a stream or a schedule invokes.
EVENT_SOURCE_RESPONSES: dict[str, object] = {
    "deliver_events": {"batchItemFailures": []},
    "dispatch_events": None,
    "reconcile": None,
    "request_deliveries": None,
    "stripe_eventbridge": {"batchItemFailures": []},
}
API_REQUESTS = {"/v1/billing": 200, "/v1/billing/nothing": 404}


def main() -> int:
    """Print one line per sample event and request. Returns 1 if any response is unexpected."""
    parser = argparse.ArgumentParser(prog="python -m local.sam_local", description="Run the functions in containers.")
    parser.add_argument(
        "--hold", action="store_true", help="start the environment and print options for your own sam local commands"
    )
    hold = parser.parse_args().hold
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        gateway = docker_gateway()
        with (
            running_environment(EnvironmentConfig(STATE_DIR, free_port(), free_port())) as environment,
            exposed_ports(gateway, environment) as host,
        ):
            options = sam_options(environment, host)
            events = sorted(EVENTS.rglob("*.json"))
            if hold:
                hold_environment(environment, [write_sample(environment, event) for event in events], options)
            succeeded = [check_function(environment, event, options) for event in events]
            with running_api(environment, options) as url:
                succeeded += [check_request(environment, url, path) for path in API_REQUESTS]
    except StartFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if all(succeeded) else 1


# --- Network of the containers ----------------------------------------------------------------------------------------
def docker_gateway() -> str:
    """Return this machine's address in Docker's bridge network. Raises StartFailed without a Docker daemon."""
    docker = shutil.which("docker")
    if docker is None:
        raise StartFailed("sam local needs Docker. Install the docker command.")
    command = [docker, "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a constant command
    if done.returncode != 0:
        raise StartFailed(f"sam local needs a running Docker daemon: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def exposed_ports(gateway: str, environment: LocalEnvironment) -> Iterator[str]:
    """Expose the environment's ports to containers. Yields the host name that reaches them."""
    if not _is_local_address(gateway):
        # Docker in a virtual machine, as on macOS, has a host name for the host's loopback interface.
        yield "host.docker.internal"
        return
    ports = [url.rsplit(":", 1)[1] for url in (environment.env["AWS_ENDPOINT_URL"], environment.stripe_url)]
    command = [sys.executable, "-m", "local.forward", gateway, *ports]
    forward = start("forward", command, environment.env, environment.state_dir / "logs/forward.log")
    try:
        wait_until(lambda: all(is_listening(int(port), gateway) for port in ports), forward)
        yield gateway
    finally:
        stop([forward])


def _is_local_address(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


# --- Commands of sam local --------------------------------------------------------------------------------------------
def sam_options(environment: LocalEnvironment, host: str) -> list[str]:
    """Return the common options of `sam local invoke` and `sam local start-api`. Writes the --env-vars file."""
    lambda_client = boto3.client("lambda", **stack.client_options(environment.env))
    endpoints = {
        name: environment.env[name].replace("127.0.0.1", host) for name in ("AWS_ENDPOINT_URL", "STRIPE_API_BASE")
    }
    variables = {
        function: lambda_client.get_function_configuration(FunctionName=name)["Environment"]["Variables"] | endpoints
        for function, name in stack.function_names(environment.env, stack.STACK).items()
    }
    env_vars = environment.state_dir / "env-vars.json"
    env_vars.write_text(json.dumps(variables, indent=2))
    image = os.environ.get("SAM_LOCAL_IMAGE")
    return [
        *("--template", str(stack.BUILD_DIR / "template.yaml")),
        *("--parameter-overrides", f"Architecture={stack.architecture()}"),
        *("--env-vars", str(env_vars)),
        *(("--invoke-image", image, "--skip-pull-image") if image else ()),
    ]


def hold_environment(environment: LocalEnvironment, samples: list[Path], options: list[str]) -> NoReturn:
    """Print sample files and options for sam local, and wait until the environment ends."""
    print("Sample events:", *samples, sep="\n  ")
    print(f"Options for `sam local invoke` and `sam local start-api`:\n  {shlex.join(options)}", flush=True)
    environment.wait()


def write_sample(environment: LocalEnvironment, event: Path) -> Path:
    """Write a sample event for this environment. A signed event is valid for five minutes."""
    sample = read_sample(
        event,
        secret_key=environment.accounts["acme"]["secret_key"],
        webhook_secret=environment.webhook_secret,
        now=datetime.now(UTC),
    )
    path = environment.state_dir / "events" / event.relative_to(EVENTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sample))
    return path


def check_function(environment: LocalEnvironment, event: Path, options: list[str]) -> bool:
    """Invoke the function of a sample event in a container. Returns True if its status is as expected."""
    name = event.relative_to(EVENTS).with_suffix("")
    operation = operation_of(event)
    command = [
        str(stack.SAM),
        "local",
        "invoke",
        logical_id(operation),
        "--event",
        str(write_sample(environment, event)),
        *options,
    ]
    logs = environment.state_dir / "logs/sam-local" / name
    child = start(
        f"sam local invoke {name}", command, environment.env, logs.with_suffix(".log"), logs.with_suffix(".out")
    )
    try:
        output = finish(child)
    finally:
        stop([child])
    status = _event_source_status(operation, output) if operation in EVENT_SOURCE_RESPONSES else _status(output)
    return _report_status(str(name), status, EXPECTED_STATUSES.get(operation, 200))


def _event_source_status(operation: str, output: str) -> int | None:
    """Return 200 if the function succeeded, else None."""
    try:
        response = json.loads(output.strip().rpartition("\n")[2])
    except json.JSONDecodeError:
        return None
    return 200 if response == EVENT_SOURCE_RESPONSES[operation] else None


def _status(output: str) -> int | None:
    """Return the status of an API response in the last line of the output, or None if there is no response."""
    try:
        response = json.loads(output.strip().rpartition("\n")[2])
        json.loads(response["body"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return None
    return int(response["statusCode"])


@contextmanager
def running_api(environment: LocalEnvironment, options: list[str]) -> Iterator[str]:
    """Run the API with `sam local start-api`. Yields its URL."""
    port = free_port()
    command = [str(stack.SAM), "local", "start-api", "--port", str(port), "--warm-containers", "LAZY", *options]
    child = start(
        "sam local start-api", command, environment.env, environment.state_dir / "logs/sam-local-start-api.log"
    )
    try:
        wait_until(lambda: is_listening(port), child)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop([child])


def check_request(environment: LocalEnvironment, url: str, path: str) -> bool:
    """Send a GET request to the API. Returns True if its status is as expected."""
    key = environment.accounts["acme"]["secret_key"]
    response = httpx.get(f"{url}{path}", headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
    return _report_status(f"GET {path}", response.status_code, API_REQUESTS[path])


def _report_status(name: str, status: int | None, expected: int) -> bool:
    print(f"{name}: {status or 'no response'}{'' if status == expected else f', not {expected}'}", flush=True)
    return status == expected


if __name__ == "__main__":
    sys.exit(main())
