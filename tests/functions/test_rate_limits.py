"""Limits as callers meet them: in each contract's body, with headers, and never in the way of who may pay."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

import billing.adapters.aws
from tests.api.contracts.test_documents import PORTAL, REFERENCE, ask, timeless
from tests.functions.conftest import Deployment

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
def test_the_limit_is_told_in_each_contract(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, contract: str
) -> None:
    """The body of the document with the real number of seconds, and the same number in the headers."""
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "1")
    ask(deployment, "POST", PORTAL[contract])
    answer = ask(deployment, "POST", PORTAL[contract])
    seconds = int(answer.headers["retry-after"])
    body = timeless(answer.body)
    assert 1 <= seconds <= 3600
    assert body["error"].pop("message") == f"Rate limit exceeded. Try again in {seconds} seconds"
    assert (answer.status, body) == (429, without_message(BODIES[contract]))
    told = {name: value for name, value in answer.headers.items() if name.startswith("ratelimit")}
    assert told == {"ratelimit-limit": "1", "ratelimit-remaining": "0", "ratelimit-reset": str(seconds)}


def without_message(body: Any) -> Any:
    """The body less what is compared on its own."""
    return body | {"error": {name: value for name, value in body["error"].items() if name != "message"}}


def test_all_contracts_share_one_count(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing the contract gives nobody more requests."""
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "3")
    assert [ask(deployment, "POST", place).status for place in PORTAL.values()] == [400, 404, 404, 429, 429]


def test_what_is_left_is_in_the_headers(deployment: Deployment) -> None:
    """Of every answer that was counted, refusals too."""
    found = [deployment.authorized("GET", "/v1/billing"), deployment.authorized("POST", "/v1/billing/checkout", {})]
    assert [answer.headers["ratelimit-remaining"] for answer in found] == ["99", "98"]
    assert [answer.headers["ratelimit-limit"] for answer in found] == ["100", "100"]
    assert all(1 <= int(answer.headers["ratelimit-reset"]) <= 60 for answer in found)


def test_who_is_refused_is_not_counted(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without a credential takes from nobody's limit, and is told nothing of it."""
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "1")
    for _ in range(3):
        assert "ratelimit-limit" not in deployment.call("GET", "/v1/billing").headers
    assert deployment.authorized("GET", "/v1/billing").status == 200


def test_a_limiter_that_fails_lets_through(deployment: Deployment, printed: Callable[[], str]) -> None:
    """DynamoDB refuses to count: the request is answered all the same, and the failure is counted."""
    on_update(fail)
    answer = deployment.authorized("GET", "/v1/billing")
    assert answer.status == 200
    assert "ratelimit-limit" not in answer.headers
    assert '"RateLimiterUnavailable":[1.0]' in printed()


def test_a_limiter_that_is_slow_lets_through(
    deployment: Deployment, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits longer for a count than for the answer itself."""
    released = threading.Event()
    monkeypatch.setattr("billing.api.operation.RATE_LIMIT_SECONDS_MAX", 0.05)
    on_update(lambda: released.wait(10))
    try:
        assert deployment.authorized("GET", "/v1/billing").status == 200
    finally:
        released.set()
    assert '"RateLimiterUnavailable":[1.0]' in printed()


def test_the_account_is_read_while_the_request_is_counted(deployment: Deployment) -> None:
    """A warm status is one call to DynamoDB in sequence: the count and the query are under way at the same time."""
    deployment.authorized("GET", "/v1/billing")
    together = threading.Barrier(2, timeout=10)
    for name in ("UpdateItem", "Query"):
        on_request(name, together.wait)
    assert deployment.authorized("GET", "/v1/billing").status == 200
    assert not together.broken


def on_update(act: Callable[[], object]) -> None:
    """Do something before each count goes out."""
    on_request("UpdateItem", act)


def on_request(operation: str, act: Callable[[], object]) -> None:
    """Do something before each such request of the functions' client goes out."""

    def before_send(**_: object) -> None:
        act()

    billing.adapters.aws.client("dynamodb").meta.events.register(f"before-send.dynamodb.{operation}", before_send)


def fail() -> None:
    """What a broken network does."""
    raise ConnectionError
