"""The operator's way to what the scheduled reconciliation does: the same code, from this machine, to the end."""

import contextlib
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import stripe

from billing.adapters.stripe_gateway import StripeGateway, rate_limited_gateway
from billing.domain.errors import StripeFailed
from billing.services.reconciler import Reconciler
from billing.stripe_events.drift import Discrepancy, PageResult, Phase
from billing.stripe_events.event_types import EventOutcome
from cli.deployment import Deployment
from cli.failures import refuse
from cli.output import columns
from cli.setup import stripe_key
from cli.stripe_account import explain, explained

WOULD_BE = {Phase.EVENTS: "would process", Phase.SUBSCRIPTIONS: "would mend", Phase.INVOICES: "would mend"}

type Show = Callable[[str], None]


@dataclass(slots=True)
class Summary:
    """What was compared, and what came of it. `missing` is what Stripe does not have."""

    ends_missing: bool = False
    counts: dict[Phase, Counter[str]] = field(default_factory=dict)
    discrepancies: list[Discrepancy] = field(default_factory=list)
    missing: list[Discrepancy] = field(default_factory=list)

    def add(self, report: PageResult) -> None:
        """Count a page."""
        self.counts.setdefault(report.phase, Counter()).update(report.counts)
        self.discrepancies += report.discrepancies

    @property
    def facts(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "compared": {phase: counts["compared"] for phase, counts in self.counts.items()},
            "unknown_customer": {phase: counts["unknown_customer"] for phase, counts in self.counts.items()},
            "differences": self.drift,
            "findings": [
                {"list": each.phase, "id": each.id, "account_id": each.account_id, "outcome": each.outcome}
                for each in (*self.discrepancies, *self.missing)
            ],
        }

    @property
    def shown(self) -> str:
        """All of it for people."""
        table: list[Sequence[object]] = [("list", "compared", "differ", "unknown_customer")]
        table += [
            (phase, counts["compared"], counts["drift"], counts["unknown_customer"])
            for phase, counts in self.counts.items()
        ]
        found = [(each.outcome or WOULD_BE[each.phase], each.id, each.account_id) for each in self.discrepancies]
        would_be = "would end" if self.ends_missing else EventOutcome.MISSING
        found += [(each.outcome or would_be, each.id, each.account_id) for each in self.missing]
        return "\n\n".join(columns(rows) for rows in (table, found) if rows)

    @property
    def drift(self) -> int:
        """How much was not as Stripe says."""
        return sum(discrepancy.is_drift for discrepancy in (*self.discrepancies, *self.missing))


def connect(deployment: Deployment) -> StripeGateway:
    """The deployment's Stripe, at a pace that leaves room for the deployment itself. Raises CommandFailed."""
    key = stripe_key(deployment.load_secret(deployment.stripe_secret_arn), deployment)
    return rate_limited_gateway(key, os.environ.get("STRIPE_API_BASE") or deployment.stripe_api_base)


def compare(
    comparer: Reconciler, since: datetime, show: Show, *, customer_ids: Sequence[str | None] = (None,)
) -> Summary:
    """Work through all of Stripe's lists, those of objects for one customer after the other; None is all customers.

    Then ask for every living subscription of the table that was not listed. Raises CommandFailed.
    """
    summary, listed, began = Summary(comparer.options.end_missing), set[str](), datetime.max.replace(tzinfo=UTC)
    with stripe_explained():
        for report in _pages(comparer, since, customer_ids):
            summary.add(report)
            listed.update(report.ids)
            began = min(began, report.listed_at)
            show(f"{report.phase}: {summary.counts[report.phase]['compared']:,} compared, {summary.drift:,} differ")
        show("looking for what Stripe does not have")
        living = comparer.repository.list_live_subscriptions(comparer.options.account_id)
        summary.missing += comparer.report_missing(living, listed, began)
    return summary


def _pages(comparer: Reconciler, since: datetime, customer_ids: Sequence[str | None]) -> Iterator[PageResult]:
    yield from comparer.pages([Phase.EVENTS], since)
    for customer_id in customer_ids:
        yield from comparer.pages([Phase.SUBSCRIPTIONS, Phase.INVOICES], since, customer_id)


@contextmanager
def stripe_explained() -> Iterator[None]:
    """Raises CommandFailed for what Stripe did not do."""
    with explained():
        try:
            yield
        except StripeFailed as error:
            if isinstance(error.__cause__, stripe.StripeError):
                raise explain(error.__cause__) from error
            refuse("stripe_failed", "Stripe answered something that cannot be understood; see STRIPE_API_BASE.")


@contextmanager
def silenced() -> Iterator[None]:
    """Keep the product's log and its metrics, which are for CloudWatch, off the operator's screen."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
