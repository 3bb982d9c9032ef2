"""Outbound events are differences between two states of an object."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from billing.domain.invoices import Invoice
from billing.domain.outbound_events import outbound_data, outbound_event_type
from billing.domain.subscriptions import PendingChange
from tests.domain.test_accounts import ACTIVE, CATALOG, ended

OPEN = Invoice(
    id="in_1",
    customer_id="cus_1",
    subscription_id="sub_1",
    status="open",
    number="ACME-1",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    currency="usd",
    total=1900,
    amount_due=1900,
    amount_paid=0,
    amount_remaining=1900,
    attempt_count=0,
    period_start=None,
    period_end=None,
    hosted_invoice_url="https://invoice.example",
    invoice_pdf=None,
)
FOREIGN = replace(ACTIVE, plan=None, price_is_mapped=False)
DOWNGRADING = replace(ACTIVE, pending_change=PendingChange("free", "price_0", 1, datetime(2026, 4, 1, tzinfo=UTC)))
INCOMPLETE = replace(ACTIVE, status="incomplete")
PAID = replace(OPEN, status="paid", attempt_count=1, amount_paid=1900, amount_remaining=0)


@pytest.mark.parametrize(
    ("before", "after", "event_type"),
    [
        (None, ACTIVE, "subscription.created"),
        (None, INCOMPLETE, None),
        (INCOMPLETE, ACTIVE, "subscription.created"),
        (INCOMPLETE, replace(ACTIVE, status="incomplete_expired"), None),
        (ACTIVE, replace(ACTIVE, plan="team"), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, cancel_at_period_end=True), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, price_id="price_2"), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, pause_collection="void"), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, canceled_at=ACTIVE.created), None),
        (None, FOREIGN, None),
        (FOREIGN, replace(FOREIGN, quantity=2), None),
        (FOREIGN, replace(FOREIGN, status="canceled"), None),
        (FOREIGN, ACTIVE, "subscription.created"),
        (ACTIVE, replace(FOREIGN, plan="free"), "subscription.updated"),
        (ACTIVE, ACTIVE, None),
        (ACTIVE, ended(0), "subscription.canceled"),
        (ended(0), ended(0), None),
        (ACTIVE, DOWNGRADING, "subscription.updated"),
        (DOWNGRADING, ACTIVE, "subscription.updated"),
        (None, ended(0), None),
        (None, OPEN, None),
        (OPEN, PAID, "invoice.paid"),
        (None, PAID, "invoice.paid"),
        (PAID, PAID, None),
        (OPEN, replace(OPEN, attempt_count=1), "invoice.payment_failed"),
        (replace(OPEN, attempt_count=1), replace(OPEN, attempt_count=2), "invoice.payment_failed"),
        (replace(OPEN, attempt_count=1), replace(OPEN, attempt_count=1, number="ACME-2"), None),
    ],
)
def test_outbound_event_type_of_change_is_one_of_contract_or_none(
    before: object, after: object, event_type: str | None
) -> None:
    assert outbound_event_type(before, after, CATALOG) == event_type  # type: ignore[arg-type]


def test_outbound_data_has_json_types() -> None:
    assert outbound_data(ACTIVE) == {
        "subscription": "sub_1",
        "plan": "pro",
        "status": "active",
        "price": "price_1",
        "unit_amount": None,
        "currency": None,
        "interval": None,
        "quantity": 1,
        "trial_end": None,
        "pause_collection": None,
        "current_period_start": "2026-02-28T00:00:00Z",
        "current_period_end": "2026-03-30T00:00:00Z",
        "cancel_at_period_end": False,
        "cancel_at": None,
        "ended_at": None,
        "pending_plan": None,
        "pending_quantity": None,
        "pending_at": None,
    }
    assert outbound_data(PAID)["amount_paid"] == 1900
