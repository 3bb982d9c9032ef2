"""GET /v1/billing with its whole body."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.functions.events import subscription_event
from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine

FREE = {"plan": "free", "status": None, "current_period_end": None, "cancel_at_period_end": None}


def test_status_without_subscription_is_free_with_nulls(deployment: FunctionHarness) -> None:
    response = deployment.authorized("GET", "/v1/billing")
    assert (response.status, response.body) == (200, FREE)
    assert response.headers["content-type"] == "application/json"


# Changes of the subscription, and the expected plan, status and `cancel_at_period_end`.
SUBSCRIPTIONS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    "active": ({}, "pro", "active", False),
    "cancel_at_period_end": ({"cancel_at_period_end": True}, "pro", "active", True),
    "cancel_at": ({"cancel_at": 1_893_456_000}, "pro", "active", True),
    "trialing": ({"status": "trialing"}, "pro", "trialing", False),
    "past_due": ({"status": "past_due"}, "pro", "past_due", False),
    "unpaid": ({"status": "unpaid"}, "free", "unpaid", False),
    "paused": ({"status": "paused"}, "free", "paused", False),
    "incomplete": ({"status": "incomplete"}, "free", "incomplete", False),
    "canceled": ({"status": "canceled"}, "free", "canceled", False),
    "unknown status": ({"status": "unheard_of"}, "free", "unheard_of", False),
}


@pytest.mark.parametrize("name", SUBSCRIPTIONS)
def test_status_returns_the_plan_for_each_subscription_status(deployment: FunctionHarness, name: str) -> None:
    changes, plan, status, cancel_at_period_end = SUBSCRIPTIONS[name]
    assert deployment.deliver(subscription_event(**changes)).body == {"received": True, "outcome": "applied"}
    assert deployment.authorized("GET", "/v1/billing").body == {
        "plan": plan,
        "status": status,
        "current_period_end": "2030-01-01T00:00:00Z",
        "cancel_at_period_end": cancel_at_period_end,
    }


def test_status_past_due_without_grace_period_is_free(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAST_DUE_GRACE_DAYS", "0")
    deployment.deliver(subscription_event(status="past_due", created=datetime.now(UTC) - timedelta(seconds=60)))
    body = deployment.authorized("GET", "/v1/billing").body
    assert (body["plan"], body["status"]) == ("free", "past_due")


def test_status_with_several_subscriptions_shows_the_highest_plan(deployment: FunctionHarness) -> None:
    """All subscriptions are stored. An ended one does not hide another."""
    deployment.deliver(subscription_event("sub_a", lookup_key="pro_monthly"))
    deployment.deliver(subscription_event("sub_b", lookup_key="team_monthly"))
    deployment.deliver(subscription_event("sub_c", status="canceled", lookup_key="team_monthly"))
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "team"


INVALID_CREDENTIALS = {
    "no header": None,
    "empty header": "",
    "scheme only": "Bearer",
    "empty credential": "Bearer ",
    "Basic scheme": "Basic c2tfdGVzdDo=",
    "key without scheme": "sk_test_" + "a" * 32,
    "unknown secret key": "Bearer sk_test_" + "a" * 32,
    "short key": "Bearer sk_test_short",
    "unknown publishable key": "Bearer pk_test_" + "a" * 32,
    "long key": "Bearer sk_test_" + "a" * 10_000,
    "not ASCII": "Bearer sk_test_" + "ä" * 32,
    "two words": "Bearer sk_test_" + "a" * 32 + " more",
    "table key": "Bearer KEY#1",
}


@pytest.mark.parametrize("name", INVALID_CREDENTIALS)
def test_status_with_an_invalid_credential_returns_401(deployment: FunctionHarness, name: str) -> None:
    """The response is the same for missing, malformed and unknown credentials."""
    authorization = INVALID_CREDENTIALS[name]
    headers = {} if authorization is None else {"Authorization": authorization}
    response = deployment.call("GET", "/v1/billing", headers=headers)
    assert response.status == 401
    assert response.body == {"error": {"code": "UNAUTHORIZED", "message": "Missing, invalid or expired credential"}}
    assert response.headers["www-authenticate"] == "Bearer"


def test_status_with_a_revoked_key_returns_401(deployment: FunctionHarness) -> None:
    deployment.repository.revoke_key("acme", "key_1", datetime.now(UTC))
    assert deployment.authorized("GET", "/v1/billing").status == 401


def test_log_does_not_contain_the_key(deployment: FunctionHarness, printed: Callable[[], str]) -> None:
    deployment.authorized("GET", "/v1/billing")
    unknown = "sk_test_" + "b" * 32
    deployment.call("GET", "/v1/billing", headers={"Authorization": f"Bearer {unknown}"})
    log = printed()
    assert "request-1" in log
    assert deployment.key not in log
    assert unknown not in log
