"""A subscription's life: it starts, renews, changes, pauses and ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local.stripe_simulator import cards, invoices
from local.stripe_simulator.collection import UPDATED, collect, end
from local.stripe_simulator.errors import InvalidRequest
from local.stripe_simulator.objects import Period, new_invoice_line, new_subscription, new_subscription_item
from local.stripe_simulator.periods import period_end
from local.stripe_simulator.world import DAY, Object, World

TRIAL_NOTICE = 3 * DAY


@dataclass(frozen=True, slots=True)
class Line:
    """What a subscription bills: a price, how often, and for an item that exists, which one."""

    price: Object
    quantity: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    item: Object | None = None


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
    bill = [_line(world, item, period, amount=0 if trial_end else _cost(item)) for item in items]
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


def current_period(subscription: Object) -> Period:
    """Return the start and end of the period that is paid for, in epoch seconds."""
    items = subscription["items"]["data"]
    return items[0]["current_period_start"], max(item["current_period_end"] for item in items)


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
    items = [_with_period(item, period) for item in subscription["items"]["data"]]
    bill = _pending_lines(world, subscription) + [_line(world, item, period, amount=_cost(item)) for item in items]
    invoice = invoices.draft(world, subscription, "subscription_cycle", bill)
    status = "active" if subscription["status"] in {"trialing", "paused"} else subscription["status"]
    _replace_items(world, subscription, items, latest_invoice=invoice["id"], status=status)
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
            f"This subscription cannot be resumed because it is `{subscription['status']}`. Only `paused` subscriptions "
            "can be resumed."
        )
    now = world.now(subscription)
    world.change(subscription, billing_cycle_anchor=now)
    _begin_period(world, subscription, now)
    world.emit("customer.subscription.resumed", subscription)


# --- On request -------------------------------------------------------------------------------------------------------


def schedule_cancellation(world: World, subscription: Object, **changes: Any) -> None:  # noqa: ANN401 - JSON
    """Set or clear the moment at which a subscription will end: ``cancel_at``, ``cancel_at_period_end``, details."""
    details = {**subscription["cancellation_details"], **changes.pop("cancellation_details", {})}
    after = {**subscription, **changes}
    ending = after["cancel_at_period_end"] or after["cancel_at"]
    details["reason"] = "cancellation_requested" if ending else None
    canceled_at = (subscription["canceled_at"] or world.now(subscription)) if ending else None
    world.change(subscription, UPDATED, **changes, canceled_at=canceled_at, cancellation_details=details)


def end_trial(world: World, subscription: Object) -> None:
    """End a trial now and bill the first paid period."""
    now = world.now(subscription)
    items = [_with_period(item, (item["current_period_start"], now)) for item in subscription["items"]["data"]]
    world.change(subscription, billing_cycle_anchor=now, trial_end=now, items=_list_of(subscription, items))
    renew(world, subscription)


def extend_trial(world: World, subscription: Object, trial_end: int) -> None:
    """Make the current period a trial until a moment in the future."""
    now = world.now(subscription)
    items = [_with_period(item, (item["current_period_start"], trial_end)) for item in subscription["items"]["data"]]
    _replace_items(
        world,
        subscription,
        items,
        status="trialing",
        trial_start=subscription["trial_start"] or now,
        trial_end=trial_end,
        billing_cycle_anchor=trial_end,
    )


def change_items(
    world: World,
    subscription: Object,
    lines: Sequence[Line],
    *,
    proration_behavior: str,
    restart: bool,
    changes: Object,
) -> None:
    """Put other items on a subscription.

    A change in the middle of a period is prorated to the second: the rest of the old price is given back, the rest of
    the new one billed, with the next invoice or, for ``always_invoice``, now. Another interval starts a new period now.

    Args:
        world: The state.
        subscription: One that is not over.
        lines: All items that it shall have.
        proration_behavior: ``create_prorations``, ``always_invoice`` or ``none``.
        restart: Start a new period now even though the interval stays.
        changes: Other fields that change in the same event.
    """
    now = world.now(subscription)
    before = subscription["items"]["data"]
    recurring = lines[0].price["recurring"]
    trial = subscription["status"] == "trialing"
    restart = not trial and (restart or _interval(recurring) != _interval(before[0]["price"]["recurring"]))
    period = (now, period_end(now, recurring, now)) if restart else current_period(subscription)
    items = [_item_for(world, subscription, line, period) for line in lines]
    free = trial or proration_behavior == "none"
    bill = [] if free else _credits(world, subscription, before, items, restart=restart)
    if restart:
        changes["billing_cycle_anchor"] = now
        bill += [_line(world, item, period, amount=_cost(item)) for item in items]
    elif not free:
        bill += _charges(world, before, items, (now, period[1]))
    if bill and (restart or proration_behavior == "always_invoice"):
        invoice = invoices.draft(world, subscription, "subscription_update", _pending_lines(world, subscription) + bill)
        _replace_items(world, subscription, items, latest_invoice=invoice["id"], **changes)
        world.emit("invoice.created", invoice)
        finalize_and_collect(world, invoice)
    else:
        world.hidden[subscription["id"]].setdefault("pending_lines", []).extend(bill)
        _replace_items(world, subscription, items, **changes)


def _interval(recurring: Object) -> tuple[str, int]:
    return recurring["interval"], recurring["interval_count"]


def _item_for(world: World, subscription: Object, line: Line, period: Period) -> Object:
    if line.item is None:
        return new_subscription_item(world, subscription, line.price, line.quantity, period, line.metadata)
    fresh = new_subscription_item(world, subscription, line.price, line.quantity, period, line.metadata)
    return {**fresh, "id": line.item["id"], "created": line.item["created"]}


def _credits(
    world: World, subscription: Object, before: list[Object], after: list[Object], *, restart: bool
) -> list[Object]:
    """Return the lines that give back the unused rest of what changes."""
    now = world.now(subscription)
    gone = before if restart else [item for item in before if not _unchanged(item, after)]
    lines = []
    for item in gone:
        rest = (now, item["current_period_end"])
        lines.append(_line(world, item, rest, amount=-_share(item, rest), proration=True))
    return lines


def _charges(world: World, before: list[Object], after: list[Object], rest: Period) -> list[Object]:
    return [
        _line(world, item, rest, amount=_share(item, rest), proration=True)
        for item in after
        if not _unchanged(item, before)
    ]


def _unchanged(item: Object, others: list[Object]) -> bool:
    return any(
        (item["id"], item["price"]["id"], item["quantity"]) == (other["id"], other["price"]["id"], other["quantity"])
        for other in others
    )


def _share(item: Object, rest: Period) -> int:
    """Return the part of an item's cost that falls on the rest of its period, rounded half up."""
    length = item["current_period_end"] - item["current_period_start"]
    return (2 * _cost(item) * (rest[1] - rest[0]) + length) // (2 * length)


def _cost(item: Object) -> int:
    cost: int = item["price"]["unit_amount"] * item["quantity"]
    return cost


def _line(world: World, item: Object, period: Period, *, amount: int, proration: bool = False) -> Object:
    return new_invoice_line(world, item, amount, period, proration=proration)


def _pending_lines(world: World, subscription: Object) -> list[Object]:
    pending: list[Object] = world.hidden[subscription["id"]].pop("pending_lines", [])
    return pending


def _with_period(item: Object, period: Period) -> Object:
    return {**item, "current_period_start": period[0], "current_period_end": period[1]}


def _list_of(subscription: Object, items: list[Object]) -> Object:
    return {**subscription["items"], "data": items}


def _replace_items(world: World, subscription: Object, items: list[Object], **changes: Any) -> None:  # noqa: ANN401
    for item in subscription["items"]["data"]:
        world.forget(item)
    for item in items:
        world.add(item)
    world.change(subscription, UPDATED, items=_list_of(subscription, items), **changes)
