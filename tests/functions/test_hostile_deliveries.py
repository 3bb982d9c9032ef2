"""Signed but malformed deliveries: no 5xx that a retry cannot fix, and no wrong row.

A table of cases, and a fuzzer that alters valid events at any location.
"""

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.stripe_events.webhook_signature import sign
from tests.functions.events import event, invoice, subscription, subscription_event
from tests.functions.support import WEBHOOK_SECRET, FunctionHarness, Response
from tests.sampling import examples

pytestmark = pytest.mark.engine

WEBHOOKS = "/v1/billing/webhooks"
type Body = str | bytes

REJECTED, FAILED, IGNORED, APPLIED = "rejected", "failed", "ignored", "applied"
UNKNOWN_CUSTOMER, MISSING, NO_CHANGE = "unknown_customer", "missing", "no_change"
UNCHANGED = "unchanged"
ACCEPTED_OUTCOMES = {UNCHANGED: {APPLIED, NO_CHANGE}}
"""An unchanged row may get a later `seen_to`, or not."""


def send(deployment: FunctionHarness, body: Body, header: str | None = None, *, is_base64: bool = False) -> Response:
    """Deliver a body with a valid signature, or with the header if one is given."""
    raw = body.encode(errors="surrogatepass") if isinstance(body, str) else body
    signature = sign(raw, WEBHOOK_SECRET, datetime.now(UTC)) if header is None else header
    encoded = base64.b64encode(raw).decode() if is_base64 or isinstance(body, bytes) else body
    return deployment.call(
        "POST",
        WEBHOOKS,
        headers={"Stripe-Signature": signature},
        body=str(encoded),
        is_base64=is_base64 or isinstance(body, bytes),
    )


def outcome_of(response: Response) -> str:
    """Return the outcome of a delivery, or REJECTED for a 400."""
    if response.status == 400:
        assert response.body["error"]["code"] == "VALIDATION_FAILED"
        return REJECTED
    assert response.status == 200, response
    assert list(response.body) == ["received", "outcome"]
    return str(response.body["outcome"])


# --- Signature headers ------------------------------------------------------------------------------------------------

VALID_BODY = json.dumps(event("payout.paid", {"id": "po_1"}, id="evt_headers"))


def signature_header(shift: int = 0, **changes: str) -> str:
    """Return the header of VALID_BODY, signed `shift` seconds from now."""
    timestamp, _, signature = sign(
        VALID_BODY.encode(), WEBHOOK_SECRET, datetime.now(UTC) + timedelta(seconds=shift)
    ).partition(",")
    return ",".join([changes.get("t", timestamp), changes.get("v1", signature)])


HEADERS: Mapping[str, tuple[Callable[[], str], str]] = {
    "empty": (str, REJECTED),
    "commas": (lambda: ",,,,", REJECTED),
    "no value": (lambda: "t,v1", REJECTED),
    "two timestamps": (lambda: f"t=1,{signature_header()}", REJECTED),
    "timestamp is negative": (lambda: signature_header(t="t=-1"), REJECTED),
    "timestamp is a float": (lambda: signature_header(t="t=1e9"), REJECTED),
    "timestamp in Arabic digits": (lambda: signature_header(t="t=١٢٣٤٥٦٧٨٩٠"), REJECTED),
    "timestamp of thirty digits": (lambda: signature_header(t="t=" + "9" * 30), REJECTED),
    "timestamp moved by one second": (
        lambda: signature_header(t=f"t={int(datetime.now(UTC).timestamp()) - 1}"),
        REJECTED,
    ),
    "301 seconds old": (lambda: signature_header(-302), REJECTED),
    "301 seconds ahead": (lambda: signature_header(302), REJECTED),
    "a year ahead": (lambda: signature_header(31_536_000), REJECTED),
    "signature in upper case": (lambda: signature_header().upper(), REJECTED),
    "signature cut short": (lambda: signature_header()[:-1], REJECTED),
    "signature of another scheme": (lambda: signature_header().replace("v1=", "v0="), REJECTED),
    "signature is not hexadecimal": (lambda: signature_header(v1="v1=ü\ud800"), REJECTED),
    "five thousand signatures": (lambda: signature_header() + ",v1=0" * 5000, REJECTED),
    "one valid signature among others": (lambda: f"v1=00,{signature_header()},v1=ff,v2=x", IGNORED),
    "spaces": (lambda: signature_header().replace(",", " , "), IGNORED),
}


