"""Run the simulator: ``python -m stripe_simulator --port 8001``."""

import argparse
import contextlib
import sys
from typing import get_args

from stripe_simulator.server import Server, bound_socket, uvicorn_server
from stripe_simulator.state import AfterDunning, SimulatorSettings


def main() -> int:
    """Serve until interrupted and return the exit code: 1 if the port is in use."""
    options = _options()
    settings = SimulatorSettings(
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
    default = SimulatorSettings()
    parser = argparse.ArgumentParser(
        prog="python -m stripe_simulator", description="A stateful fake of the Stripe API."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8001, help="port to listen on; 0 selects a free port")
    parser.add_argument("--api-key", help="accept only this key (default: every sk_test_ and rk_test_ key)")
    parser.add_argument("--seed", type=int, help="seed for ids and delivery order, for repeatable runs")
    parser.add_argument(
        "--draft-seconds",
        type=int,
        default=default.draft_seconds,
        help="time that a renewal invoice stays a draft (Stripe: 3600)",
    )
    parser.add_argument(
        "--retry-days", type=int, nargs="+", default=default.retry_days, help="days between payment attempts"
    )
    parser.add_argument(
        "--after-dunning",
        choices=get_args(AfterDunning),
        default=default.after_dunning,
        help="subscription status after the last failed payment attempt",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
