"""Redelivery and replay: events that an endpoint did not receive are sent again."""

from datetime import timedelta

import pytest

from billing.adapters.dynamodb import Table
from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.errors import ObjectUnknown, RequestInvalid
from billing.domain.webhook_deliveries import AttemptResult
from billing.domain.webhook_endpoints import DisabledReason
from billing.services.webhook_redelivery import REPLAY_EVENTS_MAX
from tests.samples import NOW
from tests.services.webhook_support import WebhookWorld, answers, statuses

pytestmark = pytest.mark.engine

ACCEPTED, FAILED = AttemptResult(204, 5), AttemptResult(500, 5)


@pytest.fixture
def world(table: Table) -> WebhookWorld:
    """Outbound events on a table of the engine."""
    return WebhookWorld(table)


def test_redelivery_sends_a_delivered_event_again_and_keeps_the_log(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    event = world.emit()
    world.run()
    [delivery] = world.log(endpoint)
    requested = world.redelivery().redeliver(delivery.id, world.clock.now)
    assert (requested.status, requested.next_attempt_at) == ("pending", NOW)
    world.run()
    assert [each["id"] for each in world.bodies(endpoint)] == [event.id, event.id]
    [delivery] = world.log(endpoint)
    assert (delivery.status, len(delivery.attempts)) == ("delivered", 2)


def test_redelivery_of_a_failed_event_starts_a_new_schedule(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(FAILED)
    world.emit()
    world.run(timedelta(days=4))
    world.receivers[endpoint.url] = answers(FAILED, ACCEPTED)
    world.redelivery().redeliver(world.log(endpoint)[0].id, world.clock.now)
    world.run(timedelta(minutes=1))
    assert statuses(world.log(endpoint)) == ["delivered"]


def test_redelivery_whose_message_is_lost_is_sent_by_the_schedule(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.emit()
    world.run()
    world.redelivery().redeliver(world.log(endpoint)[0].id, world.clock.now)
    world.delivery_queue.messages.clear()
    world.delivery_queue.deduplicated.clear()
    world.run(timedelta(minutes=2))
    assert len(world.bodies(endpoint)) == 2


def test_redelivery_of_another_owner_or_of_no_delivery_is_unknown(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.emit()
    world.run()
    [delivery] = world.log(endpoint)
    for owner in ("globex", None):
        with pytest.raises(ObjectUnknown, match="no delivery"):
            world.redelivery(owner).redeliver(delivery.id, NOW)
    for text in ("", "dlv_1", delivery.id + "0", delivery.id.replace("dlv", "evt")):
        with pytest.raises(ObjectUnknown, match="no delivery"):
            world.redelivery().redeliver(text, NOW)


def test_redelivery_to_a_disabled_endpoint_is_refused(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.emit()
    world.run()
    world.repository.save_endpoints(world.endpoints().put(endpoint.disable(DisabledReason.REQUEST, NOW)))
    for use in (
        lambda: world.redelivery().redeliver(world.log(endpoint)[0].id, NOW),
        lambda: world.redelivery().replay(endpoint.id, NOW, NOW),
    ):
        with pytest.raises(RequestInvalid, match="disabled"):
            use()


def test_replay_sends_what_the_endpoint_did_not_receive(world: WebhookWorld) -> None:
    """That is: failed deliveries, and the events that were committed while it was disabled."""
    endpoint = world.add_endpoint("own")
    world.emit(sequence=1)
    world.run()
    world.receivers[endpoint.url] = answers(AttemptResult(410, 1))
    world.clock.now += timedelta(hours=1)
    world.emit(sequence=2)
    world.run()
    world.emit(sequence=3)
    world.run()
    world.receivers[endpoint.url] = answers(ACCEPTED)
    [disabled] = world.endpoints().endpoints
    world.repository.save_endpoints(world.endpoints().put(disabled.enable()))
    world.run(timedelta(days=1))
    assert [each["sequence"] for each in world.bodies(endpoint)] == [1, 2], "nothing is replayed unless requested"
    page = world.redelivery().replay(endpoint.id, NOW, world.clock.now)
    assert (page.requested, page.continues_after) == (2, None)
    world.run()
    # The attempts of a batch run at the same time.
    assert sorted(each["sequence"] for each in world.bodies(endpoint)[2:]) == [2, 3]
    assert statuses(world.log(endpoint)) == ["delivered"] * 3


def test_redelivery_that_meets_the_end_of_an_attempt_is_stored(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = world.add_endpoint("own")
    world.emit()
    world.run()
    [stale] = world.log(endpoint)
    world.redelivery().redeliver(stale.id, world.clock.now)
    world.run()
    find, answered = world.repository.find_delivery, [stale]
    monkeypatch.setattr(
        WebhookRepository, "find_delivery", lambda _self, *key: answered.pop() if answered else find(*key)
    )
    requested = world.redelivery().redeliver(stale.id, world.clock.now)
    assert (requested.status, len(requested.attempts)) == ("pending", 2)
    world.run()
    assert len(world.bodies(endpoint)) == 3


def test_second_redelivery_within_a_second_is_sent_too(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.emit()
    world.run()
    for _ in range(2):
        world.redelivery().redeliver(world.log(endpoint)[0].id, world.clock.now)
        world.run()
    assert len(world.bodies(endpoint)) == 3


def test_replay_begins_at_its_time_and_skips_other_types(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own", events=("invoice.paid",), enabled=False)
    world.emit(sequence=1, type="invoice.paid")
    world.clock.now += timedelta(hours=1)
    world.emit(sequence=2, type="invoice.paid")
    world.emit(sequence=3)
    world.repository.save_endpoints(world.endpoints().put(endpoint.enable()))
    world.dispatch()
    world.delivery_queue.messages.clear()
    assert world.redelivery().replay(endpoint.id, world.clock.now, world.clock.now).requested == 1
    world.run()
    assert [each["sequence"] for each in world.bodies(endpoint)] == [2]


def test_replay_of_many_events_continues_in_pages(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own", enabled=False)
    for number in range(REPLAY_EVENTS_MAX + 5):
        world.emit(subject=f"sub_{number}")
    world.repository.save_endpoints(world.endpoints().put(endpoint.enable()))
    first = world.redelivery().replay(endpoint.id, NOW, NOW)
    second = world.redelivery().replay(endpoint.id, NOW, NOW, first.continues_after)
    assert (first.requested, second.requested, second.continues_after) == (REPLAY_EVENTS_MAX, 5, None)
    repeated = world.redelivery().replay(endpoint.id, NOW, NOW)
    assert repeated.requested == REPLAY_EVENTS_MAX, "a pending delivery is requested again"
    world.deliver()
    assert len(world.bodies(endpoint)) == REPLAY_EVENTS_MAX + 5
