"""Deliveries of an endpoint: the log, its pages, and the redelivery of one of them."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.domain.cursors import encode_cursor
from billing.domain.timestamps import iso
from billing.domain.webhook_deliveries import Attempt, AttemptResult, Delivery, DeliveryStatus
from tests.functions.support import FunctionHarness, Response
from tests.functions.webhook_api.support import (
    QueueReader,
    answer,
    create,
    invalid,
    list_all,
    not_found,
    redeliver,
    send,
    store_delivery,
    store_event,
)

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)


def new_delivery(deployment: FunctionHarness, endpoint_id: str, committed: datetime = NOW) -> Delivery:
    """Return a delivery of a stored event."""
    event = store_event(deployment, committed)
    return Delivery(endpoint_id, event.id, event.type, "acme", "acme", created=committed)


def attempted(delivery: Delivery, *results: AttemptResult) -> Delivery:
    """Return the delivery after attempts, one a minute."""
    for number, result in enumerate(results):
        started = delivery.created + number * MINUTE
        delivery = delivery.start(started, "claim").finish(result, started + timedelta(seconds=1), jitter=0)
    return delivery


def store_deliveries(deployment: FunctionHarness, endpoint_id: str, minutes: Iterable[int]) -> list[str]:
    """Store deliveries of events that were committed at these minutes. Returns their ids, newest first."""
    stored = [
        store_delivery(deployment, new_delivery(deployment, endpoint_id, NOW + minute * MINUTE)) for minute in minutes
    ]
    return [each.id for each in stored][::-1]


def list_page(deployment: FunctionHarness, endpoint_id: str, query: str = "") -> Response:
    """Request a page of deliveries."""
    return send(deployment, "GET", endpoint_id, "/deliveries", query=query)


def ids_of(response: Response) -> list[str]:
    """Return the ids of a page."""
    assert response.status == 200, response.body
    return [each["id"] for each in response.body["deliveries"]]


def all_pages(deployment: FunctionHarness, endpoint_id: str, query: str) -> list[list[str]]:
    """Return the ids of every page."""
    response = list_page(deployment, endpoint_id, query)
    found = [ids_of(response)]
    while cursor := response.body["next_cursor"]:
        response = list_page(deployment, endpoint_id, f"{query}&cursor={cursor}")
        found.append(ids_of(response))
    return found


def body_of(delivery: Delivery, **changes: Any) -> dict[str, Any]:
    """Return a delivery without attempts as a response contains it."""
    return {
        "id": f"dlv_{delivery.endpoint_id.removeprefix('whe_')}_{delivery.event_id.removeprefix('msg_')}",
        "event_id": delivery.event_id,
        "event_type": "invoice.paid",
        "status": "pending",
        "attempts": [],
        "next_attempt_at": None,
        "response_body": None,
        "reason": None,
        "created": iso(delivery.created),
    } | changes


FAILURE = AttemptResult(503, 120, body="busy")
TIMEOUT = AttemptResult(None, 15_000, "timeout", "The endpoint did not respond within the time limit")
SUCCESS = AttemptResult(200, 45, body="ok")


# --- List -------------------------------------------------------------------------------------------------------------


def test_deliveries_of_a_new_endpoint_are_an_empty_list(deployment: FunctionHarness) -> None:
    response = list_page(deployment, create(deployment)["id"])
    assert answer(response) == (200, {"deliveries": [], "next_cursor": None})


def test_deliveries_contain_status_attempts_and_last_response(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment)["id"]
    states: list[Callable[[Delivery], Delivery]] = [
        lambda new: new,
        lambda new: attempted(new, TIMEOUT, FAILURE, SUCCESS),
        lambda new: attempted(new, FAILURE),
        lambda new: attempted(new, TIMEOUT).fail("the endpoint was deleted"),
        lambda new: new.start(new.created, "claim"),
    ]
    stored = [
        store_delivery(deployment, change(new_delivery(deployment, endpoint_id, NOW - number * MINUTE)))
        for number, change in enumerate(states)
    ]
    new, delivered, pending, failed, running = stored

    def attempt(delivery: Delivery, number: int, *, status: int | None, latency: int | None, error: str | None) -> Any:
        started = iso(delivery.created + number * MINUTE)
        return {"started": started, "status_code": status, "latency_ms": latency, "error": error}

    expected = [
        body_of(new),
        body_of(
            delivered,
            status="delivered",
            attempts=[
                attempt(delivered, 0, status=None, latency=15_000, error="timeout"),
                attempt(delivered, 1, status=503, latency=120, error=None),
                attempt(delivered, 2, status=200, latency=45, error=None),
            ],
            response_body="ok",
        ),
        body_of(
            pending,
            attempts=[attempt(pending, 0, status=503, latency=120, error=None)],
            next_attempt_at=iso(pending.created + timedelta(seconds=6)),
            response_body="busy",
        ),
        body_of(
            failed,
            status="failed",
            attempts=[attempt(failed, 0, status=None, latency=15_000, error="timeout")],
            reason="the endpoint was deleted",
        ),
        body_of(running, attempts=[attempt(running, 0, status=None, latency=None, error=None)]),
    ]
    assert answer(list_page(deployment, endpoint_id)) == (200, {"deliveries": expected, "next_cursor": None})


def test_delivery_pages_contain_every_delivery_once(deployment: FunctionHarness) -> None:
    """The newest event comes first, with ten deliveries a page by default. A full last page has no next cursor."""
    endpoint_id, other_id = create(deployment)["id"], create(deployment)["id"]
    ids = store_deliveries(deployment, endpoint_id, range(12))
    store_deliveries(deployment, other_id, range(3))
    assert all_pages(deployment, endpoint_id, "") == [ids[:10], ids[10:]]
    assert all_pages(deployment, endpoint_id, "limit=4") == [ids[:4], ids[4:8], ids[8:]]
    assert all_pages(deployment, endpoint_id, "limit=12") == [ids]
    assert all_pages(deployment, endpoint_id, "limit=100") == [ids]


def test_delivery_cursor_after_new_deliveries_continues_at_the_same_one(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment)["id"]
    ids = store_deliveries(deployment, endpoint_id, range(4))
    cursor = list_page(deployment, endpoint_id, "limit=2").body["next_cursor"]
    store_deliveries(deployment, endpoint_id, range(4, 7))
    assert ids_of(list_page(deployment, endpoint_id, f"limit=2&cursor={cursor}")) == ids[2:]


def test_cursor_of_another_endpoint_returns_only_own_deliveries(
    deployment: FunctionHarness, globex: FunctionHarness
) -> None:
    """A cursor is a position in the endpoint's own list."""
    own_id, foreign_id = create(deployment)["id"], create(globex)["id"]
    ids = store_deliveries(deployment, own_id, range(2))
    store_deliveries(globex, foreign_id, range(2, 5))
    cursor = list_page(globex, foreign_id, "limit=2").body["next_cursor"]
    assert ids_of(list_page(deployment, own_id, f"cursor={cursor}")) == ids


