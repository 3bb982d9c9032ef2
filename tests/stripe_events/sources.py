"""Stripe's objects as sources of the parsing tests."""

from datetime import UTC, datetime
from typing import Any

from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import Subscription
from billing.stripe_events.objects import parse_invoice, parse_subscription

CATALOG = Catalog(
    (
        Plan("free", "Free"),
        Plan("pro", "Pro", (Price("pro_monthly", 1_900, "usd", "month"),)),
        Plan("team", "Team", (Price("team_monthly", 4_900, "usd", "month"),)),
    )
)
START, END = 1_780_000_000, 1_782_592_000
MONTH = END - START
PERIOD: dict[str, Any] = {"current_period_start": START, "current_period_end": END}

type Json = dict[str, Any]


def item(lookup_key: str | None = "pro_monthly", quantity: int = 1, **rest: Any) -> Json:
    return {"price": {"id": f"price_{lookup_key}", "lookup_key": lookup_key}, "quantity": quantity} | rest


SUBSCRIPTION: Json = {
    "id": "sub_1",
    "customer": "cus_1",
    "status": "active",
    "created": START,
    "items": {"data": [item(**PERIOD)]},
    "cancel_at_period_end": True,
    "cancel_at": END,
    "canceled_at": START + 1,
    "ended_at": START + 2,
    "trial_end": START + 3,
    "metadata": {"account_id": "acme"},
}
INVOICE: Json = {
    "id": "in_1",
    "customer": "cus_1",
    "status": "open",
    "number": "A-1",
    "created": START,
    "currency": "usd",
    "total": 1_900,
    "amount_due": 1_900,
    "amount_paid": 0,
    "amount_remaining": 1_900,
    "attempt_count": 2,
    "period_start": START,
    "period_end": END,
    "hosted_invoice_url": "https://invoice.example.com/i/1",
    "invoice_pdf": "https://invoice.example.com/i/1.pdf",
    "parent": {"subscription_details": {"subscription": "sub_1", "metadata": {"account_id": "acme"}}},
}


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def subscription(**changes: Any) -> Subscription:
    return parse_subscription(SUBSCRIPTION | changes, CATALOG)


def invoice(**changes: Any) -> Invoice:
    return parse_invoice(INVOICE | changes)


def without(source: Json, *names: str) -> Json:
    return {name: value for name, value in source.items() if name not in names}
