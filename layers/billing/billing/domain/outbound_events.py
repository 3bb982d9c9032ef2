"""Outbound events: changes of subscriptions and invoices, for the account's own systems.

An outbound event is the difference between the row before and after a commit. The number and order of Stripe's events
do not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.domain.timestamps import iso


@dataclass(frozen=True, slots=True)
class OutboundEvent:
    """A change of one object.

    Attributes:
        id: Unique id of the event.
        type: Event type of the subscription contract, for example "subscription.updated".
        account_id: Account of the object.
        occurred_at: Time at which Stripe's object was in this state. It never decreases between events of one object.
        data: State of the object in JSON types; times in ISO 8601 UTC.
    """

    id: str
    type: str
    account_id: str
    occurred_at: datetime
    data: Mapping[str, str | int | bool | None]


def outbound_event_type(
    before: Subscription | Invoice | None, after: Subscription | Invoice, catalog: Catalog
) -> str | None:
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


def _subscription_event_type(before: Subscription | None, after: Subscription) -> str | None:
    if before is None or not before.has_started:
        return "subscription.created" if after.has_started and after.live else None
    if not after.live:
        return "subscription.canceled" if before.live else None
    return "subscription.updated" if subscription_data(before) != subscription_data(after) else None


def _invoice_event_type(before: Invoice | None, after: Invoice) -> str | None:
    if after.status == "paid":
        return "invoice.paid" if before is None or before.status != "paid" else None
    failed_before = before.attempt_count if before else 0
    return "invoice.payment_failed" if after.status == "open" and after.attempt_count > failed_before else None


def outbound_data(content: Subscription | Invoice) -> Mapping[str, str | int | bool | None]:
    """Return the `data` of an outbound event about an object."""
    return subscription_data(content) if isinstance(content, Subscription) else invoice_data(content)


def subscription_data(subscription: Subscription) -> Mapping[str, str | int | bool | None]:
    """Return the `data` of a subscription event."""
    change = subscription.pending_change
    return {
        "subscription": subscription.id,
        # Whoever grants the plan of this event must not grant one whose account is not decided.
        "plan": None if subscription.conflicting_account_id else subscription.plan,
        "status": subscription.status,
        "price": subscription.price_id,
        "unit_amount": subscription.unit_amount,
        "currency": subscription.currency,
        "interval": subscription.interval,
        "quantity": subscription.quantity,
        "trial_end": iso(subscription.trial_end),
        "pause_collection": subscription.pause_collection,
        "current_period_start": iso(subscription.current_period_start),
        "current_period_end": iso(subscription.current_period_end),
        "cancel_at_period_end": subscription.is_cancelling,
        "cancel_at": iso(subscription.cancel_at),
        "ended_at": iso(subscription.ended_at),
        "pending_plan": change.plan if change else None,
        "pending_quantity": change.quantity if change else None,
        "pending_at": iso(change.effective_at) if change else None,
    }


def invoice_data(invoice: Invoice) -> Mapping[str, str | int | bool | None]:
    """Return the `data` of an invoice event; amounts are in the currency's minor unit."""
    return {
        "invoice": invoice.id,
        "number": invoice.number,
        "subscription": invoice.subscription_id,
        "status": invoice.status,
        "currency": invoice.currency,
        "total": invoice.total,
        "amount_paid": invoice.amount_paid,
        "amount_remaining": invoice.amount_remaining,
        "attempt_count": invoice.attempt_count,
        "hosted_invoice_url": invoice.hosted_invoice_url,
    }
