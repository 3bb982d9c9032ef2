"""The events an account's own systems are told of: the difference between what was known and what is known now.

A difference exists once, whichever and however many of Stripe's events brought it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from billing.domain.invoices import Invoice
from billing.domain.subscriptions import Subscription
from billing.domain.timestamps import iso

type BillingObject = Subscription | Invoice


@dataclass(frozen=True, slots=True)
class OutboundEvent:
    """One thing to tell: `type` of the subscription contract's list, `data` in JSON types, times in ISO 8601 UTC.

    `occurred_at` is when Stripe's object is known to have been so; it never goes back between two of one object.
    """

    id: str
    type: str
    account_id: str
    occurred_at: datetime
    data: Mapping[str, str | int | bool | None]


def difference(before: BillingObject | None, after: BillingObject) -> str | None:
    """The type of outbound event that leads from `before` to `after`; None if nobody needs to know."""
    if isinstance(after, Subscription):
        return _subscription_difference(before if isinstance(before, Subscription) else None, after)
    return _invoice_difference(before if isinstance(before, Invoice) else None, after)


def _subscription_difference(before: Subscription | None, after: Subscription) -> str | None:
    if before is None or not before.has_started:
        return "subscription.created" if after.has_started and not after.has_ended else None
    if after.has_ended:
        return None if before.has_ended else "subscription.canceled"
    return "subscription.updated" if subscription_data(before) != subscription_data(after) else None


def _invoice_difference(before: Invoice | None, after: Invoice) -> str | None:
    if after.status == "paid":
        return "invoice.paid" if before is None or before.status != "paid" else None
    failed_before = before.attempt_count if before else 0
    return "invoice.payment_failed" if after.status == "open" and after.attempt_count > failed_before else None


def outbound_data(content: BillingObject) -> Mapping[str, str | int | bool | None]:
    """What an outbound event carries of its object."""
    return subscription_data(content) if isinstance(content, Subscription) else invoice_data(content)


def subscription_data(subscription: Subscription) -> Mapping[str, str | int | bool | None]:
    """A subscription as an account's systems see it."""
    return {
        "subscription": subscription.id,
        "plan": subscription.plan,
        "status": subscription.status,
        "quantity": subscription.quantity,
        "current_period_start": iso(subscription.current_period_start),
        "current_period_end": iso(subscription.current_period_end),
        "cancel_at_period_end": subscription.is_cancelling,
        "cancel_at": iso(subscription.cancel_at),
        "ended_at": iso(subscription.ended_at),
    }


def invoice_data(invoice: Invoice) -> Mapping[str, str | int | bool | None]:
    """An invoice as an account's systems see it; amounts in the currency's minor unit."""
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
