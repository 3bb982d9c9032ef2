"""Subscription items: prices, billing periods and the invoice lines that they produce."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stripe_simulator.dunning import SUBSCRIPTION_UPDATED
from stripe_simulator.objects import Period, new_invoice_line
from stripe_simulator.state import Object, SimulatorState


@dataclass(frozen=True, slots=True)
class ItemSpec:
    """Price and quantity of a subscription item.

    Attributes:
        price: The price.
        quantity: The quantity.
        metadata: The item's metadata.
        item: The existing item to update, or None for a new item.
    """

    price: Object
    quantity: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    item: Object | None = None


def current_period(subscription: Object) -> Period:
    """Return the start and end of the current billing period, in epoch seconds."""
    items = subscription["items"]["data"]
    return items[0]["current_period_start"], max(item["current_period_end"] for item in items)


def items_in_period(subscription: Object, period: Period) -> list[Object]:
    """Return copies of a subscription's items with another period."""
    start, end = period
    items = subscription["items"]["data"]
    return [{**item, "current_period_start": start, "current_period_end": end} for item in items]


def replace_items(state: SimulatorState, subscription: Object, items: list[Object], **changes: Any) -> None:  # noqa: ANN401
    """Replace a subscription's items, together with other fields, and emit one event."""
    for item in subscription["items"]["data"]:
        state.remove(item)
    for item in items:
        state.add(item)
    state.update(subscription, SUBSCRIPTION_UPDATED, items={**subscription["items"], "data": items}, **changes)


def item_amount(item: Object) -> int:
    """Return the amount of an item for a full period."""
    amount: int = item["price"]["unit_amount"] * item["quantity"]
    return amount


def prorated_amount(item: Object, remainder: Period) -> int:
    """Return the amount of an item for the remainder of its period, rounded half up."""
    length = int(item["current_period_end"] - item["current_period_start"])
    return (2 * item_amount(item) * (remainder[1] - remainder[0]) + length) // (2 * length)


def period_lines(state: SimulatorState, items: list[Object], period: Period) -> list[Object]:
    """Return the invoice lines of a full period."""
    return [new_invoice_line(state, item, item_amount(item), period, proration=False) for item in items]


def trial_lines(state: SimulatorState, items: list[Object], period: Period) -> list[Object]:
    """Return the invoice lines of a trial, with amount 0."""
    return [new_invoice_line(state, item, 0, period, proration=False) for item in items]


def add_pending_lines(state: SimulatorState, subscription: Object, lines: list[Object]) -> None:
    """Store lines for the subscription's next invoice."""
    state.private[subscription["id"]].setdefault("pending_lines", []).extend(lines)


def take_pending_lines(state: SimulatorState, subscription: Object) -> list[Object]:
    """Remove and return the lines stored for the next invoice."""
    lines: list[Object] = state.private[subscription["id"]].pop("pending_lines", [])
    return lines
