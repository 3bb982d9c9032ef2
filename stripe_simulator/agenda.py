"""What happens by itself when the clock moves: renewals, ends of trials, dunning, expiry."""

from collections.abc import Callable, Mapping
from heapq import heapify, heappop

from stripe_simulator import subscriptions
from stripe_simulator.collection import OVER, collect, end, expire
from stripe_simulator.items import current_period
from stripe_simulator.subscriptions import TRIAL_NOTICE
from stripe_simulator.world import Object, World

HOUR = 3600
Step = tuple[int, Callable[[World, Object], object]]


def due(world: World, subject: Object) -> int | None:
    """Return when something next happens to an object by itself, in epoch seconds."""
    steps = STEPS[subject["object"]](world, subject) if subject["object"] in STEPS else []
    return min((when for when, _ in steps), default=None)


def settle(world: World, until: int) -> None:
    """Let everything happen, in order, that is due by the account's own time until a moment in epoch seconds.

    While a step happens, its moment is the time.
    """
    try:
        while (entry := _next(world, until, None)) is not None:
            world.settled = world.moment = max(world.settled, entry[0])
            _take_step(world, entry[1])
    finally:
        world.moment = None
        world.settled = until


def advance_test_clock(world: World, clock: Object, until: int) -> None:
    """Let everything happen, in order, that is due on a test clock until a moment, and leave the clock there."""
    while (entry := _next(world, until, clock["id"])) is not None:
        world.change(clock, frozen_time=max(clock["frozen_time"], entry[0]))
        _take_step(world, entry[1])
    world.change(clock, frozen_time=until)


def _take_step(world: World, subject: Object) -> None:
    _, action = min(STEPS[subject["object"]](world, subject), key=lambda step: step[0])
    action(world, subject)
    world.schedule(subject)


def _next(world: World, until: int, clock: str | None) -> tuple[int, Object] | None:
    """Take the first valid entry that is due on a clock off the agenda."""
    others = []
    found = None
    while world.agenda and world.agenda[0][0] <= until and found is None:
        entry = heappop(world.agenda)
        subject = world.objects[entry[2]]
        if due(world, subject) != entry[0]:
            continue
        if world.clock_of(subject) == clock:
            found = (entry[0], subject)
        else:
            others.append(entry)
    world.agenda.extend(others)
    heapify(world.agenda)
    return found


def _subscription_steps(world: World, subscription: Object) -> list[Step]:
    status, trial_end = subscription["status"], subscription["trial_end"]
    if status in OVER or subscription.get("deleted"):
        return []
    steps: list[Step] = []
    if subscription["cancel_at"]:
        steps.append((subscription["cancel_at"], lambda world, it: end(world, it, reason="cancellation_requested")))
    pause = subscription["pause_collection"]
    if pause and pause["resumes_at"]:
        steps.append((pause["resumes_at"], subscriptions.resume_collection))
    if status == "incomplete":
        steps.append((subscription["created"] + 23 * HOUR, expire))
    elif status != "paused":
        steps.append((current_period(subscription)[1], subscriptions.renew))
    announced = world.hidden[subscription["id"]].get("announced_trial_end") == trial_end
    if status == "trialing" and not announced:
        steps.append((trial_end - TRIAL_NOTICE, subscriptions.announce_trial_end))
    return steps


def _invoice_steps(_world: World, invoice: Object) -> list[Step]:
    if invoice["status"] == "draft" and invoice["automatically_finalizes_at"]:
        return [(invoice["automatically_finalizes_at"], subscriptions.finalize_and_collect)]
    if invoice["status"] == "open" and invoice["next_payment_attempt"]:
        return [(invoice["next_payment_attempt"], collect)]
    return []


def _session_steps(_world: World, session: Object) -> list[Step]:
    return [(session["expires_at"], expire_session)] if session["status"] == "open" else []


def expire_session(world: World, session: Object) -> None:
    """Close a checkout session that nobody completed."""
    world.change(session, status="expired", url=None)
    world.emit("checkout.session.expired", session)


STEPS: Mapping[str, Callable[[World, Object], list[Step]]] = {
    "subscription": _subscription_steps,
    "invoice": _invoice_steps,
    "checkout.session": _session_steps,
}
