"""Rate limits as callers see them: error bodies, headers, and requests that are let through if counting fails."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import billing.adapters.aws
from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from tests.api.contracts.examples import PORTAL, REFERENCE, send_request, without_timestamp
from tests.api.contracts.test_bad_requests import ISSUER, SHARED_SECRET, token
from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine

BODIES: dict[str, Any] = {
    "account": {"error": {"code": "RATE_LIMITED", "message": "MESSAGE"}},
    "teams": {
        "success": False,
        "error": {
            "type": "rate_limit_error",
            "code": "rate_limit_exceeded",
            "message": "MESSAGE",
            "doc_url": f"{REFERENCE}#rate-limiting",
            "request_id": "request-1",
        },
        "meta": {"timestamp": "TIME"},
    },
    "organization": {"success": False, "data": None, "error": {"code": "RATE_LIMITED", "message": "MESSAGE"}},
    "subscription": {"error": {"code": "rate_limited", "message": "MESSAGE"}},
    "portal": {
        "error": {
            "code": "RATE_LIMITED",
            "message": "MESSAGE",
            "docUrl": "https://orbitkit.io/api/errors/#rate_limited",
        }
    },
}


@pytest.mark.parametrize("contract", BODIES)
def test_rate_limit_exceeded_returns_429_in_each_contract(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch, contract: str
) -> None:
    """The message and the headers have the same number of seconds."""
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "1")
    send_request(deployment, "POST", PORTAL[contract])
    response = send_request(deployment, "POST", PORTAL[contract])
    seconds = int(response.headers["retry-after"])
    body = without_timestamp(response.body)
    assert 1 <= seconds <= 3600
    assert body["error"].pop("message") == f"Rate limit exceeded. Try again in {seconds} seconds"
    assert (response.status, body) == (429, without_message(BODIES[contract]))
    limit_headers = {name: value for name, value in response.headers.items() if name.startswith("ratelimit")}
    assert limit_headers == {"ratelimit-limit": "1", "ratelimit-remaining": "0", "ratelimit-reset": str(seconds)}


def without_message(body: Any) -> Any:
    """Return the body without the message, which is compared separately."""
    return body | {"error": {name: value for name, value in body["error"].items() if name != "message"}}


def test_rate_limit_is_shared_by_all_contracts(deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "3")
    assert [send_request(deployment, "POST", path).status for path in PORTAL.values()] == [400, 404, 404, 429, 429]


def test_users_of_an_account_do_not_use_up_the_limit_of_its_servers(
    deployment: FunctionHarness,
    monkeypatch: pytest.MonkeyPatch,
    stripe_secret_id: Callable[[dict[str, Any]], str],
) -> None:
    """Header and message are those of the caller's own limit."""
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "2")
    monkeypatch.setenv("SESSION_ISSUER", ISSUER)
    monkeypatch.setenv("SESSION_AUDIENCE", "billing")
    monkeypatch.setenv("SESSION_SECRET_ID", stripe_secret_id({"shared_secrets": [SHARED_SECRET]}))
    users = [{"Authorization": f"Bearer {token({'sub': f'user_{number}'})}"} for number in range(3)]
    responses = [deployment.call("GET", "/v1/billing", headers=headers) for headers in users]
    assert [response.status for response in responses] == [200, 200, 429]
    assert [response.headers["ratelimit-remaining"] for response in responses] == ["1", "0", "0"]
    by_key = deployment.authorized("GET", "/v1/billing")
    assert (by_key.status, by_key.headers["ratelimit-limit"], by_key.headers["ratelimit-remaining"]) == (200, "2", "1")


def test_clients_of_a_publishable_key_do_not_use_up_the_limit_of_others(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "1")
    key = new_key(KeyKind.PUBLISHABLE, livemode=False)
    record = KeyRecord("key_2", "acme", "publishable", datetime.now(UTC), key[-4:])
    deployment.repository.create_key(digest_of(key), record)
    headers = {"Authorization": f"Bearer {key}"}
    addresses = ("192.0.2.1", "192.0.2.1", "192.0.2.2")
    responses = [
        deployment.call("GET", "/v1/billing/plans", headers=headers, source_ip=address) for address in addresses
    ]
    assert [response.status for response in responses] == [200, 429, 200]


def test_rate_limit_headers_are_in_every_counted_response(deployment: FunctionHarness) -> None:
    """Error responses count too."""
    responses = [deployment.authorized("GET", "/v1/billing"), deployment.authorized("POST", "/v1/billing/checkout", {})]
    assert [response.headers["ratelimit-remaining"] for response in responses] == ["99", "98"]
    assert [response.headers["ratelimit-limit"] for response in responses] == ["100", "100"]
    assert all(1 <= int(response.headers["ratelimit-reset"]) <= 60 for response in responses)


def test_unauthenticated_request_is_not_counted(deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "1")
    for _ in range(3):
        assert "ratelimit-limit" not in deployment.call("GET", "/v1/billing").headers
    assert deployment.authorized("GET", "/v1/billing").status == 200


def test_request_succeeds_if_the_rate_limiter_fails(deployment: FunctionHarness, printed: Callable[[], str]) -> None:
    before_update(raise_connection_error)
    response = deployment.authorized("GET", "/v1/billing")
    assert response.status == 200
    assert "ratelimit-limit" not in response.headers
    assert '"RateLimiterUnavailable":[1.0]' in printed()


def test_request_succeeds_if_the_rate_limiter_is_slow(
    deployment: FunctionHarness, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr("billing.api.pipeline.RATE_LIMIT_SECONDS_MAX", 0.05)
    before_update(lambda: released.wait(10))
    try:
        assert deployment.authorized("GET", "/v1/billing").status == 200
    finally:
        released.set()
    assert '"RateLimiterUnavailable":[1.0]' in printed()


def test_status_reads_the_account_while_the_request_is_counted(deployment: FunctionHarness) -> None:
    """A warm status costs one sequential round trip: UpdateItem and Query run at the same time."""
    deployment.authorized("GET", "/v1/billing")
    barrier = threading.Barrier(2, timeout=10)
    for name in ("UpdateItem", "Query"):
        before_request(name, barrier.wait)
    assert deployment.authorized("GET", "/v1/billing").status == 200
    assert not barrier.broken


def before_update(action: Callable[[], object]) -> None:
    """Call `action` before each UpdateItem of the functions."""
    before_request("UpdateItem", action)


def before_request(operation: str, action: Callable[[], object]) -> None:
    """Call `action` before each request of this operation by the functions."""

    def before_send(**_: object) -> None:
        action()

    billing.adapters.aws.client("dynamodb").meta.events.register(f"before-send.dynamodb.{operation}", before_send)


def raise_connection_error() -> None:
    """Fail as a broken network does."""
    raise ConnectionError
