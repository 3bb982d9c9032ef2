"""Effect of payments on subscriptions: activation, past due, retries, cancellation."""

from collections.abc import Mapping
from typing import Any

from stripe_simulator import invoices
from stripe_simulator.errors import CardError
from stripe_simulator.state import Object, SimulatorState

ENDED_STATUSES = {"canceled", "incomplete_expired"}
AWAITING_PAYMENT_STATUSES = {"incomplete", "past_due", "unpaid"}
SUBSCRIPTION_UPDATED = "customer.subscription.updated"


def collect_payment(state: SimulatorState, invoice: Object) -> CardError | None:
    """Charge an open invoice and update its subscription.

    Returns:
        The error of the payment, or None if the invoice is paid.
    """
    subscription = state.objects[invoices.subscription_id(invoice)]
    error = invoices.charge(state, invoice, subscription)
    if error is None:
        activate_if_paid(state, invoice)
    elif subscription["status"] not in ENDED_STATUSES | {"incomplete"}:
        _apply_payment_failure(state, invoice, subscription)
    return error


def activate_if_paid(state: SimulatorState, invoice: Object) -> None:
    """Activate a subscription that awaits the payment of this invoice, if it is the latest one."""
    subscription = state.objects[invoices.subscription_id(invoice)]
    if subscription["status"] in AWAITING_PAYMENT_STATUSES and subscription["latest_invoice"] == invoice["id"]:
        state.update(subscription, SUBSCRIPTION_UPDATED, status="active")


def _apply_payment_failure(state: SimulatorState, invoice: Object, subscription: Object) -> None:
    if invoice["next_payment_attempt"] is not None:
        if subscription["status"] == "active":
            state.update(subscription, SUBSCRIPTION_UPDATED, status="past_due")
    elif state.settings.after_dunning == "canceled":
        cancel_immediately(state, subscription, reason="payment_failed")
    else:
        state.update(subscription, SUBSCRIPTION_UPDATED, status=state.settings.after_dunning)


def cancel_immediately(
    state: SimulatorState, subscription: Object, *, reason: str, details: Mapping[str, Any] | None = None
) -> None:
    """Cancel a subscription now and stop collecting its unpaid invoices.

    Args:
        state: The simulator's state.
        subscription: A subscription that has not ended.
        reason: ``cancellation_requested`` or ``payment_failed``.
        details: The customer's ``comment`` and ``feedback``.
    """
    now = state.now(subscription)
    state.update(
        subscription,
        status="canceled",
        canceled_at=subscription["canceled_at"] or now,
        cancellation_details={**subscription["cancellation_details"], **(details or {}), "reason": reason},
        ended_at=now,
    )
    state.emit("customer.subscription.deleted", subscription)
    _cancel_schedule(state, subscription)
    invoices.stop_collecting(state, subscription)


def _cancel_schedule(state: SimulatorState, subscription: Object) -> None:
    schedule = state.objects.get(subscription["schedule"] or "")
    if schedule:
        state.update(schedule, status="canceled", canceled_at=state.now(schedule), current_phase=None)
        state.emit("subscription_schedule.canceled", schedule)


def expire_incomplete(state: SimulatorState, subscription: Object) -> None:
    """Expire a subscription whose first invoice is unpaid, and void its open invoices."""
    now = state.now(subscription)
    state.update(subscription, SUBSCRIPTION_UPDATED, status="incomplete_expired", ended_at=now)
    for invoice in invoices.of_subscription(state, subscription):
        if invoice["status"] == "open":
            invoices.void(state, invoice)
