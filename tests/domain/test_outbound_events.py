"""Outbound events are differences between two states of an object."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.api.operations.invoices import INVOICES
from billing.domain.invoices import Invoice
from billing.domain.outbound_events import (
    OutboundEvent,
    earliest_event_id,
    event_id,
    event_object,
    outbound_event_type,
    previous_values,
)
from billing.domain.subscriptions import PendingChange
from tests.domain.test_accounts import ACTIVE, CATALOG, ended

OPEN = Invoice(
    id="in_1",
    customer_id="cus_1",
    subscription_id="sub_1",
    status="open",
    number="ACME-1",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    currency="usd",
    total=1900,
    amount_due=1900,
    amount_paid=0,
    amount_remaining=1900,
    attempt_count=0,
    period_start=None,
    period_end=None,
    hosted_invoice_url="https://invoice.example",
    invoice_pdf=None,
)
MOMENTS = (datetime(2026, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - hypothesis draws naive bounds
FOREIGN = replace(ACTIVE, plan=None, price_is_mapped=False)
DOWNGRADING = replace(ACTIVE, pending_change=PendingChange("free", "price_0", 1, datetime(2026, 4, 1, tzinfo=UTC)))
INCOMPLETE = replace(ACTIVE, status="incomplete")
PAID = replace(OPEN, status="paid", attempt_count=1, amount_paid=1900, amount_remaining=0)


@pytest.mark.parametrize(
    ("before", "after", "event_type"),
    [
        (None, ACTIVE, "subscription.created"),
        (None, INCOMPLETE, None),
        (INCOMPLETE, ACTIVE, "subscription.created"),
        (INCOMPLETE, replace(ACTIVE, status="incomplete_expired"), None),
        (ACTIVE, replace(ACTIVE, plan="team"), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, cancel_at_period_end=True), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, price_id="price_2"), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, pause_collection="void"), "subscription.updated"),
        (ACTIVE, replace(ACTIVE, canceled_at=ACTIVE.created), None),
        (None, FOREIGN, None),
        (FOREIGN, replace(FOREIGN, quantity=2), None),
        (FOREIGN, replace(FOREIGN, status="canceled"), None),
        (FOREIGN, ACTIVE, "subscription.created"),
        (ACTIVE, replace(FOREIGN, plan="free"), "subscription.updated"),
        (ACTIVE, ACTIVE, None),
        (ACTIVE, ended(0), "subscription.canceled"),
        (ended(0), ended(0), None),
        (ACTIVE, DOWNGRADING, "subscription.updated"),
        (DOWNGRADING, ACTIVE, "subscription.updated"),
        (None, ended(0), None),
        (None, OPEN, None),
        (OPEN, PAID, "invoice.paid"),
        (None, PAID, "invoice.paid"),
        (PAID, PAID, None),
        (OPEN, replace(OPEN, attempt_count=1), "invoice.payment_failed"),
        (replace(OPEN, attempt_count=1), replace(OPEN, attempt_count=2), "invoice.payment_failed"),
        (replace(OPEN, attempt_count=1), replace(OPEN, attempt_count=1, number="ACME-2"), None),
    ],
)
def test_outbound_event_type_of_change_is_one_of_contract_or_none(
    before: object, after: object, event_type: str | None
) -> None:
    assert outbound_event_type(before, after, CATALOG) == event_type  # type: ignore[arg-type]


def test_event_object_of_a_subscription_has_the_names_of_the_native_contract() -> None:
    assert event_object(DOWNGRADING) == {
        "id": "sub_1",
        "plan": "pro",
        "status": "active",
        "price_id": "price_1",
        "unit_amount": None,
        "currency": None,
        "interval": None,
        "interval_count": None,
        "quantity": 1,
        "current_period_start": "2026-02-28T00:00:00Z",
        "current_period_end": "2026-03-30T00:00:00Z",
        "cancel_at_period_end": False,
        "cancel_at": None,
        "ended_at": None,
        "trial_end": None,
        "pause_collection": None,
        "pending_change": {
            "plan": "free",
            "price_id": "price_0",
            "quantity": 1,
            "effective_at": "2026-04-01T00:00:00Z",
        },
    }


def test_event_object_of_an_undecided_subscription_names_no_plan() -> None:
    published = event_object(replace(DOWNGRADING, conflicting_account_id="globex"))
    assert (published["plan"], published["pending_change"]) == (None, None)


def test_event_object_of_an_invoice_has_the_names_of_the_native_contract() -> None:
    published = event_object(PAID)
    assert (published["subscription_id"], published["amount_paid"]) == ("sub_1", 1900)
    listed = INVOICES.response["properties"]["invoices"]["items"]["properties"]
    assert listed.keys() <= published.keys()


def test_previous_values_are_those_of_changed_fields() -> None:
    assert previous_values(ACTIVE, replace(ACTIVE, plan="team", quantity=3)) == {"plan": "pro", "quantity": 1}
    assert previous_values(None, ACTIVE) is None


def test_event_body_has_the_envelope_of_the_documentation() -> None:
    event = OutboundEvent(
        id="msg_1",
        type="subscription.updated",
        account_id="acme",
        occurred_at=datetime(2026, 3, 1, tzinfo=UTC),
        sequence=2,
        object={"id": "sub_1"},
        previous={"plan": "free"},
    )
    assert event.body == {
        "id": "msg_1",
        "type": "subscription.updated",
        "timestamp": "2026-03-01T00:00:00Z",
        "api_version": "v1",
        "account_id": "acme",
        "sequence": 2,
        "data": {"object": {"id": "sub_1"}, "previous": {"plan": "free"}},
    }


@given(
    first=st.tuples(st.datetimes(MOMENTS[0], MOMENTS[1]), st.integers(1, 2**24 - 1)),
    second=st.tuples(st.datetimes(MOMENTS[0], MOMENTS[1]), st.integers(1, 2**24 - 1)),
)
def test_event_ids_of_an_object_sort_by_second_and_sequence(
    first: tuple[datetime, int], second: tuple[datetime, int]
) -> None:
    def id_of(commit: tuple[datetime, int]) -> str:
        return event_id(commit[0].replace(tzinfo=UTC), "acme", "sub_1", commit[1])

    def order(commit: tuple[datetime, int]) -> tuple[int, int]:
        return int(commit[0].replace(tzinfo=UTC).timestamp()), commit[1]

    assert (id_of(first) < id_of(second)) == (order(first) < order(second))


def test_event_ids_of_two_objects_and_of_two_accounts_differ() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    ids = {event_id(now, account, subject, 1) for account in ("acme", "globex", None) for subject in ("sub_1", "sub_2")}
    assert len(ids) == 6
    assert all(each > earliest_event_id(now) for each in ids)
    assert all(each < earliest_event_id(now + timedelta(seconds=1)) for each in ids)
