"""`make run`: run the local environment until Ctrl-C.

| environment variable | meaning |
|---|---|
| PORT | port of the API (8000) |
| STRIPE_PORT | port of the Stripe simulator (8001) |
| AWS_ENDPOINT_URL | running AWS emulator to use |
| STRIPE_API_KEY, STRIPE_API_BASE | external Stripe API in test mode, instead of the simulator |
| STRIPE_WEBHOOK_SECRET | secret that signs the events of the external Stripe |
| RATE_LIMIT_PER_MINUTE | limit per user or key, instead of the template's |
| RATE_LIMIT_PER_HOUR | limit of an account's users and of its secret keys, instead of the template's |

A limit above 20,000, the template's maximum, is reduced to it.
"""

import argparse
import logging
import os
import re
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from billing.settings import RATE_LIMIT_MAX
from local import stack
from local.environment import EnvironmentConfig, ExternalStripe, LocalEnvironment, running_environment
from local.processes import StartFailed

STATE_DIR = stack.ROOT / ".local"
LIMIT = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


def read_config(env: Mapping[str, str], state_dir: Path) -> EnvironmentConfig:
    """Return the configuration. Raises StartFailed with the name of an invalid environment variable."""
    return EnvironmentConfig(
        state_dir=state_dir,
        port=_port(env, "PORT", 8000),
        stripe_port=_port(env, "STRIPE_PORT", 8001),
        aws_endpoint_url=env.get("AWS_ENDPOINT_URL", "").rstrip("/") or None,
        stripe=_external_stripe(env),
        rate_limit_per_minute=_limit(env, "RATE_LIMIT_PER_MINUTE"),
        rate_limit_per_hour=_limit(env, "RATE_LIMIT_PER_HOUR"),
    )


def _port(env: Mapping[str, str], variable: str, default: int) -> int:
    text = env.get(variable) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise StartFailed(f"{variable}={text} is not a port. Use a number from 1 to 65535.")
    return int(text)


def _limit(env: Mapping[str, str], variable: str) -> int | None:
    text = env.get(variable)
    if not text:
        return None
    if not LIMIT.fullmatch(text):
        raise StartFailed(f"{variable}={text} is not a limit. Use a number of requests from 1 to 999999999.")
    return min(int(text), RATE_LIMIT_MAX)


def _external_stripe(env: Mapping[str, str]) -> ExternalStripe | None:
    api_key, api_base = env.get("STRIPE_API_KEY", ""), env.get("STRIPE_API_BASE", "").rstrip("/")
    if not api_key and not api_base:
        return None
    if not api_key.startswith(("sk_test_", "rk_test_")):
        raise StartFailed("STRIPE_API_KEY must be a test mode key (sk_test_… or rk_test_…).")
    # A random secret accepts no event. `stripe listen` prints the real one.
    webhook_secret = env.get("STRIPE_WEBHOOK_SECRET") or f"whsec_{secrets.token_hex(32)}"
    return ExternalStripe(api_key, api_base, webhook_secret)


def summary(environment: LocalEnvironment) -> str:
    """Return the URLs, credentials and example requests to print."""
    directory = os.path.relpath(environment.state_dir)
    acme = environment.accounts["acme"]
    key = acme["secret_key"]
    return f"""
API     {environment.api_url}
Stripe  {environment.stripe_url}

Credentials of the account acme ({directory}/run.json has those of globex):
Secret key       {key}
Publishable key  {acme["publishable_key"]}
Session token    {acme["session_token"]}

Try:
  curl -s {environment.api_url}/v1/billing -H 'Authorization: Bearer {key}'
  curl -s {environment.api_url}/v1/billing/checkout -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{"tier": "pro"}}'

See the outbound events in another terminal:
  set -a; . {directory}/run.env; set +a; .venv/bin/billing webhooks listen

Logs are in {directory}/logs. Ctrl-C stops everything."""


def main() -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="make run", description="Run the local environment until Ctrl-C.")
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=STATE_DIR,
        help="directory for logs and run files; existing content is deleted",
    )
    state_dir = parser.parse_args().state_dir.resolve()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # SIGINT is included because shells start background processes with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with running_environment(read_config(os.environ, state_dir)) as environment:
            print(summary(environment), flush=True)
            environment.wait()
    except StartFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