# --- Bodies that are no event -----------------------------------------------------------------------------------------

BODIES: Mapping[str, tuple[Body, str]] = {
    "empty": ("", REJECTED),
    "spaces": ("   ", REJECTED),
    "null": ("null", REJECTED),
    "a number": ("1e999", REJECTED),
    "a string": ('"evt_1"', REJECTED),
    "a list of events": (json.dumps([event("payout.paid", {})]), REJECTED),
    "NaN": ('{"id": "evt_nan", "created": NaN}', REJECTED),
    "infinity": ('{"id": "evt_inf", "created": -Infinity}', REJECTED),
    "truncated": (VALID_BODY[:-1], REJECTED),
    "two documents": (VALID_BODY + VALID_BODY, REJECTED),
    "a form": ("payload=%7B%7D", REJECTED),
    "single quotes": ("{'id': 'evt_1'}", REJECTED),
    "a byte order mark": (b"\xef\xbb\xbf" + VALID_BODY.encode(), REJECTED),
    "UTF-16": (VALID_BODY.encode("utf-16"), REJECTED),
    "Latin-1": (b'{"id": "evt_\xe9"}', REJECTED),
    "a lone surrogate": ('{"id": "evt_\ud800"}', REJECTED),
    "an escaped surrogate": ('{"id": "evt_\\ud800"}', REJECTED),
    "a null byte": ('{"id": "evt_1\\u0000"}', REJECTED),
    "lists a hundred thousand deep": ("[" * 100_000, REJECTED),
    "objects a hundred thousand deep": ('{"a":' * 100_000, REJECTED),
    "a number of ten thousand digits": ('{"id": "evt_digits", "created": ' + "9" * 10_000 + "}", REJECTED),
    "id is missing": (json.dumps({"type": "invoice.paid"}), REJECTED),
    "id is null": (json.dumps({"id": None}), REJECTED),
    "id is a number": (json.dumps({"id": 1}), REJECTED),
    "id is an object": (json.dumps({"id": {"id": "evt_1"}}), REJECTED),
    "id is empty": (json.dumps({"id": ""}), REJECTED),
    "id with a key separator": (json.dumps({"id": "evt_1#RECEIVED"}), REJECTED),
    "id of 256 characters": (json.dumps({"id": "e" * 256}), REJECTED),
    "id is repeated": ('{"id": "evt_first", ' + VALID_BODY.replace("evt_headers", "evt_second")[1:], IGNORED),
}


# --- Malformed events -------------------------------------------------------------------------------------------------