CURSOR = "must be the next_cursor of an earlier response"
POSITION = "msg_" + "0123456789abcdef" * 2
INVALID_QUERIES = {
    "limit=0": ("limit", "Input should be greater than or equal to 1"),
    "limit=101": ("limit", "Input should be less than or equal to 100"),
    "limit=ten": ("limit", "Input should be a valid integer"),
    "limit=": ("limit", "Input should be a valid integer"),
    "limit=5&limit=6": ("limit", "is given more than once"),
    "cursor=": ("cursor", "String should have at least 1 character"),
    "cursor=" + "A" * 513: ("cursor", "String should have at most 512 characters"),
    "cursor=%F0%9F%92%B8": ("cursor", CURSOR),
    f"cursor={POSITION}": ("cursor", CURSOR),
    "cursor=" + encode_cursor("HEALTH"): ("cursor", CURSOR),
    "cursor=" + encode_cursor("msg_"): ("cursor", CURSOR),
    "cursor=" + encode_cursor(POSITION.upper()): ("cursor", CURSOR),
    "cursor=" + encode_cursor(f"{POSITION}#"): ("cursor", CURSOR),
    "cursor=" + encode_cursor(f"{POSITION}\n"): ("cursor", CURSOR),
    "cursor=" + encode_cursor("001780000000#in_1"): ("cursor", CURSOR),
    "cursor=" + encode_cursor(POSITION) + "=": ("cursor", CURSOR),
    "cursor=" + base64.urlsafe_b64encode(b"\xff" * 20).decode(): ("cursor", CURSOR),
    "status=failed": ("status", "is not a known parameter"),
}


def test_deliveries_with_an_invalid_parameter_return_400(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment)["id"]
    store_deliveries(deployment, endpoint_id, range(2))
    answers = {query: answer(list_page(deployment, endpoint_id, query)) for query in INVALID_QUERIES}
    assert answers == {query: invalid(problem) for query, problem in INVALID_QUERIES.items()}
    assert list_page(deployment, endpoint_id, f"cursor={encode_cursor(POSITION)}").status == 200


# --- Redeliver --------------------------------------------------------------------------------------------------------

REDELIVERED: dict[str, Callable[[Delivery], Delivery]] = {
    "new": lambda new: new,
    "pending": lambda new: attempted(new, FAILURE),
    "delivered": lambda new: attempted(new, SUCCESS),
    "failed": lambda new: attempted(new, TIMEOUT).fail("the endpoint was disabled"),
}


@pytest.mark.parametrize("status", REDELIVERED)
def test_redelivery_requests_an_attempt_and_keeps_the_log(
    deployment: FunctionHarness, delivery_queue: QueueReader, status: str
) -> None:
    endpoint_id = create(deployment)["id"]
    stored = store_delivery(deployment, REDELIVERED[status](new_delivery(deployment, endpoint_id)))
    before = list_page(deployment, endpoint_id).body["deliveries"][0]
    response = redeliver(deployment, stored.id)
    next_attempt_at = response.body["next_attempt_at"]
    expected = before | {"status": "pending", "reason": None, "next_attempt_at": next_attempt_at}
    assert answer(response) == (200, expected)
    assert list_page(deployment, endpoint_id).body["deliveries"] == [expected]
    assert abs(datetime.fromisoformat(next_attempt_at) - datetime.now(UTC)).total_seconds() < 10
    requested = {"owner": "acme", "endpoint": endpoint_id, "account": "acme", "event": stored.event_id}
    assert delivery_queue.take() == [requested | {"version": stored.version + 1}]


