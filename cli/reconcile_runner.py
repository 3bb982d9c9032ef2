"""Reconciliation from the operator's machine: the reconciler of the scheduled function, run to the end."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from billing.services.reconciler import Reconciler
from billing.stripe_events.drift import Discrepancy, PageResult, Phase
from billing.stripe_events.event_types import EventOutcome
from cli.output import ShowProgress, columns, suppress_logs
from cli.stripe_connection import map_stripe_errors

OBJECT_PHASES = (Phase.SUBSCRIPTIONS, Phase.INVOICES)
DRY_RUN_OUTCOMES = {
    Phase.EVENTS: "would process",
    Phase.SUBSCRIPTIONS: "would repair",
    Phase.INVOICES: "would repair",
}


@dataclass(slots=True)
class ReconcileSummary:
    """Totals and discrepancies of a run.

    Attributes:
        ends_missing: True if subscriptions that Stripe does not have are ended.
        missing: Subscriptions that Stripe does not have.
    """

    ends_missing: bool = False
    counts: dict[Phase, Counter[str]] = field(default_factory=dict)
    discrepancies: list[Discrepancy] = field(default_factory=list)
    missing: list[Discrepancy] = field(default_factory=list)

    def add(self, page: PageResult) -> None:
        """Add a page to the totals."""
        self.counts.setdefault(page.phase, Counter()).update(page.counts)
        self.discrepancies += page.discrepancies

    @property
    def drift(self) -> int:
        """Number of events and objects that differed from Stripe."""
        return sum(discrepancy.is_drift for discrepancy in (*self.discrepancies, *self.missing))

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON output."""
        return {
            "compared": {phase: counts["compared"] for phase, counts in self.counts.items()},
            "unknown_customer": {phase: counts["unknown_customer"] for phase, counts in self.counts.items()},
            "differences": self.drift,
            "findings": [
                {"list": each.phase, "id": each.id, "account_id": each.account_id, "outcome": each.outcome}
                for each in (*self.discrepancies, *self.missing)
            ],
        }

    def as_text(self) -> str:
        """Return the summary for text output."""
        totals: list[Sequence[object]] = [("list", "compared", "differ", "unknown_customer")]
        totals += [
            (phase, counts["compared"], counts["drift"], counts["unknown_customer"])
            for phase, counts in self.counts.items()
        ]
        rows = [(each.outcome or DRY_RUN_OUTCOMES[each.phase], each.id, each.account_id) for each in self.discrepancies]
        missing_outcome = "would end" if self.ends_missing else EventOutcome.MISSING
        rows += [(each.outcome or missing_outcome, each.id, each.account_id) for each in self.missing]
        return "\n\n".join(columns(table) for table in (totals, rows) if table)


def run_reconciler(
    reconciler: Reconciler, since: datetime, show: ShowProgress, *, customer_ids: Sequence[str | None] = (None,)
) -> ReconcileSummary:
    """Reconcile all of Stripe's lists, then check the subscriptions that were not listed and have not ended.

    Args:
        reconciler: Reconciler of the stack.
        since: Time of the oldest event to read.
        show: Shows the progress.
        customer_ids: Customers whose subscriptions and invoices are listed, one after the other; None lists all.

    Raises:
        CommandFailed: Stripe failed or rejected a request.
    """
    summary, listed, started = (
        ReconcileSummary(reconciler.options.end_missing),
        set[str](),
        datetime.max.replace(tzinfo=UTC),
    )
    with map_stripe_errors():
        for page in _pages(reconciler, since, customer_ids):
            summary.add(page)
            listed.update(page.ids)
            started = min(started, page.listed_at)
            show(f"{page.phase}: {summary.counts[page.phase]['compared']:,} compared, {summary.drift:,} differ")
        show("checking subscriptions that Stripe did not list")
        live = reconciler.repository.list_live_subscriptions(reconciler.options.account_id)
        summary.missing += reconciler.report_missing(live, listed, started)
    return summary


def _pages(reconciler: Reconciler, since: datetime, customer_ids: Sequence[str | None]) -> Iterator[PageResult]:
    yield from reconciler.pages([Phase.EVENTS], since)
    for customer_id in customer_ids:
        yield from reconciler.pages(OBJECT_PHASES, since, customer_id)


@dataclass(slots=True)
class LoadedObjects:
    """Subscriptions and invoices of one customer.

    Attributes:
        stored: Numbers of subscriptions and invoices that were stored or, in a dry run, would be stored.
        findings: Objects that could not be stored, and subscriptions whose plan is not granted because of a conflict.
    """

    stored: Counter[Phase] = field(default_factory=Counter)
    findings: list[Discrepancy] = field(default_factory=list)

    def add(self, page: PageResult) -> None:
        """Add a page."""
        for each in page.discrepancies:
            if each.outcome in {EventOutcome.FAILED, EventOutcome.MISSING, EventOutcome.CUSTOMER_CONFLICT}:
                self.findings.append(each)
            elif each.is_drift and each.id in page.ids:
                self.stored[page.phase] += 1


def load_customer(reconciler: Reconciler, customer_id: str) -> LoadedObjects:
    """Reconcile the subscriptions, then the invoices of one customer. Raises CommandFailed."""
    loaded = LoadedObjects()
    with suppress_logs(), map_stripe_errors():
        for page in reconciler.pages(OBJECT_PHASES, datetime.now(UTC), customer_id):
            loaded.add(page)
    return loaded
