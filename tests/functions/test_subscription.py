"""GET /v1/billing, with whole bodies as account.txt has them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.functions.conftest import Deployment
from tests.functions.events import subscription_event

pytestmark = pytest.mark.engine

FREE = {"plan": "free", "status": None, "current_period_end": None, "cancel_at_period_end": None}


def test_an_account_that_never_subscribed_is_on_free(deployment: Deployment) -> None:
    """All nulls, status 200."""
    answer = deployment.authorized("GET", "/v1/billing")
    assert (answer.status, answer.body) == (200, FREE)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"plan": "pro", "status": "active", "cancel_at_period_end": False}),
        ({"cancel_at_period_end": True}, {"plan": "pro", "status": "active", "cancel_at_period_end": True}),
        ({"cancel_at": 1_893_456_000}, {"plan": "pro", "status": "active", "cancel_at_period_end": True}),
        ({"status": "trialing"}, {"plan": "pro", "status": "trialing", "cancel_at_period_end": False}),
        ({"status": "past_due"}, {"plan": "pro", "status": "past_due", "cancel_at_period_end": False}),
        ({"status": "unpaid"}, {"plan": "free", "status": "unpaid", "cancel_at_period_end": False}),
        ({"status": "paused"}, {"plan": "free", "status": "paused", "cancel_at_period_end": False}),
        ({"status": "incomplete"}, {"plan": "free", "status": "incomplete", "cancel_at_period_end": False}),
        ({"status": "canceled"}, {"plan": "free", "status": "canceled", "cancel_at_period_end": False}),
        ({"status": "of_tomorrow"}, {"plan": "free", "status": "of_tomorrow", "cancel_at_period_end": False}),
    ],
)
def test_the_plan_follows_the_status(deployment: Deployment, changes: dict[str, Any], expected: object) -> None:
    """Each status gives the access of the table, and shows as Stripe has it."""
    assert deployment.deliver(subscription_event(**changes)).body == {"received": True, "outcome": "applied"}
    answer = deployment.authorized("GET", "/v1/billing")
    assert answer.body == expected | {"current_period_end": "2030-01-01T00:00:00Z"}  # type: ignore[operator]


def test_past_due_grants_for_the_grace_period_only(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a day of grace, past_due is on free at once; the status says why."""
    monkeypatch.setenv("PAST_DUE_GRACE_DAYS", "0")
    deployment.deliver(subscription_event(status="past_due", created=datetime.now(UTC) - timedelta(seconds=60)))
    body = deployment.authorized("GET", "/v1/billing").body
    assert (body["plan"], body["status"]) == ("free", "past_due")


def test_the_subscription_that_grants_the_most_is_shown(deployment: Deployment) -> None:
    """All subscriptions are kept; one that ended hides no other."""
    deployment.deliver(subscription_event("sub_a", lookup_key="pro_monthly"))
    deployment.deliver(subscription_event("sub_b", lookup_key="team_monthly"))
    deployment.deliver(subscription_event("sub_c", status="canceled", lookup_key="team_monthly"))
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "team"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic c2tfdGVzdDo=",
        "sk_test_" + "a" * 32,
        "Bearer sk_test_" + "a" * 32,
        "Bearer sk_test_short",
        "Bearer pk_test_" + "a" * 32,
        "Bearer sk_test_" + "a" * 10_000,
        "Bearer sk_test_" + "ä" * 32,
        "Bearer sk_test_" + "a" * 32 + " more",
        "Bearer KEY#1",
    ],
)
def test_without_a_credential_that_counts_nothing_is_told(deployment: Deployment, authorization: str | None) -> None:
    """Missing, malformed and unknown keys answer the same 401."""
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = deployment.call("GET", "/v1/billing", headers=headers)
    assert answer.status == 401
    assert answer.body == {"error": {"code": "UNAUTHORIZED", "message": "Missing, invalid or expired credential"}}
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_is_refused(deployment: Deployment) -> None:
    """Revoked reads as unknown."""
    deployment.repository.revoke_key("acme", "key_1", datetime.now(UTC))
    assert deployment.authorized("GET", "/v1/billing").status == 401


def test_a_key_is_never_logged(deployment: Deployment, printed: Callable[[], str]) -> None:
    """Neither where it is accepted nor where it is refused."""
    deployment.authorized("GET", "/v1/billing")
    unknown = "sk_test_" + "b" * 32
    deployment.call("GET", "/v1/billing", headers={"Authorization": f"Bearer {unknown}"})
    log = printed()
    assert "request-1" in log
    assert deployment.key not in log
    assert unknown not in log
