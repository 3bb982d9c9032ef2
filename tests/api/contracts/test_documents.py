"""Each document's examples, whole: the same keys, nesting, types and nulls."""

import re
from typing import Any

import pytest

from tests.functions.events import subscription_event
from tests.functions.support import FunctionHarness as Deployment
from tests.functions.support import Response as Answer

pytestmark = pytest.mark.engine

PERIOD_END = "2030-01-01T00:00:00Z"
TEAM = "/api/v1/teams/{teamId}/billing"

STATUS = {
    "account": ("/v1/billing", {}),
    "teams": (f"{TEAM}/subscription", {"teamId": "acme"}),
    "organization": ("/api/billing/subscription", {}),
    "subscription": ("/subscription", {}),
}
PORTAL = {
    "account": ("/v1/billing/portal", {}),
    "teams": (f"{TEAM}/portal", {"teamId": "acme"}),
    "organization": ("/api/billing/portal", {}),
    "subscription": ("/subscription/portal", {}),
    "portal": ("/api/billing-portal", {}),
}

SUBSCRIBED: dict[str, Any] = {
    "account": {
        "plan": "pro",
        "status": "active",
        "current_period_end": PERIOD_END,
        "cancel_at_period_end": False,
    },
    "teams": {
        "success": True,
        "data": {
            "object": "subscription",
            "status": "active",
            "plan": "pro",
            "memberCount": 1,
            "currentPeriodEnd": PERIOD_END,
            "cancelAtPeriodEnd": False,
        },
    },
    "organization": {
        "success": True,
        "data": {
            "plan": "pro",
            "status": "active",
            "currentPeriodEnd": PERIOD_END,
            "cancelAtPeriodEnd": False,
        },
        "error": None,
    },
    "subscription": {
        "plan": "pro",
        "status": "active",
        "currentPeriodEnd": PERIOD_END,
        "cancelAtPeriodEnd": False,
    },
}

NEVER_SUBSCRIBED: dict[str, Any] = {
    "account": {"plan": "free", "status": None, "current_period_end": None, "cancel_at_period_end": None},
    "teams": {
        "success": True,
        "data": {
            "object": "subscription",
            "status": None,
            "plan": "free",
            "memberCount": 1,
            "currentPeriodEnd": None,
            "cancelAtPeriodEnd": None,
        },
    },
    "organization": {
        "success": True,
        "data": {"plan": "free", "status": None, "currentPeriodEnd": None, "cancelAtPeriodEnd": None},
        "error": None,
    },
}

REFERENCE = "https://www.cstar.help/developers/api-reference"
NO_HISTORY = "This account has no billing history: it never had a subscription"

UNAUTHENTICATED: dict[str, Any] = {
    "account": {"error": {"code": "UNAUTHORIZED", "message": "Missing, invalid or expired credential"}},
    "teams": {
        "success": False,
        "error": {
            "type": "authentication_error",
            "code": "authentication_required",
            "message": "Invalid or expired API key",
            "doc_url": f"{REFERENCE}#authentication",
            "request_id": "request-1",
        },
        "meta": {"timestamp": "TIME"},
    },
    "organization": {
        "success": False,
        "data": None,
        "error": {"code": "UNAUTHORIZED", "message": "Authentication required"},
    },
    "subscription": {"error": {"code": "unauthorized", "message": "Missing, invalid or expired credential"}},
    "portal": {
        "error": {
            "code": "UNAUTHORIZED",
            "message": "Invalid or expired token",
            "docUrl": "https://orbitkit.io/api/errors/#unauthorized",
        }
    },
}

NO_PORTAL: dict[str, tuple[int, Any]] = {
    "account": (400, {"error": {"code": "NO_STRIPE_CUSTOMER", "message": NO_HISTORY}}),
    "teams": (
        404,
        {
            "success": False,
            "error": {
                "type": "invalid_request_error",
                "code": "resource_not_found",
                "message": NO_HISTORY,
                "doc_url": f"{REFERENCE}#errors",
                "request_id": "request-1",
            },
            "meta": {"timestamp": "TIME"},
        },
    ),
    "organization": (
        404,
        {"success": False, "data": None, "error": {"code": "NOT_FOUND", "message": NO_HISTORY}},
    ),
    "subscription": (404, {"error": {"code": "no_subscription", "message": NO_HISTORY}}),
    "portal": (404, {"error": {"code": "NOT_FOUND", "message": "No billing account found"}}),
}


