"""Tests of products, prices and portal for other catalogs than the default one."""

from dataclasses import replace
from typing import Any

import pytest
import stripe

from billing.domain.plans import Catalog, Downgrades, Plan, Price
from cli.errors import CommandFailed
from cli.stripe_account import FORMER_METADATA_KEY, OwnMetadata, sync_catalog, sync_portals
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
    sync_catalog(stripe_client, OWN, pro(replace(MONTHLY, unit_amount=900)))
    changes, _ = sync_catalog(stripe_client, OWN, pro(MONTHLY))
    [replaced] = [each for each in changes if each.outcome == "replaced"]
    [old] = [each for each in stripe_account.state.all("price") if each["lookup_key"] is None]
    catalog = pro(MONTHLY, replace(LEGACY, id=old["id"]))
    changes, prices = sync_catalog(stripe_client, OWN, catalog)
    assert {each.outcome for each in changes} == {"unchanged"}
    assert [each.warning for each in changes] == [None] * 3
    sync_portals(stripe_client, OWN, catalog, prices)
    [portal] = stripe_account.state.all("billing_portal.configuration")
    [offer] = portal["features"]["subscription_update"]["products"]
    assert offer["prices"] == [replaced.id]


def test_sync_warns_about_price_id_with_other_terms(stripe_client: stripe.StripeClient) -> None:
    _, prices = sync_catalog(stripe_client, OWN, pro(MONTHLY))
    wrong = replace(MONTHLY, unit_amount=1, id=prices["pro_monthly"].id)
    changes, _ = sync_catalog(stripe_client, OWN, pro(wrong))
    assert prices["pro_monthly"].id in str(changes[-1].warning)


def test_sync_fails_for_unknown_price_id(stripe_client: stripe.StripeClient) -> None:
    with pytest.raises(CommandFailed, match="price_legacy"):
        sync_catalog(stripe_client, OWN, pro(LEGACY))


def test_portal_offers_monthly_and_yearly_price_of_one_product(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    catalog = pro(MONTHLY, YEARLY)
    _, prices = sync_catalog(stripe_client, OWN, catalog)
    sync_portals(stripe_client, OWN, catalog, prices)
    [portal] = stripe_account.state.all("billing_portal.configuration")
    [offer] = portal["features"]["subscription_update"]["products"]
    assert set(offer["prices"]) == {prices["pro_monthly"].id, prices["pro_yearly"].id}


def test_portal_without_downgrades_at_period_end_has_no_conditions(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Stripe removes the conditions of a configuration that exists."""
    catalog = pro(MONTHLY)
    _, prices = sync_catalog(stripe_client, OWN, catalog)
    immediately = replace(catalog, downgrades=Downgrades.IMMEDIATELY)
    found = []
    for wanted, outcome in ((catalog, "created"), (immediately, "updated"), (immediately, "unchanged")):
        [change] = sync_portals(stripe_client, OWN, wanted, prices).values()
        assert change.outcome == outcome
        [portal] = stripe_account.state.all("billing_portal.configuration")
        found.append(len(portal["features"]["subscription_update"]["schedule_at_period_end"]["conditions"]))
    assert found == [2, 0, 0]


def test_portal_does_not_offer_an_archived_price(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    _, prices = sync_catalog(stripe_client, OWN, pro(MONTHLY))
    catalog = pro(MONTHLY, replace(YEARLY, id=prices["pro_monthly"].id))
    stripe_client.v1.prices.update(prices["pro_monthly"].id, {"active": False})
    archived = stripe_client.v1.prices.retrieve(prices["pro_monthly"].id)
    sync_portals(stripe_client, OWN, catalog, {"pro_monthly": archived, "pro_yearly": archived})
    [portal] = stripe_account.state.all("billing_portal.configuration")
    assert portal["features"]["subscription_update"]["products"] == []


def test_quantity_of_a_product_with_a_flat_price_is_not_adjustable(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Stripe's setting applies to all prices of a product."""
    catalog = pro(replace(MONTHLY, per_seat=True), YEARLY)
    _, prices = sync_catalog(stripe_client, OWN, catalog)
    sync_portals(stripe_client, OWN, catalog, prices)
    adjustable = {
        each["metadata"]["billing_portal"]: [
            product["adjustable_quantity"]["enabled"] for product in each["features"]["subscription_update"]["products"]
        ]
        for each in stripe_account.state.all("billing_portal.configuration")
    }
    assert adjustable["create_prorations"] == [False]
    assert adjustable["create_prorations_per_seat"] == [True]


def test_portal_configuration_of_an_earlier_release_becomes_the_default_one(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    features: Any = {"invoice_history": {"enabled": True}}
    configurations = stripe_client.v1.billing_portal.configurations
    before = configurations.create({"features": features, "metadata": {FORMER_METADATA_KEY: "stack"}})
    _, prices = sync_catalog(stripe_client, OWN, pro(MONTHLY))
    [change] = sync_portals(stripe_client, OWN, pro(MONTHLY), prices).values()
    assert (change.id, change.outcome) == (before.id, "updated")
    assert len(list(stripe_account.state.all("billing_portal.configuration"))) == 1


def test_sync_of_catalog_without_prices_creates_no_product(
    stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    changes, prices = sync_catalog(stripe_client, OWN, Catalog((FREE,)))
    assert changes == []
    for outcome in ("created", "unchanged"):
        [portal] = sync_portals(stripe_client, OWN, Catalog((FREE,)), prices).values()
        assert portal.outcome == outcome
    assert list(stripe_account.state.all("product")) == []


def test_sync_finds_more_prices_than_one_request_returns(stripe_client: stripe.StripeClient) -> None:
    prices = [Price(f"pro_{amount}", amount, "usd", "month") for amount in range(1, 25)]
    sync_catalog(stripe_client, OWN, pro(*prices))
    changes, _ = sync_catalog(stripe_client, OWN, pro(*prices))
    assert {each.outcome for each in changes} == {"unchanged"}


def test_sync_replaces_an_archived_price(stripe_client: stripe.StripeClient, stripe_account: StripeAccount) -> None:
    """Checkout finds active prices only."""
    _, prices = sync_catalog(stripe_client, OWN, pro(MONTHLY))
    stripe_client.v1.prices.update(prices["pro_monthly"].id, {"active": False})
    changes, _ = sync_catalog(stripe_client, OWN, pro(MONTHLY))
    assert changes[-1].outcome == "replaced"
    [holder] = [each for each in stripe_account.state.all("price") if each["lookup_key"]]
    assert holder["active"]
