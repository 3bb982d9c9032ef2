"""Rules for every operation on webhook endpoints: unknown ids, other accounts, credentials, failures, concurrency."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from billing.adapters import aws
from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.domain.webhook_deliveries import Delivery
from tests.functions.support import FunctionHarness, Response
from tests.functions.webhook_api.support import (
    ENDPOINTS,
    URL,
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
    without_secrets,
)

pytestmark = pytest.mark.engine

type Request = tuple[str, str, object]
"""Method, last part of the path, and body."""

# Requests about one endpoint.
REQUESTS: dict[str, Request] = {
    "get": ("GET", "", None),
    "update": ("PATCH", "", {"description": "New"}),
    "delete": ("DELETE", "", None),
    "rotate": ("POST", "/rotate-secret", None),
    "test": ("POST", "/test", None),
    "deliveries": ("GET", "/deliveries", None),
    "replay": ("POST", "/replay", {"since": "2026-01-01T00:00:00Z"}),
}
UNKNOWN_IDS = {
    "unknown": "whe_0123456789abcdef01234567",
    "other case": "WHE_0123456789ABCDEF01234567",
    "item key": "whe_1#HEALTH",
    "account": "acme",
    "bus": "bus",
    "dots": "..",
    "slash": "whe_1/test",
    "not ASCII": "whe_ä",
    "control character": "whe_1\n",
    "placeholder": "{endpointId}",
    "long": "w" * 256,
}


@pytest.mark.parametrize("operation", REQUESTS)
def test_unknown_or_malformed_endpoint_id_returns_404(deployment: FunctionHarness, operation: str) -> None:
    method, action, body = REQUESTS[operation]
    create(deployment)
    answers = {name: answer(send(deployment, method, each, action, body)) for name, each in UNKNOWN_IDS.items()}
    assert answers == dict.fromkeys(UNKNOWN_IDS, not_found())


def test_malformed_id_is_rejected_before_the_body_and_an_unknown_one_after_it(deployment: FunctionHarness) -> None:
    problem = invalid(("coupon", "is not a known field"))
    answers = {each: answer(send(deployment, "PATCH", each, body={"coupon": 1})) for each in ("whe_1", "whe_1#HEALTH")}
    assert answers == {"whe_1": problem, "whe_1#HEALTH": not_found()}


@pytest.mark.parametrize("delivery_id", [*UNKNOWN_IDS.values(), "dlv_1#2_3", "dlv_ä_1"])
def test_unknown_or_malformed_delivery_id_returns_404(deployment: FunctionHarness, delivery_id: str) -> None:
    assert answer(redeliver(deployment, delivery_id)) == not_found("delivery")


@pytest.mark.parametrize("operation", [*REQUESTS, "redeliver"])
def test_endpoint_of_another_account_returns_404_and_does_not_change(
    deployment: FunctionHarness, globex: FunctionHarness, delivery_queue: QueueReader, operation: str
) -> None:
    foreign = without_secrets(create(globex))
    event = store_event(globex, datetime.now(UTC), account_id="globex")
    delivery = Delivery(foreign["id"], event.id, event.type, "globex", "globex", created=datetime.now(UTC))
    store_delivery(globex, delivery.fail("gone"))
    before = send(globex, "GET", foreign["id"], "/deliveries").body
    if operation == "redeliver":
        assert answer(redeliver(deployment, delivery.id)) == not_found("delivery")
    else:
        method, action, body = REQUESTS[operation]
        assert answer(send(deployment, method, foreign["id"], action, body)) == not_found()
    assert list_all(deployment) == []
    assert list_all(globex) == [foreign]
    assert send(globex, "GET", foreign["id"], "/deliveries").body == before
    assert delivery_queue.take() == []


def each_operation(
    deployment: FunctionHarness, endpoint_id: str, delivery_id: str, **request: Any
) -> Iterator[tuple[str, Callable[[], Response]]]:
    """Yield a request of each operation, by name."""
    yield "create", lambda: deployment.authorized("POST", ENDPOINTS, {"url": URL}, **request)
    yield "list", lambda: deployment.authorized("GET", ENDPOINTS, **request)
    for name, (method, action, body) in REQUESTS.items():
        yield name, lambda: send(deployment, method, endpoint_id, action, body, **request)  # noqa: B023 - called at once
    yield "redeliver", lambda: redeliver(deployment, delivery_id, **request)


@pytest.fixture
def stored(deployment: FunctionHarness) -> tuple[str, str]:
    """Ids of an endpoint and of a delivery to it."""
    endpoint_id = create(deployment)["id"]
    event = store_event(deployment, datetime.now(UTC))
    new = Delivery(endpoint_id, event.id, event.type, "acme", "acme", created=datetime.now(UTC))
    return endpoint_id, store_delivery(deployment, new.fail("gone")).id


@pytest.mark.parametrize("kind", ["none", "unknown key", "publishable key"])
def test_operations_accept_only_a_secret_key(
    deployment: FunctionHarness, stored: tuple[str, str], delivery_queue: QueueReader, kind: str
) -> None:
    """tests/api/contracts/test_bad_requests.py covers session tokens."""
    publishable = new_key(KeyKind.PUBLISHABLE, livemode=False)
    record = KeyRecord("key_3", "acme", "publishable", datetime.now(UTC), "bbbb")
    deployment.repository.create_key(digest_of(publishable), record)
    authorization, status, code, message = {
        "none": ("", 401, "UNAUTHORIZED", "Missing, invalid or expired credential"),
        "unknown key": ("Bearer sk_test_" + "a" * 32, 401, "UNAUTHORIZED", "Missing, invalid or expired credential"),
        "publishable key": (f"Bearer {publishable}", 403, "FORBIDDEN", "This kind of credential is not accepted here"),
    }[kind]
    before = list_all(deployment)
    headers = {"Authorization": authorization}
    answers = {name: answer(call()) for name, call in each_operation(deployment, *stored, more_headers=headers)}
    assert answers == dict.fromkeys(answers, (status, {"error": {"code": code, "message": message}}))
    assert len(answers) == 10
    assert list_all(deployment) == before
    assert delivery_queue.take() == []


def test_operations_return_503_while_dynamodb_is_unavailable(
    deployment: FunctionHarness, stored: tuple[str, str], delivery_queue: QueueReader
) -> None:
    """The key was read before. The rate limiter fails, too, and does not prevent the request."""
    before = list_all(deployment)
    events: Any = aws.client("dynamodb").meta.events
    events.register("before-send.dynamodb", _throttled, unique_id="throttled")
    answers = {}
    for name, call in each_operation(deployment, *stored):
        response = call()
        answers[name] = (response.status, response.headers["retry-after"], response.body["error"])
    events.unregister("before-send.dynamodb", unique_id="throttled")
    message = "The service is temporarily unavailable; try again shortly"
    assert answers == dict.fromkeys(answers, (503, "2", {"code": "INTERNAL_ERROR", "message": message}))
    assert len(answers) == 10
    assert list_all(deployment) == before
    assert delivery_queue.take() == []


class _Body:
    """Body of a response of DynamoDB."""

    def stream(self) -> Iterator[bytes]:
        """Return an error that botocore does not retry."""
        yield b'{"__type": "com.amazonaws.dynamodb.v20120810#RequestTimeout", "message": "Too slow"}'


def _throttled(**_request: Any) -> AWSResponse:
    headers: Any = {"content-type": "application/x-amz-json-1.0"}
    return AWSResponse("http://dynamodb", 400, headers, _Body())


# --- Concurrency ------------------------------------------------------------------------------------------------------


def test_concurrent_creations_end_with_sixteen_endpoints(deployment: FunctionHarness) -> None:
    """Eight threads create three endpoints each."""
    list_all(deployment)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: deployment.authorized("POST", ENDPOINTS, {"url": URL}), range(24)))
    created = [response.body["id"] for response in responses if response.status == 200]
    messages = {response.body["error"]["message"] for response in responses if response.status == 400}
    assert sorted(response.status for response in responses) == [200] * 16 + [400] * 8
    assert messages == {"There are 16 webhook endpoints already. Delete one first."}
    assert {each["id"] for each in list_all(deployment)} == set(created)
    assert len(set(created)) == 16


def test_concurrent_changes_of_one_account_are_all_kept(deployment: FunctionHarness) -> None:
    """Each of eight endpoints is changed in another way at the same time."""
    endpoints = [create(deployment, f"{URL}/{number}") for number in range(8)]
    ids = [each["id"] for each in endpoints]
    changes = [
        lambda: send(deployment, "PATCH", ids[0], body={"description": "New"}),
        lambda: send(deployment, "PATCH", ids[1], body={"enabled": False}),
        lambda: send(deployment, "PATCH", ids[2], body={"events": ["invoice.paid"]}),
        lambda: send(deployment, "PATCH", ids[3], body={"url": URL}),
        lambda: send(deployment, "DELETE", ids[4]),
        lambda: send(deployment, "POST", ids[5], "/rotate-secret"),
        lambda: deployment.authorized("POST", ENDPOINTS, {"url": f"{URL}/new"}),
        lambda: send(deployment, "PATCH", ids[0], body={"events": ["subscription.created"]}),
    ]
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda change: change(), changes))
    assert [response.status for response in responses] == [200] * 8
    found = {each["url"]: each for each in list_all(deployment)}
    assert [*found] == [f"{URL}/0", f"{URL}/1", f"{URL}/2", URL, f"{URL}/5", f"{URL}/6", f"{URL}/7", f"{URL}/new"]
    assert (found[f"{URL}/0"]["description"], found[f"{URL}/0"]["events"]) == ("New", ["subscription.created"])
    assert found[f"{URL}/1"]["disabled_reason"] == "request"
    assert found[f"{URL}/2"]["events"] == ["invoice.paid"]
