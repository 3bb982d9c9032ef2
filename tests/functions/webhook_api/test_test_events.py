"""Test events: one signed request to an endpoint on this machine, and what came back."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from billing.bootstrap import app
from local.ports import free_port
from tests.functions.support import FunctionHarness, items_with_prefix
from tests.functions.webhook_api.support import TIME, answer, create, invalid, send
from tests.wire import Answer, Wire

pytestmark = pytest.mark.engine


def send_test(deployment: FunctionHarness, endpoint_id: str, **request: Any) -> tuple[int, Any]:
    """Send a test event. Returns status and body, with a latency of 0."""
    response = send(deployment, "POST", endpoint_id, "/test", **request)
    assert isinstance(response.body["latency_ms"], int)
    assert 0 <= response.body["latency_ms"] < 10_000
    return response.status, response.body | {"latency_ms": 0}


def result(**changes: Any) -> tuple[int, Any]:
    """Return status and body of the response after a test event that was delivered."""
    delivered = {
        "delivered": True,
        "status_code": 200,
        "latency_ms": 0,
        "error": None,
        "error_message": None,
        "response_body": "{}",
    }
    return 200, delivered | changes


def test_test_event_is_signed_and_about_the_endpoint(deployment: FunctionHarness, wire: Wire) -> None:
    url = f"{wire.url}/hooks?key=1"
    created = create(deployment, url, events=["invoice.paid"])
    assert send_test(deployment, created["id"]) == result()
    request = wire.only
    event = Webhook(created["secret"]).verify(request.body, dict(request.headers))
    assert (request.method, request.path, request.headers["content-type"]) == ("POST", "/hooks", "application/json")
    assert TIME.fullmatch(event["timestamp"])
    assert event == {
        "id": request.headers["webhook-id"],
        "type": "webhook_endpoint.test",
        "timestamp": event["timestamp"],
        "api_version": "v1",
        "account_id": "acme",
        "sequence": 1,
        "data": {"object": {"id": created["id"], "url": url}, "previous": None},
    }


def test_test_event_after_rotations_is_signed_with_all_valid_secrets(deployment: FunctionHarness, wire: Wire) -> None:
    """If the response to a rotation is lost, the receiver still has the secret before it."""
    created = create(deployment, wire.url)
    secrets = [created["secret"]] + [
        send(deployment, "POST", created["id"], "/rotate-secret").body["secret"] for _ in range(2)
    ]
    send_test(deployment, created["id"])
    assert [is_signed_with(secret, wire) for secret in secrets] == [True, True, True]


def is_signed_with(secret: str, wire: Wire) -> bool:
    """Return True if a receiver with this secret accepts the request."""
    try:
        Webhook(secret).verify(wire.only.body, dict(wire.only.headers))
    except WebhookVerificationError:
        return False
    return True


RESPONSES: dict[str, tuple[Answer, dict[str, Any]]] = {
    "no content": (Answer(204, b""), {"status_code": 204, "response_body": None}),
    "error": (
        Answer(500, b"no \xe2\x82\xac"),
        {"delivered": False, "status_code": 500, "response_body": "no €"},
    ),
    "redirect": (
        Answer(302, b"", {"location": "http://127.0.0.1:9/"}),
        {"delivered": False, "status_code": 302, "response_body": None},
    ),
    "gone": (Answer(410, b"gone"), {"delivered": False, "status_code": 410, "response_body": "gone"}),
    "long body": (Answer(200, b"a" * 10_000), {"response_body": "a" * 4096}),
    "closed connection": (
        Answer(cut=True),
        {
            "delivered": False,
            "status_code": None,
            "error": "connection_closed",
            "error_message": "The endpoint closed the connection before its response",
            "response_body": None,
        },
    ),
    "no response": (
        Answer(silent=True),
        {
            "delivered": False,
            "status_code": None,
            "error": "timeout",
            "error_message": "The endpoint did not respond within the time limit",
            "response_body": None,
        },
    ),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_response_or_error_of_the_endpoint_is_returned(
    deployment: FunctionHarness, wire: Wire, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The endpoint stays enabled, also after a response of 410: a test has no effect."""
    monkeypatch.setattr("billing.services.webhook_endpoints.TEST_TIMEOUT_SECONDS", 0.5)
    sent, changes = RESPONSES[name]
    wire.answer(sent)
    endpoint_id = create(deployment, wire.url)["id"]
    before = send(deployment, "GET", endpoint_id).body
    assert send_test(deployment, endpoint_id) == result(**changes)
    assert len(wire.requests) == 1
    assert send(deployment, "GET", endpoint_id).body == before
    assert send(deployment, "GET", endpoint_id, "/deliveries").body == {"deliveries": [], "next_cursor": None}
    assert items_with_prefix(deployment, "HOOK#") == []


def test_endpoint_that_does_not_listen_returns_the_error(deployment: FunctionHarness) -> None:
    endpoint_id = create(deployment, f"http://127.0.0.1:{free_port()}/")["id"]
    assert send_test(deployment, endpoint_id) == result(
        delivered=False,
        status_code=None,
        error="connection_refused",
        error_message="The endpoint refused the connection",
        response_body=None,
    )


def test_endpoint_whose_address_is_no_longer_permitted_receives_nothing(
    deployment: FunctionHarness, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses are checked again when a request is sent."""
    endpoint_id = create(deployment, wire.url)["id"]
    monkeypatch.setenv("ALLOW_LOOPBACK_WEBHOOKS", "false")
    app.reset()
    assert send_test(deployment, endpoint_id) == result(
        delivered=False,
        status_code=None,
        error="address_refused",
        error_message="The URL must use https",
        response_body=None,
    )
    assert wire.requests == []


def test_disabled_endpoint_receives_a_test_event(deployment: FunctionHarness, wire: Wire) -> None:
    endpoint_id = create(deployment, wire.url)["id"]
    send(deployment, "PATCH", endpoint_id, body={"enabled": False})
    assert send_test(deployment, endpoint_id) == result()
    assert len(wire.requests) == 1


def test_repeated_idempotency_key_sends_one_test_event(deployment: FunctionHarness, wire: Wire) -> None:
    endpoint_id = create(deployment, wire.url)["id"]
    headers = {"Idempotency-Key": "k1"}
    first, again = (send(deployment, "POST", endpoint_id, "/test", more_headers=headers) for _ in range(2))
    assert answer(first) == answer(again)
    assert (again.headers["idempotent-replayed"], len(wire.requests)) == ("true", 1)
    assert send_test(deployment, endpoint_id) == result()
    assert len({each.headers["webhook-id"] for each in wire.requests}) == 2


def test_test_event_with_a_field_returns_400(deployment: FunctionHarness, wire: Wire) -> None:
    endpoint_id = create(deployment, wire.url)["id"]
    response = send(deployment, "POST", endpoint_id, "/test", {"type": "invoice.paid"})
    assert answer(response) == invalid(("type", "is not a known field"))
    assert wire.requests == []


def test_log_of_a_test_event_contains_no_signature_or_body(
    deployment: FunctionHarness, wire: Wire, printed: Callable[[], str]
) -> None:
    wire.answer(Answer(200, b"answer of the endpoint"))
    created = create(deployment, wire.url)
    send_test(deployment, created["id"])
    log = printed()
    assert json.loads(log.splitlines()[-1])["status"] == 200
    assert "answer of the endpoint" not in log
    assert wire.only.headers["webhook-signature"] not in log
    assert created["secret"] not in log
