"""Subscription lifecycle: start, renew, pause collection, resume and end a trial."""

from collections.abc import Mapping, Sequence
from typing import Any

from stripe_simulator import cards, invoices
from stripe_simulator.dunning import ENDED_STATUSES, SUBSCRIPTION_UPDATED, cancel_immediately, collect_payment
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.items import (
    ItemSpec,
    current_period,
    items_in_period,
    period_lines,
    replace_items,
    take_pending_lines,
    trial_lines,
)
from stripe_simulator.objects import new_subscription, new_subscription_item
from stripe_simulator.periods import period_end
from stripe_simulator.state import DAY, Object, SimulatorState

TRIAL_NOTICE = 3 * DAY


def start(
    state: SimulatorState, customer: Object, specs: Sequence[ItemSpec], *, pay: bool, fields: Mapping[str, Any]
) -> Object:
    """Create a subscription with its first invoice.

    Args:
        state: The simulator's state.
        customer: The customer.
        specs: At least one recurring price, all with the same interval and currency.
        pay: Charge the first invoice now. If False, the subscription stays incomplete.
        fields: Fields of the subscription. With a ``trial_end`` in the future it starts as a trial.
    """
    trial_end = fields.get("trial_end")
    now = state.now(customer)
    subscription = new_subscription(state, customer, specs[0].price["currency"], fields)
    if trial_end:
        subscription.update(status="trialing", trial_start=now, billing_cycle_anchor=trial_end)
    period = (now, trial_end or period_end(now, specs[0].price["recurring"], now))
    items = [
        state.add(new_subscription_item(state, subscription, spec.price, spec.quantity, period, spec.metadata))
        for spec in specs
    ]
    subscription["items"]["data"] = items
    lines = (trial_lines if trial_end else period_lines)(state, items, period)
    invoice = invoices.draft(state, subscription, "subscription_create", lines)
    subscription["latest_invoice"] = invoice["id"]
    state.add(subscription)
    state.emit("customer.subscription.created", subscription)
    if trial_end and trial_end - now <= TRIAL_NOTICE:
        announce_trial_end(state, subscription)
    state.emit("invoice.created", invoice)
    invoices.finalize(state, invoice)
    if pay or invoice["amount_due"] == 0:
        collect_payment(state, invoice)
    return subscription


def announce_trial_end(state: SimulatorState, subscription: Object) -> None:
    """Emit ``trial_will_end`` and record it, so that each trial end is announced once."""
    state.private[subscription["id"]]["announced_trial_end"] = subscription["trial_end"]
    state.schedule(subscription)
    state.emit("customer.subscription.trial_will_end", subscription)


# --- Renewal ----------------------------------------------------------------------------------------------------------


def renew(state: SimulatorState, subscription: Object) -> None:
    """End a period or a trial: start the next period with its invoice, pause, or cancel."""
    if subscription["cancel_at_period_end"]:
        return cancel_immediately(state, subscription, reason="cancellation_requested")
    unpayable = subscription["status"] == "trialing" and not cards.payment_method_of(state, subscription)
    missing_payment_method = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if unpayable and missing_payment_method == "cancel":
        return cancel_immediately(state, subscription, reason="payment_failed")
    if unpayable and missing_payment_method == "pause":
        state.update(subscription, SUBSCRIPTION_UPDATED, status="paused")
        return state.emit("customer.subscription.paused", subscription)
    return _begin_period(state, subscription, current_period(subscription)[1])


def _begin_period(state: SimulatorState, subscription: Object, start_of_period: int) -> None:
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    period = (start_of_period, period_end(subscription["billing_cycle_anchor"], recurring, start_of_period))
    items = items_in_period(subscription, period)
    lines = take_pending_lines(state, subscription) + period_lines(state, items, period)
    invoice = invoices.draft(state, subscription, "subscription_cycle", lines)
    status = "active" if subscription["status"] in {"trialing", "paused"} else subscription["status"]
    replace_items(state, subscription, items, latest_invoice=invoice["id"], status=status)
    state.emit("invoice.created", invoice)
    _advance_draft(state, subscription, invoice)


