"""Tests of products, prices and portal for other catalogs than the default one."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import stripe

from billing.domain.plans import Catalog, Downgrades, Plan, Price
from billing.stripe_events.objects import plan_of_price
from cli.errors import CommandFailed
from cli.own_metadata import FORMER_METADATA_KEY, OwnMetadata
from cli.setup_report import SetupChange
from cli.stripe_account import sync_catalog, sync_portals
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


# --- Warnings ---------------------------------------------------------------------------------------------------------

EURO = Price("pro_monthly_eur", 1800, "eur", "month")
TEAM_PRICE = Price("team_monthly", 4900, "usd", "month", per_seat=True)


def warnings_of(changes: Iterable[SetupChange]) -> list[str]:
    """Return the warnings."""
    return [each.warning for each in changes if each.warning]


def subscribe(client: stripe.StripeClient, price_id: str, deployment_id: str = "") -> stripe.Subscription:
    """Create a customer with a paid subscription to the price."""
    payment: Any = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer = client.v1.customers.create(payment)
    metadata = {"billing_deployment": deployment_id}
    return client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price_id}], "metadata": metadata}
    )


def test_sync_warns_about_an_archived_price_id_that_checkout_sells(stripe_client: stripe.StripeClient) -> None:
    """A price that only maps old subscriptions may be archived."""
    _, prices = sync_catalog(stripe_client, OWN, pro(MONTHLY, YEARLY))
    by_id = [replace(each, id=prices[each.lookup_key].id) for each in (MONTHLY, YEARLY)]
    assert warnings_of(sync_catalog(stripe_client, OWN, pro(*by_id))[0]) == []
    yearly = prices["pro_yearly"].id
    stripe_client.v1.prices.update(yearly, {"active": False})
    [warning] = warnings_of(sync_catalog(stripe_client, OWN, pro(*by_id))[0])
    assert warning.startswith(f"{yearly} is archived in Stripe, so checkout cannot sell Pro by the year in usd.")
    another = Price("pro_yearly_new", 19500, "usd", "year")
    assert warnings_of(sync_catalog(stripe_client, OWN, pro(by_id[0], another, by_id[1]))[0]) == []


def moved_catalogs(*, is_renamed: bool) -> tuple[Catalog, Catalog, str, str]:
    """Return a catalog, the catalog in which a price belongs to another plan, and the ids of both plans."""
    if is_renamed:
        return pro(MONTHLY), Catalog((FREE, Plan("growth", "Growth", (MONTHLY,)))), "pro", "growth"
    team = Plan("team", "Team", (TEAM_PRICE,))
    before = Catalog((FREE, Plan("pro", "Pro", (YEARLY,)), replace(team, prices=(TEAM_PRICE, MONTHLY))))
    after = Catalog((FREE, Plan("pro", "Pro", (YEARLY, MONTHLY)), team))
    return before, after, "team", "pro"


@pytest.mark.parametrize("is_renamed", [True, False], ids=["renamed plan", "other plan"])
def test_sync_warns_about_a_price_with_subscribers_that_moves_to_another_plan(
    stripe_client: stripe.StripeClient,
    is_renamed: bool,  # noqa: FBT001 - parameter of the test
) -> None:
    before, after, old, new = moved_catalogs(is_renamed=is_renamed)
    _, prices = sync_catalog(stripe_client, OWN, before)
    price_id = prices["pro_monthly"].id
    subscribe(stripe_client, price_id, "another")
    assert warnings_of(sync_catalog(stripe_client, OWN, after)[0]) == []
    subscription = subscribe(stripe_client, price_id)
    [warning] = warnings_of(sync_catalog(stripe_client, OWN, after)[0])
    assert f"{price_id} (pro_monthly) has 1 subscription and moves from plan {old} to plan {new}." in warning
    stripe_client.v1.prices.update(price_id, {"metadata": {"plan": new}})
    assert warnings_of(sync_catalog(stripe_client, OWN, after)[0]) == []
    assert stripe_client.v1.subscriptions.retrieve(subscription.id).status == "active"


@pytest.mark.parametrize("is_renamed", [True, False], ids=["renamed plan", "other plan"])
def test_price_that_moved_to_another_plan_keeps_it_after_it_is_archived_and_replaced(
    stripe_client: stripe.StripeClient,
    is_renamed: bool,  # noqa: FBT001 - parameter of the test
) -> None:
    """Until it loses its lookup key, the catalog decides. Then only its metadata does."""
    before, after, _, new = moved_catalogs(is_renamed=is_renamed)
    _, prices = sync_catalog(stripe_client, OWN, before)
    price_id = prices["pro_monthly"].id
    subscribe(stripe_client, price_id)
    stripe_client.v1.prices.update(price_id, {"active": False})
    changes, _ = sync_catalog(stripe_client, OWN, after)
    assert "replaced" in {each.outcome for each in changes}
    archived = stripe_client.v1.prices.retrieve(price_id)
    plan = plan_of_price(archived.to_dict(), after)
    assert (archived.lookup_key, plan and plan.id) == (None, new)


def test_sync_warns_about_a_price_with_subscribers_whose_plan_left_the_catalog(
    stripe_client: stripe.StripeClient,
) -> None:
    both = Catalog((FREE, Plan("pro", "Pro", (MONTHLY,)), Plan("team", "Team", (TEAM_PRICE,))))
    _, prices = sync_catalog(stripe_client, OWN, both)
    price_id = prices["team_monthly"].id
    subscribe(stripe_client, price_id, "another")
    assert warnings_of(sync_catalog(stripe_client, OWN, pro(MONTHLY))[0]) == []
    subscription = subscribe(stripe_client, price_id)
    changes, _ = sync_catalog(stripe_client, OWN, pro(MONTHLY))
    [warning] = warnings_of(changes)
    assert warning.startswith(f"{price_id} (team_monthly) has 1 subscription and loses its plan team,")
    assert [each.outcome for each in changes if each.id == price_id] == ["unchanged"]
    assert warnings_of(sync_catalog(stripe_client, OWN, both)[0]) == []
    stripe_client.v1.subscriptions.cancel(subscription.id)
    assert warnings_of(sync_catalog(stripe_client, OWN, pro(MONTHLY))[0]) == []


def test_portal_warns_about_plans_and_currencies_that_it_does_not_offer(stripe_client: stripe.StripeClient) -> None:
    """A second price of the same currency is for old subscriptions, and is no reason for a warning."""
    second = Price("pro_monthly_900", 900, "usd", "month")
    team = Plan("team", "Team", (TEAM_PRICE, replace(TEAM_PRICE, lookup_key="team_gbp", currency="gbp")))
    catalog = Catalog((FREE, Plan("pro", "Pro", (MONTHLY, second, EURO)), team))
    _, prices = sync_catalog(stripe_client, OWN, catalog)
    for _ in range(2):
        [warning] = warnings_of(sync_portals(stripe_client, OWN, catalog, prices).values())
        assert "does not offer Pro in eur, Team in gbp" in warning
    one_currency = Catalog((FREE, Plan("pro", "Pro", (MONTHLY, second)), replace(team, prices=(TEAM_PRICE,))))
    assert warnings_of(sync_portals(stripe_client, OWN, one_currency, prices).values()) == []
