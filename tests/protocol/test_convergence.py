"""Whatever order, duplication, concurrency, crashes and failing fetches: the rows end as Stripe's objects are."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from greenlet import GreenletExit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.domain import sightings
from billing.domain.accounts import Profile
from billing.domain.stripe_events import Snapshot
from billing.domain.stripe_objects import read_invoice, read_subscription
from billing.domain.subscriptions import Subscription
from billing.telemetry import logger
from tests.protocol.model import CATALOG, Json, Stripe, Table, World


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    """Thousands of lives are told in no log."""
    logger().setLevel("CRITICAL")


def live(seed: int, table: Table | None = None, *, subscriptions: int = 2, steps: int = 60) -> World:
    """A life: Stripe changes, events are delivered in any order and twice, workers run, crash, and are tried again."""
    choice = random.Random(seed)
    world = World(choice, Stripe(choice), table or Table())
    world.table.profiles["acme"] = Profile("acme", version=1)
    unacknowledged: list[dict[str, object]] = []
    ids = [f"sub_{number}" for number in range(choice.randint(1, subscriptions))]
    for subscription_id in ids:
        world.stripe.subscribe(subscription_id)
    delivered = 0
    for _ in range(steps):
        match choice.choices(["change", "wait", "deliver", "again", "work", "crash"], [12, 12, 20, 6, 60, 4])[0]:
            case "change":
                world.stripe.change(choice.choice(ids))
            case "wait":
                world.stripe.wait()
            case "deliver" if delivered < len(world.stripe.events):
                pick = choice.randrange(delivered, len(world.stripe.events))
                events = world.stripe.events
                events[delivered], events[pick] = events[pick], events[delivered]
                world.deliver(events[delivered], unacknowledged)
                delivered += 1
            case "again" if delivered:
                world.deliver(choice.choice(world.stripe.events[:delivered]), unacknowledged)
            case "work" if world.workers:
                world.step()
            case "crash" if world.workers:
                worker = world.workers.pop(choice.randrange(len(world.workers)))
                if worker:
                    worker.throw(GreenletExit)
    finish(world, unacknowledged)
    return world


def finish(world: World, unacknowledged: list[dict[str, object]]) -> None:
    """Stripe's promise: an event is delivered until it was answered well. All are, once more, in some order."""
    world.fetch_failures = 0
    unacknowledged.clear()
    rest = list(world.stripe.events)
    world.choice.shuffle(rest)
    for event in rest:
        world.deliver(event, unacknowledged)
        if world.choice.random() < 0.5:
            world.run_dry()
    world.run_dry()
    assert not unacknowledged


def facts(content: Snapshot) -> Snapshot:
    """What is Stripe's of a row; since when a subscription is past due is our own reckoning."""
    return replace(content, past_due_since=None) if isinstance(content, Subscription) else content


def read(source: Json) -> Snapshot:
    """A model object as the code under test reads it."""
    return read_invoice(source) if source["id"].startswith("in_") else read_subscription(source, CATALOG)


def differences(world: World) -> list[str]:
    """The objects whose row is not Stripe's final state."""
    wrong = []
    for object_id, source in world.stripe.objects.items():
        row = world.table.rows.get(object_id)
        if row is None or facts(row.content) != read(source):
            wrong.append(object_id)
    return wrong


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=2**64))
def test_rows_end_as_stripe_has_them(seed: int) -> None:
    """Any legal life, order, duplication, interleaving and crash leaves the rows as Stripe's objects are."""
    assert differences(live(seed)) == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=2**64))
def test_every_row_ever_written_was_stripes_state_once(seed: int) -> None:
    """No plan is granted that no state of Stripe's ever justified."""
    world = live(seed)
    for row in world.table.history:
        assert facts(row.content) in [read(source) for source in world.stripe.histories[row.content.id]]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=2**64))
def test_no_effect_happens_twice(seed: int) -> None:
    """An account's systems are told of a subscription's beginning and end once, and never of the same change twice."""
    told = Counter((event.type, event.data.get("subscription")) for event in live(seed).table.outbound)
    once = [count for (kind, _), count in told.items() if kind in {"subscription.created", "subscription.canceled"}]
    assert all(count == 1 for count in once)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=2**64))
def test_delivering_everything_again_changes_nothing(seed: int) -> None:
    """Once all is processed, any further delivery is a duplicate."""
    world = live(seed)
    rows, outbound = dict(world.table.rows), list(world.table.outbound)
    for event in world.stripe.events:
        world.deliver(event, [])
    world.run_dry()
    assert (world.table.rows, world.table.outbound) == (rows, outbound)


def _without_versions(_patch: pytest.MonkeyPatch) -> Table:
    return Table(compares_versions=False)


def _without_skew(patch: pytest.MonkeyPatch) -> Table:
    patch.setattr(sightings, "SKEW", timedelta(0))
    return Table()


def _without_intervals(patch: pytest.MonkeyPatch) -> Table:
    """A fetched object dated by its answer alone, as if it had been read at that instant."""
    seen = sightings.seen
    patch.setattr("billing.event_processor.seen", lambda content, _from, to, known: seen(content, to, to, known))
    return Table()


@pytest.mark.parametrize("without", [_without_versions, _without_skew, _without_intervals])
def test_the_model_finds_what_each_step_prevents(
    without: Callable[[pytest.MonkeyPatch], Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a step of the protocol removed some life ends wrong: the model can see what the step is for."""
    compares_versions = without(monkeypatch).compares_versions
    lives = (live(seed, Table(compares_versions=compares_versions)) for seed in range(4000))
    assert any(differences(world) for world in lives)
