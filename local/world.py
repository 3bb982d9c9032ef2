"""The world without accounts: the stack deployed to an AWS emulator, an HTTP front and a Stripe simulator.

`running_world` brings it up as an operator would - sam build, sam deploy, billing setup, accounts and keys - and
takes it down again. `make run` and the end-to-end tests both stand on it.
"""

import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import httpx

from local import emulator, stack
from local.processes import Child, StartFailed, finish, start, stop, wait_until

ACCOUNTS = ("acme", "globex")
CODE = "code"
STRIPE_ITSELF = "https://api.stripe.com"

_SIMULATOR_KEY = "sk_test_simulator"  # the simulator takes any test key
_BILLING = Path(sys.executable).parent / "billing"
_RUN_JSON, _RUN_ENV = _DESCRIPTIONS = "run.json", "run.env"
_LOCK = "lock"
_SERVICES = {"emulator", "simulator", "front"}
_ANSWERS = "answers"
"""What was answered, each key once among it: private, and gone with the world."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnotherStripe:
    """A Stripe in the simulator's place. An empty `api_base` means Stripe itself."""

    api_key: str
    api_base: str
    webhook_secret: str


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """What to bring up, and where. `aws_endpoint_url` and `stripe` are used in place of an emulator and a simulator.

    A rate limit that is None is the template's own.
    """

    state_dir: Path
    port: int
    stripe_port: int
    aws_endpoint_url: str | None = None
    stripe: AnotherStripe | None = None
    rate_limit_per_minute: int | None = None
    rate_limit_per_hour: int | None = None

    @property
    def api_url(self) -> str:
        """Where the front serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def webhook_url(self) -> str:
        """Where Stripe sends events; "" where it is another Stripe, which cannot reach this machine."""
        return "" if self.stripe else f"{self.api_url}/v1/billing/webhooks"

    @property
    def stripe_api_base(self) -> str:
        """Stripe's address for the functions and the operator."""
        return self.stripe.api_base if self.stripe else f"http://127.0.0.1:{self.stripe_port}"


@dataclass(frozen=True, slots=True)
class World:
    """A running local world. `env` is what a command needs to talk to it; `services` are its processes by name."""

    state_dir: Path
    api_url: str
    stripe_url: str
    webhook_secret: str
    accounts: Mapping[str, Mapping[str, str]]
    env: Mapping[str, str]
    services: dict[str, Child]

    def restart(self, name: str) -> None:
        """End one of the services and start it anew, without the others noticing more than that."""
        child = self.services[name]
        stop([child])
        self.services[name] = start(name, child.command, child.env, child.log)

    def wait(self) -> NoReturn:
        """Block until one of the services ends, which none should. Raises StartFailed telling which."""
        while True:
            for child in self.services.values():
                if child.process.poll() is not None:
                    raise child.failed()
            time.sleep(0.2)


@contextmanager
def running_world(config: WorldConfig) -> Iterator[World]:
    """Bring the world up, and down again on leaving. Raises StartFailed; no process stays in any case."""
    _require_free("PORT", config.port)
    if config.stripe is None:
        _require_free("STRIPE_PORT", config.stripe_port)
        if config.port == config.stripe_port:
            raise StartFailed(f"PORT and STRIPE_PORT are both {config.port}: the API and Stripe need one each.")
    if config.aws_endpoint_url:
        _require_answer("AWS_ENDPOINT_URL", config.aws_endpoint_url)
    if config.stripe and config.stripe.api_base:
        _require_answer("STRIPE_API_BASE", config.stripe.api_base)
    with ExitStack() as cleanup:
        cleanup.enter_context(_state_of_its_own(config.state_dir))
        rising = _Rising(config, _environment(config))
        children = rising.children
        cleanup.callback(lambda: stop(children.values()))
        cleanup.callback(_LOGGER.info, "Stopping.")
        with _locked(stack.BUILD_DIR.parent):
            with _step("Build the stack"):
                _build(rising)
            with _step("Deploy it to the AWS emulator"):
                _deploy(rising)
        with _step("Set up Stripe, accounts and keys"):
            accounts = _provision(rising)
        for name in children.keys() - _SERVICES:
            del children[name]
        world = World(
            state_dir=config.state_dir,
            api_url=config.api_url,
            stripe_url=config.stripe_api_base or STRIPE_ITSELF,
            webhook_secret=stack.webhook_secret(rising.env, stack.STACK),
            accounts=accounts,
            env=rising.env,
            services=children,
        )
        _write_down(world)
        yield world


# --- Steps ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Rising:
    """A world that is coming up, with all that was started for it."""

    config: WorldConfig
    env: Mapping[str, str]
    children: dict[str, Child] = field(default_factory=dict)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        answer: str | None = None,
    ) -> Child:
        log = self.config.state_dir / "logs" / f"{name.replace(' ', '-')}.log"
        answers = self.config.state_dir / _ANSWERS
        answers.mkdir(mode=0o700, exist_ok=True)
        self.children[name] = start(name, command, env or self.env, log, output=answers / answer if answer else None)
        return self.children[name]

    def module(self, name: str, module: str, *options: str, answer: str | None = None) -> Child:
        return self.start(name, [sys.executable, "-m", module, *options], answer=answer)


