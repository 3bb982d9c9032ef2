"""catalog.toml is what its users edit: it is checked here, so that a mistake never reaches a deployment."""

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError

from billing.catalog import CATALOG_PATH, compile_tables, load_catalog, read_tables
from tests.catalog_model import check_catalog

GOOD = """
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

[[metrics]]
id = "projects"
name = "Projects"
kind = "gauge"

[[metrics]]
id = "api_calls"
name = "API calls"
kind = "counter"
"""


def test_the_catalog_is_sound() -> None:
    """The catalog of this repository passes the check that every edit of it has to pass."""
    checked = check_catalog(CATALOG_PATH.read_text())
    assert [plan.id for plan in checked.plans] == [plan.id for plan in load_catalog().plans]


def test_the_functions_read_what_was_checked() -> None:
    """Every field of every plan, price and metric reaches the domain as the file has it."""
    checked = check_catalog(CATALOG_PATH.read_text())
    assert [table.model_dump() for table in checked.metrics] == [asdict(metric) for metric in load_catalog().metrics]
    for table, plan in zip(checked.plans, load_catalog().plans, strict=True):
        told = table.model_dump(exclude={"prices"})
        assert told == {name: getattr(plan, name) for name in told}
        for price_table, price in zip(table.prices, plan.prices, strict=True):
            told = price_table.model_dump()
            assert told == {name: getattr(price, name) for name in told}


def test_a_catalog_may_sell_something_else() -> None:
    """The check accepts what a user would write, not only what is here."""
    assert [plan.id for plan in check_catalog(GOOD).plans] == ["free", "pro"]


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
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
        ("[[plans]]", "[[plan]]", "plan"),
        ("projects = 10", "project = 10", "plan pro limits what is no metric: project"),
        ('id = "projects"', 'id = "api_calls"', "metric id used twice: api_calls"),
        ('id = "projects"', 'id = "Projects"', "metrics.0.id"),
        ('name = "Projects"', 'name = ""', "metrics.0.name"),
        ('"gauge"', '"meter"', "metrics.0.kind"),
        ('kind = "gauge"\n', "", "metrics.0.kind"),
    ],
)
def test_a_mistake_is_told_with_its_place(right: str, wrong: str, says: str) -> None:
    """Each kind of mistake fails the build and names the line's key."""
    assert right in GOOD
    with pytest.raises(ValidationError) as refused:
        check_catalog(GOOD.replace(right, wrong))
    assert says in str(refused.value)


PRICE = '{ lookup_key = "pro_monthly", unit_amount = 1_900, currency = "usd", interval = "month" }'


@pytest.mark.parametrize(
    ("prices", "says"),
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
def test_prices_that_contradict_each_other(prices: str, says: str) -> None:
    """A lookup key or id that two prices share would map to either plan; a trial needs something to pay afterwards."""
    with pytest.raises(ValidationError, match=says):
        check_catalog(GOOD.replace(PRICE, prices))


def test_the_first_plan_must_be_free() -> None:
    """An account without a subscription is on the first plan: it cannot be one that costs money."""
    paid_first = "[[plans]]".join(["", *reversed(GOOD.split("[[plans]]")[1:])])
    with pytest.raises(ValidationError, match="first plan is what nobody pays for: pro"):
        check_catalog(paid_first)


def test_an_empty_catalog_is_no_catalog() -> None:
    """There has to be a plan for accounts without a subscription."""
    with pytest.raises(ValidationError, match="plans"):
        check_catalog("plans = []")


def test_the_catalog_is_read_from_its_json_only_where_that_is_made_of_it(tmp_path: Path) -> None:
    """An edited catalog counts at once, whether or not anybody has compiled it."""
    source, compiled = tmp_path / "catalog.toml", tmp_path / "catalog.json"
    source.write_text("plans = [{ id = 'free' }]")
    assert read_tables(source, compiled) == {"plans": [{"id": "free"}]}
    compile_tables(source, compiled)
    compiled.write_text(compiled.read_text().replace("free", "from its JSON"))
    assert read_tables(source, compiled) == {"plans": [{"id": "from its JSON"}]}
    source.write_text("plans = [{ id = 'edited' }]")
    assert read_tables(source, compiled) == {"plans": [{"id": "edited"}]}
    compile_tables(source, compiled)
    assert read_tables(source, compiled) == {"plans": [{"id": "edited"}]}


def test_the_json_says_what_the_toml_says(tmp_path: Path) -> None:
    """For the catalog itself."""
    compiled = tmp_path / "catalog.json"
    compile_tables(CATALOG_PATH, compiled)
    assert read_tables(CATALOG_PATH, compiled) == tomllib.loads(CATALOG_PATH.read_text())
