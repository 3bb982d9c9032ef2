"""Prices that left the catalog, and plans with several prices."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import stripe

from billing.bootstrap import app
from billing.catalog import load_catalog
from billing.domain.plans import Catalog, Price
from tests.functions.events import event
from tests.functions.stripe_support import create_subscription, open_session
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

CHECKOUT = "/v1/billing/checkout"


def check_out(deployment: FunctionHarness, **body: object) -> Response:
    return deployment.authorized("POST", CHECKOUT, body)


def replace_price(client: stripe.StripeClient) -> tuple[str, str]:
    """Archive the price of pro and create another one, as `billing setup` does. Returns both ids."""
    [before] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    client.v1.prices.update(before.id, {"active": False, "metadata": {"plan": "pro"}})
    after = client.v1.prices.create(
        {
            "product": str(before.product),
            "lookup_key": "pro_monthly",
            "transfer_lookup_key": True,
            "currency": "usd",
            "unit_amount": 1900,
            "recurring": {"interval": "month"},
            "metadata": {"plan": "pro"},
        }
    )
    return before.id, after.id


def price_of(session: stripe.checkout.Session) -> str:
    assert session.line_items
    price = session.line_items.data[0].price
    assert price
    return price.id


# --- Archived prices --------------------------------------------------------------------------------------------------


def test_subscriber_on_an_archived_price_who_is_first_seen_later_has_the_plan(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    subscription = create_subscription(stripe_client)
    replace_price(stripe_client)
    source = stripe_client.v1.subscriptions.retrieve(subscription.id).to_dict()
    found = event("customer.subscription.updated", json.loads(json.dumps(source, default=str)))
    assert deployment.deliver(found).body["outcome"] == "applied"
    body = deployment.authorized("GET", "/v1/billing").body
    assert (body["plan"], body["status"]) == ("pro", "active")
    [stored] = deployment.repository.load_account("acme").subscriptions
    assert (stored.interval, stored.currency, stored.unit_amount) == ("month", "usd", 1900)


@pytest.mark.parametrize("contract", ["account", "organization"])
def test_warm_checkout_uses_the_new_price_after_the_old_one_was_archived(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, contract: str
) -> None:
    assert check_out(deployment, tier="pro").status == 200
    before, after = replace_price(stripe_client)
    assert price_of(open_session(stripe_client, deployment)) == before
    if contract == "account":
        response = check_out(deployment, tier="pro", success_url="/again")
    else:
        body = {"priceId": "pro_monthly", "successUrl": "/again"}
        response = deployment.authorized("POST", "/api/billing/checkout", body)
    assert response.status == 200
    assert price_of(open_session(stripe_client, deployment)) == after


def test_checkout_of_an_archived_price_without_successor_returns_502_after_one_lookup(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    assert check_out(deployment, tier="pro").status == 200
    [price] = stripe_client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    stripe_client.v1.prices.update(price.id, {"active": False})
    response = check_out(deployment, tier="pro", success_url="/again")
    assert (response.status, response.body["error"]["code"]) == (502, "PAYMENT_ERROR")
    stripe_client.v1.prices.update(price.id, {"active": True})
    assert check_out(deployment, tier="pro", success_url="/later").status == 200


# --- Several prices ---------------------------------------------------------------------------------------------------

SEVERAL = (
    Price("pro_monthly", 1_900, "usd", "month"),
    Price("pro_yearly", 19_000, "usd", "year"),
    Price("pro_yearly_eur", 18_000, "eur", "year"),
)


@pytest.fixture
def several_prices(
    stripe_client: stripe.StripeClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[stripe.StripeClient]:
    """Stripe and a catalog in which pro has three prices."""
    [listed] = stripe_client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    created = []
    for price in SEVERAL[1:]:
        params: Any = {
            "product": str(listed.product),
            "lookup_key": price.lookup_key,
            "transfer_lookup_key": True,
            "currency": price.currency,
            "unit_amount": price.unit_amount,
            "recurring": {"interval": price.interval},
        }
        created.append(stripe_client.v1.prices.create(params))
    free, pro, *others = load_catalog().plans
    monkeypatch.setattr(app, "catalog", Catalog((free, replace(pro, prices=SEVERAL), *others)))
    yield stripe_client
    for each in created:
        stripe_client.v1.prices.update(each.id, {"active": False})


@pytest.mark.parametrize(
    ("choice", "lookup_key"),
    [
        ({}, "pro_monthly"),
        ({"interval": "month"}, "pro_monthly"),
        ({"interval": "year"}, "pro_yearly"),
        ({"currency": "eur"}, "pro_yearly_eur"),
        ({"interval": "year", "currency": "eur"}, "pro_yearly_eur"),
        ({"interval": None, "currency": None}, "pro_monthly"),
    ],
)
def test_native_checkout_buys_each_price_of_a_plan(
    deployment: FunctionHarness, several_prices: stripe.StripeClient, choice: dict[str, str], lookup_key: str
) -> None:
    assert check_out(deployment, tier="pro", **choice).status == 200
    [price] = several_prices.v1.prices.list({"lookup_keys": [lookup_key]}).data
    assert price_of(open_session(several_prices, deployment)) == price.id


@pytest.mark.parametrize("lookup_key", [price.lookup_key for price in SEVERAL])
@pytest.mark.parametrize("by_id", [True, False])
def test_price_id_contract_buys_each_price_of_a_plan(
    deployment: FunctionHarness, several_prices: stripe.StripeClient, lookup_key: str, *, by_id: bool
) -> None:
    [price] = several_prices.v1.prices.list({"lookup_keys": [lookup_key]}).data
    body = {"priceId": price.id if by_id else lookup_key}
    assert deployment.authorized("POST", "/api/billing/checkout", body).status == 200
    assert price_of(open_session(several_prices, deployment)) == price.id


@pytest.mark.usefixtures("several_prices")
@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        ({"interval": "week"}, {"path": "interval", "message": "must be one of: month, year for Pro"}),
        ({"currency": "gbp"}, {"path": "currency", "message": "must be one of: usd, eur for Pro"}),
        (
            {"interval": "month", "currency": "eur"},
            {"path": "currency", "message": "must be one of: usd for Pro by the month"},
        ),
        ({"tier": "team", "interval": "year"}, {"path": "interval", "message": "must be one of: month for Team"}),
    ],
)
def test_checkout_of_a_price_that_does_not_exist_lists_those_that_do(
    deployment: FunctionHarness, choice: dict[str, str], problem: dict[str, str]
) -> None:
    response = check_out(deployment, **{"tier": "pro", **choice})
    assert (response.status, response.body["error"]["details"]) == (400, [problem])


def test_checkout_is_in_the_currency_of_a_live_subscription_of_another_product(
    deployment: FunctionHarness, several_prices: stripe.StripeClient
) -> None:
    """Stripe would refuse another currency, which is a 502 that nobody could explain."""
    check_out(deployment, tier="pro")
    customer = str(open_session(several_prices, deployment).customer)
    subscribe_to_another_product(deployment, several_prices, customer, "eur")
    assert check_out(deployment, tier="pro").status == 200
    [price] = several_prices.v1.prices.list({"lookup_keys": ["pro_yearly_eur"]}).data
    assert price_of(open_session(several_prices, deployment)) == price.id
    problem = "must be in eur: the customer has a live subscription in this currency"
    for choice in ({"currency": "usd"}, {"interval": "month"}):
        response = check_out(deployment, **{"tier": "pro", **choice})
        assert (response.status, response.body["error"]["details"]) == (400, [{"path": "currency", "message": problem}])
    response = deployment.authorized("POST", "/api/billing/checkout", {"priceId": "pro_monthly"})
    assert (response.status, response.body["error"]["details"]) == (400, [{"path": "priceId", "message": problem}])


def subscribe_to_another_product(
    deployment: FunctionHarness, client: stripe.StripeClient, customer: str, currency: str
) -> None:
    """Create a subscription that is for no plan, and deliver its event."""
    product = client.v1.products.create({"name": "Another product"})
    price = client.v1.prices.create(
        {"product": product.id, "currency": currency, "unit_amount": 500, "recurring": {"interval": "month"}}
    )
    card = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": card}})
    created = client.v1.subscriptions.create({"customer": customer, "items": [{"price": price.id}]})
    source = json.loads(json.dumps(created.to_dict(), default=str))
    assert deployment.deliver(event("customer.subscription.created", source)).body["outcome"] == "applied"


@pytest.mark.usefixtures("several_prices")
def test_every_listed_price_can_be_bought(deployment: FunctionHarness) -> None:
    """Whatever `/plans` lists, the native checkout accepts."""
    plans = deployment.authorized("GET", "/v1/billing/plans").body["plans"]
    for plan in plans:
        for price in plan["prices"]:
            choice = {"tier": plan["id"], "interval": price["interval"], "currency": price["currency"]}
            assert check_out(deployment, **choice).status == 200
