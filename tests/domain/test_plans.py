"""The catalog: which plan a price belongs to, how plans compare, and what is for sale."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.catalog import load_catalog
from billing.domain.plans import Catalog, Plan, Price

MONTHLY = Price("pro_monthly", 1_900, "usd", "month")
YEARLY = Price("pro_yearly", 19_000, "usd", "year", id="price_yearly")
TEAM = Price("team_monthly", 4_900, "usd", "month", per_seat=True, id="price_team")
CATALOG = Catalog(
    (
        Plan("free", "Free"),
        Plan("pro", "Pro", (MONTHLY, YEARLY)),
        Plan("team", "Team", (TEAM,)),
        Plan("enterprise", "Enterprise", contact="sales@example.com"),
    )
)


@pytest.mark.parametrize(
    ("lookup_key", "price_id", "plan"),
    [
        ("pro_monthly", "price_1", "pro"),
        ("pro_yearly", None, "pro"),
        (None, "price_yearly", "pro"),
        ("renamed", "price_team", "team"),
        ("pro_monthly", "price_team", "pro"),
        ("", "price_team", "team"),
        (None, "price_1", None),
        ("renamed", "price_1", None),
        (None, None, None),
        ("", "", None),
    ],
)
def test_a_price_belongs_to_a_plan(lookup_key: str | None, price_id: str | None, plan: str | None) -> None:
    """By lookup key first, then by id; a price that is in neither is none of ours."""
    found = CATALOG.plan_of_price(lookup_key, price_id)
    assert (found.id if found else None) == plan


def test_a_price_without_an_id_never_matches_by_id() -> None:
    """Prices of the catalog that name no id do not take those that Stripe sends without one."""
    assert CATALOG.plan_of_price(None, None) is None


@given(lookup_key=st.none() | st.text(), price_id=st.none() | st.text())
def test_whatever_a_price_is_called_it_has_a_plan_or_none(lookup_key: str | None, price_id: str | None) -> None:
    """No name of a price raises, and only names of the catalog lead to a plan."""
    known = lookup_key in {"pro_monthly", "pro_yearly", "team_monthly"} or price_id in {"price_yearly", "price_team"}
    assert (CATALOG.plan_of_price(lookup_key, price_id) is not None) is known


def test_plans_go_from_the_least_to_the_most() -> None:
    """The file's order is the plans' rank; one that is no longer sold ranks below all, like none at all."""
    assert [CATALOG.rank(plan.id) for plan in CATALOG.plans] == [0, 1, 2, 3]
    assert CATALOG.rank("discontinued") == CATALOG.rank(None) < CATALOG.rank(CATALOG.free.id)


def test_what_is_for_sale_has_a_price() -> None:
    """Checkout sells plans with prices; the free plan and one sold by agreement are not among them."""
    assert [plan.id for plan in CATALOG.for_sale] == ["pro", "team"]


def test_a_plan_is_found_by_its_id() -> None:
    """Ids are exact."""
    assert CATALOG.plan("pro") == CATALOG.plans[1]
    assert CATALOG.plan("Pro") is None


def test_the_default_catalog_is_the_documented_price_page() -> None:
    """What this repository sells until somebody edits it: four plans, of which two can be bought at once."""
    catalog = load_catalog()
    assert [plan.id for plan in catalog.plans] == ["free", "pro", "team", "enterprise"]
    assert [plan.id for plan in catalog.for_sale] == ["pro", "team"]
    assert catalog.free.limits["projects"] == 1
    assert "projects" not in catalog.plans[3].limits
