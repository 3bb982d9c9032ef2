"""Subscription schedules: the pending change of a subscription, whatever order the events arrive in."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from billing.domain.subscriptions import Subscription
from billing.stripe_events.ordering import MAX_CLOCK_ERROR
from stripe_simulator import Simulator
from tests.functions.events import event, subscription_event
from tests.functions.stripe_support import (
    all_events,
    control,
    create_subscription,
    deliver_all,
    inject_fault,
    pending_change,
    phase,
    price_id,
    reset,
    schedule_change,
)
from tests.functions.support import FunctionHarness, event_marker, items_with_prefix, outbox_types

pytestmark = pytest.mark.engine

MONTH = 32 * 86_400


@pytest.fixture
def simulator(running_stripe: Simulator) -> Simulator:
    """The Stripe simulator, without events of other tests."""
    reset(running_stripe)
    return running_stripe


def stored(deployment: FunctionHarness) -> Subscription:
    """Return acme's only subscription."""
    [found] = deployment.repository.load_account("acme").subscriptions
    return found


def event_ids(simulator: Simulator) -> set[str]:
    """Return the ids of all events."""
    return {each["id"] for each in all_events(simulator)}


def test_scheduled_change_is_pending_in_every_order_of_its_events(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    created = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    known = event_ids(simulator)
    schedule = schedule_change(stripe_client, created, "team_monthly")
    events = all_events(simulator, known)
    assert [each["type"] for each in events] == [
        "subscription_schedule.created",
        "customer.subscription.updated",
        "subscription_schedule.updated",
    ]
    expected = pending_change(stripe_client, created, "team_monthly")
    for number, order in enumerate(itertools.permutations(events)):
        for each in order:
            assert deployment.deliver({**each, "id": f"{each['id']}_{number}"}).status == 200
        row = stored(deployment)
        assert (row.schedule_id, row.pending_change) == (schedule.id, expected)
        assert (row.plan, row.quantity) == ("pro", 1)


def test_change_of_a_schedule_is_fetched_although_the_row_is_newer(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The interval of the row does not apply to the schedule. A later event of the subscription keeps the change."""
    created = create_subscription(stripe_client)
    schedule = schedule_change(stripe_client, created, "team_monthly")
    deliver_all(deployment, simulator)
    known = event_ids(simulator)
    item = created["items"].data[0]
    start, end = item.current_period_start, item.current_period_end
    later = phase(price_id(stripe_client, "team_monthly"), end, end + MONTH, 5)
    params: Any = {"phases": [phase(item.price.id, start, end), later]}
    stripe_client.v1.subscription_schedules.update(schedule.id, params)
    stripe_client.v1.subscriptions.update(created.id, {"description": "x"})
    of_schedule, of_subscription = all_events(simulator, known)
    of_schedule["created"] -= 2 * int(MAX_CLOCK_ERROR.total_seconds())
    deployment.deliver(of_subscription)
    assert stored(deployment).pending_change == pending_change(stripe_client, created, "team_monthly")
    assert deployment.deliver(of_schedule).body["outcome"] == "applied"
    assert stored(deployment).pending_change == pending_change(stripe_client, created, "team_monthly", 5)


def test_event_of_the_subscription_with_the_same_schedule_needs_no_request_to_stripe(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    created = create_subscription(stripe_client)
    schedule_change(stripe_client, created, "team_monthly")
    deliver_all(deployment, simulator)
    expected = pending_change(stripe_client, created, "team_monthly")
    known = event_ids(simulator)
    stripe_client.v1.subscriptions.update(created.id, {"pause_collection": {"behavior": "void"}})
    [sent] = all_events(simulator, known)
    [item] = items_with_prefix(deployment, "SUB#")
    deployment.table.client.update_item(
        TableName=deployment.table.name,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="SET seen_from = seen_from - :minute, seen_to = seen_to - :minute",
        ExpressionAttributeValues={":minute": {"N": "60"}},
    )
    inject_fault(simulator, "status:500")
    assert deployment.deliver(sent).status == 200
    assert (stored(deployment).pause_collection, stored(deployment).pending_change) == ("void", expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_released_schedule_clears_the_pending_change(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator, *, reverse: bool
) -> None:
    schedule = schedule_change(stripe_client, create_subscription(stripe_client), "team_monthly")
    deliver_all(deployment, simulator)
    known = event_ids(simulator)
    stripe_client.v1.subscription_schedules.release(schedule.id)
    events = all_events(simulator, known)
    assert {each["type"] for each in events} == {"subscription_schedule.released", "customer.subscription.updated"}
    for each in reversed(events) if reverse else events:
        deployment.deliver(each)
    assert (stored(deployment).schedule_id, stored(deployment).pending_change) == (None, None)


def test_change_that_took_effect_at_the_renewal_is_no_longer_pending(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """Even if the events of the schedule are lost."""
    schedule_change(stripe_client, create_subscription(stripe_client), "team_monthly")
    deliver_all(deployment, simulator)
    known = event_ids(simulator)
    control(simulator, "POST", "clock", {"advance_seconds": MONTH})
    for each in all_events(simulator, known):
        if each["type"] == "customer.subscription.updated":
            deployment.deliver(each)
    assert (stored(deployment).plan, stored(deployment).pending_change) == ("team", None)


def test_canceled_schedule_leaves_the_ended_subscription(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    schedule = schedule_change(stripe_client, create_subscription(stripe_client), "team_monthly")
    deliver_all(deployment, simulator)
    known = event_ids(simulator)
    stripe_client.v1.subscription_schedules.cancel(schedule.id)
    events = all_events(simulator, known)
    assert "subscription_schedule.canceled" in {each["type"] for each in events}
    for each in events:
        assert deployment.deliver(each).status == 200
    row = stored(deployment)
    assert (row.status, row.schedule_id, row.pending_change) == ("canceled", None, None)


def test_pending_change_is_published(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    created = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    before = outbox_types(deployment)
    schedule_change(stripe_client, created, "team_monthly", 3)
    deliver_all(deployment, simulator)
    assert outbox_types(deployment) == sorted([*before, "subscription.updated"])
    [item] = [each for each in items_with_prefix(deployment, "OUT#") if each["type"]["S"] == "subscription.updated"]
    published = item["object"]["M"]
    change = published["pending_change"]["M"]
    assert (published["plan"]["S"], change["plan"]["S"], change["quantity"]["N"]) == ("pro", "team", "3")
    assert item["previous"]["M"] == {"pending_change": {"NULL": True}}


def test_schedule_without_subscription_is_ignored(deployment: FunctionHarness) -> None:
    """A schedule that starts later has no subscription yet."""
    source = {"id": "sub_sched_1", "object": "subscription_schedule", "customer": "cus_acme", "subscription": None}
    assert deployment.deliver(event("subscription_schedule.created", source)).body["outcome"] == "ignored"


def test_schedule_of_an_unknown_customer_is_recorded(deployment: FunctionHarness) -> None:
    source = {"id": "sub_sched_1", "object": "subscription_schedule", "customer": "cus_other", "subscription": "sub_9"}
    assert deployment.deliver(event("subscription_schedule.updated", source)).body["outcome"] == "unknown_customer"


# --- Flat price with a quantity ---------------------------------------------------------------------------------------


def with_quantity(quantity: int, lookup_key: str = "pro_monthly", **changes: Any) -> dict[str, Any]:
    """Return an event of a subscription with the quantity."""
    sent = subscription_event(lookup_key=lookup_key, **changes)
    sent["data"]["object"]["items"]["data"][0]["quantity"] = quantity
    return sent


def test_flat_price_with_a_quantity_emits_the_alarm_metric_and_is_recorded(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    sent = with_quantity(3)
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert event_marker(deployment, sent["id"])["reason"] == "a flat price with a quantity above 1: subscription sub_1"
    assert stored(deployment).quantity == 3
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"
    assert '"FlatPriceMultiplied":[1.0]' in printed().replace(" ", "")


@pytest.mark.parametrize(
    "sent",
    [
        with_quantity(1),
        with_quantity(3, "team_monthly"),
        with_quantity(3, "other_product"),
        with_quantity(3, status="canceled", ended_at=1_790_000_000),
    ],
    ids=["one", "per seat", "unmapped", "ended"],
)
def test_other_quantities_emit_no_alarm_metric(
    deployment: FunctionHarness, printed: Callable[[], str], sent: dict[str, Any]
) -> None:
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert "FlatPriceMultiplied" not in printed()


def test_pending_flat_price_with_a_quantity_emits_the_alarm_metric_before_it_is_charged(
    deployment: FunctionHarness,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
) -> None:
    created = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    assert "FlatPriceMultiplied" not in printed()
    schedule_change(stripe_client, created, "pro_monthly", 3)
    deliver_all(deployment, simulator)
    assert stored(deployment).quantity == 1
    assert "FlatPriceMultiplied" in printed()
