"""Response bodies of the contracts' documents, and the routes that return them."""

import re
from typing import Any

from tests.functions.support import FunctionHarness, Response

PERIOD_END = "2030-01-01T00:00:00Z"
TEAM = "/api/v1/teams/{teamId}/billing"

SUBSCRIPTION = {
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
NO_HISTORY = "This account has no billing history: it has no subscription here"

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


def without_timestamp(body: Any) -> Any:
    """Return the body with "TIME" in place of the timestamp, which must be ISO 8601 in UTC."""
    if isinstance(body, dict) and "meta" in body:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["meta"]["timestamp"])
        return body | {"meta": {"timestamp": "TIME"}}
    return body


def send_request(deployment: FunctionHarness, method: str, route: tuple[str, dict[str, str]]) -> Response:
    """Send a request with acme's secret key. `route` is a path and its parameters."""
    path, parameters = route
    return deployment.authorized(method, path.format(**parameters), route=f"{method} {path}", parameters=parameters)
