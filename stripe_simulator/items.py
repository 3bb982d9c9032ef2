"""Subscription items: what they bill, for which period, and the invoice lines that come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stripe_simulator.collection import UPDATED
from stripe_simulator.objects import Period, new_invoice_line
from stripe_simulator.world import Object, World


@dataclass(frozen=True, slots=True)
class Line:
    """What a subscription bills: a price, how often, and for an item that exists, which one."""

    price: Object
    quantity: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    item: Object | None = None


def current_period(subscription: Object) -> Period:
    """Return the start and end of the period that is paid for, in epoch seconds."""
    items = subscription["items"]["data"]
    return items[0]["current_period_start"], max(item["current_period_end"] for item in items)


def with_period(subscription: Object, period: Period) -> list[Object]:
    """Return a subscription's items as they are in another period."""
    start, end = period
    items = subscription["items"]["data"]
    return [{**item, "current_period_start": start, "current_period_end": end} for item in items]


def replace_items(world: World, subscription: Object, items: list[Object], **changes: Any) -> None:  # noqa: ANN401
    """Put other items on a subscription, and announce it together with other changes."""
    for item in subscription["items"]["data"]:
        world.forget(item)
    for item in items:
        world.add(item)
    world.change(subscription, UPDATED, items={**subscription["items"], "data": items}, **changes)


def cost(item: Object) -> int:
    """Return what an item costs for a whole period."""
    amount: int = item["price"]["unit_amount"] * item["quantity"]
    return amount


def share(item: Object, rest: Period) -> int:
    """Return the part of an item's cost that falls on the rest of its period, rounded half up."""
    length = int(item["current_period_end"] - item["current_period_start"])
    return (2 * cost(item) * (rest[1] - rest[0]) + length) // (2 * length)


def full_lines(world: World, items: list[Object], period: Period) -> list[Object]:
    """Return the invoice lines of a whole period."""
    return [new_invoice_line(world, item, cost(item), period, proration=False) for item in items]


def trial_lines(world: World, items: list[Object], period: Period) -> list[Object]:
    """Return the invoice lines of a trial, which cost nothing."""
    return [new_invoice_line(world, item, 0, period, proration=False) for item in items]


def keep_for_next_invoice(world: World, subscription: Object, lines: list[Object]) -> None:
    """Keep lines until the subscription is next invoiced."""
    world.hidden[subscription["id"]].setdefault("pending_lines", []).extend(lines)


def take_kept_lines(world: World, subscription: Object) -> list[Object]:
    """Return the lines that were kept for this invoice."""
    lines: list[Object] = world.hidden[subscription["id"]].pop("pending_lines", [])
    return lines
