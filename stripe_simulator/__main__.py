"""Run the simulator: ``python -m stripe_simulator --port 8001``."""

import argparse
import contextlib
import sys
from typing import get_args

from stripe_simulator.server import Server, bound_socket, uvicorn_server
from stripe_simulator.world import AfterDunning, Settings


def main() -> int:
    """Serve until interrupted; 1 if the port is taken."""
    options = _options()
    settings = Settings(
        seed=options.seed,
        draft_seconds=options.draft_seconds,
        retry_days=tuple(options.retry_days),
        after_dunning=options.after_dunning,
        api_key=options.api_key,
    )
    try:
        listening = bound_socket(options.host, options.port)
    except OSError as error:
        print(f"cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    url = f"http://{options.host}:{listening.getsockname()[1]}"
    print(f"Stripe simulator on {url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn_server(Server(settings, url)).run(sockets=[listening])
    return 0


def _options() -> argparse.Namespace:
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m stripe_simulator", description="A stateful fake of Stripe.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001, help="0 takes a free one")
    parser.add_argument("--api-key", help="the only accepted key; otherwise every sk_test_ and rk_test_ key is")
    parser.add_argument("--seed", type=int, help="make ids and shuffled orders repeatable")
    parser.add_argument(
        "--draft-seconds",
        type=int,
        default=default.draft_seconds,
        help="how long a renewal's invoice stays a draft (Stripe: 3600)",
    )
    parser.add_argument("--retry-days", type=int, nargs="+", default=default.retry_days, help="days between attempts")
    parser.add_argument("--after-dunning", choices=get_args(AfterDunning), default=default.after_dunning)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
