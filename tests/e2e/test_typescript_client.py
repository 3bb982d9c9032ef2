"""TypeScript client as an npm package, in Node and in a browser, with the running API."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from local.environment import LocalEnvironment
from tests.e2e.support import CLIENT, AccountClient, StripeClient, billing, eventually, run_command

pytestmark = pytest.mark.stack

FREE = {"plan": "free", "status": None, "currentPeriodEnd": None, "cancelAtPeriodEnd": None}
FRONT_END = "http://localhost:3000"

CALL = """
import { createBillingClient } from "serverless-billing-client";
const [method, ...args] = JSON.parse(process.argv[2]);
const print = (outcome) => console.log(JSON.stringify(outcome));
try {
  print({ answer: await createBillingClient()[method](...args) });
} catch (error) {
  print({ error: { ...error, message: error.message } });
}
"""

IN_THE_BROWSER = """async ([options, method, ...args]) => {
  const { createBillingClient } = await import("/client/index.js");
  const call = createBillingClient(options ?? undefined)[method](...args);
  return call.then((answer) => ({ answer }), (error) => ({ error: { ...error, message: error.message } }));
}"""


@dataclass(frozen=True, slots=True)
class NodeProject:
    """A Node project with the client installed, which acts for one account."""

    folder: Path
    env: dict[str, str]

    def run(self, name: str, script: str, *words: str) -> Any:
        """Run a script. Returns its JSON output."""
        (self.folder / name).write_text(script)
        return json.loads(run_command(self.folder, "node", name, *words, **self.env))

    def call(self, method: str, *arguments: object) -> dict[str, Any]:
        """Call a client method. Returns its `answer` or `error`."""
        outcome: dict[str, Any] = self.run("call.mjs", CALL, json.dumps([method, *arguments]))
        return outcome


@pytest.fixture
def session_token(environment: LocalEnvironment, account: AccountClient) -> str:
    """Session token of a new account's owner."""
    token = billing(environment, "sessions", "token", account.account_id, "--user", "user_1", "--role", "owner")[
        "token"
    ]
    return str(token)


@pytest.fixture
def project(environment: LocalEnvironment, client_folder: Path, session_token: str) -> NodeProject:
    """Node project of a new account."""
    return NodeProject(client_folder, {"BILLING_API_URL": environment.api_url, "BILLING_SESSION_TOKEN": session_token})


@pytest.fixture
def browser_call(page: Page, client_folder: Path) -> Callable[..., dict[str, Any]]:
    """Call a client method in the browser, as `(options, method, *arguments)`."""
    modules = client_folder / "node_modules/serverless-billing-client/dist"

    def module(route: Route) -> None:
        route.fulfill(path=modules / route.request.url.rsplit("/", 1)[1], content_type="text/javascript")

    # Chromium requires this permission, because the page's host is not local and the API is.
    page.context.grant_permissions(["local-network-access"])
    page.route(f"{FRONT_END}/client/*", module)
    page.goto(f"{FRONT_END}/pricing")
    return lambda *words: page.evaluate(IN_THE_BROWSER, list(words))


def test_readme_example_runs_as_documented(project: NodeProject, stripe_client: StripeClient) -> None:
    blocks = re.findall(r"```ts\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    result = project.run("example.mjs", blocks[0] + "console.log(JSON.stringify({ subscription, session }));\n")
    assert result["subscription"] == FREE
    assert result["session"].keys() == {"url"}
    session = stripe_client.get(f"/v1/checkout/sessions/{result['session']['url'].rsplit('/', 1)[1]}")
    assert session["success_url"] == f"{FRONT_END}/dashboard?success=true"
    assert session["cancel_url"] == f"{FRONT_END}/pricing?canceled=true"


def test_client_methods_follow_subscription_life_cycle(project: NodeProject, stripe_client: StripeClient) -> None:
    no_portal = project.call("createPortal")["error"]
    assert (no_portal["status"], no_portal["code"]) == (404, "NOT_FOUND")
    usage = project.call("getUsage")["answer"]
    assert usage["plan"] == "free"
    assert {"metric": "api_calls", "used": 0} in [
        {name: each[name] for name in ("metric", "used")} for each in usage["usage"]
    ]

    checkout = {"priceId": "price_123", "successUrl": "/dashboard"}
    stripe_client.pay(project.call("createCheckout", checkout)["answer"]["url"])
    subscription = eventually(lambda: project.call("getSubscription")["answer"], lambda it: it["plan"] == "pro")
    assert subscription | {"currentPeriodEnd": None} == FREE | {
        "plan": "pro",
        "status": "active",
        "cancelAtPeriodEnd": False,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", subscription["currentPeriodEnd"])
    assert project.call("createCheckout", checkout)["error"]["code"] == "SUBSCRIPTION_EXISTS"
    assert "/p/session/" in project.call("createPortal", {"returnUrl": "/settings"})["answer"]["url"]
    assert project.call("getUsage")["answer"]["plan"] == "pro"


def test_client_idempotency_key_replays_and_rejects_other_request(project: NodeProject) -> None:
    checkout, key = {"priceId": "price_123"}, {"idempotencyKey": "order-7"}
    first = project.call("createCheckout", checkout, key)
    assert project.call("createCheckout", checkout, key) == first
    error = project.call("createCheckout", {**checkout, "cancelUrl": "/pricing"}, key)["error"]
    assert (error["status"], error["code"]) == (422, "IDEMPOTENCY_KEY_REUSE")


def test_client_error_contains_all_fields_of_api_error(project: NodeProject) -> None:
    invalid = project.call("createCheckout", {"priceId": "price_123", "quantity": 0})["error"]
    assert invalid.pop("message").startswith("quantity: ")
    (problem,) = invalid.pop("details")
    assert problem["path"] == "quantity"
    assert re.fullmatch(r"\S+", invalid.pop("requestId"))
    assert invalid == {"name": "BillingApiError", "status": 400, "code": "BAD_REQUEST", "retryAfterSeconds": None}

    invalid_project = NodeProject(project.folder, project.env | {"BILLING_SESSION_TOKEN": "no.such.token"})
    unauthorized = invalid_project.call("getSubscription")["error"]
    assert (unauthorized["status"], unauthorized["code"]) == (401, "UNAUTHORIZED")
    assert unauthorized["message"] == "Authentication required"


def test_client_in_browser_on_allowed_origin_calls_api(
    environment: LocalEnvironment, session_token: str, browser_call: Callable[..., dict[str, Any]]
) -> None:
    options = {"baseUrl": environment.api_url, "token": session_token}
    assert browser_call(options, "getSubscription") == {"answer": FREE}
    assert browser_call(options, "createCheckout", {"priceId": "price_123"})["answer"].keys() == {"url"}
    error = browser_call(options, "createPortal")["error"]
    assert (error["status"], error["code"]) == (404, "NOT_FOUND")
    assert error["requestId"]


def test_client_in_browser_without_options_calls_own_origin(
    environment: LocalEnvironment, session_token: str, page: Page, browser_call: Callable[..., dict[str, Any]]
) -> None:
    def forward(route: Route) -> None:
        request = route.request
        assert "authorization" not in request.headers
        headers = {**request.headers, "authorization": f"Bearer {session_token}"}
        route.fulfill(response=route.fetch(url=request.url.replace(FRONT_END, environment.api_url), headers=headers))

    page.route(f"{FRONT_END}/api/billing/*", forward)
    assert browser_call(None, "getSubscription") == {"answer": FREE}