def without_field(source: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object without one field."""
    return {key: value for key, value in source.items() if key != name}


def items_with(**changes: Any) -> dict[str, Any]:
    """Return the items of a subscription whose only item has these changes."""
    return {"items": {"data": [subscription()["items"]["data"][0] | changes]}}


def subscription_updated(**changes: Any) -> dict[str, Any]:
    """Return an event about acme's stored subscription with these changes."""
    return event("customer.subscription.updated", subscription(**changes))


def invoice_paid(**changes: Any) -> dict[str, Any]:
    """Return an event about a new invoice with these changes."""
    return event("invoice.paid", invoice("in_hostile", **changes))


YEAR_10000 = 253_402_300_800
MALFORMED_EVENTS: Mapping[str, tuple[dict[str, Any], str]] = {
    "type is missing": (without_field(subscription_updated(), "type"), FAILED),
    "type is a list": (subscription_updated() | {"type": ["invoice.paid"]}, FAILED),
    "type is unknown": (subscription_updated() | {"type": "customer.subscription.exploded"}, IGNORED),
    "created is missing": (without_field(subscription_updated(), "created"), FAILED),
    "created is text": (subscription_updated() | {"created": "1780000000"}, FAILED),
    "created is a float": (subscription_updated() | {"created": 1.5}, FAILED),
    "created is true": (subscription_updated() | {"created": True}, FAILED),
    "created is negative": (subscription_updated() | {"created": -1}, FAILED),
    "created in the year 10000": (subscription_updated() | {"created": YEAR_10000}, FAILED),
    "created one year ahead": (
        subscription_updated() | {"created": int(datetime.now(UTC).timestamp()) + 31_536_000},
        MISSING,
    ),
    "created in 1970": (subscription_updated(status="unpaid") | {"created": 0}, NO_CHANGE),
    "livemode is text": (subscription_updated() | {"livemode": "false"}, FAILED),
    "livemode is null": (subscription_updated() | {"livemode": None}, UNCHANGED),
    "context is an object": (subscription_updated() | {"context": {}}, FAILED),
    "from an account of an organization": (subscription_updated(status="unpaid") | {"context": "acct_1"}, IGNORED),
    "account is an object": (subscription_updated() | {"account": {}}, FAILED),
    "from a connected account": (subscription_updated(status="unpaid") | {"account": "acct_1"}, IGNORED),
    "data is missing": (without_field(subscription_updated(), "data"), FAILED),
    "data is a list": (subscription_updated() | {"data": []}, FAILED),
    "object is null": (subscription_updated() | {"data": {"object": None}}, FAILED),
    "object is a list": (subscription_updated() | {"data": {"object": [subscription()]}}, FAILED),
    "object is a string": (subscription_updated() | {"data": {"object": "sub_1"}}, FAILED),
    "object of another type": (subscription_updated() | {"data": {"object": invoice()}}, FAILED),
    "subscription without an id": (event("customer.subscription.updated", without_field(subscription(), "id")), FAILED),
    "subscription whose id is a number": (subscription_updated(id=1), FAILED),
    "subscription id with a key separator": (subscription_updated(id="sub_1#PROFILE"), FAILED),
    "subscription without a customer": (subscription_updated(customer=None), FAILED),
    "subscription with two customers": (subscription_updated(customer=["cus_acme", "cus_2"]), FAILED),
    "customer is expanded": (subscription_updated(customer={"id": "cus_acme", "email": "x"}), UNCHANGED),
    "customer is deleted": (subscription_updated(customer={"id": "cus_acme", "deleted": True}), UNCHANGED),
    "customer is unknown": (subscription_updated(id="sub_2", customer="cus_nobody", metadata={}), UNKNOWN_CUSTOMER),
    "status is null": (subscription_updated(status=None), FAILED),
    "status is a number": (subscription_updated(status=1), FAILED),
    "status is empty": (subscription_updated(status=""), FAILED),
    "status of a megabyte": (subscription_updated(status="a" * 1_000_000), FAILED),
    "items are missing": (event("customer.subscription.updated", without_field(subscription(), "items")), FAILED),
    "items are a list": (subscription_updated(items=[]), FAILED),
    "items hold text": (subscription_updated(items={"data": ["si_1"]}), FAILED),
    "items hold null": (subscription_updated(items={"data": [None]}), FAILED),
    "price is text": (subscription_updated(**items_with(price="price_1")), FAILED),
    "price is a list": (subscription_updated(**items_with(price=[])), FAILED),
    "lookup key is a number": (subscription_updated(**items_with(price={"id": "price_1", "lookup_key": 1})), FAILED),
    "quantity is text": (subscription_updated(**items_with(quantity="1")), FAILED),
    "quantity is a float": (subscription_updated(**items_with(quantity=1.0)), FAILED),
    "quantity is huge": (subscription_updated(**items_with(quantity=10**40)), FAILED),
    "period ends in text": (subscription_updated(**items_with(current_period_end="tomorrow")), FAILED),
    "period ends before 1970": (subscription_updated(**items_with(current_period_end=-1)), FAILED),
    "period ends in the year 10000": (subscription_updated(**items_with(current_period_end=YEAR_10000)), FAILED),
    "cancel_at_period_end is text": (subscription_updated(cancel_at_period_end="true"), FAILED),
    "canceled_at is true": (subscription_updated(canceled_at=True), FAILED),
    "metadata is a list": (subscription_updated(metadata=[]), FAILED),
    "metadata names no account": (subscription_updated(metadata={"account_id": 7}), UNCHANGED),
    "metadata with a key separator": (subscription_updated(metadata={"account_id": "acme#x"}), UNCHANGED),
    "status with a control character": (subscription_updated(status="act\u0007ive"), FAILED),
    "invoice without an amount": (event("invoice.paid", without_field(invoice("in_hostile"), "total")), FAILED),
    "invoice with a float": (invoice_paid(total=19.0), FAILED),
    "invoice with text for an amount": (invoice_paid(amount_due="1900"), FAILED),
    "invoice with a huge amount": (invoice_paid(total=2**63), FAILED),
    "invoice without a currency": (invoice_paid(currency=None), FAILED),
    "invoice whose parent is text": (invoice_paid(parent="sub_1"), FAILED),
    "invoice whose number is a list": (invoice_paid(number=[]), FAILED),
    "invoice without a customer": (invoice_paid(customer=None), IGNORED),
    "invoice preview": (event("invoice.updated", without_field(invoice(), "id")), IGNORED),
    "checkout without an id": (
        event("checkout.session.completed", {"mode": "subscription", "customer": "cus_acme"}),
        FAILED,
    ),
    "checkout of a missing subscription": (
        event(
            "checkout.session.completed",
            {"id": "cs_1", "mode": "subscription", "customer": "cus_acme", "subscription": "sub_gone"},
        ),
        MISSING,
    ),
    "deleted customer without an id": (event("customer.deleted", {"object": "customer"}), FAILED),
}

# --- Valid events of other API versions -------------------------------------------------------------------------------


def event_of_api_2020() -> dict[str, Any]:
    """Return an event from before API version 2025-03-31.

    The period is on the subscription, a plan is beside the price, and metadata may be null.
    """
    source = subscription("sub_of_2020", metadata=None, plan={"id": "price_of_pro_monthly"})
    [old] = source["items"]["data"]
    period = {name: old.pop(name) for name in ("current_period_start", "current_period_end")}
    return event("customer.subscription.updated", source | period, api_version="2020-08-27")


VALID_EVENTS: Mapping[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "API version 2020-08-27": (event_of_api_2020, APPLIED),
    "without an api_version": (lambda: without_field(subscription_updated(), "api_version"), UNCHANGED),
    "unknown fields": (lambda: subscription_updated(unknown_field={"deep": [None]}) | {"unknown_field": 1}, UNCHANGED),
    "invoice with its subscription on top": (
        lambda: event("invoice.paid", without_field(invoice("in_old", subscription="sub_1"), "parent")),
        APPLIED,
    ),
}


@pytest.fixture
def acme(
    deployment: FunctionHarness,
    stripe_client: Any,  # noqa: ARG001 - serves the fetches
    monkeypatch: pytest.MonkeyPatch,
) -> FunctionHarness:
    """The deployment with acme on pro since a minute ago and one invoice. Stripe has neither object."""
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "20000")
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "20000")
    before = datetime.now(UTC) - timedelta(minutes=1)
    assert deployment.deliver(subscription_event(created=before)).body["outcome"] == APPLIED
    assert deployment.deliver(event("invoice.paid", invoice(), created=before)).body["outcome"] == APPLIED
    return deployment


