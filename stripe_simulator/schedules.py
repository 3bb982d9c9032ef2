"""Subscription schedules: phases of an existing subscription, each with its own prices and quantities.

A phase that ends with a billing period changes the items before the renewal's invoice is created, so there are no
prorations. A phase that ends within a period changes them like an update, with the phase's ``proration_behavior``.
"""

import itertools
from collections.abc import Sequence

from stripe_simulator.dunning import ENDED_STATUSES, SUBSCRIPTION_UPDATED, cancel_immediately
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.items import ItemSpec, current_period, replace_items
from stripe_simulator.objects import new_schedule, new_schedule_phase, new_subscription_item
from stripe_simulator.state import Object, SimulatorState
from stripe_simulator.subscription_changes import apply_change, preview_change


def create_from_subscription(state: SimulatorState, subscription: Object) -> Object:
    """Create a schedule whose only phase is the subscription's current period.

    Raises:
        InvalidRequest: The subscription has ended or already has a schedule.
    """
    if subscription["status"] in ENDED_STATUSES:
        raise InvalidRequest(
            f"You cannot migrate a subscription that is in the `{subscription['status']}` status to a subscription "
            "schedule.",
            param="from_subscription",
        )
    if subscription["schedule"]:
        raise InvalidRequest(
            f"You cannot migrate a subscription that is already attached to a schedule: `{subscription['schedule']}`.",
            param="from_subscription",
        )
    start, end = current_period(subscription)
    items = [(item["price"]["id"], item["quantity"]) for item in subscription["items"]["data"]]
    phase = new_schedule_phase(subscription["currency"], items, start, end, "create_prorations")
    schedule = state.add(new_schedule(state, subscription, [phase]))
    state.emit("subscription_schedule.created", schedule)
    state.update(subscription, SUBSCRIPTION_UPDATED, schedule=schedule["id"])
    return schedule


def set_phases(state: SimulatorState, schedule: Object, phases: Sequence[Object], **changes: object) -> None:
    """Replace a schedule's phases. If the current phase has other items, the subscription changes now.

    Raises:
        InvalidRequest: The schedule has ended, the phases do not follow each other, or none includes the present.
    """
    require_active(schedule)
    now = state.now(schedule)
    for phase, following in itertools.pairwise(phases):
        if phase["end_date"] != following["start_date"]:
            raise InvalidRequest(
                "The start_date of each phase must be the end_date of the previous one.", param="phases"
            )
    if any(phase["end_date"] <= phase["start_date"] for phase in phases):
        raise InvalidRequest("The end_date of a phase must be after its start_date.", param="phases")
    current = next((phase for phase in phases if phase["start_date"] <= now < phase["end_date"]), None)
    if current is None:
        raise InvalidRequest("One of the phases must include the current time.", param="phases")
    state.update(
        schedule, "subscription_schedule.updated", phases=list(phases), current_phase=_dates(current), **changes
    )
    _apply_items(state, schedule, current)


def end_current_phase(state: SimulatorState, schedule: Object) -> None:
    """Enter the phase that follows the current one. After the last phase, apply ``end_behavior``."""
    following = next_phase(schedule)
    if following is not None:
        state.update(schedule, "subscription_schedule.updated", current_phase=_dates(following))
        _apply_items(state, schedule, following)
    elif schedule["end_behavior"] == "cancel":
        subscription = state.objects[schedule["subscription"]]
        state.update(schedule, status="completed", completed_at=state.now(schedule), current_phase=None)
        state.emit("subscription_schedule.completed", schedule)
        state.update(subscription, schedule=None)
        cancel_immediately(state, subscription, reason="cancellation_requested")
    else:
        release(state, schedule)


def end_phase_with_period(state: SimulatorState, subscription: Object) -> None:
    """Enter the next phase of a subscription's schedule if its current one ends with the billing period."""
    schedule = state.objects.get(subscription["schedule"] or "")
    if schedule and schedule["current_phase"]["end_date"] <= current_period(subscription)[1]:
        end_current_phase(state, schedule)


def release(state: SimulatorState, schedule: Object) -> None:
    """Detach a schedule from its subscription, which continues with its current items.

    Raises:
        InvalidRequest: The schedule has ended.
    """
    require_active(schedule)
    subscription = state.objects[schedule["subscription"]]
    state.update(
        schedule,
        status="released",
        released_at=state.now(schedule),
        released_subscription=subscription["id"],
        subscription=None,
        current_phase=None,
    )
    state.emit("subscription_schedule.released", schedule)
    state.update(subscription, SUBSCRIPTION_UPDATED, schedule=None)


def cancel(state: SimulatorState, schedule: Object) -> None:
    """Cancel a schedule and its subscription now.

    Raises:
        InvalidRequest: The schedule has ended.
    """
    require_active(schedule)
    cancel_immediately(state, state.objects[schedule["subscription"]], reason="cancellation_requested")


def require_active(schedule: Object) -> None:
    """Raise InvalidRequest if a schedule has ended."""
    if schedule["status"] not in {"active", "not_started"}:
        raise InvalidRequest(
            f"You cannot update a subscription schedule that is currently in the `{schedule['status']}` status. "
            "Only `not_started` and `active` schedules can be updated."
        )


def next_phase(schedule: Object) -> Object | None:
    """Return the phase after the current one, or None."""
    current = schedule["current_phase"]
    return next((phase for phase in schedule["phases"] if current and phase["start_date"] >= current["end_date"]), None)


def update_current_items(state: SimulatorState, subscription: Object) -> None:
    """Copy a subscription's items into the current phase of its schedule, after an update of the items."""
    schedule = state.objects.get(subscription["schedule"] or "")
    if schedule is None:
        return
    items = [(item["price"]["id"], item["quantity"]) for item in subscription["items"]["data"]]
    phases = [
        new_schedule_phase(
            phase["currency"], items, phase["start_date"], phase["end_date"], phase["proration_behavior"]
        )
        if _dates(phase) == schedule["current_phase"]
        else phase
        for phase in schedule["phases"]
    ]
    state.update(schedule, "subscription_schedule.updated", phases=phases)


def _dates(phase: Object) -> Object:
    return {"end_date": phase["end_date"], "start_date": phase["start_date"]}


def _apply_items(state: SimulatorState, schedule: Object, phase: Object) -> None:
    """Set the subscription's items to those of a phase: without prorations at the end of a period."""
    subscription = state.objects[schedule["subscription"]]
    before = subscription["items"]["data"]
    wanted = [(item["price"], item["quantity"]) for item in phase["items"]]
    if wanted == [(item["price"]["id"], item["quantity"]) for item in before]:
        return
    specs = [
        ItemSpec(state.objects[price], quantity, item=before[index] if index < len(before) else None)
        for index, (price, quantity) in enumerate(wanted)
    ]
    period = current_period(subscription)
    if state.now(subscription) < period[1]:
        change = preview_change(
            state, subscription, specs, proration_behavior=phase["proration_behavior"], reset_anchor=False
        )
        apply_change(state, subscription, change, {})
        return
    changes = {}
    if specs[0].price["recurring"] != before[0]["price"]["recurring"]:
        changes["billing_cycle_anchor"] = period[1]
    items = [new_subscription_item(state, subscription, spec.price, spec.quantity, period, {}) for spec in specs]
    for item, spec in zip(items, specs, strict=True):
        if spec.item:
            item.update(id=spec.item["id"], created=spec.item["created"], metadata=spec.item["metadata"])
    replace_items(state, subscription, items, **changes)
