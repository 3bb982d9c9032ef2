"""Stripe's objects in both API shapes, and whatever else may stand in their fields."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.errors import EventUnprocessable
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import Subscription
from billing.stripe_events.objects import account_id_of, parse_invoice, parse_subscription

CATALOG = Catalog(
    (
        Plan("free", "Free"),
        Plan("pro", "Pro", (Price("pro_monthly", 1_900, "usd", "month"),)),
        Plan("team", "Team", (Price("team_monthly", 4_900, "usd", "month"),)),
    )
)
START, END = 1_780_000_000, 1_782_592_000
PERIOD: dict[str, Any] = {"current_period_start": START, "current_period_end": END}

type Json = dict[str, Any]


def item(lookup_key: str | None = "pro_monthly", quantity: int = 1, **rest: Any) -> Json:
    """A subscription item."""
    return {"price": {"id": f"price_{lookup_key}", "lookup_key": lookup_key}, "quantity": quantity} | rest


SUBSCRIPTION: Json = {
    "id": "sub_1",
    "customer": "cus_1",
    "status": "active",
    "created": START,
    "items": {"data": [item(**PERIOD)]},
    "cancel_at_period_end": True,
    "cancel_at": END,
    "canceled_at": START + 1,
    "ended_at": START + 2,
    "trial_end": START + 3,
    "metadata": {"account_id": "acme"},
}
INVOICE: Json = {
    "id": "in_1",
    "customer": "cus_1",
    "status": "open",
    "number": "A-1",
    "created": START,
    "currency": "usd",
    "total": 1_900,
    "amount_due": 1_900,
    "amount_paid": 0,
    "amount_remaining": 1_900,
    "attempt_count": 2,
    "period_start": START,
    "period_end": END,
    "hosted_invoice_url": "https://invoice.example.com/i/1",
    "invoice_pdf": "https://invoice.example.com/i/1.pdf",
    "parent": {"subscription_details": {"subscription": "sub_1", "metadata": {"account_id": "acme"}}},
}


def at(seconds: int) -> datetime:
    """A Unix time."""
    return datetime.fromtimestamp(seconds, UTC)


def subscription(**changes: Any) -> Subscription:
    """SUBSCRIPTION with changes, read."""
    return parse_subscription(SUBSCRIPTION | changes, CATALOG)


def invoice(**changes: Any) -> Invoice:
    """INVOICE with changes, read."""
    return parse_invoice(INVOICE | changes)


def without(source: Json, *names: str) -> Json:
    """An object that lacks fields."""
    return {name: value for name, value in source.items() if name not in names}


# --- what is there ----------------------------------------------------------------------------------------------------


def test_a_subscription_is_read_whole() -> None:
    """Every fact that is kept comes from the field it is named for."""
    assert subscription() == Subscription(
        id="sub_1",
        customer_id="cus_1",
        status="active",
        created=at(START),
        plan="pro",
        price_id="price_pro_monthly",
        price_lookup_key="pro_monthly",
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


def test_an_invoice_is_read_whole() -> None:
    """Every fact that is kept comes from the field it is named for."""
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


def test_both_shapes_of_a_subscription_are_the_same() -> None:
    """A period on the item and a period on top say the same; the item's counts where both are there."""
    older = parse_subscription(SUBSCRIPTION | PERIOD | {"items": {"data": [item()]}}, CATALOG)
    assert older == subscription()
    assert subscription(current_period_start=1, current_period_end=2) == subscription()


def test_both_shapes_of_an_invoice_are_the_same() -> None:
    """The subscription under `parent` and the one on top say the same."""
    older = parse_invoice(without(INVOICE, "parent") | {"subscription": "sub_1"})
    assert older == invoice()


@pytest.mark.parametrize("parent", [None, {}, {"subscription_details": None}, {"quote_details": {"quote": "qt_1"}}])
def test_a_one_off_invoice_has_no_subscription(parent: object) -> None:
    """Whatever stands in place of a subscription's details, an invoice without one is still read."""
    assert invoice(parent=parent).subscription_id is None


def test_expanded_objects_count_as_their_ids() -> None:
    """An endpoint or caller that expands references gets the same rows."""
    assert subscription(customer={"id": "cus_1", "object": "customer", "email": "x@example.com"}) == subscription()
    details = {"subscription_details": {"subscription": SUBSCRIPTION}}
    assert invoice(customer={"id": "cus_1"}, parent=details) == invoice()
    assert parse_invoice(without(INVOICE, "parent") | {"subscription": SUBSCRIPTION}) == invoice()


