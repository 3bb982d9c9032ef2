"""Stripe events of the current API version, with the fields that the product reads."""

import itertools
from datetime import UTC, datetime
from typing import Any

from tests.samples import DEPLOYMENT

METADATA = {"account_id": "acme", "billing_deployment": DEPLOYMENT.id}
"""Metadata of an object that checkout creates for acme."""
PERIOD_END = 1_893_456_000  # 2030-01-01
EVENTBRIDGE_SOURCE = "aws.partner/stripe.com/ed_test_61UWtmuyDZFuiOVBE16TXMYo"
_event_numbers = itertools.count()


def event(
    event_type: str, source: dict[str, Any], *, created: datetime | None = None, **envelope: Any
) -> dict[str, Any]:
    """Return an Event object that contains `source`, created now by default."""
    return {
        "id": f"evt_{next(_event_numbers)}",
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
    """Return a subscription of acme."""
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
        "metadata": METADATA | {"account_id": account_id},
    } | changes


def subscription_event(
    subscription_id: str = "sub_1", *, created: datetime | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a `customer.subscription.updated` event with a subscription of acme."""
    return event("customer.subscription.updated", subscription(subscription_id, **changes), created=created)


def invoice(invoice_id: str = "in_1", **changes: Any) -> dict[str, Any]:
    """Return a paid invoice of acme's subscription."""
    details = {"subscription": "sub_1", "metadata": METADATA}
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


def thin_event(event_type: str, related_type: str, related_id: str, **changes: Any) -> dict[str, Any]:
    """Return a thin event as Stripe sends it (https://docs.stripe.com/event-destinations)."""
    created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": f"evt_{event_type}_{related_id}",
        "object": "v2.core.event",
        "type": event_type,
        "created": created,
        "livemode": False,
        "context": None,
        "related_object": {"id": related_id, "type": related_type, "url": f"/v1/{related_type}s/{related_id}"},
    } | changes


def eventbridge_envelope(detail: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the EventBridge event that carries a Stripe event.

    Fields: https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
    """
    return {
        "version": "0",
        "id": "17e8dff5-d6cd-3770-ace9-aeac02b6ac3f",
        "detail-type": detail.get("type"),
        "source": EVENTBRIDGE_SOURCE,
        "account": "123456789012",
        "time": "2026-11-21T17:00:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": detail,
    } | changes
