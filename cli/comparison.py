"""The operator's way to what the scheduled reconciliation does: the same code, from this machine, to the end."""

import contextlib
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import stripe

from billing.adapters.stripe_gateway import Payments, paced_payments
from billing.domain.errors import StripeFailed
from billing.services.reconciler import Reconciler
from billing.stripe_events.drift import Finding, Report, Step
from billing.stripe_events.event_types import Outcome
from cli.deployment import Deployment
from cli.failures import refuse
from cli.output import columns
from cli.setup import stripe_key
from cli.stripe_account import explain, explained

WOULD_BE = {Step.EVENTS: "would process", Step.SUBSCRIPTIONS: "would mend", Step.INVOICES: "would mend"}

type Show = Callable[[str], None]


@dataclass(slots=True)
class Summary:
    """What was compared, and what came of it. `missing` is what Stripe does not have."""

    ends_missing: bool = False
    counts: dict[Step, Counter[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Count a page."""
        self.counts.setdefault(report.step, Counter()).update(report.counts)
        self.findings += report.findings

    @property
    def facts(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "compared": {step: counts["compared"] for step, counts in self.counts.items()},
            "unmatched": {step: counts["unmatched"] for step, counts in self.counts.items()},
            "differences": self.drift,
            "findings": [
                {"list": each.step, "id": each.id, "account_id": each.account_id, "outcome": each.outcome}
                for each in (*self.findings, *self.missing)
            ],
        }

    @property
    def shown(self) -> str:
        """All of it for people."""
        table: list[Sequence[object]] = [("list", "compared", "differ", "unmatched")]
        table += [
            (step, counts["compared"], counts["drift"], counts["unmatched"]) for step, counts in self.counts.items()
        ]
        found = [(each.outcome or WOULD_BE[each.step], each.id, each.account_id) for each in self.findings]
        would_be = "would end" if self.ends_missing else Outcome.MISSING
        found += [(each.outcome or would_be, each.id, each.account_id) for each in self.missing]
        return "\n\n".join(columns(rows) for rows in (table, found) if rows)

    @property
    def drift(self) -> int:
        """How much was not as Stripe says."""
        return sum(finding.is_drift for finding in (*self.findings, *self.missing))


def connect(deployment: Deployment) -> Payments:
    """The deployment's Stripe, at a pace that leaves room for the deployment itself. Raises CommandFailed."""
    key = stripe_key(deployment.load_secret(deployment.stripe_secret_arn), deployment)
    return paced_payments(key, os.environ.get("STRIPE_API_BASE") or deployment.stripe_api_base)


def compare(
    comparer: Reconciler, since: datetime, show: Show, *, customer_ids: Sequence[str | None] = (None,)
) -> Summary:
    """Work through all of Stripe's lists, those of objects for one customer after the other; None is all customers.

    Then ask for every living subscription of the table that was not listed. Raises CommandFailed.
    """
    summary, listed, began = Summary(comparer.end_missing), set[str](), datetime.max.replace(tzinfo=UTC)
    with stripe_explained():
        for report in _pages(comparer, since, customer_ids):
            summary.add(report)
            listed.update(report.ids)
            began = min(began, report.listed_at)
            show(f"{report.step}: {summary.counts[report.step]['compared']:,} compared, {summary.drift:,} differ")
        show("looking for what Stripe does not have")
        living = comparer.store.living_subscriptions(comparer.account_id)
        summary.missing += comparer.report_missing(living, listed, began)
    return summary


def _pages(comparer: Reconciler, since: datetime, customer_ids: Sequence[str | None]) -> Iterator[Report]:
    yield from comparer.pages([Step.EVENTS], since)
    for customer_id in customer_ids:
        yield from replace(comparer, customer_id=customer_id).pages([Step.SUBSCRIPTIONS, Step.INVOICES], since)


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
