"""Validation of catalog.toml, so that a mistake in an edited catalog is found before a deployment."""

import tomllib
from dataclasses import asdict

import pytest
from pydantic import ValidationError

from billing.catalog import CATALOG_PATH, load_catalog, parse_catalog
from billing.domain.plans import Downgrades, Proration
from tests.catalog_model import check_catalog

VALID = """
[[plans]]
id = "free"
name = "Free"

[[plans]]
id = "pro"
name = "Pro"
trial_days = 14
prices = [{ lookup_key = "pro_monthly", unit_amount = 1_900, currency = "usd", interval = "month" }]
limits = { projects = 10 }
features = { sla = "99.9%", priority_support = true }

[portal]
downgrades = "at_period_end"

[[metrics]]
id = "projects"
name = "Projects"
kind = "gauge"

[[metrics]]
id = "api_calls"
name = "API calls"
kind = "counter"
"""


def test_catalog_of_this_repository_is_valid() -> None:
    checked = check_catalog(CATALOG_PATH.read_text())
    assert [plan.id for plan in checked.plans] == [plan.id for plan in load_catalog().plans]


def test_load_catalog_returns_every_field_of_the_file() -> None:
    checked = check_catalog(CATALOG_PATH.read_text())
    assert [table.model_dump() for table in checked.metrics] == [asdict(metric) for metric in load_catalog().metrics]
    for table, plan in zip(checked.plans, load_catalog().plans, strict=True):
        fields = table.model_dump(exclude={"prices"})
        assert fields == {name: getattr(plan, name) for name in fields}
        assert [each.model_dump() for each in table.prices] == [asdict(price) for price in plan.prices]


def test_load_catalog_returns_the_portal_settings_of_the_file() -> None:
    assert load_catalog().downgrades == check_catalog(CATALOG_PATH.read_text()).portal.downgrades


@pytest.mark.parametrize("downgrades", Downgrades)
@pytest.mark.parametrize("proration", Proration)
def test_parsed_catalog_has_the_settings_of_plan_and_portal(downgrades: Downgrades, proration: Proration) -> None:
    text = VALID.replace("at_period_end", downgrades).replace("trial_days = 14", f'proration = "{proration}"')
    check_catalog(text)
    catalog = parse_catalog(tomllib.loads(text))
    assert (catalog.downgrades, catalog.for_sale[0].portal_proration) == (downgrades, proration)


def test_catalog_without_portal_settings_has_the_defaults() -> None:
    text = VALID.replace('[portal]\ndowngrades = "at_period_end"', "").replace(
        '"month" }', '"month", per_seat = true }'
    )
    catalog = parse_catalog(tomllib.loads(text))
    assert catalog.downgrades is Downgrades.AT_PERIOD_END
    assert catalog.for_sale[0].portal_proration is Proration.CREATE_PRORATIONS
    assert catalog.free.portal_proration is Proration.ALWAYS_INVOICE


def test_catalog_with_other_plans_is_valid() -> None:
    assert [plan.id for plan in check_catalog(VALID).plans] == ["free", "pro"]


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ('id = "pro"', 'id = "free"', "plan id used twice: free"),
        ('id = "pro"', 'id = "Pro Plan"', "plans.1.id"),
        ('name = "Pro"', 'name = ""', "plans.1.name"),
        ('name = "Pro"\n', "", "plans.1.name"),
        ("1_900", "-1", "plans.1.prices.0.unit_amount"),
        ("1_900", "19.00", "plans.1.prices.0.unit_amount"),
        ("1_900", '"1900"', "plans.1.prices.0.unit_amount"),
        ('"usd"', '"USD"', "plans.1.prices.0.currency"),
        ('"usd"', '"dollar"', "plans.1.prices.0.currency"),
        ('"month"', '"monthly"', "plans.1.prices.0.interval"),
        ('lookup_key = "pro_monthly", ', "", "plans.1.prices.0.lookup_key"),
        ('lookup_key = "pro_monthly"', 'lookup_key = ""', "plans.1.prices.0.lookup_key"),
        ("unit_amount", "amount", "plans.1.prices.0.amount"),
        ("trial_days = 14", "trial_days = -1", "plans.1.trial_days"),
        ("trial_days = 14", "trial_day = 14", "plans.1.trial_day"),
        ("projects = 10", "projects = -10", "plans.1.limits.projects"),
        ("projects = 10", 'projects = "ten"', "plans.1.limits.projects"),
        ('sla = "99.9%"', "sla = 99.9", "plans.1.features.sla"),
        ("trial_days = 14", 'proration = "later"', "plans.1.proration"),
        ('id = "free"', 'id = "free"\nproration = "none"', "plan free has a proration and no price"),
        ('"at_period_end"', '"never"', "portal.downgrades"),
        ("downgrades", "downgrade", "portal.downgrade"),
        ("[[plans]]", "[[plan]]", "plan"),
        ("projects = 10", "project = 10", "plan pro has limits for unknown metrics: project"),
        ('id = "projects"', 'id = "api_calls"', "metric id used twice: api_calls"),
        ('id = "projects"', 'id = "Projects"', "metrics.0.id"),
        ('name = "Projects"', 'name = ""', "metrics.0.name"),
        ('"gauge"', '"meter"', "metrics.0.kind"),
        ('kind = "gauge"\n', "", "metrics.0.kind"),
    ],
)
def test_invalid_value_is_rejected_with_its_place(valid: str, invalid: str, message: str) -> None:
    assert valid in VALID
    with pytest.raises(ValidationError) as rejected:
        check_catalog(VALID.replace(valid, invalid))
    assert message in str(rejected.value)


PRICE = '{ lookup_key = "pro_monthly", unit_amount = 1_900, currency = "usd", interval = "month" }'


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (f"{PRICE}, {PRICE}", "lookup_key used twice: pro_monthly"),
        (
            PRICE.replace("{", '{ id = "price_1",', 1)
            + ", "
            + PRICE.replace("pro_m", "m").replace("{", '{ id = "price_1",', 1),
            "price id used twice: price_1",
        ),
        ("", "plan pro has a trial and no price"),
    ],
)
def test_ambiguous_or_missing_prices_are_rejected(prices: str, message: str) -> None:
    """A lookup key or id of two prices maps to two plans; a trial requires a price to pay afterwards."""
    with pytest.raises(ValidationError, match=message):
        check_catalog(VALID.replace(PRICE, prices))


def test_first_plan_with_a_price_is_rejected() -> None:
    """An account without a subscription is on the first plan."""
    paid_first = "[[plans]]".join(["", *reversed(VALID.split("[[plans]]")[1:])])
    with pytest.raises(ValidationError, match="first plan must be free: pro has prices"):
        check_catalog(paid_first)


def test_catalog_without_plans_is_rejected() -> None:
    with pytest.raises(ValidationError, match="plans"):
        check_catalog("plans = []")
