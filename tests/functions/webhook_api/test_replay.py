"""Replay: request the events since a time that an endpoint did not receive."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.domain.cursors import encode_cursor
from billing.domain.outbound_events import OutboundEvent
from billing.domain.timestamps import iso
from billing.domain.webhook_deliveries import AttemptResult, Delivery
from tests.functions.events import event as stripe_event
from tests.functions.events import invoice, subscription_event
from tests.functions.support import FunctionHarness, Response, items_with_prefix
from tests.functions.webhook_api.support import (
    QueueReader,
    answer,
    create,
    invalid,
    redeliver,
    send,
    store_delivery,
    store_event,
    store_events,
)

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR_AGO = NOW - timedelta(hours=1)
MINUTE = timedelta(minutes=1)
LONG_AGO = "2026-01-01T00:00:00Z"
SUCCESS, FAILURE = AttemptResult(200, 5), AttemptResult(500, 5)


def replay(deployment: FunctionHarness, endpoint_id: str, since: object = LONG_AGO, **body: Any) -> Response:
    """Request a replay."""
    return send(deployment, "POST", endpoint_id, "/replay", {"since": since, **body})


def requested_events(queue: QueueReader, endpoint_id: str) -> list[str]:
    """Return the ids of the events in the messages of the queue, which must be about the endpoint."""
    messages = queue.take()
    assert {(each["owner"], each["endpoint"], each["account"]) for each in messages} <= {("acme", endpoint_id, "acme")}
    return [each["event"] for each in messages]


def ids_of(events: Sequence[OutboundEvent]) -> list[str]:
    """Return the ids of events."""
    return [each.id for each in events]


def test_replay_requests_the_events_of_processed_changes(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    deployment.deliver(subscription_event())
    deployment.deliver(stripe_event("invoice.paid", invoice()))
    endpoint_id = create(deployment)["id"]
    assert answer(replay(deployment, endpoint_id, iso(HOUR_AGO))) == (200, {"requested": 2, "next_cursor": None})
    messages = delivery_queue.take()
    deliveries = send(deployment, "GET", endpoint_id, "/deliveries").body["deliveries"]
    assert sorted(each["event"] for each in messages) == sorted(each["event_id"] for each in deliveries)
    assert sorted(each["event_type"] for each in deliveries) == ["invoice.paid", "subscription.created"]
    assert {each["status"] for each in deliveries} == {"pending"}
    assert {each["version"] for each in messages} == {1}
    [due] = {each["next_attempt_at"] for each in deliveries}
    assert abs(datetime.fromisoformat(due) - datetime.now(UTC)).total_seconds() < 10


def test_replay_without_events_requests_nothing(deployment: FunctionHarness, delivery_queue: QueueReader) -> None:
    assert answer(replay(deployment, create(deployment)["id"])) == (200, {"requested": 0, "next_cursor": None})
    assert delivery_queue.take() == []


def test_replay_requests_events_from_the_second_of_since(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    events = store_events(deployment, 4, HOUR_AGO)
    endpoint_id = create(deployment)["id"]
    since = (HOUR_AGO + 2 * MINUTE).isoformat().replace("+00:00", ".5Z")
    assert replay(deployment, endpoint_id, since).body == {"requested": 2, "next_cursor": None}
    assert requested_events(delivery_queue, endpoint_id) == ids_of(events[2:])


def test_replay_requests_only_subscribed_types_of_the_own_account(
    deployment: FunctionHarness, globex: FunctionHarness, delivery_queue: QueueReader
) -> None:
    wanted = store_event(deployment, HOUR_AGO, "subscription.updated", object_id="sub_1")
    store_event(deployment, HOUR_AGO, "invoice.paid")
    store_event(globex, HOUR_AGO, "subscription.updated", account_id="globex", object_id="sub_1")
    endpoint_id = create(deployment, events=["subscription.updated"])["id"]
    assert replay(deployment, endpoint_id).body == {"requested": 1, "next_cursor": None}
    assert requested_events(delivery_queue, endpoint_id) == [wanted.id]


def test_replay_leaves_out_events_that_are_delivered_or_running(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    events = store_events(deployment, 6, HOUR_AGO)
    endpoint_id, other_id = create(deployment)["id"], create(deployment)["id"]
    delivered, running, pending, failed, crashed, elsewhere = (
        Delivery(endpoint_id, each.id, each.type, "acme", "acme", created=NOW) for each in events
    )
    store_delivery(deployment, delivered.start(NOW, "claim").finish(SUCCESS, NOW, 0))
    store_delivery(deployment, running.start(datetime.now(UTC), "claim"))
    store_delivery(deployment, pending.start(NOW, "claim").finish(FAILURE, NOW, 0))
    store_delivery(deployment, failed.fail("the endpoint is disabled"))
    store_delivery(deployment, crashed.start(NOW - 5 * MINUTE, "claim"))
    store_delivery(
        deployment, Delivery(other_id, elsewhere.event_id, "invoice.paid", "acme", "acme", created=NOW).fail("gone")
    )
    assert replay(deployment, endpoint_id).body == {"requested": 4, "next_cursor": None}
    assert requested_events(delivery_queue, endpoint_id) == ids_of(events[2:])


def test_repeated_replay_requests_pending_deliveries_again_and_keeps_their_attempts(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    [event] = store_events(deployment, 1, HOUR_AGO)
    endpoint_id = create(deployment)["id"]
    new = Delivery(endpoint_id, event.id, event.type, "acme", "acme", created=NOW)
    store_delivery(deployment, new.start(NOW, "claim").finish(FAILURE, NOW, 0))
    for _ in range(2):
        assert replay(deployment, endpoint_id).body["requested"] == 1
    [delivery] = send(deployment, "GET", endpoint_id, "/deliveries").body["deliveries"]
    assert (delivery["status"], len(delivery["attempts"])) == ("pending", 1)
    assert set(requested_events(delivery_queue, endpoint_id)) == {event.id}


def test_replay_of_many_events_continues_with_its_cursor(
    deployment: FunctionHarness, delivery_queue: QueueReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request reads 100 events. The last page is full and has no cursor."""
    monkeypatch.setattr("billing.services.webhook_redelivery.REPLAY_EVENTS_MAX", 4)
    events = store_events(deployment, 12, HOUR_AGO)
    endpoint_id = create(deployment)["id"]
    cursor, bodies = None, []
    for _ in range(3):
        bodies.append(replay(deployment, endpoint_id, **({"cursor": cursor} if cursor else {})).body)
        cursor = bodies[-1]["next_cursor"]
    assert [each["requested"] for each in bodies] == [4, 4, 4]
    assert [each["next_cursor"] for each in bodies] == [
        encode_cursor(events[3].id),
        encode_cursor(events[7].id),
        None,
    ]
    assert requested_events(delivery_queue, endpoint_id) == ids_of(events)


