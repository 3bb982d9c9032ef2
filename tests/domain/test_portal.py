"""Choice of the portal configuration for an account."""

from dataclasses import replace

import pytest

from billing.domain.plans import Catalog, Plan, Price, Proration
from billing.domain.portal import PortalVariant, variant_for, variants
from billing.domain.subscriptions import Subscription
from tests.samples import SUBSCRIPTION

FREE = Plan("free", "Free")
PRO = Plan("pro", "Pro", (Price("pro_monthly", 1900, "usd", "month"),))
TEAM = Plan("team", "Team", (Price("team_monthly", 4900, "usd", "month", per_seat=True),))
CATALOG = Catalog((FREE, PRO, TEAM))
IMMEDIATE = PortalVariant(Proration.ALWAYS_INVOICE)
ON_NEXT_INVOICE = PortalVariant(Proration.CREATE_PRORATIONS)
SEATS_ONLY = PortalVariant(Proration.CREATE_PRORATIONS, per_seat_only=True)
ON_PRO = SUBSCRIPTION
ON_TEAM = replace(SUBSCRIPTION, id="sub_2", plan="team", is_per_seat=True)
THREE_SEATS = replace(ON_TEAM, quantity=3)


def test_variants_of_flat_and_per_seat_plans() -> None:
    assert variants(CATALOG) == (IMMEDIATE, ON_NEXT_INVOICE, SEATS_ONLY)
    assert [each.name for each in variants(CATALOG)] == [
        "always_invoice",
        "create_prorations",
        "create_prorations_per_seat",
    ]


def test_catalog_with_one_kind_of_price_needs_no_restricted_variant() -> None:
    assert variants(Catalog((FREE, TEAM))) == (IMMEDIATE, ON_NEXT_INVOICE)
    assert variants(Catalog((FREE, PRO))) == (IMMEDIATE,)
    assert variant_for([THREE_SEATS], Catalog((FREE, TEAM))) == ON_NEXT_INVOICE


def test_variants_follow_the_proration_of_each_plan() -> None:
    team = replace(TEAM, proration=Proration.NONE)
    catalog = Catalog((FREE, replace(PRO, proration=Proration.CREATE_PRORATIONS), team))
    assert [each.name for each in variants(catalog)] == ["always_invoice", "create_prorations", "none", "none_per_seat"]
    assert variant_for([THREE_SEATS], catalog) == PortalVariant(Proration.NONE, per_seat_only=True)


@pytest.mark.parametrize(
    ("subscriptions", "variant"),
    [
        ([], IMMEDIATE),
        ([ON_PRO], IMMEDIATE),
        ([replace(ON_PRO, quantity=3)], SEATS_ONLY),
        ([ON_TEAM], ON_NEXT_INVOICE),
        ([THREE_SEATS], SEATS_ONLY),
        ([replace(THREE_SEATS, status="past_due")], SEATS_ONLY),
        ([replace(THREE_SEATS, status="canceled")], IMMEDIATE),
        ([replace(THREE_SEATS, status="canceled"), ON_PRO], IMMEDIATE),
        ([ON_PRO, ON_TEAM], ON_NEXT_INVOICE),
        ([replace(THREE_SEATS, price_is_mapped=False, is_per_seat=False)], SEATS_ONLY),
        ([replace(THREE_SEATS, plan="left_the_catalog")], SEATS_ONLY),
        ([replace(ON_PRO, plan=None)], IMMEDIATE),
        ([replace(ON_PRO, plan="left_the_catalog")], IMMEDIATE),
    ],
)
def test_variant_fits_the_present_subscription(subscriptions: list[Subscription], variant: PortalVariant) -> None:
    assert variant_for(subscriptions, CATALOG) == variant


def test_variant_while_a_lower_plan_has_several_seats_offers_no_flat_price() -> None:
    """The highest plan is flat. Its proration has no restricted variant, so that of the per-seat plan is used."""
    enterprise = Plan("enterprise", "Enterprise", (Price("enterprise_monthly", 9900, "usd", "month"),))
    catalog = Catalog((FREE, TEAM, enterprise))
    on_enterprise = replace(ON_PRO, plan="enterprise")
    assert variant_for([on_enterprise, THREE_SEATS], catalog) == SEATS_ONLY
    assert variant_for([on_enterprise, ON_TEAM], catalog) == IMMEDIATE


def test_variant_with_several_seats_keeps_the_proration_of_the_highest_plan_if_it_can() -> None:
    business = Plan("business", "Business", (Price("business_monthly", 9900, "usd", "month", per_seat=True),))
    catalog = Catalog((FREE, PRO, TEAM, replace(business, proration=Proration.NONE)))
    on_business = replace(ON_TEAM, id="sub_3", plan="business")
    assert variant_for([on_business, THREE_SEATS], catalog) == PortalVariant(Proration.NONE, per_seat_only=True)


def test_variant_of_a_catalog_with_flat_prices_only_is_unrestricted() -> None:
    assert variant_for([replace(ON_PRO, quantity=3)], Catalog((FREE, PRO))) == IMMEDIATE
