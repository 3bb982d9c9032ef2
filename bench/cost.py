"""Consumption of an event of the common path, and the price of a million events."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.capacity import CapacityMeter, Units
from bench.deliveries import subscription_updated
from bench.engine import Deployment
from bench.isolated_process import load_handler, run_isolated
from bench.prices import Consumption, Prices, dollars_per_million
from bench.report import Row, SampleSizes
from billing.adapters.aws import client
from billing.domain.accounts import Profile

ACCOUNT = "cost"
MEMORY_GB = 0.5
"""MemorySize of the template."""
ACCESS_LOG_BYTES = 270
"""Assumed size of an access log line with the template's AccessLogSettings."""
PLATFORM_LOG_BYTES = 360
"""Assumed size of Lambda's START, END and REPORT lines of an invocation, with the X-Ray fields."""
SAMPLED = 0.05
"""Rate of X-Ray's default rule, which also records the first request of each second."""


@dataclass(frozen=True, slots=True)
class EventConsumption:
    """Average consumption of an event."""

    milliseconds: float
    log_bytes: float
    reported: Units
    calculated: Units


def rows(deployment: Deployment, sizes: SampleSizes) -> Iterator[Row]:
    """Return the consumption of an event, and its price with all events traced and with sampled traces."""
    deployment.repository.create_account(Profile(ACCOUNT))
    event = run_isolated(deployment.environment, measure, sizes.requests)
    yield Row("event: units, calculated by AWS's rules", str(event.calculated))
    yield Row("event: units, reported by the engine", str(event.reported))
    yield Row("event: logs of the function", f"{event.log_bytes:,.0f} bytes")
    for name, traces in (
        ("all traced (below one per second)", 1.0),
        (f"{SAMPLED:.0%} traced (many per second)", SAMPLED),
    ):
        costs = dollars_per_million(_consumption(event, traces), Prices())
        parts = ", ".join(f"{part} {dollars:.2f}" for part, dollars in costs.items())
        yield Row(f"a million events, {name}: US dollars", f"{sum(costs.values()):.2f} ({parts})")


def _consumption(event: EventConsumption, traces: float) -> Consumption:
    logs = event.log_bytes + PLATFORM_LOG_BYTES + ACCESS_LOG_BYTES
    return Consumption(event.milliseconds, MEMORY_GB, event.calculated.reads, event.calculated.writes, logs, traces)


def measure(events: int) -> EventConsumption:
    """Handle events in this process with timing, then as many with metering, which is slower."""
    handler = load_handler("stripe_webhook")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), sys.stdout.fileno())
        handler(subscription_updated(ACCOUNT, 0), None)
        written, started = log.stat().st_size, time.perf_counter()
        for number in range(1, events):
            handler(subscription_updated(ACCOUNT, number), None)
        seconds = time.perf_counter() - started
        log_bytes = log.stat().st_size - written
    meter = CapacityMeter(client("dynamodb"))
    for number in range(events, 2 * events):
        handler(subscription_updated(ACCOUNT, number), None)
    return EventConsumption(
        1000 * seconds / (events - 1),
        log_bytes / (events - 1),
        meter.reported.per(events),
        meter.calculated.per(events),
    )
