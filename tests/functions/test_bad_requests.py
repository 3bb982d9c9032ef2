"""Rejected requests: status, error code, and the path of each problem."""

import base64
import json
from typing import Any

import pytest

from tests.functions.support import FunctionHarness, api_gateway_event, load_handler

pytestmark = pytest.mark.engine

CHECKOUT, PORTAL = "/v1/billing/checkout", "/v1/billing/portal"
ENDPOINTS = "/v1/billing/webhook-endpoints"

# Body of the checkout request, and the expected problems as (path, message).
INVALID_BODIES: dict[str, tuple[object, list[tuple[str, str]]]] = {
    "no tier": ({}, [("tier", "is required")]),
    "tier is null": ({"tier": None}, [("tier", "is required")]),
    "tier is a number": ({"tier": 1}, [("tier", "Input should be a valid string")]),
    "tier is empty": ({"tier": ""}, [("tier", "String should have at least 1 character")]),
    "tier is a list": ({"tier": ["pro"]}, [("tier", "Input should be a valid string")]),
    "unknown tier": ({"tier": "gold"}, [("tier", "must be one of: pro, team")]),
    "free tier": ({"tier": "free"}, [("tier", "must be one of: pro, team")]),
    "tier sold by agreement": (
        {"tier": "enterprise"},
        [("tier", "Enterprise is sold by agreement: write to sales@example.com")],
    ),
    "unknown field": ({"tier": "pro", "coupon": "x"}, [("coupon", "is not a known field")]),
    "name of an internal field": ({"tier": "pro", "account_id": "x"}, [("account_id", "is not a known field")]),
    "two problems": (
        {"tier": 1, "quantity": 0},
        [
            ("tier", "Input should be a valid string"),
            ("quantity", "Input should be greater than or equal to 1"),
        ],
    ),
    "quantity is text": ({"tier": "team", "quantity": "2"}, [("quantity", "Input should be a valid integer")]),
    "quantity is a float": (
        {"tier": "team", "quantity": 1.5},
        [("quantity", "Input should be a valid integer")],
    ),
    "quantity is true": ({"tier": "team", "quantity": True}, [("quantity", "Input should be a valid integer")]),
    "quantity too large": (
        {"tier": "team", "quantity": 1_000_000},
        [("quantity", "Input should be less than or equal to 999999")],
    ),
    "quantity without a price per seat": (
        {"tier": "pro", "quantity": 2},
        [("quantity", "must be 1: Pro is not priced per seat")],
    ),
    "foreign success_url": (
        {"tier": "pro", "success_url": "https://evil.example/"},
        [("success_url", "must be on an allowed origin: http://localhost:3000, https://app.example.com")],
    ),
    "foreign cancel_url": (
        {"tier": "pro", "cancel_url": "//evil.example/"},
        [("cancel_url", "must be on an allowed origin: http://localhost:3000, https://app.example.com")],
    ),
}


@pytest.mark.parametrize("name", INVALID_BODIES)
def test_checkout_invalid_body_returns_each_problem_with_its_path(deployment: FunctionHarness, name: str) -> None:
    body, problems = INVALID_BODIES[name]
    response = deployment.authorized("POST", CHECKOUT, body)
    message = "; ".join(f"{path}: {problem}" for path, problem in problems)
    details = [{"path": path, "message": problem} for path, problem in problems]
    assert response.status == 400
    assert response.body == {"error": {"code": "VALIDATION_FAILED", "message": message, "details": details}}


UNREADABLE_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "not JSON": ({"body": "{'tier': 'pro'}"}, "The body is not valid JSON: "),
    "repeated field": ({"body": '{"tier": "team", "tier": "pro"}'}, "The body has a field twice in one object"),
    "truncated": ({"body": '{"tier": "pro"'}, "The body is not valid JSON: "),
    "NaN": ({"body": '{"tier": NaN}'}, "The body is not valid JSON in UTF-8"),
    "list": ({"body": "[]"}, "The body must be a JSON object"),
    "string": ({"body": '"pro"'}, "The body must be a JSON object"),
    "nested too deeply": ({"body": "[" * 100_000}, "The body is not valid JSON"),
    "not UTF-8": (
        {"body": base64.b64encode(b'{"tier": "\xff"}').decode(), "is_base64": True},
        "The body is not valid JSON in UTF-8",
    ),
    "not base64": ({"body": "*", "is_base64": True}, "The body is not valid base64"),
    "over 256 KB": ({"body": json.dumps({"tier": "p" * 262_144})}, "The body has more than 262144 bytes"),
    "form content type": (
        {"content_type": "application/x-www-form-urlencoded"},
        "The Content-Type header must be application/json",
    ),
    "no content type": ({"content_type": ""}, "The Content-Type header must be application/json"),
}


