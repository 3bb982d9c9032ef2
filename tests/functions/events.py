"""Events of Stripe as its API writes them today, cut to what is read."""

import itertools
from datetime import UTC, datetime
from typing import Any

PERIOD_END = 1_893_456_000  # 2030-01-01
_numbers = itertools.count()


def event(
    event_type: str, source: dict[str, Any], *, created: datetime | None = None, **envelope: Any
) -> dict[str, Any]:
    """An Event object around `source`, made now."""
    return {
        "id": f"evt_{next(_numbers)}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "type": event_type,
        "created": int((created or datetime.now(UTC)).timestamp()),
        "livemode": False,
        "data": {"object": source},
    } | envelope


def subscription(
    subscription_id: str = "sub_1", *, lookup_key: str | None = "pro_monthly", account_id: str = "acme", **changes: Any
) -> dict[str, Any]:
    """A subscription of acme's."""
    price = {"id": f"price_of_{lookup_key}", "object": "price", "lookup_key": lookup_key}
    item = {"price": price, "quantity": 1, "current_period_start": 1_890_777_600, "current_period_end": PERIOD_END}
    return {
        "id": subscription_id,
        "object": "subscription",
        "customer": "cus_acme",
        "status": "active",
        "created": 1_780_000_000,
        "items": {"object": "list", "data": [item]},
        "cancel_at_period_end": False,
        "cancel_at": None,
        "canceled_at": None,
        "ended_at": None,
        "trial_end": None,
        "metadata": {"account_id": account_id},
    } | changes


def subscription_event(
    subscription_id: str = "sub_1", *, created: datetime | None = None, **changes: Any
) -> dict[str, Any]:
    """`customer.subscription.updated` with such a subscription."""
    return event("customer.subscription.updated", subscription(subscription_id, **changes), created=created)


def invoice(invoice_id: str = "in_1", **changes: Any) -> dict[str, Any]:
    """A paid invoice of acme's subscription."""
    details = {"subscription": "sub_1", "metadata": {"account_id": "acme"}}
    return {
        "id": invoice_id,
        "object": "invoice",
        "customer": "cus_acme",
        "status": "paid",
        "number": "ACME-0001",
        "created": 1_780_000_000,
        "currency": "usd",
        "total": 1900,
        "amount_due": 1900,
        "amount_paid": 1900,
        "amount_remaining": 0,
        "attempt_count": 1,
        "parent": {"type": "subscription_details", "subscription_details": details},
    } | changes
