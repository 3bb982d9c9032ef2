"""Local environment: the stack on an AWS emulator, its HTTP server and the Stripe simulator.

`running_environment` starts it with the steps of a deployment: sam build, sam deploy, billing setup, accounts and keys.
`make run` and the end-to-end tests use it.
"""

import fcntl
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import httpx

from local import emulator, stack
from local.ports import free_port, is_listening, require_free
from local.processes import Child, StartFailed, finish, start, stop, wait_until

ACCOUNTS = ("acme", "globex")
CODE_DIR_NAME = "code"
STRIPE_API_URL = "https://api.stripe.com"

_SIMULATOR_KEY = "sk_test_simulator"  # the simulator accepts any test key
_BILLING_COMMAND = Path(sys.executable).parent / "billing"
_RUN_JSON, _RUN_ENV = _RUN_FILES = "run.json", "run.env"
_LOCK = "lock"
_SERVICES = {"emulator", "simulator", "http_server"}
_OUTPUTS = "outputs"
"""Private directory for the output of commands, which contains keys. Deleted when the environment stops."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExternalStripe:
    """Stripe API to use instead of the simulator. If `api_base` is empty, it is Stripe itself."""

    api_key: str
    api_base: str
    webhook_secret: str


@dataclass(frozen=True, slots=True)
class EnvironmentConfig:
    """Configuration of a local environment.

    Attributes:
        state_dir: Directory for logs and run files. Existing content is deleted.
        port: Port of the API.
        stripe_port: Port of the Stripe simulator.
        aws_endpoint_url: Running AWS emulator to use; None starts one.
        stripe: Stripe API to use; None starts the simulator.
        rate_limit_per_minute: Limit per user or key; None keeps the template's default.
        rate_limit_per_hour: Limit of an account's users and of its secret keys; None keeps the template's default.
    """

    state_dir: Path
    port: int
    stripe_port: int
    aws_endpoint_url: str | None = None
    stripe: ExternalStripe | None = None
    rate_limit_per_minute: int | None = None
    rate_limit_per_hour: int | None = None

    @property
    def api_url(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def webhook_url(self) -> str:
        """URL of the webhook endpoint. Empty with an external Stripe, which cannot reach this machine."""
        return "" if self.stripe else f"{self.api_url}/v1/billing/webhooks"

    @property
    def stripe_api_base(self) -> str:
        """Base URL of the Stripe API for the functions and the `billing` command."""
        return self.stripe.api_base if self.stripe else f"http://127.0.0.1:{self.stripe_port}"


@dataclass(frozen=True, slots=True)
class LocalEnvironment:
    """A running local environment.

    Attributes:
        state_dir: Directory for logs and run files.
        api_url: Base URL of the API.
        stripe_url: Base URL of the Stripe API.
        webhook_secret: Newest signing secret of the webhook endpoint.
        accounts: Credentials of each account by kind.
        env: Environment variables of commands that use this environment.
        services: Long-running processes by name.
    """

    state_dir: Path
    api_url: str
    stripe_url: str
    webhook_secret: str
    accounts: Mapping[str, Mapping[str, str]]
    env: Mapping[str, str]
    services: dict[str, Child]

    def restart(self, name: str) -> None:
        """Restart one service. The other services keep running."""
        child = self.services[name]
        stop([child])
        self.services[name] = start(name, child.command, child.env, child.log)

    def wait(self) -> NoReturn:
        """Block while all services run. Raises StartFailed with the log of the first service that ends."""
        while True:
            for child in self.services.values():
                if child.process.poll() is not None:
                    raise child.failure()
            time.sleep(0.2)


@contextmanager
def running_environment(config: EnvironmentConfig) -> Iterator[LocalEnvironment]:
    """Start a local environment. All its processes end on exit and on failure.

    Raises:
        StartFailed: A port is taken, a configured service is not reachable, or a step failed.
    """
    _check_ports_and_services(config)
    with ExitStack() as cleanup:
        cleanup.enter_context(_exclusive_state_dir(config.state_dir))
        startup = _Startup(config, _child_environment(config))
        children = startup.children
        cleanup.callback(lambda: stop(children.values()))
        cleanup.callback(_LOGGER.info, "Stopping.")
        with _file_lock(stack.BUILD_DIR.parent):
            with _timed_step("Build the stack"):
                _build(startup)
            with _timed_step("Deploy the stack to the AWS emulator"):
                _deploy(startup)
        with _timed_step("Set up Stripe, accounts and keys"):
            accounts = _provision(startup)
        for name in children.keys() - _SERVICES:
            del children[name]
        environment = LocalEnvironment(
            state_dir=config.state_dir,
            api_url=config.api_url,
            stripe_url=config.stripe_api_base or STRIPE_API_URL,
            webhook_secret=stack.webhook_secret(startup.env, stack.STACK),
            accounts=accounts,
            env=startup.env,
            services=children,
        )
        _write_run_files(environment)
        yield environment


# --- Steps ------------------------------------------------------------------------------------------------------------
def _check_ports_and_services(config: EnvironmentConfig) -> None:
    require_free("PORT", config.port)
    if config.stripe is None:
        require_free("STRIPE_PORT", config.stripe_port)
        if config.port == config.stripe_port:
            raise StartFailed(f"PORT and STRIPE_PORT are both {config.port}. Use different ports.")
    if config.aws_endpoint_url:
        _require_reachable("AWS_ENDPOINT_URL", config.aws_endpoint_url)
    if config.stripe and config.stripe.api_base:
        _require_reachable("STRIPE_API_BASE", config.stripe.api_base)


@dataclass(frozen=True, slots=True)
class _Startup:
    """Configuration and processes of an environment while it starts."""

    config: EnvironmentConfig
    env: Mapping[str, str]
    children: dict[str, Child] = field(default_factory=dict)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        output: str | None = None,
    ) -> Child:
        log = self.config.state_dir / "logs" / f"{name.replace(' ', '-')}.log"
        outputs = self.config.state_dir / _OUTPUTS
        outputs.mkdir(mode=0o700, exist_ok=True)
        self.children[name] = start(name, command, env or self.env, log, output=outputs / output if output else None)
        return self.children[name]

    def module(self, name: str, module: str, *options: str, output: str | None = None) -> Child:
        return self.start(name, [sys.executable, "-m", module, *options], output=output)


def _build(startup: _Startup) -> None:
    """Build the stack while the emulator and the simulator start."""
    config = startup.config
    build = None if stack.is_built() else startup.start("sam build", stack.build_command())
    if config.aws_endpoint_url is None:
        _start_emulator(startup)
    if config.stripe is None:
        startup.module("simulator", "stripe_simulator", "--port", str(config.stripe_port))
    if build:
        finish(build)
    if started := startup.children.get("emulator"):
        emulator.wait_until_healthy(startup.env["AWS_ENDPOINT_URL"], started)
    if simulator := startup.children.get("simulator"):
        wait_until(lambda: is_listening(config.stripe_port), simulator)


def _deploy(startup: _Startup) -> None:
    config = startup.config
    parameters = {
        "Architecture": stack.architecture(),
        "AllowedOrigins": f"http://localhost:3000,{config.api_url}",
        "StripeApiBase": config.stripe_api_base,
        "AllowPromotionCodes": "true",
        # Stripe sends no events to this bus. The parameter deploys the function, so that it can be invoked.
        "StripeEventSource": "aws.partner/stripe.com/ed_local",
        "LogLevel": "DEBUG",
        # There is no identity provider: `billing sessions token` signs session tokens with a generated secret.
        "SessionIssuer": "http://localhost:3000",
        "SessionAudience": stack.STACK,
        "SessionRoleClaim": "role",
        # For `billing webhooks listen`.
        "AllowLoopbackWebhooks": "true",
    }
    limits = {"RateLimitPerMinute": config.rate_limit_per_minute, "RateLimitPerHour": config.rate_limit_per_hour}
    parameters |= {name: str(limit) for name, limit in limits.items() if limit is not None}
    if config.aws_endpoint_url:
        stack.delete(startup.env, stack.STACK)
    finish(startup.start("sam deploy", stack.deploy_command(parameters)))


def _provision(startup: _Startup) -> dict[str, dict[str, str]]:
    """Run `billing setup` while the accounts are created and the HTTP server starts. Returns the accounts."""
    config = startup.config
    without_endpoint = [] if config.webhook_url else ["--no-webhook-endpoint"]
    setup = startup.start("billing setup", [_BILLING_COMMAND, "setup", *without_endpoint])
    provision = startup.module("provision", "local.provision", *ACCOUNTS, output="accounts.json")
    code = config.state_dir / CODE_DIR_NAME
    code.mkdir()
    startup.module(
        "http_server", "local.http_server", "--port", str(config.port), "--stack", stack.STACK, "--code", str(code)
    )
    accounts: dict[str, dict[str, str]] = json.loads(finish(provision))
    finish(setup)
    wait_until(lambda: is_listening(config.port), startup.children["http_server"])
    return accounts


def _write_run_files(environment: LocalEnvironment) -> None:
    """Write run.json for programs and run.env for the `billing` command."""
    run = {
        "api_url": environment.api_url,
        "stripe_url": environment.stripe_url,
        "webhook_secret": environment.webhook_secret,
        "accounts": environment.accounts,
    }
    _write_private(environment.state_dir / _RUN_JSON, json.dumps(run, indent=2))
    shared = {
        name: value for name, value in environment.env.items() if name.startswith(("AWS_", "BILLING_", "STRIPE_"))
    }
    _write_private(environment.state_dir / _RUN_ENV, "\n".join(f"{name}={value}" for name, value in shared.items()))


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")


# --- Environments -----------------------------------------------------------------------------------------------------
def _child_environment(config: EnvironmentConfig) -> dict[str, str]:
    """Return this process's environment variables, with AWS and Stripe replaced by the local ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STRIPE_", "SAM_"))}
    return inherited | {
        # sam build uses the first python3.13 of PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.2",
        "AWS_ENDPOINT_URL": config.aws_endpoint_url or f"http://127.0.0.1:{free_port()}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        # AWS profiles of this machine are not used: the emulator must not receive their credentials.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "BILLING_STACK": stack.STACK,
        "BILLING_WEBHOOK_URL": config.webhook_url,
        "STRIPE_API_BASE": config.stripe_api_base,
        "STRIPE_API_KEY": config.stripe.api_key if config.stripe else _SIMULATOR_KEY,
        **({"STRIPE_WEBHOOK_SECRET": config.stripe.webhook_secret} if config.stripe else {}),
    }


def _start_emulator(startup: _Startup) -> None:
    scratch = startup.config.state_dir / "tmp"
    scratch.mkdir()
    port = int(startup.env["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    startup.start("emulator", emulator.COMMAND, emulator.environment(port, scratch))


@contextmanager
def _exclusive_state_dir(state_dir: Path) -> Iterator[None]:
    """Lock and empty the state directory. On exit, delete everything but the logs."""
    with _file_lock(state_dir, wait=False):
        for entry in state_dir.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()
        try:
            yield
        finally:
            for name in _RUN_FILES:
                (state_dir / name).unlink(missing_ok=True)
            for name in ("tmp", CODE_DIR_NAME, _OUTPUTS):
                shutil.rmtree(state_dir / name, ignore_errors=True)


@contextmanager
def _file_lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock a directory against other runs. Raises StartFailed if it is locked and `wait` is False."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"Another run uses {folder}. Stop it first.") from None
        yield


def _require_reachable(variable: str, url: str) -> None:
    try:
        httpx.get(url, trust_env=False)
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise StartFailed(f"{variable}={url} is not reachable: {error}") from error


@contextmanager
def _timed_step(title: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    _LOGGER.info("%s: %.1f s", title, time.monotonic() - started)
