"""The main job, from the checkout page to the end of a subscription, through everything that is deployed."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page

from local.environment import LocalEnvironment
from local.invoke import invoke
from local.sample_events import read_sample
from local.stack import ROOT
from tests.e2e.support import AccountClient, StripeSide, eventually

pytestmark = pytest.mark.stack

FREE = {"plan": "free", "status": None, "current_period_end": None, "cancel_at_period_end": None}
MONTH_SECONDS = 32 * 86_400


def _is(**wanted: object) -> Any:
    return lambda status: wanted.items() <= status.items()


def _subscribe(account: AccountClient, stripe_side: StripeSide) -> str:
    subscription_id = stripe_side.pay(account.checkout_url())
    eventually(account.status, _is(plan="pro", status="active"))
    return subscription_id


def test_checkout_page(account: AccountClient, page: Page) -> None:
    """Paying on the checkout page leads back to the product, and the account has its plan."""
    assert account.status() == FREE
    page.goto(account.checkout_url())
    page.get_by_role("button", name="Subscribe").click()
    page.wait_for_url("http://localhost:3000/**")
    status = eventually(account.status, _is(plan="pro"))
    assert set(status) == {"plan", "status", "current_period_end", "cancel_at_period_end"}
    assert status["status"] == "active"
    assert status["cancel_at_period_end"] is False
    assert datetime.fromisoformat(status["current_period_end"]) > datetime.now(UTC)
    assert status["current_period_end"].endswith("Z")


def test_declined_card(account: AccountClient, page: Page) -> None:
    """A declined card leaves the customer on the page and the account free."""
    page.goto(account.checkout_url())
    page.get_by_label("is declined").check()
    page.get_by_role("button", name="Subscribe").click()
    assert "declined" in page.get_by_role("alert").inner_text()
    assert account.status()["plan"] == "free"


def test_second_checkout_is_refused(account: AccountClient, stripe_side: StripeSide) -> None:
    """Who has a plan cannot buy a second one by accident."""
    _subscribe(account, stripe_side)
    response = account.post("/v1/billing/checkout", tier="pro")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "SUBSCRIPTION_EXISTS")


def test_portal_page(account: AccountClient, stripe_side: StripeSide, page: Page) -> None:
    """Cancelling in the portal shows at once, and so does changing one's mind."""
    _subscribe(account, stripe_side)
    page.goto(account.portal_url())
    page.get_by_role("button", name="Cancel subscription").click()
    eventually(account.status, _is(plan="pro", status="active", cancel_at_period_end=True))
    page.goto(account.portal_url())
    page.get_by_role("button", name="Don't cancel subscription").click()
    eventually(account.status, _is(plan="pro", cancel_at_period_end=False))


def test_portal_of_an_account_that_never_subscribed(account: AccountClient) -> None:
    """Without a billing history there is no portal."""
    assert account.post("/v1/billing/portal").status_code == 400


def test_deletion(account: AccountClient, stripe_side: StripeSide) -> None:
    """A subscription ended in Stripe's dashboard ends the plan."""
    subscription_id = _subscribe(account, stripe_side)
    stripe_side.delete(f"/v1/subscriptions/{subscription_id}")
    eventually(account.status, _is(plan="free", status="canceled"))


def test_failed_renewal(account: AccountClient, stripe_side: StripeSide) -> None:
    """A renewal that is not paid is past due, and the plan stays for the days of grace."""
    _subscribe(account, stripe_side)
    [customer] = stripe_side.customers_of(account.account_id)
    stripe_side.control(f"customers/{customer['id']}/payment_method", card="declined")
    stripe_side.control("clock", advance_seconds=MONTH_SECONDS)
    eventually(account.status, _is(plan="pro", status="past_due"))


def test_simultaneous_first_checkouts(account: AccountClient, stripe_side: StripeSide) -> None:
    """Twenty clicks at once make one Stripe customer."""
    with ThreadPoolExecutor(20) as clicks:
        urls = list(clicks.map(lambda _: account.checkout_url(), range(20)))
    assert len(stripe_side.customers_of(account.account_id)) == 1
    assert len(set(urls)) == 1


def test_disordered_deliveries(account: AccountClient, stripe_side: StripeSide) -> None:
    """Events that arrive twice and in any order lead to Stripe's state."""
    stripe_side.control("delivery", copies=2, shuffle=True)
    try:
        subscription_id = stripe_side.pay(account.checkout_url())
        stripe_side.post(f"/v1/subscriptions/{subscription_id}", cancel_at_period_end="true")
        stripe_side.post(f"/v1/subscriptions/{subscription_id}", cancel_at_period_end="false")
        stripe_side.post(f"/v1/subscriptions/{subscription_id}", cancel_at_period_end="true")
        assert stripe_side.control("delivery/drain")["idle"]
    finally:
        stripe_side.control("delivery")
    assert _is(plan="pro", status="active", cancel_at_period_end=True)(account.status())


def test_preflight(account: AccountClient) -> None:
    """A browser may ask from an allowed origin, and from no other."""
    asking = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    allowed = account.http.options("/v1/billing/checkout", headers=asking)
    assert allowed.is_success
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "POST" in allowed.headers["access-control-allow-methods"]
    refused = account.http.options("/v1/billing/checkout", headers=asking | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    ("operation", "event", "status"),
    [
        ("subscription", "subscription.json", 200),
        ("checkout", "checkout.json", 200),
        ("portal", "portal.json", 400),
        ("stripe_webhook", "stripe_webhook.json", 200),
        ("stripe_webhook", "stripe/invoice.paid.json", 200),
        ("unknown_route", "unknown_route.json", 404),
    ],
)
def test_invoke(world: LocalEnvironment, operation: str, event: str, status: int) -> None:
    """`make invoke` runs a built function with its own layers only, under AWS's runtime client."""
    sample = read_sample(
        ROOT / "events" / event,
        secret_key=world.accounts["globex"]["secret_key"],
        webhook_secret=world.webhook_secret,
        now=datetime.now(UTC),
    )
    result = invoke(operation, sample, world.env, world.state_dir)
    assert result.succeeded, result.payload
    assert result.payload["statusCode"] == status, result.payload
    assert isinstance(json.loads(result.payload["body"]), dict)
