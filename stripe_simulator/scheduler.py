"""Scheduler of timers: renewals, trial ends, payment retries and expiry run when they are due.

An object's timers follow from its fields. Only the next one is on the heap of ``SimulatorState``.
"""

from collections.abc import Callable, Mapping
from heapq import heapify, heappop

from stripe_simulator import schedules, subscriptions
from stripe_simulator.dunning import ENDED_STATUSES, cancel_immediately, collect_payment, expire_incomplete
from stripe_simulator.items import current_period
from stripe_simulator.state import Object, SimulatorState
from stripe_simulator.subscriptions import TRIAL_NOTICE

HOUR = 3600
INCOMPLETE_LIFETIME = 23 * HOUR
Timer = tuple[int, Callable[[SimulatorState, Object], object]]
"""Due time in epoch seconds, and the action."""


def next_due(state: SimulatorState, obj: Object) -> int | None:
    """Return the due time of an object's next timer in epoch seconds, or None."""
    timers = TIMERS[obj["object"]](state, obj) if obj["object"] in TIMERS else []
    return min((due for due, _ in timers), default=None)


def run_due(state: SimulatorState, until: int) -> None:
    """Run all timers that are due on the account's clock, in order.

    While a timer runs, its due time is the current time.

    Args:
        state: The simulator's state. Objects on a test clock are skipped.
        until: The last due time, in epoch seconds.
    """
    try:
        while (entry := _pop_due(state, until, None)) is not None:
            state.processed_until = state.step_time = max(state.processed_until, entry[0])
            _run_timer(state, entry[1])
    finally:
        state.step_time = None
        state.processed_until = until


def advance_test_clock(state: SimulatorState, clock: Object, until: int) -> None:
    """Run all timers that are due on a test clock, in order, and set the clock's time.

    Args:
        state: The simulator's state.
        clock: The test clock.
        until: The clock's new time, in epoch seconds.
    """
    while (entry := _pop_due(state, until, clock["id"])) is not None:
        state.update(clock, frozen_time=max(clock["frozen_time"], entry[0]))
        _run_timer(state, entry[1])
    state.update(clock, frozen_time=until)


def _run_timer(state: SimulatorState, obj: Object) -> None:
    _, action = min(TIMERS[obj["object"]](state, obj), key=lambda timer: timer[0])
    action(state, obj)
    state.schedule(obj)


def _pop_due(state: SimulatorState, until: int, test_clock: str | None) -> tuple[int, Object] | None:
    """Remove the first entry that is due on a clock from the heap, and return its due time and object.

    Stale entries are dropped. Entries of other clocks stay on the heap.
    """
    other_clocks = []
    found = None
    while state.timer_heap and state.timer_heap[0][0] <= until and found is None:
        entry = heappop(state.timer_heap)
        obj = state.objects[entry[2]]
        if next_due(state, obj) != entry[0]:
            continue
        if state.test_clock_of(obj) == test_clock:
            found = (entry[0], obj)
        else:
            other_clocks.append(entry)
    state.timer_heap.extend(other_clocks)
    heapify(state.timer_heap)
    return found


def _subscription_timers(state: SimulatorState, subscription: Object) -> list[Timer]:
    status, trial_end = subscription["status"], subscription["trial_end"]
    if status in ENDED_STATUSES or subscription.get("deleted"):
        return []
    timers: list[Timer] = []
    if subscription["cancel_at"]:
        timers.append((subscription["cancel_at"], _cancel_as_requested))
    pause = subscription["pause_collection"]
    if pause and pause["resumes_at"]:
        timers.append((pause["resumes_at"], subscriptions.resume_collection))
    if status == "incomplete":
        timers.append((subscription["created"] + INCOMPLETE_LIFETIME, expire_incomplete))
    elif status != "paused":
        timers.append((current_period(subscription)[1], _renew))
    announced = state.private[subscription["id"]].get("announced_trial_end") == trial_end
    if status == "trialing" and not announced:
        timers.append((trial_end - TRIAL_NOTICE, subscriptions.announce_trial_end))
    return timers


def _renew(state: SimulatorState, subscription: Object) -> None:
    schedules.end_phase_with_period(state, subscription)
    if subscription["status"] not in ENDED_STATUSES:
        subscriptions.renew(state, subscription)


def _schedule_timers(state: SimulatorState, schedule: Object) -> list[Timer]:
    """Return the end of a phase within a billing period. A phase that ends with the period ends with its renewal."""
    if schedule["status"] != "active":
        return []
    end = schedule["current_phase"]["end_date"]
    period_ends = current_period(state.objects[schedule["subscription"]])[1]
    return [(end, schedules.end_current_phase)] if end < period_ends else []


def _cancel_as_requested(state: SimulatorState, subscription: Object) -> None:
    cancel_immediately(state, subscription, reason="cancellation_requested")


def _invoice_timers(_state: SimulatorState, invoice: Object) -> list[Timer]:
    if invoice["status"] == "draft" and invoice["automatically_finalizes_at"]:
        return [(invoice["automatically_finalizes_at"], subscriptions.finalize_and_collect)]
    if invoice["status"] == "open" and invoice["next_payment_attempt"]:
        return [(invoice["next_payment_attempt"], collect_payment)]
    return []


def _session_timers(_state: SimulatorState, session: Object) -> list[Timer]:
    return [(session["expires_at"], expire_session)] if session["status"] == "open" else []


def expire_session(state: SimulatorState, session: Object) -> None:
    """Expire an open Checkout Session."""
    state.update(session, status="expired", url=None)
    state.emit("checkout.session.expired", session)


TIMERS: Mapping[str, Callable[[SimulatorState, Object], list[Timer]]] = {
    "subscription": _subscription_timers,
    "invoice": _invoice_timers,
    "checkout.session": _session_timers,
    "subscription_schedule": _schedule_timers,
}
