"""Tests of products, prices and portal for other catalogs than the default one."""

from dataclasses import replace

import pytest
import stripe

from billing.domain.plans import Catalog, Plan, Price
from cli.errors import CommandFailed
from cli.stripe_account import OwnMetadata, sync_catalog, sync_portal
from tests.cli.support import StripeAccount

FREE = Plan("free", "Free")
MONTHLY = Price("pro_monthly", 1900, "usd", "month")
YEARLY = Price("pro_yearly", 19000, "usd", "year")
LEGACY = Price("pro_monthly_900", 900, "usd", "month", id="price_legacy")


OWN = OwnMetadata("billing-test", "stack")


def pro(*prices: Price) -> Catalog:
    """Return a catalog with prices of Pro."""
    return Catalog((FREE, Plan("pro", "Pro", prices)))


def test_sync_finds_price_without_lookup_key_by_id_and_does_not_offer_it(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """The catalog entry that setup prints after a change of amount is enough."""
    sync_catalog(stripe_client, pro(replace(MONTHLY, unit_amount=900)))
    changes, _ = sync_catalog(stripe_client, pro(MONTHLY))
    [replaced] = [each for each in changes if each.outcome == "replaced"]
    [old] = [each for each in stripe_account.state.all("price") if each["lookup_key"] is None]
    catalog = pro(MONTHLY, replace(LEGACY, id=old["id"]))
    changes, prices = sync_catalog(stripe_client, catalog)
    assert {each.outcome for each in changes} == {"unchanged"}
    assert [each.warning for each in changes] == [None] * 3
    sync_portal(stripe_client, OWN, catalog, prices)
    [portal] = stripe_account.state.all("billing_portal.configuration")
    [offer] = portal["features"]["subscription_update"]["products"]
    assert offer["prices"] == [replaced.id]


def test_sync_warns_about_price_id_with_other_terms(stripe_client: stripe.StripeClient) -> None:
    _, prices = sync_catalog(stripe_client, pro(MONTHLY))
    wrong = replace(MONTHLY, unit_amount=1, id=prices["pro_monthly"].id)
    changes, _ = sync_catalog(stripe_client, pro(wrong))
    assert prices["pro_monthly"].id in str(changes[-1].warning)


def test_sync_fails_for_unknown_price_id(stripe_client: stripe.StripeClient) -> None:
    with pytest.raises(CommandFailed, match="price_legacy"):
        sync_catalog(stripe_client, pro(LEGACY))


def test_portal_offers_monthly_and_yearly_price_of_one_product(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    catalog = pro(MONTHLY, YEARLY)
    _, prices = sync_catalog(stripe_client, catalog)
    sync_portal(stripe_client, OWN, catalog, prices)
    [portal] = stripe_account.state.all("billing_portal.configuration")
    [offer] = portal["features"]["subscription_update"]["products"]
    assert set(offer["prices"]) == {prices["pro_monthly"].id, prices["pro_yearly"].id}


def test_sync_of_catalog_without_prices_creates_no_product(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    changes, prices = sync_catalog(stripe_client, Catalog((FREE,)))
    assert changes == []
    assert sync_portal(stripe_client, OWN, Catalog((FREE,)), prices).outcome == "created"
    assert sync_portal(stripe_client, OWN, Catalog((FREE,)), prices).outcome == "unchanged"
    assert list(stripe_account.state.all("product")) == []


def test_sync_finds_more_prices_than_one_request_returns(stripe_client: stripe.StripeClient) -> None:
    prices = [Price(f"pro_{amount}", amount, "usd", "month") for amount in range(1, 25)]
    sync_catalog(stripe_client, pro(*prices))
    changes, _ = sync_catalog(stripe_client, pro(*prices))
    assert {each.outcome for each in changes} == {"unchanged"}


def test_sync_replaces_an_archived_price(stripe_client: stripe.StripeClient, stripe_account: StripeAccount) -> None:
    """Checkout finds active prices only."""
    _, prices = sync_catalog(stripe_client, pro(MONTHLY))
    stripe_client.v1.prices.update(prices["pro_monthly"].id, {"active": False})
    changes, _ = sync_catalog(stripe_client, pro(MONTHLY))
    assert changes[-1].outcome == "replaced"
    [holder] = [each for each in stripe_account.state.all("price") if each["lookup_key"]]
    assert holder["active"]
