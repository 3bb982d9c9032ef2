"""Life cycle of a subscription on the deployed stack, from checkout to cancellation."""

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
from tests.e2e.support import AccountClient, StripeClient, eventually

pytestmark = pytest.mark.stack

FREE = {"plan": "free", "status": None, "current_period_end": None, "cancel_at_period_end": None}
MONTH_SECONDS = 32 * 86_400


def _has(**wanted: object) -> Any:
    return lambda status: wanted.items() <= status.items()


def _subscribe(account: AccountClient, stripe_client: StripeClient) -> str:
    subscription_id = stripe_client.pay(account.checkout_url())
    eventually(account.status, _has(plan="pro", status="active"))
    return subscription_id


def test_checkout_page_payment_activates_plan(account: AccountClient, page: Page) -> None:
    assert account.status() == FREE
    page.goto(account.checkout_url())
    page.get_by_role("button", name="Subscribe").click()
    page.wait_for_url("http://localhost:3000/**")
    status = eventually(account.status, _has(plan="pro"))
    assert set(status) == {"plan", "status", "current_period_end", "cancel_at_period_end"}
    assert status["status"] == "active"
    assert status["cancel_at_period_end"] is False
    assert datetime.fromisoformat(status["current_period_end"]) > datetime.now(UTC)
    assert status["current_period_end"].endswith("Z")


def test_checkout_page_declined_card_keeps_free_plan(account: AccountClient, page: Page) -> None:
    page.goto(account.checkout_url())
    page.get_by_label("is declined").check()
    page.get_by_role("button", name="Subscribe").click()
    assert "declined" in page.get_by_role("alert").inner_text()
    assert account.status()["plan"] == "free"


def test_checkout_returns_409_while_subscription_is_active(account: AccountClient, stripe_client: StripeClient) -> None:
    _subscribe(account, stripe_client)
    response = account.post("/v1/billing/checkout", tier="pro")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "SUBSCRIPTION_EXISTS")


def test_portal_page_cancellation_and_undo_update_status(
    account: AccountClient, stripe_client: StripeClient, page: Page
) -> None:
    _subscribe(account, stripe_client)
    page.goto(account.portal_url())
    page.get_by_role("button", name="Cancel subscription").click()
    eventually(account.status, _has(plan="pro", status="active", cancel_at_period_end=True))
    page.goto(account.portal_url())
    page.get_by_role("button", name="Don't cancel subscription").click()
    eventually(account.status, _has(plan="pro", cancel_at_period_end=False))


def test_portal_returns_400_for_account_without_subscription(account: AccountClient) -> None:
    assert account.post("/v1/billing/portal").status_code == 400


def test_subscription_deleted_in_stripe_ends_plan(account: AccountClient, stripe_client: StripeClient) -> None:
    subscription_id = _subscribe(account, stripe_client)
    stripe_client.delete(f"/v1/subscriptions/{subscription_id}")
    eventually(account.status, _has(plan="free", status="canceled"))


def test_failed_renewal_keeps_plan_as_past_due(account: AccountClient, stripe_client: StripeClient) -> None:
    _subscribe(account, stripe_client)
    [customer] = stripe_client.customers_of(account.account_id)
    stripe_client.control(f"customers/{customer['id']}/payment_method", card="declined")
    stripe_client.control("clock", advance_seconds=MONTH_SECONDS)
    eventually(account.status, _has(plan="pro", status="past_due"))


def test_checkout_concurrent_first_requests_create_one_customer(
    account: AccountClient, stripe_client: StripeClient
) -> None:
    with ThreadPoolExecutor(20) as clicks:
        urls = list(clicks.map(lambda _: account.checkout_url(), range(20)))
    assert len(stripe_client.customers_of(account.account_id)) == 1
    assert len(set(urls)) == 1


def test_webhook_duplicated_and_shuffled_deliveries_converge(
    account: AccountClient, stripe_client: StripeClient
) -> None:
    stripe_client.control("delivery", copies=2, shuffle=True)
    try:
        subscription_id = stripe_client.pay(account.checkout_url())
        stripe_client.post(f"/v1/subscriptions/{subscription_id}", cancel_at_period_end="true")
        stripe_client.post(f"/v1/subscriptions/{subscription_id}", cancel_at_period_end="false")
        stripe_client.post(f"/v1/subscriptions/{subscription_id}", cancel_at_period_end="true")
        assert stripe_client.control("delivery/drain")["idle"]
    finally:
        stripe_client.control("delivery")
    assert _has(plan="pro", status="active", cancel_at_period_end=True)(account.status())


def test_preflight_allows_only_configured_origins(account: AccountClient) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    allowed = account.http.options("/v1/billing/checkout", headers=headers)
    assert allowed.is_success
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "POST" in allowed.headers["access-control-allow-methods"]
    refused = account.http.options("/v1/billing/checkout", headers=headers | {"Origin": "https://evil.example"})
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
def test_invoke_sample_event_returns_expected_status(
    environment: LocalEnvironment, operation: str, event: str, status: int
) -> None:
    sample = read_sample(
        ROOT / "events" / event,
        secret_key=environment.accounts["globex"]["secret_key"],
        webhook_secret=environment.webhook_secret,
        now=datetime.now(UTC),
    )
    result = invoke(operation, sample, environment.env, environment.state_dir)
    assert result.succeeded, result.payload
    assert result.payload["statusCode"] == status, result.payload
    assert isinstance(json.loads(result.payload["body"]), dict)