def test_one_replay_requests_at_most_100_events(deployment: FunctionHarness, delivery_queue: QueueReader) -> None:
    events = store_events(deployment, 101, NOW - timedelta(hours=2))
    endpoint_id = create(deployment)["id"]
    assert replay(deployment, endpoint_id).body == {"requested": 100, "next_cursor": encode_cursor(events[99].id)}
    assert requested_events(delivery_queue, endpoint_id) == ids_of(events[:100])


UTC_TIME = "must be a time in UTC, for example 2026-11-21T14:00:00Z"
TEXT = "Input should be a valid string"
CURSOR = "must be the next_cursor of an earlier response"

INVALID_BODIES: dict[str, tuple[object, tuple[str, str]]] = {
    "no body": (None, ("since", "is required")),
    "no since": ({}, ("since", "is required")),
    "null": ({"since": None}, ("since", "is required")),
    "number": ({"since": 1_795_269_600}, ("since", TEXT)),
    "empty": ({"since": ""}, ("since", "String should have at least 1 character")),
    "date": ({"since": "2026-01-01"}, ("since", UTC_TIME)),
    "without zone": ({"since": "2026-01-01T00:00:00"}, ("since", UTC_TIME)),
    "offset": ({"since": "2026-01-01T00:00:00+00:00"}, ("since", UTC_TIME)),
    "lower case": ({"since": "2026-01-01t00:00:00z"}, ("since", UTC_TIME)),
    "space": ({"since": "2026-01-01 00:00:00Z"}, ("since", UTC_TIME)),
    "line break": ({"since": "2026-01-01T00:00:00Z\n"}, ("since", UTC_TIME)),
    "other digits": ({"since": "\uff12026-01-01T00:00:00Z"}, ("since", UTC_TIME)),
    "no such day": ({"since": "2026-02-30T00:00:00Z"}, ("since", UTC_TIME)),
    "no such hour": ({"since": "2026-01-01T25:00:00Z"}, ("since", UTC_TIME)),
    "future": ({"since": "2999-01-01T00:00:00Z"}, ("since", "must not be in the future")),
    "empty cursor": ({"since": LONG_AGO, "cursor": ""}, ("cursor", "String should have at least 1 character")),
    "number as cursor": ({"since": LONG_AGO, "cursor": 1}, ("cursor", TEXT)),
    "event id as cursor": ({"since": LONG_AGO, "cursor": "msg_" + "0" * 26}, ("cursor", CURSOR)),
    "cursor of another list": ({"since": LONG_AGO, "cursor": encode_cursor("001780000000#in_1")}, ("cursor", CURSOR)),
    "unknown field": ({"since": LONG_AGO, "until": LONG_AGO}, ("until", "is not a known field")),
}