def test_redelivery_while_an_attempt_is_running_leaves_it_alone(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    """The attempt continues by itself, and its result must not be lost."""
    endpoint_id = create(deployment)["id"]
    running = new_delivery(deployment, endpoint_id).start(datetime.now(UTC), "claim")
    stored = store_delivery(deployment, running)
    before = list_page(deployment, endpoint_id).body["deliveries"][0]
    assert answer(redeliver(deployment, stored.id)) == (200, before)
    assert list_page(deployment, endpoint_id).body["deliveries"] == [before]
    assert delivery_queue.take() == []


def test_redelivery_starts_the_schedule_of_attempts_again(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment)["id"]
    failed = attempted(new_delivery(deployment, endpoint_id), *[FAILURE] * 10)
    assert failed.status is DeliveryStatus.FAILED
    store_delivery(deployment, failed)
    body = redeliver(deployment, failed.id).body
    assert (body["status"], len(body["attempts"])) == ("pending", 10)


@pytest.mark.parametrize(
    "kind", ["unknown event", "other endpoint", "bus", "malformed", "empty parts", "endpoint", "event"]
)
def test_redelivery_of_an_unknown_delivery_returns_404(
    deployment: FunctionHarness, delivery_queue: QueueReader, kind: str
) -> None:
    endpoint_id, other_id = create(deployment)["id"], create(deployment)["id"]
    stored = store_delivery(deployment, new_delivery(deployment, endpoint_id))
    event = stored.event_id.removeprefix("msg_")
    unknown = {
        "unknown event": stored.id[:-1] + ("0" if stored.id[-1] == "1" else "1"),
        "other endpoint": f"dlv_{other_id.removeprefix('whe_')}_{event}",
        "bus": f"dlv_bus_{event}",
        "malformed": f"{stored.id}_1",
        "empty parts": "dlv__",
        "endpoint": endpoint_id,
        "event": stored.event_id,
    }
    assert answer(redeliver(deployment, unknown[kind])) == not_found("delivery")
    assert delivery_queue.take() == []


def test_redelivery_to_the_event_bus_returns_404(deployment: FunctionHarness) -> None:
    """The bus belongs to the deployment, also for the events of the account."""
    stored = store_delivery(deployment, replace(new_delivery(deployment, "bus"), owner_id=None))
    assert answer(redeliver(deployment, stored.id)) == not_found("delivery")


def test_redelivery_to_a_deleted_endpoint_returns_404(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment)["id"]
    stored = store_delivery(deployment, new_delivery(deployment, endpoint_id))
    send(deployment, "DELETE", endpoint_id)
    assert answer(redeliver(deployment, stored.id)) == not_found("delivery")


def test_redelivery_to_a_disabled_endpoint_returns_400(
    deployment: FunctionHarness, delivery_queue: QueueReader
) -> None:
    endpoint_id = create(deployment)["id"]
    stored = store_delivery(deployment, attempted(new_delivery(deployment, endpoint_id), FAILURE))
    before = list_page(deployment, endpoint_id).body
    send(deployment, "PATCH", endpoint_id, body={"enabled": False})
    expected = invalid(("", "The webhook endpoint is disabled. Enable it first."))
    assert answer(redeliver(deployment, stored.id)) == expected
    assert list_page(deployment, endpoint_id).body == before
    assert delivery_queue.take() == []


def test_redelivery_of_an_expired_event_returns_400(deployment: FunctionHarness, delivery_queue: QueueReader) -> None:
    endpoint_id = create(deployment)["id"]
    event_id = "msg_" + "0" * 26
    expired = Delivery(endpoint_id, event_id, "invoice.paid", "acme", "acme", created=NOW, attempts=(Attempt(NOW),))
    stored = store_delivery(deployment, expired)
    expected = invalid(("", "The event has expired: events are kept for 35 days."))
    assert answer(redeliver(deployment, stored.id)) == expected
    assert delivery_queue.take() == []


def test_repeated_idempotency_key_redelivers_once(deployment: FunctionHarness, delivery_queue: QueueReader) -> None:
    endpoint_id = create(deployment)["id"]
    stored = store_delivery(deployment, attempted(new_delivery(deployment, endpoint_id), SUCCESS))
    first, again = (redeliver(deployment, stored.id, more_headers={"Idempotency-Key": "k1"}) for _ in range(2))
    assert answer(first) == answer(again)
    assert (again.headers["idempotent-replayed"], len(delivery_queue.take())) == ("true", 1)
    assert len(list_all(deployment)) == 1
