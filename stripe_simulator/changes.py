"""Changes of plan in the middle of a period.

They are prorated to the second: the rest of the old price is given back, the rest of the new one billed, with the next
invoice or, for ``always_invoice``, now. Another billing interval starts a new period now.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stripe_simulator import cards, invoices
from stripe_simulator.errors import CardError
from stripe_simulator.items import (
    Line,
    current_period,
    full_lines,
    keep_for_next_invoice,
    replace_items,
    share,
    take_kept_lines,
)
from stripe_simulator.objects import Period, new_invoice_line, new_subscription_item
from stripe_simulator.periods import period_end
from stripe_simulator.subscriptions import finalize_and_collect
from stripe_simulator.world import Object, World


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of items would do.

    Attributes:
        items: All items afterwards.
        lines: What is to be billed or given back for it.
        anchor: The new billing cycle anchor in epoch seconds; None keeps the periods as they are.
        invoiced_now: Whether the lines make an invoice at once.
    """

    items: list[Object]
    lines: list[Object]
    anchor: int | None
    invoiced_now: bool


def plan_change(
    world: World, subscription: Object, lines: Sequence[Line], *, proration_behavior: str, restart: bool
) -> Change:
    """Work out a change without making it.

    Args:
        world: The state.
        subscription: One that is not over.
        lines: All items that it shall have.
        proration_behavior: ``create_prorations``, ``always_invoice`` or ``none``.
        restart: Start a new period now even though the interval stays.
    """
    now = world.now(subscription)
    before = subscription["items"]["data"]
    recurring = lines[0].price["recurring"]
    trial = subscription["status"] == "trialing"
    restart = not trial and (restart or _interval(recurring) != _interval(before[0]["price"]["recurring"]))
    period = (now, period_end(now, recurring, now)) if restart else current_period(subscription)
    after = [_item_for(world, subscription, line, period) for line in lines]
    prorated = not trial and proration_behavior != "none"
    gone = before if restart else _not_in(before, after)
    bill = _prorations(world, gone, now, sign=-1) if prorated else []
    if restart:
        bill += full_lines(world, after, period)
    elif prorated:
        bill += _prorations(world, _not_in(after, before), now, sign=1)
    invoiced_now = bool(bill) and (restart or proration_behavior == "always_invoice")
    return Change(after, bill, now if restart else None, invoiced_now)


def refusal_of(world: World, subscription: Object, change: Change) -> CardError | None:
    """Return why the card on file would not pay what a change costs now; None where it would, or nothing is due."""
    due = sum(line["amount"] for line in change.lines) + world.objects[subscription["customer"]]["balance"]
    if not change.invoiced_now or due <= 0:
        return None
    return cards.refusal(world, cards.payment_method_of(world, subscription))


def apply_change(world: World, subscription: Object, change: Change, others: Object) -> None:
    """Make a planned change, together with other changed fields of the subscription."""
    if change.anchor is not None:
        others = {**others, "billing_cycle_anchor": change.anchor}
    if not change.invoiced_now:
        keep_for_next_invoice(world, subscription, change.lines)
        replace_items(world, subscription, change.items, **others)
        return
    lines = take_kept_lines(world, subscription) + change.lines
    invoice = invoices.draft(world, subscription, "subscription_update", lines)
    replace_items(world, subscription, change.items, latest_invoice=invoice["id"], **others)
    world.emit("invoice.created", invoice)
    finalize_and_collect(world, invoice)


def _interval(recurring: Object) -> tuple[str, int]:
    return recurring["interval"], recurring["interval_count"]


def _item_for(world: World, subscription: Object, line: Line, period: Period) -> Object:
    item = new_subscription_item(world, subscription, line.price, line.quantity, period, line.metadata)
    return {**item, "id": line.item["id"], "created": line.item["created"]} if line.item else item


def _not_in(items: list[Object], others: list[Object]) -> list[Object]:
    billed = [_billing(other) for other in others]
    return [item for item in items if _billing(item) not in billed]


def _billing(item: Object) -> tuple[str, str, int]:
    return item["id"], item["price"]["id"], item["quantity"]


def _prorations(world: World, items: list[Object], now: int, *, sign: int) -> list[Object]:
    lines = []
    for item in items:
        rest = (now, item["current_period_end"])
        lines.append(new_invoice_line(world, item, sign * share(item, rest), rest, proration=True))
    return lines
