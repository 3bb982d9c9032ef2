"""Deliveries that are signed and yet wrong: never a 5xx for what no later try can mend, never a wrong row.

A table of them by hand, and a fuzzer that breaks good events anywhere.
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
from tests.functions.conftest import WEBHOOK_SECRET, Answer, Deployment
from tests.functions.events import event, invoice, subscription, subscription_event
from tests.sampling import examples

pytestmark = pytest.mark.engine

WEBHOOKS = "/v1/billing/webhooks"
type Body = str | bytes

REFUSED, FAILED, IGNORED, APPLIED = "refused", "failed", "ignored", "applied"
UNKNOWN_CUSTOMER, MISSING, NO_CHANGE = "unknown_customer", "missing", "no_change"
NO_NEWS = "no news"
OUTCOMES_OF = {NO_NEWS: {APPLIED, NO_CHANGE}}
"""That a row still is as it was may move its interval forward, or not."""


def send(deployment: Deployment, body: Body, header: str | None = None, *, is_base64: bool = False) -> Answer:
    """A delivery, rightly signed unless a header is given."""
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


def told(answer: Answer) -> str:
    """What became of a delivery."""
    if answer.status == 400:
        assert answer.body["error"]["code"] == "VALIDATION_FAILED"
        return REFUSED
    assert answer.status == 200, answer
    assert list(answer.body) == ["received", "outcome"]
    return str(answer.body["outcome"])


# --- headers ----------------------------------------------------------------------------------------------------------

GOOD = json.dumps(event("payout.paid", {"id": "po_1"}, id="evt_headers"))


def header(shift: int = 0, **changes: str) -> str:
    """The header of GOOD, made `shift` seconds from now."""
    timestamp, _, signature = sign(
        GOOD.encode(), WEBHOOK_SECRET, datetime.now(UTC) + timedelta(seconds=shift)
    ).partition(",")
    return ",".join([changes.get("t", timestamp), changes.get("v1", signature)])


HEADERS: Mapping[str, tuple[Callable[[], str], str]] = {
    "empty": (str, REFUSED),
    "commas": (lambda: ",,,,", REFUSED),
    "no value": (lambda: "t,v1", REFUSED),
    "two timestamps": (lambda: f"t=1,{header()}", REFUSED),
    "timestamp is negative": (lambda: header(t="t=-1"), REFUSED),
    "timestamp is a float": (lambda: header(t="t=1e9"), REFUSED),
    "timestamp in other digits": (lambda: header(t="t=١٢٣٤٥٦٧٨٩٠"), REFUSED),
    "timestamp of thirty digits": (lambda: header(t="t=" + "9" * 30), REFUSED),
    "timestamp moved by one second": (lambda: header(t=f"t={int(datetime.now(UTC).timestamp()) - 1}"), REFUSED),
    "301 seconds old": (lambda: header(-302), REFUSED),
    "301 seconds ahead": (lambda: header(302), REFUSED),
    "a year ahead": (lambda: header(31_536_000), REFUSED),
    "signature in upper case": (lambda: header().upper(), REFUSED),
    "signature cut short": (lambda: header()[:-1], REFUSED),
    "signature of another scheme": (lambda: header().replace("v1=", "v0="), REFUSED),
    "signature that is no hexadecimal": (lambda: header(v1="v1=ü\ud800"), REFUSED),
    "five thousand signatures": (lambda: header() + ",v1=0" * 5000, REFUSED),
    "one right among wrong ones": (lambda: f"v1=00,{header()},v1=ff,v2=x", IGNORED),
    "with spaces": (lambda: header().replace(",", " , "), IGNORED),
}


# --- bodies that are no event -----------------------------------------------------------------------------------------

BODIES: Mapping[str, tuple[Body, str]] = {
    "nothing": ("", REFUSED),
    "spaces": ("   ", REFUSED),
    "null": ("null", REFUSED),
    "a number": ("1e999", REFUSED),
    "a string": ('"evt_1"', REFUSED),
    "a list of events": (json.dumps([event("payout.paid", {})]), REFUSED),
    "NaN": ('{"id": "evt_nan", "created": NaN}', REFUSED),
    "infinity": ('{"id": "evt_inf", "created": -Infinity}', REFUSED),
    "cut": (GOOD[:-1], REFUSED),
    "two in one": (GOOD + GOOD, REFUSED),
    "a form": ("payload=%7B%7D", REFUSED),
    "single quotes": ("{'id': 'evt_1'}", REFUSED),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), REFUSED),
    "UTF-16": (GOOD.encode("utf-16"), REFUSED),
    "Latin-1": (b'{"id": "evt_\xe9"}', REFUSED),
    "a lone surrogate": ('{"id": "evt_\ud800"}', REFUSED),
    "an escaped surrogate": ('{"id": "evt_\\ud800"}', REFUSED),
    "a null byte": ('{"id": "evt_1\\u0000"}', REFUSED),
    "lists a hundred thousand deep": ("[" * 100_000, REFUSED),
    "objects a hundred thousand deep": ('{"a":' * 100_000, REFUSED),
    "a number of ten thousand digits": ('{"id": "evt_digits", "created": ' + "9" * 10_000 + "}", REFUSED),
    "id is missing": (json.dumps({"type": "invoice.paid"}), REFUSED),
    "id is null": (json.dumps({"id": None}), REFUSED),
    "id is a number": (json.dumps({"id": 1}), REFUSED),
    "id is an object": (json.dumps({"id": {"id": "evt_1"}}), REFUSED),
    "id is empty": (json.dumps({"id": ""}), REFUSED),
    "id with our separator": (json.dumps({"id": "evt_1#RECEIVED"}), REFUSED),
    "id of 256 characters": (json.dumps({"id": "e" * 256}), REFUSED),
    "id is repeated": ('{"id": "evt_first", ' + GOOD.replace("evt_headers", "evt_second")[1:], IGNORED),
}


# --- events that are wrong --------------------------------------------------------------------------------------------


def without(source: dict[str, Any], name: str) -> dict[str, Any]:
    """The object less one field."""
    return {key: value for key, value in source.items() if key != name}


def item(**changes: Any) -> dict[str, Any]:
    """A subscription's items, of which the only one is changed."""
    return {"items": {"data": [subscription()["items"]["data"][0] | changes]}}


