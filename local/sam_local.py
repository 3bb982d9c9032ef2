"""`make sam-local`: every sample event through `sam local invoke`, and the API through `sam local start-api`.

The functions run in Docker containers, against a local world brought up for it. SAM_LOCAL_IMAGE names an image to use
in place of AWS's own. What counts is what a function answers: `sam local invoke` succeeds even when its function fails.
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
from local.invoke import logical_id
from local.processes import StartFailed, finish, start, stop, wait_until
from local.run import STATE_DIR
from local.sample_events import read_sample
from local.world import World, WorldConfig, free_port, listens, running_world

EVENTS = stack.ROOT / "events"
# acme has never subscribed, and no route is called nothing.
STATUSES = {"portal": 400, "unknown_route": 404}
# What functions of a queue answer once all is done.
QUEUED: dict[str, object] = {"reconcile": None, "stripe_eventbridge": {"batchItemFailures": []}}
REQUESTS = {"/v1/billing": 200, "/v1/billing/nothing": 404}


def main() -> int:
    """Print one line per sample event and request. Returns 1 if any was not answered as it should be."""
    parser = argparse.ArgumentParser(prog="python -m local.sam_local", description="Run the functions in containers.")
    parser.add_argument(
        "--hold", action="store_true", help="only prepare for your own sam local commands, until Ctrl-C"
    )
    hold = parser.parse_args().hold
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        gateway = docker_gateway()
        with running_world(WorldConfig(STATE_DIR, free_port(), free_port())) as world, lent(gateway, world) as host:
            options = sam_options(world, host)
            events = sorted(EVENTS.rglob("*.json"))
            if hold:
                wait_with(world, [filled(world, event) for event in events], options)
            answered = [invoked(world, event, options) for event in events]
            with serving(world, options) as url:
                answered += [requested(world, url, path) for path in REQUESTS]
    except StartFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if all(answered) else 1


# --- How containers reach this machine --------------------------------------------------------------------------------
def docker_gateway() -> str:
    """This machine's address as containers see it. Raises StartFailed without a Docker daemon."""
    docker = shutil.which("docker")
    if docker is None:
        raise StartFailed("sam local needs Docker, and there is no docker command.")
    command = [docker, "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a constant command
    if done.returncode != 0:
        raise StartFailed(f"sam local needs a running Docker daemon: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def lent(gateway: str, world: World) -> Iterator[str]:
    """Lend the world's ports to containers; yields the host name under which they find them."""
    if not _is_ours(gateway):
        # Docker in a virtual machine, as on macOS, brings a name that leads to our loopback interface.
        yield "host.docker.internal"
        return
    ports = [url.rsplit(":", 1)[1] for url in (world.env["AWS_ENDPOINT_URL"], world.stripe_url)]
    command = [sys.executable, "-m", "local.forward", gateway, *ports]
    forward = start("forward", command, world.env, world.state_dir / "logs/forward.log")
    try:
        wait_until(lambda: all(listens(int(port), gateway) for port in ports), forward)
        yield gateway
    finally:
        stop([forward])


def _is_ours(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


# --- What sam local needs to know -------------------------------------------------------------------------------------
def sam_options(world: World, host: str) -> list[str]:
    """The options that `sam local invoke` and `sam local start-api` have in common; writes the --env-vars file."""
    lambda_client = boto3.client("lambda", **stack.aws(world.env))
    there = {name: world.env[name].replace("127.0.0.1", host) for name in ("AWS_ENDPOINT_URL", "STRIPE_API_BASE")}
    variables = {
        function: lambda_client.get_function_configuration(FunctionName=name)["Environment"]["Variables"] | there
        for function, name in stack.function_names(world.env, stack.STACK).items()
    }
    env_vars = world.state_dir / "env-vars.json"
    env_vars.write_text(json.dumps(variables, indent=2))
    image = os.environ.get("SAM_LOCAL_IMAGE")
    return [
        *("--template", str(stack.BUILD_DIR / "template.yaml")),
        *("--parameter-overrides", f"Architecture={stack.architecture()}"),
        *("--env-vars", str(env_vars)),
        *(("--invoke-image", image, "--skip-pull-image") if image else ()),
    ]


def wait_with(world: World, samples: list[Path], options: list[str]) -> NoReturn:
    """Say how to run sam local by hand, and wait until the world ends."""
    print("Samples:", *samples, sep="\n  ")
    print(f"Options of `sam local invoke` and `sam local start-api`:\n  {shlex.join(options)}", flush=True)
    world.wait()


def filled(world: World, event: Path) -> Path:
    """Write a sample event down as this world accepts it, for five minutes if it is signed."""
    sample = read_sample(
        event,
        secret_key=world.accounts["acme"]["secret_key"],
        webhook_secret=world.webhook_secret,
        now=datetime.now(UTC),
    )
    path = world.state_dir / "events" / event.relative_to(EVENTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sample))
    return path


def invoked(world: World, event: Path, options: list[str]) -> bool:
    """Run the function of a sample event in a container and look at its answer."""
    name = event.relative_to(EVENTS).with_suffix("")
    operation = event.stem if event.parent == EVENTS else "stripe_webhook"
    command = [str(stack.SAM), "local", "invoke", logical_id(operation), "--event", str(filled(world, event)), *options]
    logs = world.state_dir / "logs/sam-local" / name
    child = start(f"sam local invoke {name}", command, world.env, logs.with_suffix(".log"), logs.with_suffix(".out"))
    try:
        answer = finish(child)
    finally:
        stop([child])
    status = _queue_status(operation, answer) if operation in QUEUED else _status(answer)
    return _is_right(str(name), status, STATUSES.get(operation, 200))


def _queue_status(operation: str, answer: str) -> int | None:
    """200 for a message that was processed, as the API would say it; None for one that was not."""
    try:
        told = json.loads(answer.strip().rpartition("\n")[2])
    except json.JSONDecodeError:
        return None
    return 200 if told == QUEUED[operation] else None


def _status(answer: str) -> int | None:
    """The status of an API answer, which is the last line of what sam local printed; None if it is none."""
    try:
        response = json.loads(answer.strip().rpartition("\n")[2])
        json.loads(response["body"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return None
    return int(response["statusCode"])


@contextmanager
def serving(world: World, options: list[str]) -> Iterator[str]:
    """The API under `sam local start-api`; yields its address."""
    port = free_port()
    command = [str(stack.SAM), "local", "start-api", "--port", str(port), "--warm-containers", "LAZY", *options]
    child = start("sam local start-api", command, world.env, world.state_dir / "logs/sam-local-start-api.log")
    try:
        wait_until(lambda: listens(port), child)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop([child])


def requested(world: World, url: str, path: str) -> bool:
    """Ask the served API for a path and look at its answer."""
    key = world.accounts["acme"]["secret_key"]
    response = httpx.get(f"{url}{path}", headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
    return _is_right(f"GET {path}", response.status_code, REQUESTS[path])


def _is_right(what: str, status: int | None, wanted: int) -> bool:
    print(f"{what}: {status or 'no answer'}{'' if status == wanted else f', not {wanted}'}", flush=True)
    return status == wanted


if __name__ == "__main__":
    sys.exit(main())
