"""Parsing of Stripe's objects in every supported form, and of hostile values."""

from collections.abc import Mapping
from typing import Any

import pytest

from billing.domain.errors import EventUnprocessable
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import UNKNOWN_CHANGE, PendingChange, Subscription
from billing.stripe_events.objects import account_id_of, deployment_id_of, parse_invoice, parse_subscription
from tests.stripe_events.sources import (
    CATALOG,
    END,
    INVOICE,
    MONTH,
    PERIOD,
    START,
    SUBSCRIPTION,
    Json,
    at,
    invoice,
    item,
    subscription,
    without,
)

# --- Valid objects ----------------------------------------------------------------------------------------------------


def test_subscription_with_all_fields_is_parsed() -> None:
    assert subscription() == Subscription(
        id="sub_1",
        customer_id="cus_1",
        status="active",
        created=at(START),
        plan="pro",
        price_id="price_pro_monthly",
        quantity=1,
        current_period_start=at(START),
        current_period_end=at(END),
        cancel_at_period_end=True,
        cancel_at=at(END),
        canceled_at=at(START + 1),
        ended_at=at(START + 2),
        trial_end=at(START + 3),
        price_is_mapped=True,
    )


# --- Subscription schedules -------------------------------------------------------------------------------------------


def phase(start: int, *items: Json) -> Json:
    return {"start_date": start, "end_date": start + MONTH, "items": list(items)}


def schedule(*following: Json, **changes: Any) -> Json:
    """Return an expanded schedule whose first phase is the present one."""
    phases = [phase(START, item()), *following]
    current = {"start_date": START, "end_date": START + MONTH}
    return {"id": "sub_sched_1", "status": "active", "current_phase": current, "phases": phases} | changes


def pending(source: object, **changes: Any) -> PendingChange | None:
    return subscription(schedule=source, **changes).pending_change


def test_schedule_without_phases_is_an_unknown_change() -> None:
    parsed = subscription(schedule="sub_sched_1")
    assert (parsed.schedule_id, parsed.pending_change) == ("sub_sched_1", UNKNOWN_CHANGE)


def test_pending_change_is_that_of_the_next_phase() -> None:
    source = schedule(phase(START + 2 * MONTH, item(quantity=9)), phase(START + MONTH, item("team_monthly", 3)))
    assert pending(source) == PendingChange("team", "price_team_monthly", 3, at(START + MONTH))


def test_pending_change_skips_phases_with_the_present_price_and_quantity() -> None:
    """A phase may change a discount only."""
    source = schedule(phase(START + MONTH, item()), phase(START + 2 * MONTH, item("team_monthly")))
    assert pending(source) == PendingChange("team", "price_team_monthly", 1, at(START + 2 * MONTH))


def test_pending_change_is_that_of_the_item_with_the_highest_plan() -> None:
    source = schedule(phase(START + MONTH, item("extra"), item("team_monthly", 2), item()))
    assert pending(source) == PendingChange("team", "price_team_monthly", 2, at(START + MONTH))


def test_pending_change_to_a_price_outside_the_catalog_has_no_plan() -> None:
    assert pending(schedule(phase(START + MONTH, item("other")))) == PendingChange(
        None, "price_other", 1, at(START + MONTH)
    )


def test_pending_change_of_a_list_has_the_id_of_its_price() -> None:
    """A list of subscriptions expands the schedules, and not their prices."""
    source = schedule(phase(START + MONTH, {"price": "price_team_monthly", "quantity": 2}))
    assert pending(source) == PendingChange(None, "price_team_monthly", 2, at(START + MONTH))
    several = schedule(phase(START + MONTH, {"price": "price_1", "quantity": 1}, {"price": "price_2", "quantity": 1}))
    assert pending(several) == UNKNOWN_CHANGE


@pytest.mark.parametrize(
    "source",
    [
        schedule(),
        schedule(phase(START - MONTH, item("team_monthly"))),
        schedule(phase(START + MONTH, item("team_monthly")), status="released"),
        None,
    ],
)
def test_schedule_without_a_later_phase_has_no_pending_change(source: Json | None) -> None:
    assert pending(source) is None


def test_schedule_that_has_not_started_begins_with_its_first_phase() -> None:
    source = schedule(status="not_started", current_phase=None, phases=[phase(END, item("team_monthly"))])
    assert pending(source) == PendingChange("team", "price_team_monthly", 1, at(END))