def _build(rising: _Rising) -> None:
    """Build the stack; the emulator and the simulator come up meanwhile."""
    config = rising.config
    build = None if stack.is_built() else rising.start("sam build", stack.build_command())
    if config.aws_endpoint_url is None:
        _start_emulator(rising)
    if config.stripe is None:
        rising.module("simulator", "stripe_simulator", "--port", str(config.stripe_port))
    if build:
        finish(build)
    if started := rising.children.get("emulator"):
        emulator.wait_until_healthy(rising.env["AWS_ENDPOINT_URL"], started)
    if simulator := rising.children.get("simulator"):
        wait_until(lambda: listens(config.stripe_port), simulator)


def _deploy(rising: _Rising) -> None:
    config = rising.config
    parameters = {
        "Architecture": stack.architecture(),
        "AllowedOrigins": f"http://localhost:3000,{config.api_url}",
        "StripeApiBase": config.stripe_api_base,
        "AllowPromotionCodes": "true",
        # Nothing comes by it: no Stripe knows this bus. But its function is there to be invoked.
        "StripeEventSource": "aws.partner/stripe.com/ed_local",
        "LogLevel": "DEBUG",
        # No identity provider signs: `billing sessions token` does, with a secret of this world's own.
        "SessionIssuer": "http://localhost:3000",
        "SessionAudience": stack.STACK,
        "SessionRoleClaim": "role",
    }
    limits = {"RateLimitPerMinute": config.rate_limit_per_minute, "RateLimitPerHour": config.rate_limit_per_hour}
    parameters |= {name: str(limit) for name, limit in limits.items() if limit is not None}
    if config.aws_endpoint_url:
        stack.delete(rising.env, stack.STACK)
    finish(rising.start("sam deploy", stack.deploy_command(parameters)))


def _provision(rising: _Rising) -> dict[str, dict[str, str]]:
    """What an operator does once: products and webhook endpoint; accounts with their credentials, meanwhile."""
    config = rising.config
    without_endpoint = [] if config.webhook_url else ["--no-webhook-endpoint"]
    setup = rising.start("billing setup", [_BILLING, "setup", *without_endpoint])
    provision = rising.module("provision", "local.provision", *ACCOUNTS, answer="accounts.json")
    code = config.state_dir / CODE
    code.mkdir()
    rising.module("front", "local.front", "--port", str(config.port), "--stack", stack.STACK, "--code", str(code))
    accounts: dict[str, dict[str, str]] = json.loads(finish(provision))
    finish(setup)
    wait_until(lambda: listens(config.port), rising.children["front"])
    return accounts


def _write_down(world: World) -> None:
    """Say where everything is: run.json for programs, run.env for the operator's command in another shell."""
    run = {
        "api_url": world.api_url,
        "stripe_url": world.stripe_url,
        "webhook_secret": world.webhook_secret,
        "accounts": world.accounts,
    }
    _write_private(world.state_dir / _RUN_JSON, json.dumps(run, indent=2))
    shared = {name: value for name, value in world.env.items() if name.startswith(("AWS_", "BILLING_", "STRIPE_"))}
    _write_private(world.state_dir / _RUN_ENV, "\n".join(f"{name}={value}" for name, value in shared.items()))


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")


# --- Environments -----------------------------------------------------------------------------------------------------
def _environment(config: WorldConfig) -> dict[str, str]:
    """This process's environment with its AWS replaced by the emulator and its Stripe by the configured one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STRIPE_", "SAM_"))}
    return inherited | {
        # sam build takes the first python3.13 that it finds.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.2",
        "AWS_ENDPOINT_URL": config.aws_endpoint_url or f"http://127.0.0.1:{free_port()}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        # No profile of this machine: its credentials must not reach an emulator, nor its settings us.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "BILLING_STACK": stack.STACK,
        "BILLING_WEBHOOK_URL": config.webhook_url,
        "STRIPE_API_BASE": config.stripe_api_base,
        "STRIPE_API_KEY": config.stripe.api_key if config.stripe else _SIMULATOR_KEY,
        **({"STRIPE_WEBHOOK_SECRET": config.stripe.webhook_secret} if config.stripe else {}),
    }


def _start_emulator(rising: _Rising) -> None:
    scratch = rising.config.state_dir / "tmp"
    scratch.mkdir()
    port = int(rising.env["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    rising.start("emulator", emulator.COMMAND, emulator.environment(port, scratch))


@contextmanager
def _state_of_its_own(state_dir: Path) -> Iterator[None]:
    """An empty state directory that no other run uses meanwhile; afterwards it holds the logs."""
    with _locked(state_dir, waiting=False):
        for entry in state_dir.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()
        try:
            yield
        finally:
            for name in _DESCRIPTIONS:
                (state_dir / name).unlink(missing_ok=True)
            for name in ("tmp", CODE, _ANSWERS):
                shutil.rmtree(state_dir / name, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, waiting: bool = True) -> Iterator[None]:
    """Keep a folder from other runs. Raises StartFailed if one has it and `waiting` is false."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if waiting else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"Another run uses {folder} already. Stop it first.") from None
        yield


# --- Ports ------------------------------------------------------------------------------------------------------------
def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_free(variable: str, port: int) -> None:
    with socket.socket() as probe:
        # As a server sets it: connections of a run that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            hint = f"Choose another with {variable}, as in `{variable}={port + 100} make run`"
            raise StartFailed(f"Port {port} cannot be used: {error.strerror}. {hint}.") from error


def _require_answer(variable: str, url: str) -> None:
    try:
        httpx.get(url, trust_env=False)
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise StartFailed(f"Nothing answers at {variable}={url}: {error}") from error


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


@contextmanager
def _step(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    _LOGGER.info("%s: %.1f s", what, time.monotonic() - began)