def _advance_draft(state: SimulatorState, subscription: Object, invoice: Object) -> None:
    """Process the draft invoice of a renewal.

    - Subscription unpaid, or collection paused with ``keep_as_draft``: it stays a draft.
    - Collection paused otherwise: finalize it, then void it or mark it as uncollectible.
    - ``draft_seconds`` set: schedule its finalization.
    - Otherwise: finalize and charge it.
    """
    pause = subscription["pause_collection"]
    if subscription["status"] == "unpaid" or (pause and pause["behavior"] == "keep_as_draft"):
        state.update(invoice, auto_advance=False)
    elif pause:
        invoices.finalize(state, invoice)
        (invoices.void if pause["behavior"] == "void" else invoices.mark_uncollectible)(state, invoice)
    elif state.settings.draft_seconds:
        state.update(invoice, automatically_finalizes_at=state.now(invoice) + state.settings.draft_seconds)
    else:
        finalize_and_collect(state, invoice)


def finalize_and_collect(state: SimulatorState, invoice: Object) -> None:
    """Finalize a draft and charge it."""
    invoices.finalize(state, invoice)
    collect_payment(state, invoice)


def resume_collection(state: SimulatorState, subscription: Object) -> None:
    """Resume payment collection."""
    state.update(subscription, SUBSCRIPTION_UPDATED, pause_collection=None)


def resume(state: SimulatorState, subscription: Object) -> None:
    """Resume a paused subscription with a new period that starts now.

    Raises:
        InvalidRequest: The subscription is not paused.
    """
    if subscription["status"] != "paused":
        raise InvalidRequest(
            f"This subscription cannot be resumed because it is `{subscription['status']}`. Only `paused` "
            "subscriptions can be resumed."
        )
    now = state.now(subscription)
    state.update(subscription, billing_cycle_anchor=now)
    _begin_period(state, subscription, now)
    state.emit("customer.subscription.resumed", subscription)


# --- API requests -----------------------------------------------------------------------------------------------------


def require_currency(state: SimulatorState, customer: Object, currency: str) -> None:
    """Require that a customer has no current subscription in another currency.

    Raises:
        InvalidRequest: The customer has one.
    """
    for subscription in state.all("subscription"):
        if subscription["customer"] != customer["id"] or subscription["status"] in ENDED_STATUSES:
            continue
        if subscription["currency"] != currency:
            raise InvalidRequest(
                "You cannot combine currencies on a single customer. This customer has an active subscription, "
                "subscription schedule, discount, quote, or invoice item with currency "
                f"{subscription['currency']}."
            )


def cancellation_fields(state: SimulatorState, subscription: Object, **changes: Any) -> Object:  # noqa: ANN401 - JSON
    """Return the fields of a subscription that change with its scheduled cancellation.

    Args:
        state: The simulator's state.
        subscription: A subscription that has not ended.
        changes: ``cancel_at``, ``cancel_at_period_end`` and ``cancellation_details``.
    """
    details = {**subscription["cancellation_details"], **changes.pop("cancellation_details", {})}
    after = {**subscription, **changes}
    ending = after["cancel_at_period_end"] or after["cancel_at"]
    details["reason"] = "cancellation_requested" if ending else None
    canceled_at = (subscription["canceled_at"] or state.now(subscription)) if ending else None
    return {**changes, "canceled_at": canceled_at, "cancellation_details": details}


def end_trial(state: SimulatorState, subscription: Object) -> None:
    """End a trial now and invoice the first paid period."""
    now = state.now(subscription)
    subscription["items"]["data"] = items_in_period(subscription, (current_period(subscription)[0], now))
    state.update(subscription, billing_cycle_anchor=now, trial_end=now)
    renew(state, subscription)


def extend_trial(state: SimulatorState, subscription: Object, trial_end: int) -> None:
    """Extend the current period as a trial until a time in the future."""
    start = subscription["trial_start"] or state.now(subscription)
    replace_items(
        state,
        subscription,
        items_in_period(subscription, (current_period(subscription)[0], trial_end)),
        status="trialing",
        trial_start=start,
        trial_end=trial_end,
        billing_cycle_anchor=trial_end,
    )