def test_ended_subscription_has_no_schedule() -> None:
    parsed = subscription(status="canceled", schedule=schedule(phase(START + MONTH, item("team_monthly"))))
    assert (parsed.schedule_id, parsed.pending_change) == (None, None)


@pytest.mark.parametrize(
    "source",
    [
        schedule(phases="x"),
        schedule(phases=[1]),
        schedule(current_phase=3),
        schedule({"start_date": END}),
        schedule({"items": [item()]}),
        schedule(phase(START + MONTH, {"price": 1})),
        {"id": 1},
    ],
)
def test_malformed_schedule_is_unprocessable(source: Json) -> None:
    with pytest.raises(EventUnprocessable):
        subscription(schedule=source)


def test_price_is_per_seat_by_the_catalog() -> None:
    seats = Catalog(
        (
            Plan("free", "Free"),
            Plan("pro", "Pro", (Price("pro_monthly", 1_900, "usd", "month"),)),
            Plan("team", "Team", (Price("team_monthly", 4_900, "usd", "month", per_seat=True),)),
        )
    )
    source = schedule(phase(START + MONTH, item("team_monthly", 3)))
    parsed = parse_subscription(SUBSCRIPTION | {"schedule": source}, seats)
    assert not parsed.is_per_seat
    assert parsed.pending_change
    assert parsed.pending_change.is_per_seat
    assert parse_subscription(SUBSCRIPTION | {"items": {"data": [item("team_monthly")]}}, seats).is_per_seat


# --- Invoices ---------------------------------------------------------------------------------------------------------


def test_invoice_with_all_fields_is_parsed() -> None:
    assert invoice() == Invoice(
        id="in_1",
        customer_id="cus_1",
        subscription_id="sub_1",
        status="open",
        number="A-1",
        created=at(START),
        currency="usd",
        total=1_900,
        amount_due=1_900,
        amount_paid=0,
        amount_remaining=1_900,
        attempt_count=2,
        period_start=at(START),
        period_end=at(END),
        hosted_invoice_url="https://invoice.example.com/i/1",
        invoice_pdf="https://invoice.example.com/i/1.pdf",
    )


def test_subscription_with_period_on_item_or_top_level_is_equal() -> None:
    older = parse_subscription(SUBSCRIPTION | PERIOD | {"items": {"data": [item()]}}, CATALOG)
    assert older == subscription()
    assert subscription(current_period_start=1, current_period_end=2) == subscription()


def test_invoice_with_subscription_under_parent_or_top_level_is_equal() -> None:
    older = parse_invoice(without(INVOICE, "parent") | {"subscription": "sub_1"})
    assert older == invoice()


@pytest.mark.parametrize("parent", [None, {}, {"subscription_details": None}, {"quote_details": {"quote": "qt_1"}}])
def test_invoice_without_subscription_is_parsed(parent: object) -> None:
    assert invoice(parent=parent).subscription_id is None


def test_expanded_reference_is_parsed_as_its_id() -> None:
    assert subscription(customer={"id": "cus_1", "object": "customer", "email": "x@example.com"}) == subscription()
    details = {"subscription_details": {"subscription": SUBSCRIPTION}}
    assert invoice(customer={"id": "cus_1"}, parent=details) == invoice()
    assert parse_invoice(without(INVOICE, "parent") | {"subscription": SUBSCRIPTION}) == invoice()


@pytest.mark.parametrize("team_first", [True, False])
def test_subscription_with_several_items_has_highest_plan(*, team_first: bool) -> None:
    team = item("team_monthly", 5, current_period_start=START + 9, current_period_end=END + 9)
    others = [item("addon_storage", 7, **PERIOD), item("pro_monthly", 2, **PERIOD)]
    found = subscription(items={"data": [team, *others] if team_first else [*others, team]})
    assert (found.plan, found.price_id, found.quantity) == ("team", "price_team_monthly", 5)
    assert (found.current_period_start, found.current_period_end) == (at(START + 9), at(END + 9))


@pytest.mark.parametrize("lookup_key", [None, "addon_storage", ""])
def test_unmapped_price_gives_no_plan_and_is_named(lookup_key: str | None) -> None:
    found = subscription(items={"data": [item(lookup_key, **PERIOD)]})
    assert (found.plan, found.price_is_mapped, found.price_id) == (None, False, f"price_{lookup_key}")
    assert found.current_period_end == at(END)


def archived_item(**metadata: object) -> Json:
    """Return an item with a price that has lost its lookup key."""
    archived = item(None, **PERIOD)
    return archived | {"price": archived["price"] | {"active": False, "metadata": metadata}}


