"""Changes of a subscription's items within a billing period.

Prorations are exact to the second: a credit for the unused time on the old price, a charge for the remaining time on
the new one. They are part of the next invoice or, with ``always_invoice``, of an immediate one. If the billing
interval changes, a new period starts immediately.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stripe_simulator import cards, invoices
from stripe_simulator.errors import CardError
from stripe_simulator.items import (
    ItemSpec,
    add_pending_lines,
    current_period,
    period_lines,
    prorated_amount,
    replace_items,
    take_pending_lines,
)
from stripe_simulator.objects import Period, new_invoice_line, new_subscription_item
from stripe_simulator.periods import period_end
from stripe_simulator.state import Object, SimulatorState
from stripe_simulator.subscriptions import finalize_and_collect


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """Result of a change of items.

    Attributes:
        items: All items after the change.
        lines: Invoice lines of the change.
        billing_cycle_anchor: The new anchor in epoch seconds, or None if the current period continues.
        invoice_now: True if the lines are invoiced immediately.
    """

    items: list[Object]
    lines: list[Object]
    billing_cycle_anchor: int | None
    invoice_now: bool


def preview_change(
    state: SimulatorState,
    subscription: Object,
    specs: Sequence[ItemSpec],
    *,
    proration_behavior: str,
    reset_anchor: bool,
) -> SubscriptionChange:
    """Compute a change of items without applying it.

    Args:
        state: The simulator's state.
        subscription: A subscription that has not ended.
        specs: All items after the change.
        proration_behavior: ``create_prorations``, ``always_invoice`` or ``none``.
        reset_anchor: Start a new period now, even if the interval does not change.
    """
    now = state.now(subscription)
    before = subscription["items"]["data"]
    recurring = specs[0].price["recurring"]
    trial = subscription["status"] == "trialing"
    reset_anchor = not trial and (reset_anchor or _interval(recurring) != _interval(before[0]["price"]["recurring"]))
    period = (now, period_end(now, recurring, now)) if reset_anchor else current_period(subscription)
    after = [_build_item(state, subscription, spec, period) for spec in specs]
    prorated = not trial and proration_behavior != "none"
    removed = before if reset_anchor else _without_unchanged(before, after)
    invoice_lines = _prorations(state, removed, now, sign=-1) if prorated else []
    if reset_anchor:
        invoice_lines += period_lines(state, after, period)
    elif prorated:
        invoice_lines += _prorations(state, _without_unchanged(after, before), now, sign=1)
    invoice_now = bool(invoice_lines) and (reset_anchor or proration_behavior == "always_invoice")
    return SubscriptionChange(after, invoice_lines, now if reset_anchor else None, invoice_now)


def payment_error(state: SimulatorState, subscription: Object, change: SubscriptionChange) -> CardError | None:
    """Return the error of a change's immediate payment, or None if it succeeds or nothing is due."""
    due = sum(line["amount"] for line in change.lines) + state.objects[subscription["customer"]]["balance"]
    if not change.invoice_now or due <= 0:
        return None
    return cards.decline_error(state, cards.payment_method_of(state, subscription))


def apply_change(state: SimulatorState, subscription: Object, change: SubscriptionChange, other_fields: Object) -> None:
    """Apply a change of items together with other changed fields of the subscription."""
    if change.billing_cycle_anchor is not None:
        other_fields = {**other_fields, "billing_cycle_anchor": change.billing_cycle_anchor}
    if not change.invoice_now:
        add_pending_lines(state, subscription, change.lines)
        replace_items(state, subscription, change.items, **other_fields)
        return
    lines = take_pending_lines(state, subscription) + change.lines
    invoice = invoices.draft(state, subscription, "subscription_update", lines)
    replace_items(state, subscription, change.items, latest_invoice=invoice["id"], **other_fields)
    state.emit("invoice.created", invoice)
    finalize_and_collect(state, invoice)


def _interval(recurring: Object) -> tuple[str, int]:
    return recurring["interval"], recurring["interval_count"]


def _build_item(state: SimulatorState, subscription: Object, spec: ItemSpec, period: Period) -> Object:
    item = new_subscription_item(state, subscription, spec.price, spec.quantity, period, spec.metadata)
    return {**item, "id": spec.item["id"], "created": spec.item["created"]} if spec.item else item


def _without_unchanged(items: list[Object], others: list[Object]) -> list[Object]:
    billed = [_billed_values(other) for other in others]
    return [item for item in items if _billed_values(item) not in billed]


def _billed_values(item: Object) -> tuple[str, str, int]:
    return item["id"], item["price"]["id"], item["quantity"]


def _prorations(state: SimulatorState, items: list[Object], now: int, *, sign: int) -> list[Object]:
    lines = []
    for item in items:
        remainder = (now, item["current_period_end"])
        lines.append(new_invoice_line(state, item, sign * prorated_amount(item, remainder), remainder, proration=True))
    return lines