def about(**changes: Any) -> dict[str, Any]:
    """An event about acme's subscription as it is, but for what is changed of the object."""
    return event("customer.subscription.updated", subscription(**changes))


def billed(**changes: Any) -> dict[str, Any]:
    """An event about a new invoice, changed."""
    return event("invoice.paid", invoice("in_hostile", **changes))


FAR = 253_402_300_800  # the year 10000
EVENTS: Mapping[str, tuple[dict[str, Any], str]] = {
    "type is missing": (without(about(), "type"), FAILED),
    "type is a list": (about() | {"type": ["invoice.paid"]}, FAILED),
    "type is unknown": (about() | {"type": "customer.subscription.exploded"}, IGNORED),
    "created is missing": (without(about(), "created"), FAILED),
    "created is text": (about() | {"created": "1780000000"}, FAILED),
    "created is a float": (about() | {"created": 1.5}, FAILED),
    "created is true": (about() | {"created": True}, FAILED),
    "created is negative": (about() | {"created": -1}, FAILED),
    "created in the year 10000": (about() | {"created": FAR}, FAILED),
    "created in a year": (about() | {"created": int(datetime.now(UTC).timestamp()) + 31_536_000}, MISSING),
    "created in 1970": (about(status="unpaid") | {"created": 0}, NO_CHANGE),
    "livemode is text": (about() | {"livemode": "false"}, FAILED),
    "livemode is null": (about() | {"livemode": None}, NO_NEWS),
    "account is an object": (about() | {"account": {}}, FAILED),
    "of a connected account": (about(status="unpaid") | {"account": "acct_1"}, IGNORED),
    "data is missing": (without(about(), "data"), FAILED),
    "data is a list": (about() | {"data": []}, FAILED),
    "object is null": (about() | {"data": {"object": None}}, FAILED),
    "object is a list": (about() | {"data": {"object": [subscription()]}}, FAILED),
    "object is a string": (about() | {"data": {"object": "sub_1"}}, FAILED),
    "object of another type": (about() | {"data": {"object": invoice()}}, FAILED),
    "subscription without an id": (event("customer.subscription.updated", without(subscription(), "id")), FAILED),
    "subscription whose id is a number": (about(id=1), FAILED),
    "subscription whose id leads elsewhere": (about(id="sub_1#PROFILE"), FAILED),
    "subscription of nobody": (about(customer=None), FAILED),
    "subscription of two customers": (about(customer=["cus_acme", "cus_2"]), FAILED),
    "customer is expanded": (about(customer={"id": "cus_acme", "email": "x"}), NO_NEWS),
    "customer is deleted": (about(customer={"id": "cus_acme", "deleted": True}), NO_NEWS),
    "customer is unknown": (about(id="sub_2", customer="cus_nobody", metadata={}), UNKNOWN_CUSTOMER),
    "status is null": (about(status=None), FAILED),
    "status is a number": (about(status=1), FAILED),
    "status is empty": (about(status=""), FAILED),
    "status of a megabyte": (about(status="a" * 1_000_000), FAILED),
    "items are missing": (event("customer.subscription.updated", without(subscription(), "items")), FAILED),
    "items are a list": (about(items=[]), FAILED),
    "items hold text": (about(items={"data": ["si_1"]}), FAILED),
    "items hold null": (about(items={"data": [None]}), FAILED),
    "price is text": (about(**item(price="price_1")), FAILED),
    "price is a list": (about(**item(price=[])), FAILED),
    "lookup key is a number": (about(**item(price={"id": "price_1", "lookup_key": 1})), FAILED),
    "quantity is text": (about(**item(quantity="1")), FAILED),
    "quantity is a float": (about(**item(quantity=1.0)), FAILED),
    "quantity is huge": (about(**item(quantity=10**40)), FAILED),
    "period ends in text": (about(**item(current_period_end="tomorrow")), FAILED),
    "period ends before 1970": (about(**item(current_period_end=-1)), FAILED),
    "period ends in the year 10000": (about(**item(current_period_end=FAR)), FAILED),
    "cancel_at_period_end is text": (about(cancel_at_period_end="true"), FAILED),
    "canceled_at is true": (about(canceled_at=True), FAILED),
    "metadata is a list": (about(metadata=[]), FAILED),
    "metadata names no account": (about(metadata={"account_id": 7}), NO_NEWS),
    "metadata names a row": (about(metadata={"account_id": "acme#x"}), NO_NEWS),
    "status in a control character": (about(status="act\u0007ive"), FAILED),
    "invoice without an amount": (event("invoice.paid", without(invoice("in_hostile"), "total")), FAILED),
    "invoice with a float": (billed(total=19.0), FAILED),
    "invoice with text for an amount": (billed(amount_due="1900"), FAILED),
    "invoice with a huge amount": (billed(total=2**63), FAILED),
    "invoice without a currency": (billed(currency=None), FAILED),
    "invoice whose parent is text": (billed(parent="sub_1"), FAILED),
    "invoice whose number is a list": (billed(number=[]), FAILED),
    "invoice of nobody": (billed(customer=None), IGNORED),
    "invoice that only previews": (event("invoice.updated", without(invoice(), "id")), IGNORED),
    "checkout without an id": (
        event("checkout.session.completed", {"mode": "subscription", "customer": "cus_acme"}),
        FAILED,
    ),
    "checkout of a subscription that is gone": (
        event(
            "checkout.session.completed",
            {"id": "cs_1", "mode": "subscription", "customer": "cus_acme", "subscription": "sub_gone"},
        ),
        MISSING,
    ),
    "deleted customer without an id": (event("customer.deleted", {"object": "customer"}), FAILED),
}

