"""The TypeScript client as npm would publish it, in Node and in a browser, against the running API."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from local.environment import LocalEnvironment
from local.stack import ROOT
from tests.e2e.support import DEADLINE_SECONDS, AccountClient, StripeSide, billing, eventually

pytestmark = pytest.mark.stack

CLIENT = ROOT / "clients/typescript"
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


def _run(cwd: Path, *command: str, **env: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True, slots=True)
class NodeProject:
    """A user's project with the client in it, which acts for one account."""

    folder: Path
    env: dict[str, str]

    def run(self, name: str, script: str, *words: str) -> Any:
        """What a script prints as JSON."""
        (self.folder / name).write_text(script)
        return json.loads(_run(self.folder, "node", name, *words, **self.env))

    def call(self, method: str, *arguments: object) -> dict[str, Any]:
        """The `answer` of a method, or the `error`."""
        outcome: dict[str, Any] = self.run("call.mjs", CALL, json.dumps([method, *arguments]))
        return outcome


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project into which npm has installed the client's package."""
    folder = tmp_path_factory.mktemp("front-end")
    _run(CLIENT, "npm", "pack", "--silent", "--pack-destination", str(folder))
    (package,) = folder.glob("*.tgz")
    _run(folder, "npm", "install", "--silent", "--offline", "--no-save", str(package))
    return folder


@pytest.fixture
def session_token(world: LocalEnvironment, account: AccountClient) -> str:
    """A new account's owner."""
    token = billing(world, "sessions", "token", account.account_id, "--user", "user_1", "--role", "owner")["token"]
    return str(token)


@pytest.fixture
def project(world: LocalEnvironment, folder: Path, session_token: str) -> NodeProject:
    """A new account's project."""
    return NodeProject(folder, {"BILLING_API_URL": world.api_url, "BILLING_SESSION_TOKEN": session_token})


@pytest.fixture
def browser_call(page: Page, folder: Path) -> Callable[..., dict[str, Any]]:
    """Call a method as `(options, method, *arguments)` on a page of the front end that has the client's modules."""
    modules = folder / "node_modules/serverless-billing-client/dist"

    def module(route: Route) -> None:
        route.fulfill(path=modules / route.request.url.rsplit("/", 1)[1], content_type="text/javascript")

    # A page that is not really on this machine may not call what is, in a Chromium of today.
    page.context.grant_permissions(["local-network-access"])
    page.route(f"{FRONT_END}/client/*", module)
    page.goto(f"{FRONT_END}/pricing")
    return lambda *words: page.evaluate(IN_THE_BROWSER, list(words))


def test_the_readme_s_example(project: NodeProject, stripe_side: StripeSide) -> None:
    """It runs as it stands, and the page that it opens leads back to the front end."""
    blocks = re.findall(r"```ts\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    shown = project.run("example.mjs", blocks[0] + "console.log(JSON.stringify({ subscription, session }));\n")
    assert shown["subscription"] == FREE
    assert shown["session"].keys() == {"url"}
    session = stripe_side.get(f"/v1/checkout/sessions/{shown['session']['url'].rsplit('/', 1)[1]}")
    assert session["success_url"] == f"{FRONT_END}/dashboard?success=true"
    assert session["cancel_url"] == f"{FRONT_END}/pricing?canceled=true"


def test_a_subscription_s_life(project: NodeProject, stripe_side: StripeSide) -> None:
    """Free and without a portal, then paid for: each method answers what the account is."""
    no_portal = project.call("createPortal")["error"]
    assert (no_portal["status"], no_portal["code"]) == (404, "NOT_FOUND")
    usage = project.call("getUsage")["answer"]
    assert usage["plan"] == "free"
    assert {"metric": "api_calls", "used": 0} in [
        {name: each[name] for name in ("metric", "used")} for each in usage["usage"]
    ]

    checkout = {"priceId": "price_123", "successUrl": "/dashboard"}
    stripe_side.pay(project.call("createCheckout", checkout)["answer"]["url"])
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


def test_one_key_one_session(project: NodeProject) -> None:
    """The caller's own idempotency key stands for one request: repeated it has one effect, altered it is refused."""
    checkout, key = {"priceId": "price_123"}, {"idempotencyKey": "order-7"}
    first = project.call("createCheckout", checkout, key)
    assert project.call("createCheckout", checkout, key) == first
    refused = project.call("createCheckout", {**checkout, "cancelUrl": "/pricing"}, key)["error"]
    assert (refused["status"], refused["code"]) == (422, "IDEMPOTENCY_KEY_REUSE")


def test_refusals(project: NodeProject) -> None:
    """An error carries everything that the API said."""
    invalid = project.call("createCheckout", {"priceId": "price_123", "quantity": 0})["error"]
    assert invalid.pop("message").startswith("quantity: ")
    (problem,) = invalid.pop("details")
    assert problem["path"] == "quantity"
    assert re.fullmatch(r"\S+", invalid.pop("requestId"))
    assert invalid == {"name": "BillingApiError", "status": 400, "code": "BAD_REQUEST", "retryAfterSeconds": None}

    stranger = NodeProject(project.folder, project.env | {"BILLING_SESSION_TOKEN": "no.such.token"})
    unauthorized = stranger.call("getSubscription")["error"]
    assert (unauthorized["status"], unauthorized["code"]) == (401, "UNAUTHORIZED")
    assert unauthorized["message"] == "Authentication required"


def test_a_browser_on_another_origin(
    world: LocalEnvironment, session_token: str, browser_call: Callable[..., dict[str, Any]]
) -> None:
    """The API lets an allowed origin send what the client sends, and read what it reads."""
    options = {"baseUrl": world.api_url, "token": session_token}
    assert browser_call(options, "getSubscription") == {"answer": FREE}
    assert browser_call(options, "createCheckout", {"priceId": "price_123"})["answer"].keys() == {"url"}
    refused = browser_call(options, "createPortal")["error"]
    assert (refused["status"], refused["code"]) == (404, "NOT_FOUND")
    assert refused["requestId"]


def test_a_browser_without_options(
    world: LocalEnvironment, session_token: str, page: Page, browser_call: Callable[..., dict[str, Any]]
) -> None:
    """It asks its own origin, where the front end's server adds the token."""

    def forward(route: Route) -> None:
        request = route.request
        assert "authorization" not in request.headers
        headers = {**request.headers, "authorization": f"Bearer {session_token}"}
        route.fulfill(response=route.fetch(url=request.url.replace(FRONT_END, world.api_url), headers=headers))

    page.route(f"{FRONT_END}/api/billing/*", forward)
    assert browser_call(None, "getSubscription") == {"answer": FREE}
