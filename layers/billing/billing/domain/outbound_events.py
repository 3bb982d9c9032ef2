"""Outbound events: changes of subscriptions and invoices, for the account's own systems.

An outbound event is the difference between the row before and after a commit. The number and order of Stripe's events
do not matter. docs/guides/receive-events.md describes the events for their receivers.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.domain.timestamps import iso

API_VERSION = "v1"
"""Version of the event format. It changes only if a field is removed or changes its meaning."""

type EventObject = Mapping[str, Any]
"""JSON object; times in ISO 8601 UTC."""


class OutboundEventType(StrEnum):
    """Types of outbound events."""

    SUBSCRIPTION_CREATED = "subscription.created"
    SUBSCRIPTION_UPDATED = "subscription.updated"
    SUBSCRIPTION_CANCELED = "subscription.canceled"
    INVOICE_PAID = "invoice.paid"
    INVOICE_PAYMENT_FAILED = "invoice.payment_failed"
    ENDPOINT_DISABLED = "webhook_endpoint.disabled"
    ENDPOINT_TEST = "webhook_endpoint.test"


ACCOUNT_EVENT_TYPES = (
    OutboundEventType.SUBSCRIPTION_CREATED,
    OutboundEventType.SUBSCRIPTION_UPDATED,
    OutboundEventType.SUBSCRIPTION_CANCELED,
    OutboundEventType.INVOICE_PAID,
    OutboundEventType.INVOICE_PAYMENT_FAILED,
)
"""Types that the endpoints of an account can receive."""

DEPLOYMENT_EVENT_TYPES = (*ACCOUNT_EVENT_TYPES, OutboundEventType.ENDPOINT_DISABLED)
"""Types that the endpoints of the deployment can receive."""


@dataclass(frozen=True, slots=True)
class OutboundEvent:
    """A change of one object.

    Attributes:
        id: Unique id of the event, the same in every delivery. Ids sort by the time of the commit.
        type: One of `OutboundEventType`.
        account_id: Account of the object; None for an endpoint of the deployment.
        occurred_at: Time at which the object was in this state, by Stripe's clock.
        sequence: Number of the event among those of its object, from 1 without gaps.
        object: State of the object after the change.
        previous: Former values of the fields that changed; None if the object was not stored.
    """

    id: str
    type: str
    account_id: str | None
    occurred_at: datetime
    sequence: int
    object: EventObject
    previous: EventObject | None

    @property
    def body(self) -> EventObject:
        """Return the JSON body of a delivery."""
        return {
            "id": self.id,
            "type": self.type,
            "timestamp": iso(self.occurred_at),
            "api_version": API_VERSION,
            "account_id": self.account_id,
            "sequence": self.sequence,
            "data": {"object": self.object, "previous": self.previous},
        }


def event_id(committed: datetime, account_id: str | None, object_id: str, sequence: int) -> str:
    """Return the id of an object's event. It sorts by time; of one object's events of a second, by sequence."""
    digest = hashlib.sha256(f"{account_id or ''}#{object_id}".encode()).hexdigest()[:12]
    return f"{earliest_event_id(committed)}{digest}{sequence:06x}"


def earliest_event_id(committed: datetime) -> str:
    """Return a prefix that sorts before the ids of all events of a second and after those of earlier ones."""
    return f"msg_{int(committed.timestamp()):08x}"


def outbound_event_type(
    before: Subscription | Invoice | None, after: Subscription | Invoice, catalog: Catalog
) -> OutboundEventType | None:
    """Return the type of the outbound event for a change.

    A subscription that is not ours is treated as if it was not stored.

    Args:
        before: State of the object before the change; None if it was not stored.
        after: State of the same object after the change.
        catalog: Plans, which decide the subscriptions of ours.

    Returns:
        The event type, or None if the change needs no outbound event.
    """
    if isinstance(after, Subscription):
        known = before if isinstance(before, Subscription) and before.ours(catalog) else None
        return _subscription_event_type(known, after) if known or after.ours(catalog) else None
    return _invoice_event_type(before if isinstance(before, Invoice) else None, after)


def _subscription_event_type(before: Subscription | None, after: Subscription) -> OutboundEventType | None:
    if before is None or not before.has_started:
        return OutboundEventType.SUBSCRIPTION_CREATED if after.has_started and after.live else None
    if not after.live:
        return OutboundEventType.SUBSCRIPTION_CANCELED if before.live else None
    return OutboundEventType.SUBSCRIPTION_UPDATED if event_object(before) != event_object(after) else None


def _invoice_event_type(before: Invoice | None, after: Invoice) -> OutboundEventType | None:
    if after.status == "paid":
        return OutboundEventType.INVOICE_PAID if before is None or before.status != "paid" else None
    failed_before = before.attempt_count if before else 0
    has_failed = after.status == "open" and after.attempt_count > failed_before
    return OutboundEventType.INVOICE_PAYMENT_FAILED if has_failed else None


def event_object(content: Subscription | Invoice) -> EventObject:
    """Return the `data.object` of an event about an object."""
    return _subscription_object(content) if isinstance(content, Subscription) else _invoice_object(content)


def previous_values(before: Subscription | Invoice | None, after: Subscription | Invoice) -> EventObject | None:
    """Return the `data.previous` of an event: the former values of changed fields; None without a former state."""
    if before is None:
        return None
    former, present = event_object(before), event_object(after)
    return {name: value for name, value in former.items() if value != present[name]}


def _subscription_object(subscription: Subscription) -> EventObject:
    # A receiver that grants plans by events must not grant one of a subscription whose account is not decided.
    is_decided = subscription.conflicting_account_id is None
    change = subscription.pending_change if is_decided else None
    return {
        "id": subscription.id,
        "plan": subscription.plan if is_decided else None,
        "status": subscription.status,
        "price_id": subscription.price_id,
        "unit_amount": subscription.unit_amount,
        "currency": subscription.currency,
        "interval": subscription.interval,
        "interval_count": subscription.interval_count,
        "quantity": subscription.quantity,
        "current_period_start": iso(subscription.current_period_start),
        "current_period_end": iso(subscription.current_period_end),
        "cancel_at_period_end": subscription.is_cancelling,
        "cancel_at": iso(subscription.cancel_at),
        "ended_at": iso(subscription.ended_at),
        "trial_end": iso(subscription.trial_end),
        "pause_collection": subscription.pause_collection,
        "pending_change": {
            "plan": change.plan,
            "price_id": change.price_id,
            "quantity": change.quantity,
            "effective_at": iso(change.effective_at),
        }
        if change
        else None,
    }


def _invoice_object(invoice: Invoice) -> EventObject:
    return {
        "id": invoice.id,
        "number": invoice.number,
        "subscription_id": invoice.subscription_id,
        "status": invoice.status,
        "currency": invoice.currency,
        "total": invoice.total,
        "amount_due": invoice.amount_due,
        "amount_paid": invoice.amount_paid,
        "amount_remaining": invoice.amount_remaining,
        "attempt_count": invoice.attempt_count,
        "created": iso(invoice.created),
        "period_start": iso(invoice.period_start),
        "period_end": iso(invoice.period_end),
        "hosted_invoice_url": invoice.hosted_invoice_url,
        "invoice_pdf": invoice.invoice_pdf,
    }