# --- events that are right, though they look odd: as Stripe's API wrote them since 2020 ------------------------------


def of_2020() -> dict[str, Any]:
    """The period on top and a plan beside the price, as before API 2025-03-31; metadata may be null."""
    source = subscription("sub_of_2020", metadata=None, plan={"id": "price_of_pro_monthly"})
    [old] = source["items"]["data"]
    period = {name: old.pop(name) for name in ("current_period_start", "current_period_end")}
    return event("customer.subscription.updated", source | period, api_version="2020-08-27")


ODD: Mapping[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "of API 2020-08-27": (of_2020, APPLIED),
    "without an api_version": (lambda: without(about(), "api_version"), NO_NEWS),
    "with fields of tomorrow": (lambda: about(of_tomorrow={"deep": [None]}) | {"of_tomorrow": 1}, NO_NEWS),
    "invoice with its subscription on top": (
        lambda: event("invoice.paid", without(invoice("in_old", subscription="sub_1"), "parent")),
        APPLIED,
    ),
}


@pytest.fixture
def acme(
    deployment: Deployment,
    stripe_client: Any,  # noqa: ARG001 - answers what has to be fetched
    monkeypatch: pytest.MonkeyPatch,
) -> Deployment:
    """Acme on pro since a minute ago, with one invoice; Stripe knows of neither."""
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "100000")
    monkeypatch.setenv("RATE_LIMIT_PER_HOUR", "100000")
    before = datetime.now(UTC) - timedelta(minutes=1)
    assert deployment.deliver(subscription_event(created=before)).body["outcome"] == APPLIED
    assert deployment.deliver(event("invoice.paid", invoice(), created=before)).body["outcome"] == APPLIED
    return deployment