def account_rows(deployment: FunctionHarness) -> list[dict[str, Any]]:
    """Return acme's invoices and subscriptions without the attributes that may move forward."""
    kept = [
        *deployment.table.query("ACCOUNT#acme", "INV#", "PROFILE"),
        *deployment.table.query("ACCOUNT#acme", "SUB#", "SUB#~"),
    ]
    moving = {"seen_from", "seen_to", "version"}
    return [{name: value for name, value in row.items() if name not in moving} for row in kept]


def test_webhook_signature_header_is_accepted_only_with_a_valid_signature(
    acme: FunctionHarness, subtests: pytest.Subtests
) -> None:
    for name, (make, expected) in HEADERS.items():
        with subtests.test(name):
            assert outcome_of(send(acme, VALID_BODY, make())) in {
                expected,
                "duplicate" if expected == IGNORED else expected,
            }


def test_webhook_signed_body_that_is_no_event_writes_nothing(acme: FunctionHarness, subtests: pytest.Subtests) -> None:
    before = account_rows(acme)
    for name, (body, expected) in BODIES.items():
        with subtests.test(name):
            assert outcome_of(send(acme, body)) == expected
            assert account_rows(acme) == before


def test_webhook_malformed_event_is_acknowledged_and_changes_no_row(
    acme: FunctionHarness, subtests: pytest.Subtests
) -> None:
    """The outcome is stored. The second delivery is a duplicate, or has the same outcome."""
    before = account_rows(acme)
    for name, (wrong, expected) in MALFORMED_EVENTS.items():
        with subtests.test(name):
            outcome = outcome_of(send(acme, json.dumps(wrong)))
            assert outcome in ACCEPTED_OUTCOMES.get(expected, {expected})
            marker = acme.table.get(f"EVENT#{wrong['id']}", "RECEIVED") or {}
            assert marker["outcome"] == outcome
            assert account_rows(acme) == before
            is_final = outcome in {APPLIED, IGNORED, NO_CHANGE}
            assert outcome_of(send(acme, json.dumps(wrong))) == ("duplicate" if is_final else outcome)


