"""What an event of the common path consumes, and what a million of them cost."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.alone import load_handler, run_alone
from bench.capacity import Meter, Units
from bench.deliveries import subscription_updated
from bench.engine import Deployment
from bench.prices import Consumption, Prices, dollars_per_million
from bench.report import Extent, Row
from billing.adapters.aws import client
from billing.domain.accounts import Profile

ACCOUNT = "cost"
MEMORY_GB = 0.5
"""MemorySize of the template."""
ACCESS_LOG_BYTES = 270
"""Assumed: the template's AccessLogSettings filled in for a delivery."""
PLATFORM_LOG_BYTES = 360
"""Assumed: Lambda's own START, END and REPORT lines of an invocation, with the X-Ray part."""
SAMPLED = 0.05
"""X-Ray's default rule: the first request of a second, and one in twenty of the others."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of one event, on average."""

    milliseconds: float
    log_bytes: float
    told: Units
    computed: Units


def rows(deployment: Deployment, extent: Extent) -> Iterator[Row]:
    """An event's footprint, and its price where every trace is recorded and where the traces are sampled."""
    deployment.repository.create_account(Profile(ACCOUNT))
    one = run_alone(deployment.environment, measure, extent.requests)
    yield Row("event: units by AWS's rules", str(one.computed))
    yield Row("event: units as the engine tells", str(one.told))
    yield Row("event: what the function logs", f"{one.log_bytes:,.0f} bytes")
    for name, traces in (("all traced, as below one a second", 1.0), (f"{SAMPLED:.0%} traced, as far above", SAMPLED)):
        costs = dollars_per_million(_consumption(one, traces), Prices())
        parts = ", ".join(f"{part} {dollars:.2f}" for part, dollars in costs.items())
        yield Row(f"a million events, {name}: US dollars", f"{sum(costs.values()):.2f} ({parts})")


def _consumption(one: Footprint, traces: float) -> Consumption:
    logs = one.log_bytes + PLATFORM_LOG_BYTES + ACCESS_LOG_BYTES
    return Consumption(one.milliseconds, MEMORY_GB, one.computed.reads, one.computed.writes, logs, traces)


def measure(events: int) -> Footprint:
    """Handle so many events in this process, timed; then as many metered, which takes longer."""
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
    meter = Meter(client("dynamodb"))
    for number in range(events, 2 * events):
        handler(subscription_updated(ACCOUNT, number), None)
    return Footprint(
        1000 * seconds / (events - 1), log_bytes / (events - 1), meter.told.per(events), meter.computed.per(events)
    )
