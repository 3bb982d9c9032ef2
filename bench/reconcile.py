"""`python -m bench.reconcile [ACCOUNTS]`: what the reconciliation of a whole fleet takes.

Stripe is the simulator, seeded in its own process by the API's operations; the table is the engine's, over HTTP; the
reconciling code runs in a process of its own, so that the memory is its alone. It goes through all three lists, as the
daily run does, without what would hide the rest: the limit of requests a second, and the five seconds for each page on
which something differs.
"""

import contextlib
import io
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import stripe

from bench.engine import Deployment, deployment
from bench.fleet import account_id, simulated_fleet, write_state
from billing.adapters import stripe_gateway
from billing.adapters.aws import client
from billing.adapters.dynamodb import Table, key, update
from billing.adapters.repository import Repository
from billing.adapters.stripe_gateway import rate_limited_gateway
from billing.catalog import load_catalog
from billing.services import reconciler
from billing.services.reconciler import Reconciler
from billing.stripe_events.drift import EVENTS_KEPT, Phase

ACCOUNTS = 10_000
UNKNOWN = 10
"""One in so many accounts missed all its events, as if the webhook had been down when it subscribed."""
SPOILED = 100
"""One in so many rows is changed by hand."""
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took: seconds in all and of them waiting for Stripe, calls, and the process's peak memory in MB."""

    seconds: float
    waiting: float
    stripe_calls: int
    dynamodb_calls: int
    peak_mb: float
    compared: Mapping[str, int]
    differences: int


FIGURES: Sequence[tuple[str, Callable[[Cost], str]]] = (
    ("events, subscriptions, invoices", lambda cost: ", ".join(f"{count:,}" for count in cost.compared.values())),
    ("differences", lambda cost: f"{cost.differences:,}"),
    ("seconds", lambda cost: f"{cost.seconds:.1f}"),
    ("of them waiting for the simulator", lambda cost: f"{cost.waiting:.1f}"),
    ("Stripe calls", lambda cost: f"{cost.stripe_calls:,}"),
    ("DynamoDB calls", lambda cost: f"{cost.dynamodb_calls:,}"),
    ("peak memory, MB", lambda cost: f"{cost.peak_mb:.0f}"),
)


def main() -> None:
    """Build the fleet, then measure one situation after the other."""
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else ACCOUNTS
    with simulated_fleet(accounts) as stripe_url, deployment() as deployed:
        os.environ.update(deployed.environment)
        stripe_gateway.BACKGROUND_REQUESTS_PER_SECOND = 1_000_000
        table = Table(client("dynamodb"), deployed.environment["TABLE_NAME"])
        write_state(table, rate_limited_gateway("sk_test_bench", stripe_url), accounts, accounts - accounts // UNKNOWN)
        _print("situation", [name for name, _ in FIGURES])
        _measure(f"1 in {UNKNOWN} accounts missed all its events", stripe_url)
        _measure("nothing differs", stripe_url)
        _spoil(table, deployed, accounts)
        _measure(f"1 in {SPOILED} rows changed by hand", stripe_url)


def _measure(situation: str, stripe_url: str) -> None:
    """Tell what one run takes, as soon as it has ended: a large fleet takes its time."""
    with _PROCESSES.Pool(1) as pool:
        cost = pool.apply(reconcile, (stripe_url,))
    _print(situation, [show(cost) for _, show in FIGURES])


def reconcile(stripe_url: str) -> Cost:
    """Go through all lists once, in this process, and say what it took."""
    stripe_gateway.BACKGROUND_REQUESTS_PER_SECOND = 1_000_000
    reconciler.SETTLE_SECONDS = 0
    logging.disable(logging.CRITICAL)
    calls: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    repository = Repository(Table(client("dynamodb"), os.environ["TABLE_NAME"]))
    client("dynamodb").meta.events.register("before-send.dynamodb", lambda **_: calls.update(["dynamodb"]))
    job = Reconciler(repository, rate_limited_gateway("sk_test_bench", stripe_url), load_catalog(), livemode=False)
    differences, started = 0, time.perf_counter()
    with _timed_stripe(calls) as waiting, contextlib.redirect_stdout(io.StringIO()):
        for report in job.pages(list(Phase), datetime.now(UTC) - EVENTS_KEPT):
            compared[report.phase] += len(report.ids)
            differences += sum(discrepancy.is_drift for discrepancy in report.discrepancies)
    seconds = time.perf_counter() - started
    return Cost(seconds, sum(waiting), calls["stripe"], calls["dynamodb"], _peak_mb(), compared, differences)


def _peak_mb() -> float:
    """What this program needed at most; getrusage would count its parent's memory, from which it was forked."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@contextmanager
def _timed_stripe(calls: Counter[str]) -> Iterator[list[float]]:
    """How long the SDK's own HTTP client waited for each answer."""
    waits: list[float] = []
    request = stripe.RequestsClient.request

    def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as the SDK calls it
        calls.update(["stripe"])
        started = time.perf_counter()
        try:
            return request(*arguments, **options)
        finally:
            waits.append(time.perf_counter() - started)

    stripe.RequestsClient.request = timed  # type: ignore[method-assign]
    try:
        yield waits
    finally:
        stripe.RequestsClient.request = request  # type: ignore[method-assign]


def _spoil(table: Table, deployed: Deployment, accounts: int) -> None:
    """End a subscription in the table that lives in Stripe, for one account in so many."""
    for number in range(0, accounts, SPOILED):
        for owner, subscription in deployed.repository.list_live_subscriptions(account_id(number)):
            values = {":ended": "canceled"}
            place = key(f"ACCOUNT#{owner}", f"SUB#{subscription.id}")
            table.update(update(place, "SET #status = :ended", values))


def _print(situation: str, figures: Sequence[str]) -> None:
    print("|", " | ".join([situation, *figures]), "|", flush=True)


if __name__ == "__main__":
    main()