def test_webhook_unusual_but_valid_event_is_processed(acme: FunctionHarness, subtests: pytest.Subtests) -> None:
    for name, (make, expected) in VALID_EVENTS.items():
        with subtests.test(name):
            assert outcome_of(send(acme, json.dumps(make()))) in ACCEPTED_OUTCOMES.get(expected, {expected})


def test_corpus_has_at_least_sixty_cases() -> None:
    assert sum(map(len, (HEADERS, BODIES, MALFORMED_EVENTS, VALID_EVENTS))) >= 60


# --- Fuzzer -----------------------------------------------------------------------------------------------------------

REPLACEMENTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**53 + 1, 2**63, 10**40, YEAR_10000]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["", "#", "ACCOUNT#acme", "\u0000", "a" * 5000, "sub_1", "cus_acme", "active", "canceled"]),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.sampled_from(["id", "data", "object", "x"]), st.none() | st.integers(), max_size=2),
)
EVENT_OBJECTS = [
    ("customer.subscription.updated", subscription()),
    ("customer.subscription.deleted", subscription(status="canceled", ended_at=1_780_000_500)),
    ("invoice.payment_failed", invoice("in_fuzzed", status="open")),
    (
        "checkout.session.completed",
        {"id": "cs_1", "mode": "subscription", "customer": "cus_acme", "subscription": "sub_1"},
    ),
    ("customer.deleted", {"id": "cus_other", "object": "customer"}),
]


@st.composite
def altered_events(draw: st.DrawFn) -> dict[str, Any]:
    """Return a valid event in which one to three values are replaced or removed."""
    altered: dict[str, Any] = json.loads(json.dumps(event(*draw(st.sampled_from(EVENT_OBJECTS)))))
    for _ in range(draw(st.integers(1, 3))):
        holder, name = draw(st.sampled_from(list(locations(altered))))
        if draw(st.booleans()):
            holder[name] = draw(REPLACEMENTS)
        elif isinstance(holder, dict):
            holder.pop(name, None)
    return altered


def locations(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return every location in a document, as its container and its key."""
    names = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield value, name
        yield from locations(value[name])


@settings(
    max_examples=examples(400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(altered=altered_events())
def test_webhook_altered_event_returns_200_or_400_and_the_status_stays_readable(
    acme: FunctionHarness, altered: dict[str, Any]
) -> None:
    assert outcome_of(send(acme, json.dumps(altered))) in {
        REJECTED,
        FAILED,
        IGNORED,
        APPLIED,
        UNKNOWN_CUSTOMER,
        MISSING,
        NO_CHANGE,
        "customer_conflict",
        "duplicate",
    }
    status = acme.authorized("GET", "/v1/billing")
    assert status.status == 200
    assert all(math.isfinite(each) for each in status.body.values() if isinstance(each, int))