@pytest.mark.parametrize("team_first", [True, False])
def test_the_plans_item_wins(*, team_first: bool) -> None:
    """Of several items the one that grants the most gives plan, price, quantity and period, wherever it stands."""
    team = item("team_monthly", 5, current_period_start=START + 9, current_period_end=END + 9)
    others = [item("addon_storage", 7, **PERIOD), item("pro_monthly", 2, **PERIOD)]
    found = subscription(items={"data": [team, *others] if team_first else [*others, team]})
    assert (found.plan, found.price_id, found.quantity) == ("team", "price_team_monthly", 5)
    assert (found.current_period_start, found.current_period_end) == (at(START + 9), at(END + 9))


@pytest.mark.parametrize("lookup_key", [None, "addon_storage", ""])
def test_an_unmapped_price_is_told_and_not_guessed(lookup_key: str | None) -> None:
    """A price that the catalog does not know gives no plan, and is named so that an operator finds it."""
    found = subscription(items={"data": [item(lookup_key, **PERIOD)]})
    assert (found.plan, found.price_is_mapped, found.price_id) == (None, False, f"price_{lookup_key}")
    assert found.current_period_end == at(END)


def test_a_subscription_without_items_has_no_plan() -> None:
    """An empty list of items is possible, and grants nothing."""
    found = subscription(items={"data": []})
    assert (found.plan, found.price_id, found.quantity, found.current_period_end) == (None, None, None, None)


def test_what_stripe_leaves_out_is_none() -> None:
    """Fields that an older or a coming API version lacks are no failure where nothing depends on them."""
    optional = ("cancel_at_period_end", "cancel_at", "canceled_at", "ended_at", "trial_end", "metadata")
    found = parse_subscription(without(SUBSCRIPTION, *optional), CATALOG)
    assert (found.cancel_at_period_end, found.cancel_at, found.trial_end) == (False, None, None)
    links = ("hosted_invoice_url", "invoice_pdf", "parent")
    assert (
        parse_invoice(without(INVOICE, "number", "attempt_count", "period_start", "period_end", *links)).attempt_count
        == 0
    )


def test_fields_that_nobody_knows_are_nothing() -> None:
    """What Stripe adds later does not disturb."""
    assert subscription(added_in_2030={"a": [1]}) == subscription()
    assert invoice(added_in_2030={"a": [1]}) == invoice()


# --- whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        {"metadata": {"account_id": "acme"}},
        {"parent": {"subscription_details": {"metadata": {"account_id": "acme"}}}},
        {"subscription_details": {"metadata": {"account_id": "acme"}}},
        {"metadata": {}, "parent": {"subscription_details": {"metadata": {"account_id": "acme"}}}},
    ],
)
def test_our_objects_carry_their_account(source: Json) -> None:
    """In their own metadata, or an invoice in its subscription's, in either shape."""
    assert account_id_of(source) == "acme"


@pytest.mark.parametrize(
    "account_id", [None, "", "two words", "line\nbreak", "a#b", "ümlaut", "x" * 256, 5, ["acme"], {}]
)
def test_another_products_metadata_names_no_account(account_id: object) -> None:
    """What could not be an account of ours is not looked up, and not a reason to fail the event."""
    assert account_id_of({"metadata": {"account_id": account_id}}) is None


# --- what cannot be ---------------------------------------------------------------------------------------------------

REQUIRED_OF_SUBSCRIPTION = ("id", "customer", "status", "created", "items")
REQUIRED_OF_INVOICE = (
    "id",
    "customer",
    "status",
    "created",
    "currency",
    "total",
    "amount_due",
    "amount_paid",
    "amount_remaining",
)


@pytest.mark.parametrize("name", REQUIRED_OF_SUBSCRIPTION)
def test_a_subscription_that_lacks_what_it_must_have(name: str) -> None:
    """Absent and null are the same, and both are refused by the field's name."""
    for source in (without(SUBSCRIPTION, name), SUBSCRIPTION | {name: None}):
        with pytest.raises(EventUnprocessable, match=name):
            parse_subscription(source, CATALOG)


@pytest.mark.parametrize("name", REQUIRED_OF_INVOICE)
def test_an_invoice_that_lacks_what_it_must_have(name: str) -> None:
    """Absent and null are the same, and both are refused by the field's name."""
    for source in (without(INVOICE, name), INVOICE | {name: None}):
        with pytest.raises(EventUnprocessable, match=name):
            parse_invoice(source)


NAMED_IN_ERROR = {"customer": "customer|id"}
"""An expanded reference is refused by its id."""

NO_STRING = [5, 1.5, True, [], ["x"], {}]
NO_TEXT = [*NO_STRING, "\x00", "line\nbreak", "\ud800", "x" * 5000]
NO_ID = [*NO_TEXT, "", "two words", "sub#1", "ümlaut", "x" * 256]
NO_REFERENCE = [value for value in NO_ID if value != {}] + [{"id": None}, {"id": 5}, {"object": "customer"}, {}]
NO_INTEGER = ["5", 1.5, 5.0, True, [], {}, 2**63, -(2**63)]
NO_TIME = [*NO_INTEGER, -1, 253_402_300_800]
NO_BOOLEAN = [0, 1, "true", [], {}]
NO_ITEMS = [5, "x", [], [item()], {"data": None}, {"data": {}}, {"data": [5]}, {"data": [None]}, {"data": ["x"]}]
NO_OBJECT = [5, "x", True, [], ["x"]]