def rows(deployment: Deployment) -> list[dict[str, Any]]:
    """What is stored of acme, less the intervals, which may move forward."""
    kept = [
        *deployment.table.query("ACCOUNT#acme", "INV#", "PROFILE"),
        *deployment.table.query("ACCOUNT#acme", "SUB#", "SUB#~"),
    ]
    moving = {"seen_from", "seen_to", "version"}
    return [{name: value for name, value in row.items() if name not in moving} for row in kept]


def test_no_header_lets_in_what_stripe_did_not_sign(acme: Deployment, subtests: pytest.Subtests) -> None:
    """Each odd header is refused, or understood where it is right."""
    for name, (make, expected) in HEADERS.items():
        with subtests.test(name):
            assert told(send(acme, GOOD, make())) in {expected, "duplicate" if expected == IGNORED else expected}


def test_what_is_no_event_is_refused(acme: Deployment, subtests: pytest.Subtests) -> None:
    """Signed, and still nothing that could be recorded; nothing is written."""
    before = rows(acme)
    for name, (body, expected) in BODIES.items():
        with subtests.test(name):
            assert told(send(acme, body)) == expected
            assert rows(acme) == before


def test_a_wrong_event_is_settled_at_once(acme: Deployment, subtests: pytest.Subtests) -> None:
    """Recorded as what it is, answered 200, no row changed; its second delivery is a duplicate, or the same again."""
    before = rows(acme)
    for name, (wrong, expected) in EVENTS.items():
        with subtests.test(name):
            outcome = told(send(acme, json.dumps(wrong)))
            assert outcome in OUTCOMES_OF.get(expected, {expected})
            marker = acme.table.get(f"EVENT#{wrong['id']}", "RECEIVED") or {}
            assert marker["outcome"] == outcome
            assert rows(acme) == before
            is_final = outcome in {APPLIED, IGNORED, NO_CHANGE}
            assert told(send(acme, json.dumps(wrong))) == ("duplicate" if is_final else outcome)


def test_an_odd_event_that_is_right_counts(acme: Deployment, subtests: pytest.Subtests) -> None:
    """Other API versions, unknown fields."""
    for name, (make, expected) in ODD.items():
        with subtests.test(name):
            assert told(send(acme, json.dumps(make()))) in OUTCOMES_OF.get(expected, {expected})


def test_the_corpus_is_long_enough() -> None:
    """More than sixty kinds."""
    assert sum(map(len, (HEADERS, BODIES, EVENTS, ODD))) >= 60


# --- the fuzzer -------------------------------------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**53 + 1, 2**63, 10**40, FAR]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["", "#", "ACCOUNT#acme", "\u0000", "a" * 5000, "sub_1", "cus_acme", "active", "canceled"]),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.sampled_from(["id", "data", "object", "x"]), st.none() | st.integers(), max_size=2),
)
SUB_1 = {"subscription": "sub_1"}
SOURCES = [
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
def broken_events(draw: st.DrawFn) -> dict[str, Any]:
    """A good event in which one to three places are something else, or gone."""
    broken: dict[str, Any] = json.loads(json.dumps(event(*draw(st.sampled_from(SOURCES)))))
    for _ in range(draw(st.integers(1, 3))):
        holder, name = draw(st.sampled_from(list(places(broken))))
        if draw(st.booleans()):
            holder[name] = draw(HOSTILE)
        elif isinstance(holder, dict):
            holder.pop(name, None)
    return broken


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its name there."""
    names = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield value, name
        yield from places(value[name])


@settings(
    max_examples=examples(400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(broken=broken_events())
def test_no_broken_event_breaks_anything(acme: Deployment, broken: dict[str, Any]) -> None:
    """400 or 200, a status that can be asked for afterwards, and only facts of the right types in it."""
    assert told(send(acme, json.dumps(broken))) in {
        REFUSED,
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
