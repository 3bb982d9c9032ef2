"""Delivery of outbound events to endpoints: signatures, retries, disabled endpoints and isolation."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from standardwebhooks import Webhook

from billing.adapters.dynamodb import Table
from billing.adapters.outbox import owner_key
from billing.domain.webhook_deliveries import RETRY_DELAYS, AttemptResult, DeliveryError, DeliveryStatus, EndpointHealth
from billing.domain.webhook_endpoints import DisabledReason, SigningSecret
from tests.adapters.table_support import recorded_calls
from tests.samples import NOW
from tests.services.webhook_support import SECRET, WebhookWorld, answers, statuses

pytestmark = pytest.mark.engine

ACCEPTED = AttemptResult(204, 5)
FAILED = AttemptResult(500, 5, body="out of order")
TIMED_OUT = AttemptResult(None, 15_000, DeliveryError.TIMEOUT)


@pytest.fixture
def world(table: Table) -> WebhookWorld:
    """Outbound events on a table of the engine."""
    return WebhookWorld(table)


# --- Fan-out ----------------------------------------------------------------------------------------------------------


def test_event_reaches_the_endpoints_of_its_account_and_of_the_deployment(world: WebhookWorld) -> None:
    own, deployment, other = (
        world.add_endpoint("own"),
        world.add_endpoint("all", None),
        world.add_endpoint("x", "globex"),
    )
    event = world.emit()
    world.run()
    assert world.bodies(own) == world.bodies(deployment) == [json.loads(json.dumps(event.body))]
    assert world.bodies(other) == []
    [delivery] = world.log(own)
    assert (delivery.event_id, delivery.status, len(delivery.attempts)) == (event.id, DeliveryStatus.DELIVERED, 1)


def test_endpoint_receives_only_its_types_and_none_while_disabled(world: WebhookWorld) -> None:
    paid = world.add_endpoint("paid", events=("invoice.paid",))
    disabled = world.add_endpoint("disabled", enabled=False)
    world.emit()
    world.run()
    assert (world.bodies(paid), world.bodies(disabled)) == ([], [])
    assert world.log(disabled) == []


def test_endpoint_receives_events_that_follow_its_creation_at_once(world: WebhookWorld) -> None:
    """Nothing is cached: whoever tries an endpoint right after its creation gets the event."""
    world.emit(sequence=1)
    world.dispatch()
    created = world.add_endpoint("new")
    world.emit(sequence=2)
    world.run()
    assert [each["sequence"] for each in world.bodies(created)] == [2]


def test_repeated_dispatch_delivers_once(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    event = world.emit()
    world.run()
    world.dispatcher.dispatch([event])
    world.clock.now += timedelta(hours=1)
    world.dispatcher.dispatch([event])
    world.deliver()
    assert len(world.bodies(endpoint)) == 1


def test_item_that_cannot_be_read_goes_to_the_dead_letters_and_others_are_dispatched(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    event = world.emit()
    good = next(world.table.scan("OUT#"))
    broken_values: list[dict[str, Any]] = [{"sequence": "two"}, {"type": None}, {"occurred_at": "now"}, {"object": []}]
    for broken in broken_values:
        world.dispatcher.dispatch_items([good | broken])
    missing = {name: value for name, value in good.items() if name != "object"}
    world.dispatcher.dispatch_items([missing, good])
    world.deliver()
    assert [json.loads(each.body)["sk"] for each in world.dead_letters.messages] == [f"OUT#{event.id}"] * 5
    assert len(world.bodies(endpoint)) == 1


def test_dispatch_costs_one_read_and_a_delivery_one_read_and_two_writes(world: WebhookWorld, dynamodb: Any) -> None:
    world.add_endpoint("own")
    world.add_endpoint("all", None)
    event = world.emit()
    with recorded_calls(dynamodb) as calls:
        world.dispatcher.dispatch([event])
    assert calls == ["BatchGetItem"]
    with recorded_calls(dynamodb) as calls:
        world.deliver()
    assert Counter(calls) == {"BatchGetItem": 2, "PutItem": 4}


# --- Signatures -------------------------------------------------------------------------------------------------------


def test_delivery_is_verified_by_the_library_of_standard_webhooks(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = world.add_endpoint("own")
    event = world.emit()
    world.run()
    [(body, headers)] = world.received[endpoint.url]
    assert headers["webhook-id"] == event.id
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert headers["content-type"] == "application/json"
    # The library compares the timestamp with its own clock, which the test cannot set.
    monkeypatch.setattr(Webhook, "_Webhook__verify_timestamp", lambda _self, _text: NOW)
    assert Webhook(SECRET).verify(body, dict(headers)) == json.loads(json.dumps(event.body))


def test_delivery_has_two_signatures_during_rotation(world: WebhookWorld) -> None:
    other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    rotated = (SigningSecret(other), SigningSecret(SECRET, NOW + timedelta(hours=24)))
    endpoint = world.add_endpoint("own", secrets=rotated)
    world.emit(sequence=1)
    world.run(timedelta(hours=24))
    world.emit(sequence=2)
    world.run()
    signatures = [headers["webhook-signature"].split(" ") for _body, headers in world.received[endpoint.url]]
    assert [len(each) for each in signatures] == [2, 1]
    assert len({*signatures[0]}) == 2
    assert all(each.startswith("v1,") for pair in signatures for each in pair)


# --- Retries ----------------------------------------------------------------------------------------------------------


def test_failed_delivery_is_retried_at_the_documented_times(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(FAILED)
    world.emit()
    world.run(timedelta(days=4))
    [delivery] = world.log(endpoint)
    assert (delivery.status, delivery.response_body) == (DeliveryStatus.FAILED, "out of order")
    starts = [each.started for each in delivery.attempts]
    waits = [later - earlier for earlier, later in pairwise(starts)]
    for waited, scheduled in zip(waits, RETRY_DELAYS, strict=True):
        # The retry queue adds two seconds at most, the schedule a minute.
        assert (
            scheduled
            <= waited
            <= scheduled + (timedelta(seconds=2) if scheduled < timedelta(minutes=15) else timedelta(minutes=1))
        )


def test_retry_delivers_the_same_id_and_body(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(FAILED, TIMED_OUT, ACCEPTED)
    world.emit()
    world.run(timedelta(hours=1))
    requests = world.received[endpoint.url]
    assert len({body for body, _headers in requests}) == len({headers["webhook-id"] for _, headers in requests}) == 1
    [delivery] = world.log(endpoint)
    assert [(each.status_code, each.error) for each in delivery.attempts] == [
        (500, None),
        (None, "timeout"),
        (204, None),
    ]


def test_lost_message_of_a_retry_is_replaced_by_the_schedule(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(FAILED, ACCEPTED)
    world.emit()
    world.run()
    world.retry_queue.messages.clear()
    world.run(timedelta(minutes=2))
    assert statuses(world.log(endpoint)) == ["delivered"]


def test_endpoint_that_is_disabled_or_deleted_meanwhile_gets_no_further_attempt(world: WebhookWorld) -> None:
    disabled, deleted = world.add_endpoint("disabled"), world.add_endpoint("deleted")
    for each in (disabled, deleted):
        world.receivers[each.url] = answers(FAILED)
    world.emit()
    world.run()
    endpoints = world.endpoints().remove(deleted.id)
    world.repository.save_endpoints(endpoints.put(disabled.disable(DisabledReason.REQUEST, world.clock.now)))
    world.run(timedelta(days=4))
    [one], [other] = world.log(disabled), world.log(deleted)
    assert (one.status, one.reason, len(one.attempts)) == (DeliveryStatus.FAILED, "the endpoint is disabled", 1)
    assert (other.status, other.reason) == (DeliveryStatus.FAILED, "the endpoint was deleted")


def test_event_that_expired_is_not_delivered(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(FAILED)
    event = world.emit()
    world.run()
    world.table.client.delete_item(
        TableName=world.table.name, Key={"pk": {"S": owner_key("acme")}, "sk": {"S": f"OUT#{event.id}"}}
    )
    world.run(timedelta(hours=1))
    [delivery] = world.log(endpoint)
    assert (delivery.status, delivery.reason) == (DeliveryStatus.FAILED, "the event has expired")


# --- Endpoints that are disabled --------------------------------------------------------------------------------------


def test_endpoint_that_answers_410_is_disabled_at_once_and_told(
    world: WebhookWorld, printed: Callable[[], str]
) -> None:
    endpoint, operator = world.add_endpoint("gone"), world.add_endpoint("operator", None)
    world.receivers[endpoint.url] = answers(AttemptResult(410, 5))
    world.emit()
    world.run()
    [stored] = world.endpoints().endpoints
    assert (stored.enabled, stored.disabled_reason, stored.disabled_at) == (False, DisabledReason.GONE, NOW)
    assert statuses(world.log(endpoint)) == ["failed"]
    assert '"WebhookEndpointDisabled":[1.0]' in printed().replace(" ", "")
    told = world.bodies(operator)[-1]
    assert {name: told[name] for name in ("type", "account_id", "sequence", "data")} == {
        "type": "webhook_endpoint.disabled",
        "account_id": "acme",
        "sequence": 1,
        "data": {
            "object": {
                "id": endpoint.id,
                "url": endpoint.url,
                "enabled": False,
                "disabled_reason": "gone",
                "disabled_at": "2026-11-21T12:00:00Z",
            },
            "previous": {"enabled": True, "disabled_reason": None, "disabled_at": None},
        },
    }


def test_endpoint_without_a_success_in_five_days_is_disabled(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(FAILED)
    for day in range(5):
        world.emit(sequence=day + 1)
        world.run(timedelta(days=1))
        [stored] = world.endpoints().endpoints
        assert stored.enabled
    world.emit(sequence=6)
    world.run(timedelta(days=1))
    [stored] = world.endpoints().endpoints
    assert (stored.enabled, stored.disabled_reason) == (False, DisabledReason.FAILING)


def test_one_success_keeps_the_endpoint_enabled(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    for day in range(8):
        world.receivers[endpoint.url] = answers(ACCEPTED if day == 3 else FAILED)
        world.emit(sequence=day + 1)
        world.run()
        world.clock.now += timedelta(days=1)
        world.delivery_queue.messages.clear()
        world.retry_queue.messages.clear()
    [stored] = world.endpoints().endpoints
    assert stored.enabled


def test_answer_410_of_a_former_url_does_not_disable_the_endpoint(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("old")

    def move_and_answer(_body: bytes, _headers: Mapping[str, str]) -> AttemptResult:
        owned = world.endpoints()
        world.repository.save_endpoints(owned.put(replace(owned.endpoints[0], url="https://new.test")))
        return AttemptResult(410, 1)

    world.receivers[endpoint.url] = move_and_answer
    world.emit()
    world.run()
    assert world.endpoints().endpoints[0].enabled


def test_endpoint_that_succeeded_meanwhile_is_not_disabled(world: WebhookWorld) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(FAILED)
    for day in range(5):
        world.emit(sequence=day + 1)
        world.run(timedelta(days=1))

    def succeed_elsewhere(_body: bytes, _headers: Mapping[str, str]) -> AttemptResult:
        world.repository.save_health(endpoint.id, EndpointHealth())
        return FAILED

    world.receivers[endpoint.url] = succeed_elsewhere
    world.emit(sequence=6)
    world.run()
    assert world.endpoints().endpoints[0].enabled


# --- Isolation --------------------------------------------------------------------------------------------------------


def test_endpoint_that_times_out_is_paused_and_its_events_arrive_later(world: WebhookWorld) -> None:
    """While it is paused, no attempt waits for it. So hanging endpoints do not use up the workers."""
    endpoint = world.add_endpoint("slow")
    world.receivers[endpoint.url] = answers(TIMED_OUT)
    for sequence in range(1, 31):
        world.emit(sequence=sequence)
    world.run()
    assert len(world.received[endpoint.url]) <= 10, "at most one batch, whose attempts run at the same time"
    world.receivers[endpoint.url] = answers(ACCEPTED)
    world.run(timedelta(hours=1))
    assert statuses(world.log(endpoint)) == ["delivered"] * 30


def test_messages_of_a_slow_endpoint_hold_back_no_other_endpoint(world: WebhookWorld) -> None:
    """The queue gives the messages of an endpoint to one worker at a time, so others keep their workers."""
    slow, fast = world.add_endpoint("slow"), world.add_endpoint("fast", "globex")
    for sequence in range(1, 101):
        world.emit(sequence=sequence)
    world.dispatch()
    held = world.delivery_queue.receive()
    assert {each.body["endpoint"] for each in held} == {slow.id}
    world.emit("globex")
    world.dispatch()
    [message] = world.delivery_queue.receive()
    assert message.body["endpoint"] == fast.id


# --- EventBridge ------------------------------------------------------------------------------------------------------


def test_event_bus_receives_every_event_and_failed_ones_again(world: WebhookWorld) -> None:
    world.has_bus = True
    results = [AttemptResult(None, 1, "ThrottlingException"), AttemptResult(200, 1)]
    sent: list[str] = []

    def put(event: object) -> AttemptResult:
        sent.append(event.id)  # type: ignore[attr-defined]
        return results.pop(0) if results else AttemptResult(200, 1)

    world.bus = put
    first, second = world.emit("acme"), world.emit("globex", "sub_2")
    world.run(timedelta(minutes=1))
    assert sorted({*sent}) == sorted([first.id, second.id])
    assert len(sent) == 3
    page = world.repository.list_deliveries("bus", 10)
    assert statuses(page.deliveries) == ["delivered", "delivered"]


def test_headers_of_a_receiver_never_reach_the_log(world: WebhookWorld, printed: Callable[[], str]) -> None:
    endpoint = world.add_endpoint("own")

    def leak(_body: bytes, headers: Mapping[str, str]) -> AttemptResult:
        return AttemptResult(500, 5, body=f"token {headers['webhook-signature']}")

    world.receivers[endpoint.url] = leak
    world.emit()
    world.run()
    text = printed()
    assert "Webhook delivery attempted" in text
    assert "v1," not in text
    assert SECRET not in text
