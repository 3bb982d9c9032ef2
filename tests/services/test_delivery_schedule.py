"""Schedule of deliveries: each index partition gets its share of a run."""

from datetime import timedelta

import pytest

from billing.adapters.dynamodb import Table
from billing.domain.webhook_deliveries import Delivery
from billing.services import delivery_schedule
from billing.services.delivery_schedule import DeliverySchedule
from tests.samples import NOW
from tests.services.webhook_support import WebhookWorld

pytestmark = pytest.mark.engine


def store_due(world: WebhookWorld, endpoint_id: str, count: int) -> None:
    """Store deliveries of an endpoint that are due."""
    for number in range(count):
        event_id = f"msg_{number:026x}"
        new = Delivery(endpoint_id, event_id, "invoice.paid", "acme", "acme", created=NOW)
        world.repository.save_delivery(new.postpone(NOW + timedelta(seconds=number)))


def test_backlog_of_one_endpoint_does_not_keep_others_from_the_queue(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_schedule, "DUE_MAX", 5)
    world = WebhookWorld(table)
    store_due(world, "whe_00", 20)
    store_due(world, "whe_07", 1)
    schedule = DeliverySchedule(world.repository, world.queues)
    assert schedule.request_due(NOW + timedelta(minutes=1)) == 6
    requested = [world.delivery_queue.body_of(each) for each in world.delivery_queue.messages]
    assert [each["endpoint"] for each in requested].count("whe_07") == 1
    first = [each["event"] for each in requested if each["endpoint"] == "whe_00"]
    assert first == [f"msg_{number:026x}" for number in range(5)], "the attempts that wait longest come first"


def test_attempt_that_is_requested_again_within_five_minutes_is_queued_once(table: Table) -> None:
    world = WebhookWorld(table)
    store_due(world, "whe_00", 1)
    schedule = DeliverySchedule(world.repository, world.queues)
    for _ in range(2):
        schedule.request_due(NOW)
    assert len(world.delivery_queue.messages) == 1
