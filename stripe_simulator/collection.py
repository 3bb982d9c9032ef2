"""What payments do to subscriptions: activation, past due, dunning, the end."""

from collections.abc import Mapping
from typing import Any

from stripe_simulator import invoices
from stripe_simulator.errors import CardError
from stripe_simulator.world import Object, World

OVER = {"canceled", "incomplete_expired"}
OWING = {"incomplete", "past_due", "unpaid"}
UPDATED = "customer.subscription.updated"


def collect(world: World, invoice: Object) -> CardError | None:
    """Charge an open invoice and let its subscription follow.

    Returns:
        Why the payment failed; None where the invoice is paid now.
    """
    subscription = world.objects[invoices.subscription_id(invoice)]
    error = invoices.charge(world, invoice, subscription)
    if error is None:
        note_paid(world, invoice)
    elif subscription["status"] not in OVER | {"incomplete"}:
        _note_failure(world, invoice, subscription)
    return error


def note_paid(world: World, invoice: Object) -> None:
    """Make a subscription active again once its latest invoice is paid."""
    subscription = world.objects[invoices.subscription_id(invoice)]
    if subscription["status"] in OWING and subscription["latest_invoice"] == invoice["id"]:
        world.change(subscription, UPDATED, status="active")


def _note_failure(world: World, invoice: Object, subscription: Object) -> None:
    if invoice["next_payment_attempt"] is not None:
        if subscription["status"] == "active":
            world.change(subscription, UPDATED, status="past_due")
    elif world.settings.after_dunning == "canceled":
        end(world, subscription, reason="payment_failed")
    else:
        world.change(subscription, UPDATED, status=world.settings.after_dunning)


def end(world: World, subscription: Object, *, reason: str, details: Mapping[str, Any] | None = None) -> None:
    """Cancel a subscription now; what is unpaid is not collected any more.

    Args:
        world: The state.
        subscription: One that is not over.
        reason: ``cancellation_requested`` or ``payment_failed``.
        details: A customer's ``comment`` and ``feedback``.
    """
    now = world.now(subscription)
    world.change(
        subscription,
        status="canceled",
        canceled_at=subscription["canceled_at"] or now,
        cancellation_details={**subscription["cancellation_details"], **(details or {}), "reason": reason},
        ended_at=now,
    )
    world.emit("customer.subscription.deleted", subscription)
    invoices.stop_collecting(world, subscription)


def expire(world: World, subscription: Object) -> None:
    """Give up a subscription whose first invoice was never paid."""
    now = world.now(subscription)
    world.change(subscription, UPDATED, status="incomplete_expired", ended_at=now)
    for invoice in invoices.of_subscription(world, subscription):
        if invoice["status"] == "open":
            invoices.void(world, invoice)
