"""Every refused request says what is wrong and where, in the envelope, and reaches neither Stripe nor the table."""

import base64
import json
from typing import Any

import pytest

from tests.functions.conftest import Deployment, load_handler, payload

pytestmark = pytest.mark.engine

CHECKOUT, PORTAL = "/v1/billing/checkout", "/v1/billing/portal"

# What is sent to checkout, and the problems it is refused for.
BODIES: dict[str, tuple[object, list[tuple[str, str]]]] = {
    "no tier": ({}, [("tier", "is required")]),
    "tier is null": ({"tier": None}, [("tier", "is required")]),
    "tier is a number": ({"tier": 1}, [("tier", "Input should be a valid string")]),
    "tier is empty": ({"tier": ""}, [("tier", "String should have at least 1 character")]),
    "tier is a list": ({"tier": ["pro"]}, [("tier", "Input should be a valid string")]),
    "unknown tier": ({"tier": "gold"}, [("tier", "must be one of: pro, team")]),
    "free tier": ({"tier": "free"}, [("tier", "must be one of: pro, team")]),
    "a tier by agreement": (
        {"tier": "enterprise"},
        [("tier", "Enterprise is sold by agreement: write to sales@example.com")],
    ),
    "unknown field": ({"tier": "pro", "coupon": "x"}, [("coupon", "is not a known field")]),
    "the operation's own name": ({"tier": "pro", "account_id": "x"}, [("account_id", "is not a known field")]),
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
    "seats without a price per seat": (
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


@pytest.mark.parametrize("name", BODIES)
def test_each_problem_is_told_with_its_path(deployment: Deployment, name: str) -> None:
    """All of them at once, by the names the caller used."""
    body, problems = BODIES[name]
    answer = deployment.authorized("POST", CHECKOUT, body)
    message = "; ".join(f"{path}: {problem}" for path, problem in problems)
    details = [{"path": path, "message": problem} for path, problem in problems]
    assert answer.status == 400
    assert answer.body == {"error": {"code": "VALIDATION_FAILED", "message": message, "details": details}}


WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "not JSON": ({"body": "{'tier': 'pro'}"}, "The body is not valid JSON: "),
    "a field twice": ({"body": '{"tier": "team", "tier": "pro"}'}, "The body has a field twice in one object"),
    "truncated": ({"body": '{"tier": "pro"'}, "The body is not valid JSON: "),
    "NaN": ({"body": '{"tier": NaN}'}, "The body is not valid JSON in UTF-8"),
    "a list": ({"body": "[]"}, "The body must be a JSON object"),
    "text": ({"body": '"pro"'}, "The body must be a JSON object"),
    "too deep": ({"body": "[" * 100_000}, "The body is not valid JSON"),
    "no UTF-8": (
        {"body": base64.b64encode(b'{"tier": "\xff"}').decode(), "is_base64": True},
        "The body is not valid JSON in UTF-8",
    ),
    "not base64": ({"body": "*", "is_base64": True}, "The body is not valid base64"),
    "over 256 KB": ({"body": json.dumps({"tier": "p" * 262_144})}, "The body has more than 262144 bytes"),
    "form": ({"content_type": "application/x-www-form-urlencoded"}, "The Content-Type header must be application/json"),
    "no content type": ({"content_type": ""}, "The Content-Type header must be application/json"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_body_that_cannot_be_read_is_refused_as_a_whole(deployment: Deployment, name: str) -> None:
    """One problem, of the body itself."""
    sent, message = WHOLE[name]
    request = {"body": '{"tier": "pro"}', "content_type": "application/json"} | sent
    headers = {"Authorization": f"Bearer {deployment.key}", "Content-Type": request.pop("content_type")}
    answer = deployment.call("POST", CHECKOUT, headers=headers, **request)
    assert answer.status == 400
    assert answer.body["error"]["code"] == "VALIDATION_FAILED"
    assert answer.body["error"]["message"].startswith(message)


def test_the_portal_refuses_an_account_that_never_subscribed(deployment: Deployment) -> None:
    """400, with or without a body, as account.txt has it."""
    expected = {
        "error": {
            "code": "NO_STRIPE_CUSTOMER",
            "message": "This account has no billing history: it never had a subscription",
        }
    }
    for body in (None, {}, {"return_url": "/account"}):
        answer = deployment.authorized("POST", PORTAL, body)
        assert (answer.status, answer.body) == (400, expected)


def test_the_portal_refuses_a_foreign_return_url(deployment: Deployment) -> None:
    """Before anything else is looked at."""
    answer = deployment.authorized("POST", PORTAL, {"return_url": "https://evil.example"})
    assert [detail["path"] for detail in answer.body["error"]["details"]] == ["return_url"]


@pytest.mark.parametrize(("method", "path"), [("POST", CHECKOUT), ("POST", PORTAL)])
def test_nothing_is_parsed_without_a_credential(deployment: Deployment, method: str, path: str) -> None:
    """401 comes before any problem of the body."""
    assert deployment.call(method, path, body="{").status == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/billing", "GET"),
        ("HEAD", "/v1/billing", "GET"),
        ("GET", CHECKOUT, "POST"),
        ("PUT", "/v1/billing/webhooks", "POST"),
    ],
)
def test_another_method_of_a_known_path_is_told_which_are_allowed(
    deployment: Deployment, method: str, path: str, allowed: str
) -> None:
    """405 with Allow."""
    answer = deployment.call(method, path, route="$default")
    message = f"{method} is not allowed here; allowed: {allowed}"
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.body == {"error": {"code": "VALIDATION_FAILED", "message": message}}


@pytest.mark.parametrize("path", ["/v1/billing", CHECKOUT, PORTAL])
@pytest.mark.usefixtures("deployment")
def test_a_browser_may_ask_before_it_sends(path: str) -> None:
    """A preflight that falls to `$default` succeeds; API Gateway adds which origins may."""
    event = payload("OPTIONS", path, route="$default")
    answer = load_handler("unknown_route")(event, None)
    assert (answer["statusCode"], answer["body"]) == (204, "")


@pytest.mark.parametrize("path", ["/", "/v1/billing/", "/v1/billing/nothing", "/v1/billings", "/v1/billing/%2e%2e"])
def test_an_unknown_path_is_not_found(deployment: Deployment, path: str) -> None:
    """404 in the envelope."""
    answer = deployment.call("GET", path, route="$default")
    assert answer.status == 404
    assert answer.body == {"error": {"code": "NOT_FOUND", "message": f"There is nothing at {path}"}}