def timeless(body: Any) -> Any:
    """The body with the time of the answer, which must be one, replaced by a word."""
    if isinstance(body, dict) and "meta" in body:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["meta"]["timestamp"])
        return body | {"meta": {"timestamp": "TIME"}}
    return body


def ask(deployment: Deployment, method: str, place: tuple[str, dict[str, str]]) -> Answer:
    """A request with acme's key."""
    path, parameters = place
    return deployment.authorized(method, path.format(**parameters), route=f"{method} {path}", parameters=parameters)


@pytest.mark.parametrize("contract", SUBSCRIBED)
def test_a_subscription_shows_as_the_document_has_it(deployment: Deployment, contract: str) -> None:
    """From one event, in each contract's own shape."""
    deployment.deliver(subscription_event())
    answer = ask(deployment, "GET", STATUS[contract])
    assert (answer.status, answer.body) == (200, SUBSCRIBED[contract])


@pytest.mark.parametrize("contract", NEVER_SUBSCRIBED)
def test_an_account_that_never_subscribed_shows_nulls(deployment: Deployment, contract: str) -> None:
    """Free, in the same keys."""
    answer = ask(deployment, "GET", STATUS[contract])
    assert (answer.status, answer.body) == (200, NEVER_SUBSCRIBED[contract])


def test_the_subscription_contract_has_nothing_to_show_then(deployment: Deployment) -> None:
    """Its document has a code for it."""
    answer = ask(deployment, "GET", STATUS["subscription"])
    assert (answer.status, answer.body) == (404, {"error": {"code": "no_subscription", "message": NO_HISTORY}})


@pytest.mark.parametrize("contract", UNAUTHENTICATED)
def test_a_missing_credential_is_told_as_the_document_has_it(deployment: Deployment, contract: str) -> None:
    """401 in the contract's envelope."""
    path, parameters = PORTAL[contract]
    answer = deployment.call("POST", path.format(**parameters), route=f"POST {path}", parameters=parameters)
    assert (answer.status, timeless(answer.body)) == (401, UNAUTHENTICATED[contract])


@pytest.mark.parametrize("contract", NO_PORTAL)
def test_a_portal_without_history_is_refused_as_the_document_has_it(deployment: Deployment, contract: str) -> None:
    """Status, code and words."""
    answer = ask(deployment, "POST", PORTAL[contract])
    assert (answer.status, timeless(answer.body)) == NO_PORTAL[contract]


def test_another_teams_path_is_forbidden(deployment: Deployment) -> None:
    """Whether that team exists is not told."""
    for team in ("globex", "nobody"):
        answer = ask(deployment, "GET", (f"{TEAM}/subscription", {"teamId": team}))
        assert (answer.status, timeless(answer.body)) == (
            403,
            {
                "success": False,
                "error": {
                    "type": "authorization_error",
                    "code": "insufficient_permissions",
                    "message": "The credential does not give access to this account",
                    "doc_url": f"{REFERENCE}#authentication",
                    "request_id": "request-1",
                },
                "meta": {"timestamp": "TIME"},
            },
        )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/billing/nothing", ("error", "code", "NOT_FOUND")),
        ("/api/v1/teams/acme/billing/nothing", ("error", "code", "resource_not_found")),
        ("/api/billing/nothing", ("error", "code", "NOT_FOUND")),
        ("/subscription/nothing", ("error", "code", "not_found")),
        ("/api/billing-portal/nothing", ("error", "docUrl", "https://orbitkit.io/api/errors/#not_found")),
        ("/subscriptions", ("error", "code", "NOT_FOUND")),
    ],
)
def test_an_unknown_path_answers_in_the_envelope_of_its_base_path(
    deployment: Deployment, path: str, code: tuple[str, str, str]
) -> None:
    """And in the native one where no contract has it."""
    answer = deployment.call("GET", path, route="$default")
    assert answer.status == 404
    assert answer.body[code[0]][code[1]] == code[2]