def each(fields: Mapping[str, list[Any]]) -> pytest.MarkDecorator:
    """Every hostile value in every field."""
    return pytest.mark.parametrize(
        ("name", "value"), [(name, value) for name, values in fields.items() for value in values]
    )


@each(
    {
        "id": NO_ID,
        "customer": NO_REFERENCE,
        "status": NO_TEXT,
        "created": NO_TIME,
        "items": NO_ITEMS,
        "cancel_at_period_end": NO_BOOLEAN,
        "cancel_at": NO_TIME,
        "canceled_at": NO_TIME,
        "ended_at": NO_TIME,
        "trial_end": NO_TIME,
    }
)
def test_a_subscription_of_impossible_types(name: str, value: object) -> None:
    """Each field refuses what it cannot be, and says which field it was."""
    with pytest.raises(EventUnprocessable, match=NAMED_IN_ERROR.get(name, name)):
        subscription(**{name: value})


@each(
    {
        "price": NO_OBJECT,
        "quantity": NO_INTEGER,
        "current_period_start": NO_TIME,
        "current_period_end": NO_TIME,
    }
)
def test_an_item_of_impossible_types(name: str, value: object) -> None:
    """The same for the item that the plan comes from."""
    with pytest.raises(EventUnprocessable, match=name):
        subscription(items={"data": [item(**PERIOD) | {name: value}]})


@each({"id": NO_TEXT, "lookup_key": NO_TEXT})
def test_a_price_of_impossible_types(name: str, value: object) -> None:
    """The same for its price."""
    with pytest.raises(EventUnprocessable, match=name):
        subscription(items={"data": [{"price": {"id": "price_1", "lookup_key": "pro_monthly"} | {name: value}}]})


@each(
    {
        "id": NO_ID,
        "customer": NO_REFERENCE,
        "status": NO_TEXT,
        "number": NO_TEXT,
        "created": NO_TIME,
        "currency": NO_TEXT,
        "total": NO_INTEGER,
        "amount_due": NO_INTEGER,
        "amount_paid": NO_INTEGER,
        "amount_remaining": NO_INTEGER,
        "attempt_count": NO_INTEGER,
        "period_start": NO_TIME,
        "period_end": NO_TIME,
        "hosted_invoice_url": NO_TEXT,
        "invoice_pdf": NO_TEXT,
        "parent": NO_OBJECT,
    }
)
def test_an_invoice_of_impossible_types(name: str, value: object) -> None:
    """Each field refuses what it cannot be, and says which field it was."""
    with pytest.raises(EventUnprocessable, match=NAMED_IN_ERROR.get(name, name)):
        invoice(**{name: value})


@pytest.mark.parametrize("value", NO_REFERENCE)
def test_an_invoices_subscription_of_impossible_types(value: object) -> None:
    """A reference that is none is refused in either shape."""
    for parent, on_top in (({"subscription_details": {"subscription": value}}, None), (None, value)):
        with pytest.raises(EventUnprocessable):
            invoice(parent=parent, subscription=on_top)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def mutations(source: Json) -> st.SearchStrategy[Json]:
    """An object with a few of its fields, at any depth, replaced by any JSON."""

    def replaced(changes: list[tuple[int, Any]]) -> Json:
        result: Any = source
        for place, value in changes:
            paths = list(_paths(result))
            result = _put(result, paths[place % len(paths)], value) if paths else result
        return result if isinstance(result, dict) else {}

    return st.lists(st.tuples(st.integers(0, 200), JSON), min_size=1, max_size=4).map(replaced)


def _paths(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, each in inner for path in ((*before, key), *_paths(each, (*before, key)))]


def _put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _put(value[path[0]], path[1:], new)
    return copy


@given(mutations(SUBSCRIPTION) | st.dictionaries(st.sampled_from(sorted(SUBSCRIPTION)), JSON))
def test_no_subscription_does_more_than_be_refused(source: Json) -> None:
    """Whatever JSON stands wherever, it is read or EventUnprocessable is raised, nothing else."""
    with suppress(EventUnprocessable):
        parse_subscription(source, CATALOG)


@given(mutations(INVOICE) | st.dictionaries(st.sampled_from(sorted(INVOICE)), JSON))
def test_no_invoice_does_more_than_be_refused(source: Json) -> None:
    """Whatever JSON stands wherever, it is read or EventUnprocessable is raised, nothing else."""
    with suppress(EventUnprocessable):
        parse_invoice(source)
    with suppress(EventUnprocessable):
        account_id_of(source)
