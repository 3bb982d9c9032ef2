"""`make run`: the local world until Ctrl-C.

Environment: PORT (8000) of the API and STRIPE_PORT (8001) of the Stripe simulator. AWS_ENDPOINT_URL uses an AWS
emulator that runs already. STRIPE_API_KEY and STRIPE_API_BASE use another Stripe in test mode, whose events are signed
with STRIPE_WEBHOOK_SECRET. RATE_LIMIT_PER_MINUTE of a user or key and RATE_LIMIT_PER_HOUR of an account replace the
template's.
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

from local import stack
from local.processes import StartFailed
from local.world import AnotherStripe, World, WorldConfig, running_world

STATE_DIR = stack.ROOT / ".local"
LIMIT = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


def read_config(env: Mapping[str, str], state_dir: Path) -> WorldConfig:
    """What the environment asks for. Raises StartFailed naming the variable that makes no sense."""
    return WorldConfig(
        state_dir=state_dir,
        port=_port(env, "PORT", 8000),
        stripe_port=_port(env, "STRIPE_PORT", 8001),
        aws_endpoint_url=env.get("AWS_ENDPOINT_URL", "").rstrip("/") or None,
        stripe=_another_stripe(env),
        rate_limit_per_minute=_limit(env, "RATE_LIMIT_PER_MINUTE"),
        rate_limit_per_hour=_limit(env, "RATE_LIMIT_PER_HOUR"),
    )


def _port(env: Mapping[str, str], variable: str, default: int) -> int:
    text = env.get(variable) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise StartFailed(f"{variable}={text} is no port: it takes a number from 1 to 65535.")
    return int(text)


def _limit(env: Mapping[str, str], variable: str) -> int | None:
    text = env.get(variable)
    if not text:
        return None
    if not LIMIT.fullmatch(text):
        raise StartFailed(f"{variable}={text} is no limit: it takes a number of requests, at least 1.")
    return int(text)


def _another_stripe(env: Mapping[str, str]) -> AnotherStripe | None:
    api_key, api_base = env.get("STRIPE_API_KEY", ""), env.get("STRIPE_API_BASE", "").rstrip("/")
    if not api_key and not api_base:
        return None
    if not api_key.startswith(("sk_test_", "rk_test_")):
        raise StartFailed("STRIPE_API_KEY must be a key of Stripe's test mode (sk_test_… or rk_test_…).")
    # Made up, it lets nobody in; `stripe listen` prints the real one.
    webhook_secret = env.get("STRIPE_WEBHOOK_SECRET") or f"whsec_{secrets.token_hex(32)}"
    return AnotherStripe(api_key, api_base, webhook_secret)


def summary(world: World) -> str:
    """What to know and to type next."""
    shown = os.path.relpath(world.state_dir)
    acme = world.accounts["acme"]
    key = acme["secret_key"]
    return f"""
API     {world.api_url}
Stripe  {world.stripe_url}

The account acme; globex is in {shown}/run.json:
Secret key       {key}
Publishable key  {acme["publishable_key"]}
Session token    {acme["session_token"]}

Try:
  curl -s {world.api_url}/v1/billing -H 'Authorization: Bearer {key}'
  curl -s {world.api_url}/v1/billing/checkout -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{"tier": "pro"}}'

Logs are in {shown}/logs. Ctrl-C ends it all."""


def main() -> int:
    """Serve until Ctrl-C, SIGTERM, or the end of the terminal. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="make run", description="The local world until Ctrl-C.")
    parser.add_argument("--state-dir", type=Path, default=STATE_DIR, help="what is there is replaced")
    state_dir = parser.parse_args().state_dir.resolve()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # SIGINT too: whom a script starts in the background is deaf to it at first.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    try:
        with running_world(read_config(os.environ, state_dir)) as world:
            print(summary(world), flush=True)
            world.wait()
    except StartFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
