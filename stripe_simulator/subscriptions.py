"""A subscription's life: it starts, renews, changes, pauses and ends."""

from collections.abc import Mapping, Sequence
from typing import Any

from stripe_simulator import cards, invoices
from stripe_simulator.collection import UPDATED, collect, end
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.items import (
    Line,
    current_period,
    full_lines,
    replace_items,
    take_kept_lines,
    trial_lines,
    with_period,
)
from stripe_simulator.objects import new_subscription, new_subscription_item
from stripe_simulator.periods import period_end
from stripe_simulator.world import DAY, Object, World

TRIAL_NOTICE = 3 * DAY


def start(world: World, customer: Object, lines: Sequence[Line], *, pay: bool, fields: Mapping[str, Any]) -> Object:
    """Create a subscription with its first invoice.

    Args:
        world: The state.
        customer: Who subscribes.
        lines: At least one recurring price; all of one interval and currency.
        pay: Charge the first invoice at once; without it the subscription waits, incomplete.
        fields: Fields of the subscription; a ``trial_end`` in the future makes it a trial.
    """
    trial_end = fields.get("trial_end")
    now = world.now(customer)
    subscription = new_subscription(world, customer, lines[0].price["currency"], fields)
    if trial_end:
        subscription.update(status="trialing", trial_start=now, billing_cycle_anchor=trial_end)
    period = (now, trial_end or period_end(now, lines[0].price["recurring"], now))
    items = [
        world.add(new_subscription_item(world, subscription, line.price, line.quantity, period, line.metadata))
        for line in lines
    ]
    subscription["items"]["data"] = items
    bill = (trial_lines if trial_end else full_lines)(world, items, period)
    invoice = invoices.draft(world, subscription, "subscription_create", bill)
    subscription["latest_invoice"] = invoice["id"]
    world.add(subscription)
    world.emit("customer.subscription.created", subscription)
    if trial_end and trial_end - now <= TRIAL_NOTICE:
        announce_trial_end(world, subscription)
    world.emit("invoice.created", invoice)
    invoices.finalize(world, invoice)
    if pay or invoice["amount_due"] == 0:
        collect(world, invoice)
    return subscription


def announce_trial_end(world: World, subscription: Object) -> None:
    """Tell that a trial ends soon, once for each end."""
    world.hidden[subscription["id"]]["announced_trial_end"] = subscription["trial_end"]
    world.schedule(subscription)
    world.emit("customer.subscription.trial_will_end", subscription)


# --- At the end of a period -------------------------------------------------------------------------------------------


def renew(world: World, subscription: Object) -> None:
    """Do what the end of a period or of a trial brings: the next period and its invoice, or the end."""
    if subscription["cancel_at_period_end"]:
        return end(world, subscription, reason="cancellation_requested")
    unpayable = subscription["status"] == "trialing" and not cards.payment_method_of(world, subscription)
    otherwise = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if unpayable and otherwise == "cancel":
        return end(world, subscription, reason="payment_failed")
    if unpayable and otherwise == "pause":
        world.change(subscription, UPDATED, status="paused")
        return world.emit("customer.subscription.paused", subscription)
    return _begin_period(world, subscription, current_period(subscription)[1])


def _begin_period(world: World, subscription: Object, start_of_period: int) -> None:
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    period = (start_of_period, period_end(subscription["billing_cycle_anchor"], recurring, start_of_period))
    items = with_period(subscription, period)
    bill = take_kept_lines(world, subscription) + full_lines(world, items, period)
    invoice = invoices.draft(world, subscription, "subscription_cycle", bill)
    status = "active" if subscription["status"] in {"trialing", "paused"} else subscription["status"]
    replace_items(world, subscription, items, latest_invoice=invoice["id"], status=status)
    world.emit("invoice.created", invoice)
    _advance_draft(world, subscription, invoice)


def _advance_draft(world: World, subscription: Object, invoice: Object) -> None:
    """Let a renewal's draft take its course, unless collection is paused or was given up."""
    pause = subscription["pause_collection"]
    if subscription["status"] == "unpaid" or (pause and pause["behavior"] == "keep_as_draft"):
        world.change(invoice, auto_advance=False)
    elif pause:
        invoices.finalize(world, invoice)
        (invoices.void if pause["behavior"] == "void" else invoices.mark_uncollectible)(world, invoice)
    elif world.settings.draft_seconds:
        world.change(invoice, automatically_finalizes_at=world.now(invoice) + world.settings.draft_seconds)
    else:
        finalize_and_collect(world, invoice)


def finalize_and_collect(world: World, invoice: Object) -> None:
    """Open a draft and charge it."""
    invoices.finalize(world, invoice)
    collect(world, invoice)


def resume_collection(world: World, subscription: Object) -> None:
    """End a pause of payment collection."""
    world.change(subscription, UPDATED, pause_collection=None)


def resume(world: World, subscription: Object) -> None:
    """Start a paused subscription again with a new period from now.

    Raises:
        InvalidRequest: It is not paused.
    """
    if subscription["status"] != "paused":
        raise InvalidRequest(
            f"This subscription cannot be resumed because it is `{subscription['status']}`. Only `paused` "
            "subscriptions can be resumed."
        )
    now = world.now(subscription)
    world.change(subscription, billing_cycle_anchor=now)
    _begin_period(world, subscription, now)
    world.emit("customer.subscription.resumed", subscription)


# --- On request -------------------------------------------------------------------------------------------------------


def cancellation_changes(world: World, subscription: Object, **changes: Any) -> Object:  # noqa: ANN401 - JSON
    """Return all fields that change when a subscription's end is set, moved or taken back.

    Args:
        world: The state.
        subscription: One that is not over.
        changes: ``cancel_at``, ``cancel_at_period_end`` and what the customer said (``cancellation_details``).
    """
    details = {**subscription["cancellation_details"], **changes.pop("cancellation_details", {})}
    after = {**subscription, **changes}
    ending = after["cancel_at_period_end"] or after["cancel_at"]
    details["reason"] = "cancellation_requested" if ending else None
    canceled_at = (subscription["canceled_at"] or world.now(subscription)) if ending else None
    return {**changes, "canceled_at": canceled_at, "cancellation_details": details}


def end_trial(world: World, subscription: Object) -> None:
    """End a trial now and bill the first paid period."""
    now = world.now(subscription)
    subscription["items"]["data"] = with_period(subscription, (current_period(subscription)[0], now))
    world.change(subscription, billing_cycle_anchor=now, trial_end=now)
    renew(world, subscription)


def extend_trial(world: World, subscription: Object, trial_end: int) -> None:
    """Make the current period a trial until a moment in the future."""
    start = subscription["trial_start"] or world.now(subscription)
    replace_items(
        world,
        subscription,
        with_period(subscription, (current_period(subscription)[0], trial_end)),
        status="trialing",
        trial_start=start,
        trial_end=trial_end,
        billing_cycle_anchor=trial_end,
    )
