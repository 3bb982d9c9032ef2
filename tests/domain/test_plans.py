"""Catalog: plan of a price, rank of a plan, plans for sale."""

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
def test_plan_of_price_prefers_lookup_key_over_id(
    lookup_key: str | None, price_id: str | None, plan: str | None
) -> None:
    found = CATALOG.plan_of_price(lookup_key, price_id)
    assert (found.id if found else None) == plan


@pytest.mark.parametrize(
    ("lookup_key", "price_id", "metadata_plan", "plan"),
    [
        (None, "price_archived", "pro", "pro"),
        ("renamed", None, "team", "team"),
        (None, None, "free", "free"),
        ("pro_monthly", None, "team", "pro"),
        (None, "price_team", "pro", "team"),
        (None, None, "gold", None),
        (None, None, "", None),
    ],
)
def test_plan_of_price_uses_metadata_after_lookup_key_and_id(
    lookup_key: str | None, price_id: str | None, metadata_plan: str, plan: str | None
) -> None:
    found = CATALOG.plan_of_price(lookup_key, price_id, metadata_plan)
    assert (found.id if found else None) == plan


def test_plan_of_price_without_id_matches_no_price_without_id() -> None:
    assert CATALOG.plan_of_price(None, None) is None


@given(lookup_key=st.none() | st.text(), price_id=st.none() | st.text())
def test_plan_of_price_with_any_text_is_plan_or_none(lookup_key: str | None, price_id: str | None) -> None:
    is_in_catalog = lookup_key in {"pro_monthly", "pro_yearly", "team_monthly"} or price_id in {
        "price_yearly",
        "price_team",
    }
    assert (CATALOG.plan_of_price(lookup_key, price_id) is not None) is is_in_catalog


def test_rank_is_position_in_catalog_and_lowest_for_unlisted_plan() -> None:
    assert [CATALOG.rank(plan.id) for plan in CATALOG.plans] == [0, 1, 2, 3]
    assert CATALOG.rank("discontinued") == CATALOG.rank(None) < CATALOG.rank(CATALOG.free.id)


def test_for_sale_contains_only_plans_with_prices() -> None:
    assert [plan.id for plan in CATALOG.for_sale] == ["pro", "team"]


def test_plan_is_found_by_exact_id() -> None:
    assert CATALOG.plan("pro") == CATALOG.plans[1]
    assert CATALOG.plan("Pro") is None


def test_default_catalog_has_documented_plans() -> None:
    catalog = load_catalog()
    assert [plan.id for plan in catalog.plans] == ["free", "pro", "team", "enterprise"]
    assert [plan.id for plan in catalog.for_sale] == ["pro", "team"]
    assert catalog.free.limits["projects"] == 1
    assert "projects" not in catalog.plans[3].limits
