"""Warm requests of one client, one after the other: the status, and the consumption of what a plan limits."""

import time
from collections.abc import Iterator, Sequence

from bench.alone import load_handler, run_alone
from bench.deliveries import LambdaEvent, consume_request, status_request, subscription_updated
from bench.engine import Deployment
from bench.report import Extent, Row, latencies

HTTP_OK = 200


def rows(deployment: Deployment, extent: Extent) -> Iterator[Row]:
    """Requests a second, and their latencies."""
    run_alone(deployment.environment, answer, "stripe_webhook", [subscription_updated("acme", 0)])
    requests = {
        "status by secret key": ("subscription", [status_request(deployment.secret_key)]),
        "status by session token": ("subscription", [status_request(deployment.session_token)]),
        "consume": ("record_usage", [consume_request(deployment.secret_key, each) for each in range(extent.requests)]),
    }
    for name, (function, events) in requests.items():
        repeated = events * (extent.requests // len(events))
        [_, *seconds] = run_alone(deployment.environment, answer, function, repeated)
        yield Row(f"{name}, warm, 1 client: requests a second", f"{len(seconds) / sum(seconds):,.0f}")
        yield Row(f"{name}, warm, 1 client: p50, p99", latencies(seconds))


def answer(function: str, events: Sequence[LambdaEvent]) -> list[float]:
    """How many seconds each took in this process."""
    handler = load_handler(function)
    seconds = []
    for event in events:
        started = time.perf_counter()
        status = handler(event, None)["statusCode"]
        seconds.append(time.perf_counter() - started)
        if status != HTTP_OK:
            raise RuntimeError(f"{function} answered {status}")
    return seconds