def test_invalid_replay_returns_400_and_requests_nothing(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    store_events(deployment, 1, HOUR_AGO)
    endpoint_id = create(deployment)["id"]
    answers = {
        name: answer(send(deployment, "POST", endpoint_id, "/replay", body))
        for name, (body, _) in INVALID_BODIES.items()
    }
    assert answers == {name: invalid(problem) for name, (_, problem) in INVALID_BODIES.items()}
    assert delivery_queue.take() == []
    assert items_with_prefix(deployment, "HOOK#") == []


def test_replay_since_the_first_year_requests_all_events(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    events = store_events(deployment, 2, HOUR_AGO)
    endpoint_id = create(deployment)["id"]
    assert replay(deployment, endpoint_id, "0001-01-01T00:00:00Z").body == {"requested": 2, "next_cursor": None}
    assert requested_events(delivery_queue, endpoint_id) == ids_of(events)


def test_replay_to_a_disabled_endpoint_returns_400(deployment: FunctionHarness, delivery_queue: QueueReader) -> None:
    store_events(deployment, 1, HOUR_AGO)
    endpoint_id = create(deployment)["id"]
    send(deployment, "PATCH", endpoint_id, body={"enabled": False})
    expected = invalid(("", "The webhook endpoint is disabled. Enable it first."))
    assert answer(replay(deployment, endpoint_id)) == expected
    assert delivery_queue.take() == []


@pytest.mark.parametrize("operation", ["replay", "redeliver"])
def test_request_while_sqs_is_unavailable_returns_503_and_leaves_it_to_the_schedule(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The delivery is stored as due now, so the schedule requests its attempt."""
    [event] = store_events(deployment, 1, HOUR_AGO)
    endpoint_id = create(deployment)["id"]
    stored = Delivery(endpoint_id, event.id, event.type, "acme", "acme", created=NOW).fail("gone")
    store_delivery(deployment, stored)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
    response = replay(deployment, endpoint_id) if operation == "replay" else redeliver(deployment, stored.id)
    error = {"code": "INTERNAL_ERROR", "message": "The service is temporarily unavailable; try again shortly"}
    assert answer(response) == (503, {"error": error})
    assert response.headers["retry-after"] == "5"
    [delivery] = send(deployment, "GET", endpoint_id, "/deliveries").body["deliveries"]
    assert (delivery["status"], delivery["reason"]) == ("pending", None)
    assert abs(datetime.fromisoformat(delivery["next_attempt_at"]) - datetime.now(UTC)) < MINUTE
