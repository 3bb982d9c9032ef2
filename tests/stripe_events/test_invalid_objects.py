"""Parsing of objects with missing, impossible and hostile values."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.errors import EventUnprocessable
from billing.stripe_events.objects import account_id_of, parse_invoice, parse_subscription
from tests.stripe_events.sources import (
    CATALOG,
    INVOICE,
    PERIOD,
    SUBSCRIPTION,
    Json,
    invoice,
    item,
    subscription,
    without,
)

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
def test_subscription_without_required_field_is_unprocessable(name: str) -> None:
    for source in (without(SUBSCRIPTION, name), SUBSCRIPTION | {name: None}):
        with pytest.raises(EventUnprocessable, match=name):
            parse_subscription(source, CATALOG)


@pytest.mark.parametrize("name", REQUIRED_OF_INVOICE)
def test_invoice_without_required_field_is_unprocessable(name: str) -> None:
    for source in (without(INVOICE, name), INVOICE | {name: None}):
        with pytest.raises(EventUnprocessable, match=name):
            parse_invoice(source)


NAMED_IN_ERROR = {"customer": "customer|id"}
"""The error of an expanded reference names its id."""

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
    """Parametrize with every hostile value of every field."""
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
def test_subscription_with_impossible_value_is_unprocessable(name: str, value: object) -> None:
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
def test_item_with_impossible_value_is_unprocessable(name: str, value: object) -> None:
    with pytest.raises(EventUnprocessable, match=name):
        subscription(items={"data": [item(**PERIOD) | {name: value}]})


@each({"id": NO_TEXT, "lookup_key": NO_TEXT})
def test_price_with_impossible_value_is_unprocessable(name: str, value: object) -> None:
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
def test_invoice_with_impossible_value_is_unprocessable(name: str, value: object) -> None:
    with pytest.raises(EventUnprocessable, match=NAMED_IN_ERROR.get(name, name)):
        invoice(**{name: value})


@pytest.mark.parametrize("value", NO_REFERENCE)
def test_invoice_with_impossible_subscription_is_unprocessable(value: object) -> None:
    for parent, on_top in (({"subscription_details": {"subscription": value}}, None), (None, value)):
        with pytest.raises(EventUnprocessable):
            invoice(parent=parent, subscription=on_top)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def mutations(source: Json) -> st.SearchStrategy[Json]:
    """Return a strategy that replaces a few fields of an object, at any depth, by any JSON."""

    def replaced(changes: list[tuple[int, Any]]) -> Json:
        result: Any = source
        for index, value in changes:
            paths = list(_paths(result))
            result = _put(result, paths[index % len(paths)], value) if paths else result
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
def test_subscription_of_any_json_is_parsed_or_unprocessable(source: Json) -> None:
    with suppress(EventUnprocessable):
        parse_subscription(source, CATALOG)


@given(mutations(INVOICE) | st.dictionaries(st.sampled_from(sorted(INVOICE)), JSON))
def test_invoice_of_any_json_is_parsed_or_unprocessable(source: Json) -> None:
    with suppress(EventUnprocessable):
        parse_invoice(source)
    with suppress(EventUnprocessable):
        account_id_of(source)
