"""`python -m bench.reconcile [ACCOUNTS]`: measure the reconciliation of many accounts.

- The Stripe simulator runs in its own process. Its objects are created with the API's operations.
- The table is on the engine, over HTTP.
- Reconciliation runs in its own process, so that its memory can be measured.
- It reads all three lists, as the daily run does.
- The limit of requests per second and the wait of five seconds per page with discrepancies are switched off.
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

from bench.deliveries import DEPLOYMENT
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
MISSED = 10
"""One in this number of accounts missed all its events, as if the webhook was down when it subscribed."""
ALTERED = 100
"""One in this number of rows is changed by hand."""
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class RunCost:
    """Cost of one run. `waiting` is the part of `seconds` that the run waited for Stripe; `peak_mb` is in MB."""

    seconds: float
    waiting: float
    stripe_calls: int
    dynamodb_calls: int
    peak_mb: float
    compared: Mapping[str, int]
    discrepancies: int


FIGURES: Sequence[tuple[str, Callable[[RunCost], str]]] = (
    ("events, subscriptions, invoices", lambda cost: ", ".join(f"{count:,}" for count in cost.compared.values())),
    ("discrepancies", lambda cost: f"{cost.discrepancies:,}"),
    ("seconds", lambda cost: f"{cost.seconds:.1f}"),
    ("of these, waiting for the simulator", lambda cost: f"{cost.waiting:.1f}"),
    ("Stripe calls", lambda cost: f"{cost.stripe_calls:,}"),
    ("DynamoDB calls", lambda cost: f"{cost.dynamodb_calls:,}"),
    ("peak memory, MB", lambda cost: f"{cost.peak_mb:.0f}"),
)


def main() -> None:
    """Create the accounts, then measure one situation after the other."""
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else ACCOUNTS
    with simulated_fleet(accounts) as stripe_url, deployment() as deployed:
        os.environ.update(deployed.environment)
        stripe_gateway.BACKGROUND_REQUESTS_PER_SECOND = 1_000_000
        table = Table(client("dynamodb"), deployed.environment["TABLE_NAME"])
        write_state(table, rate_limited_gateway("sk_test_bench", stripe_url), accounts, accounts - accounts // MISSED)
        _print("situation", [name for name, _ in FIGURES])
        _measure(f"1 in {MISSED} accounts missed all its events", stripe_url)
        _measure("no discrepancies", stripe_url)
        _alter_rows(table, deployed, accounts)
        _measure(f"1 in {ALTERED} rows changed by hand", stripe_url)


def _measure(situation: str, stripe_url: str) -> None:
    """Measure one run and print its row."""
    with _PROCESSES.Pool(1) as pool:
        cost = pool.apply(reconcile, (stripe_url,))
    _print(situation, [show(cost) for _, show in FIGURES])


def reconcile(stripe_url: str) -> RunCost:
    """Reconcile all lists once in this process. Returns the cost."""
    stripe_gateway.BACKGROUND_REQUESTS_PER_SECOND = 1_000_000
    reconciler.SETTLE_SECONDS = 0
    logging.disable(logging.CRITICAL)
    calls: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    repository = Repository(Table(client("dynamodb"), os.environ["TABLE_NAME"]))
    client("dynamodb").meta.events.register("before-send.dynamodb", lambda **_: calls.update(["dynamodb"]))
    job = Reconciler(repository, rate_limited_gateway("sk_test_bench", stripe_url), load_catalog(), DEPLOYMENT)
    discrepancies, started = 0, time.perf_counter()
    with _timed_stripe(calls) as waiting, contextlib.redirect_stdout(io.StringIO()):
        for page in job.pages(list(Phase), datetime.now(UTC) - EVENTS_KEPT):
            compared[page.phase] += len(page.ids)
            discrepancies += sum(discrepancy.is_drift for discrepancy in page.discrepancies)
    seconds = time.perf_counter() - started
    return RunCost(seconds, sum(waiting), calls["stripe"], calls["dynamodb"], _peak_mb(), compared, discrepancies)


def _peak_mb() -> float:
    """Return the peak memory of this program. getrusage would include the memory of the parent before exec."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@contextmanager
def _timed_stripe(calls: Counter[str]) -> Iterator[list[float]]:
    """Measure the wait of the SDK's HTTP client for each response. Yields the list of seconds."""
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


def _alter_rows(table: Table, deployed: Deployment, accounts: int) -> None:
    """Set live subscriptions to canceled in the table only, for one in ALTERED accounts."""
    for number in range(0, accounts, ALTERED):
        for owner, subscription in deployed.repository.list_live_subscriptions(account_id(number)):
            values = {":ended": "canceled"}
            row_key = key(f"ACCOUNT#{owner}", f"SUB#{subscription.id}")
            table.update(update(row_key, "SET #status = :ended", values))


def _print(situation: str, figures: Sequence[str]) -> None:
    print("|", " | ".join([situation, *figures]), "|", flush=True)


if __name__ == "__main__":
    main()
