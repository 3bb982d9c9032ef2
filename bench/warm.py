"""Warm requests of one client, one after the other: status, and consumption of a limited metric."""

import time
from collections.abc import Iterator, Sequence

from bench.deliveries import LambdaEvent, consume_request, status_request, subscription_updated
from bench.engine import Deployment
from bench.isolated_process import load_handler, run_isolated
from bench.report import Row, SampleSizes, latencies

HTTP_OK = 200


def rows(deployment: Deployment, sizes: SampleSizes) -> Iterator[Row]:
    """Return the requests per second and their latencies."""
    run_isolated(deployment.environment, measure, "stripe_webhook", [subscription_updated("acme", 0)])
    requests = {
        "status by secret key": ("subscription", [status_request(deployment.secret_key)]),
        "status by session token": ("subscription", [status_request(deployment.session_token)]),
        "consume": ("record_usage", [consume_request(deployment.secret_key, each) for each in range(sizes.requests)]),
    }
    for name, (function, events) in requests.items():
        repeated = events * (sizes.requests // len(events))
        [_, *seconds] = run_isolated(deployment.environment, measure, function, repeated)
        yield Row(f"{name}, warm, 1 client: requests per second", f"{len(seconds) / sum(seconds):,.0f}")
        yield Row(f"{name}, warm, 1 client: p50, p99", latencies(seconds))


def measure(function: str, events: Sequence[LambdaEvent]) -> list[float]:
    """Return the seconds of each request in this process."""
    handler = load_handler(function)
    seconds = []
    for event in events:
        started = time.perf_counter()
        status = handler(event, None)["statusCode"]
        seconds.append(time.perf_counter() - started)
        if status != HTTP_OK:
            raise RuntimeError(f"{function} returned {status}")
    return seconds
