"""Subscription schedules of existing subscriptions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stripe import params

from stripe_simulator import schedules
from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.objects import new_schedule_phase
from stripe_simulator.periods import add_interval
from stripe_simulator.resources.subscriptions import read_items, require_subscription_currency
from stripe_simulator.routing import ResourceRoute, matches_range, merge_metadata, provided, require_simulated
from stripe_simulator.state import Object, SimulatorState

Metadata = Mapping[str, str] | str | None
RangeFilter = int | Mapping[str, int] | None
PHASE_FIELDS = ("currency", "duration", "end_date", "items", "iterations", "proration_behavior", "start_date")


def create(state: SimulatorState, *, from_subscription: str | None = None, metadata: Metadata = None) -> Object:
    if from_subscription is None:
        raise NotSimulated("a schedule without from_subscription")
    if metadata:
        raise InvalidRequest("You cannot set `metadata` if `from_subscription` is set.", param="metadata")
    subscription = state.get("subscription", from_subscription, "from_subscription")
    return schedules.create_from_subscription(state, subscription)


def retrieve(state: SimulatorState, identifier: str) -> Object:
    return state.get("subscription_schedule", identifier)


def update(
    state: SimulatorState,
    identifier: str,
    *,
    end_behavior: str | None = None,
    metadata: Metadata = None,
    phases: list[Mapping[str, Any]] | None = None,
    proration_behavior: str | None = None,
) -> Object:
    schedule = state.get("subscription_schedule", identifier)
    schedules.require_active(schedule)
    changes = provided(end_behavior=end_behavior)
    if changes.get("end_behavior") not in {None, "cancel", "release"}:
        raise NotSimulated(f"end_behavior={end_behavior}")
    changes["metadata"] = merge_metadata(schedule["metadata"], metadata)
    if phases is None:
        return state.update(schedule, "subscription_schedule.updated", **changes)
    wanted = _read_phases(state, schedule, phases, proration_behavior or "create_prorations")
    schedules.set_phases(state, schedule, wanted, **changes)
    return schedule


def _read_phases(
    state: SimulatorState, schedule: Object, entries: Sequence[Mapping[str, Any]], proration_behavior: str
) -> list[Object]:
    subscription = state.objects[schedule["subscription"]]
    phases: list[Object] = []
    for index, entry in enumerate(entries):
        path = f"phases[{index}]"
        require_simulated(entry, path, *PHASE_FIELDS)
        specs = read_items(state, entry["items"], f"{path}[items]")
        require_subscription_currency(subscription, specs)
        start = _start(state, schedule, entry, phases[-1]["end_date"] if phases else None)
        end = _end(entry, start, specs[0].price["recurring"], path)
        items = [(spec.price["id"], spec.quantity) for spec in specs]
        behavior = entry.get("proration_behavior", proration_behavior)
        phases.append(new_schedule_phase(subscription["currency"], items, start, end, behavior))
    return phases


def _start(state: SimulatorState, schedule: Object, entry: Mapping[str, Any], previous_end: int | None) -> int:
    start = entry.get("start_date", previous_end)
    if start == "now":
        return state.now(schedule)
    if start is None:
        first: int = schedule["phases"][0]["start_date"]
        return first
    return int(start)


def _end(entry: Mapping[str, Any], start: int, recurring: Object, path: str) -> int:
    given = [name for name in ("duration", "end_date", "iterations") if name in entry]
    if len(given) != 1:
        raise InvalidRequest(f"Specify exactly one of duration, end_date or iterations: {path}", param=path)
    if given == ["end_date"]:
        return int(entry["end_date"])
    if given == ["iterations"]:
        return add_interval(start, recurring, int(entry["iterations"]))
    duration = entry["duration"]
    count = duration.get("interval_count", 1)
    return add_interval(start, {"interval": duration["interval"], "interval_count": count}, 1)


def release(state: SimulatorState, identifier: str) -> Object:
    schedule = state.get("subscription_schedule", identifier)
    schedules.release(state, schedule)
    return schedule


def cancel(state: SimulatorState, identifier: str) -> Object:
    schedule = state.get("subscription_schedule", identifier)
    schedules.cancel(state, schedule)
    return schedule


def list_all(
    state: SimulatorState,
    *,
    created: RangeFilter = None,
    customer: str | None = None,
) -> Iterator[Object]:
    filters = provided(customer=customer)
    for schedule in state.all("subscription_schedule"):
        if filters.items() <= schedule.items() and matches_range(schedule["created"], created):
            yield schedule


ROUTES = (
    ResourceRoute("POST", "/v1/subscription_schedules", params.SubscriptionScheduleCreateParams, create),
    ResourceRoute("GET", "/v1/subscription_schedules", params.SubscriptionScheduleListParams, list_all),
    ResourceRoute("GET", "/v1/subscription_schedules/{}", params.SubscriptionScheduleRetrieveParams, retrieve),
    ResourceRoute("POST", "/v1/subscription_schedules/{}", params.SubscriptionScheduleUpdateParams, update),
    ResourceRoute("POST", "/v1/subscription_schedules/{}/release", params.SubscriptionScheduleReleaseParams, release),
    ResourceRoute("POST", "/v1/subscription_schedules/{}/cancel", params.SubscriptionScheduleCancelParams, cancel),
)