@pytest.mark.parametrize("name", UNREADABLE_BODIES)
def test_checkout_unreadable_body_returns_one_problem(deployment: FunctionHarness, name: str) -> None:
    sent, message = UNREADABLE_BODIES[name]
    request = {"body": '{"tier": "pro"}', "content_type": "application/json"} | sent
    headers = {"Authorization": f"Bearer {deployment.key}", "Content-Type": request.pop("content_type")}
    response = deployment.call("POST", CHECKOUT, headers=headers, **request)
    assert response.status == 400
    assert response.body["error"]["code"] == "VALIDATION_FAILED"
    assert response.body["error"]["message"].startswith(message)


def test_portal_without_stripe_customer_returns_400(deployment: FunctionHarness) -> None:
    expected = {
        "error": {
            "code": "NO_STRIPE_CUSTOMER",
            "message": "This account has no billing history: it has no subscription here",
        }
    }
    for body in (None, {}, {"return_url": "/account"}):
        response = deployment.authorized("POST", PORTAL, body)
        assert (response.status, response.body) == (400, expected)


def test_portal_foreign_return_url_returns_validation_error(deployment: FunctionHarness) -> None:
    """The return URL is checked before the Stripe customer."""
    response = deployment.authorized("POST", PORTAL, {"return_url": "https://evil.example"})
    assert [detail["path"] for detail in response.body["error"]["details"]] == ["return_url"]


@pytest.mark.parametrize(("method", "path"), [("POST", CHECKOUT), ("POST", PORTAL)])
def test_malformed_body_without_credential_returns_401(deployment: FunctionHarness, method: str, path: str) -> None:
    assert deployment.call(method, path, body="{").status == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/billing", "GET"),
        ("HEAD", "/v1/billing", "GET"),
        ("GET", CHECKOUT, "POST"),
        ("PUT", "/v1/billing/webhooks", "POST"),
        ("PATCH", "/v1/billing", "GET"),
        ("DELETE", ENDPOINTS, "POST, GET"),
        ("PUT", f"{ENDPOINTS}/whe_1", "GET, PATCH, DELETE"),
        ("POST", f"{ENDPOINTS}/whe_1", "GET, PATCH, DELETE"),
        ("GET", f"{ENDPOINTS}/whe_1/rotate-secret", "POST"),
        ("GET", f"{ENDPOINTS}/whe_1/test", "POST"),
        ("DELETE", f"{ENDPOINTS}/whe_1/deliveries", "GET"),
        ("PATCH", f"{ENDPOINTS}/whe_1/replay", "POST"),
        ("GET", "/v1/billing/deliveries/dlv_1_2/redeliver", "POST"),
    ],
)
def test_known_path_with_wrong_method_returns_405_with_allow_header(
    deployment: FunctionHarness, method: str, path: str, allowed: str
) -> None:
    response = deployment.call(method, path, route="$default")
    message = f"{method} is not allowed here; allowed: {allowed}"
    assert (response.status, response.headers["allow"]) == (405, allowed)
    assert response.body == {"error": {"code": "VALIDATION_FAILED", "message": message}}


@pytest.mark.parametrize("path", ["/v1/billing", CHECKOUT, PORTAL, ENDPOINTS, f"{ENDPOINTS}/whe_1"])
@pytest.mark.usefixtures("deployment")
def test_preflight_request_returns_204(path: str) -> None:
    """API Gateway adds the allowed origins to a preflight that reaches `$default`."""
    event = api_gateway_event("OPTIONS", path, route="$default")
    response = load_handler("unknown_route")(event, None)
    assert (response["statusCode"], response["body"]) == (204, "")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/billing/",
        "/v1/billing/nothing",
        "/v1/billings",
        "/v1/billing/%2e%2e",
        f"{ENDPOINTS}/",
        f"{ENDPOINTS}/whe_1/",
        f"{ENDPOINTS}/whe_1/nothing",
        f"{ENDPOINTS}//test",
        "/v1/billing/deliveries",
        "/v1/billing/deliveries/dlv_1_2",
    ],
)
def test_unknown_path_returns_404(deployment: FunctionHarness, path: str) -> None:
    response = deployment.call("GET", path, route="$default")
    assert response.status == 404
    assert response.body == {"error": {"code": "NOT_FOUND", "message": f"There is nothing at {path}"}}