def test_price_without_lookup_key_has_the_plan_of_its_metadata() -> None:
    found = subscription(items={"data": [archived_item(plan="team")]})
    assert (found.plan, found.price_is_mapped) == ("team", True)


@pytest.mark.parametrize("plan", ["another_product", "", 5, None, ["team"]])
def test_price_metadata_of_another_product_is_no_plan(plan: object) -> None:
    """Another product may use the same metadata key. Its events must not fail."""
    found = subscription(items={"data": [archived_item(plan=plan)]})
    assert (found.plan, found.price_is_mapped) == (None, False)


def test_terms_of_price_and_pause_are_parsed() -> None:
    priced = item("pro_monthly", 3, **PERIOD)
    recurring = {"interval": "year", "interval_count": 1}
    priced["price"] |= {"unit_amount": 1_900, "currency": "eur", "recurring": recurring}
    pause = {"behavior": "keep_as_draft", "resumes_at": START}
    found = subscription(items={"data": [priced]}, pause_collection=pause)
    assert (found.unit_amount, found.currency, found.quantity) == (1_900, "eur", 3)
    assert (found.interval, found.interval_count) == ("year", 1)
    assert (found.pause_collection, found.pause_resumes_at) == ("keep_as_draft", at(START))


def test_subscription_currency_differs_from_the_price_amount_is_unknown() -> None:
    """A price with `currency_options` shows its amount in its own currency only."""
    priced = item("pro_monthly", **PERIOD)
    priced["price"] |= {"unit_amount": 1_900, "currency": "usd"}
    found = subscription(items={"data": [priced]}, currency="eur")
    assert (found.currency, found.unit_amount) == ("eur", None)
    found = subscription(items={"data": [priced]}, currency="usd")
    assert (found.currency, found.unit_amount) == ("usd", 1_900)


def test_subscription_without_items_has_no_plan() -> None:
    found = subscription(items={"data": []})
    assert (found.plan, found.price_id, found.quantity, found.current_period_end) == (None, None, None, None)


def test_absent_optional_fields_are_none() -> None:
    optional = ("cancel_at_period_end", "cancel_at", "canceled_at", "ended_at", "trial_end", "metadata")
    found = parse_subscription(without(SUBSCRIPTION, *optional), CATALOG)
    assert (found.cancel_at_period_end, found.cancel_at, found.trial_end) == (False, None, None)
    links = ("hosted_invoice_url", "invoice_pdf", "parent")
    assert (
        parse_invoice(without(INVOICE, "number", "attempt_count", "period_start", "period_end", *links)).attempt_count
        == 0
    )


def test_unknown_fields_are_ignored() -> None:
    assert subscription(added_in_2030={"a": [1]}) == subscription()
    assert invoice(added_in_2030={"a": [1]}) == invoice()


# --- Account id -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        {"metadata": {"account_id": "acme"}},
        {"parent": {"subscription_details": {"metadata": {"account_id": "acme"}}}},
        {"subscription_details": {"metadata": {"account_id": "acme"}}},
        {"metadata": {}, "parent": {"subscription_details": {"metadata": {"account_id": "acme"}}}},
    ],
)
def test_account_id_is_found_in_own_or_subscription_metadata(source: Json) -> None:
    assert account_id_of(source) == "acme"


@pytest.mark.parametrize(
    "account_id", [None, "", "two words", "line\nbreak", "a#b", "ümlaut", "x" * 256, 5, ["acme"], {}]
)
def test_account_id_of_impossible_value_is_none(account_id: object) -> None:
    """Another product may use the same metadata key. Its events must not fail."""
    assert account_id_of({"metadata": {"account_id": account_id}}) is None


# --- Deployment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "deployment_id"),
    [
        ({}, None),
        ({"metadata": {"billing_deployment": "prod"}}, "prod"),
        ({"metadata": {"billing_deployment": ""}}, None),
        ({"metadata": {"billing_deployment": 5}}, None),
        ({"parent": {"subscription_details": {"metadata": {"billing_deployment": "prod"}}}}, "prod"),
        ({"subscription_details": {"metadata": {"billing_deployment": "prod"}}}, "prod"),
        (
            {
                "metadata": {"billing_deployment": "own"},
                "subscription_details": {"metadata": {"billing_deployment": "prod"}},
            },
            "own",
        ),
    ],
)
def test_deployment_is_that_of_the_object_else_of_an_invoices_subscription(
    source: Mapping[str, Any], deployment_id: str | None
) -> None:
    assert deployment_id_of(source) == deployment_id
