"""Stripe's own SDK against a server on the wire: what is sent, how long it waits, and what every answer becomes."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import stripe

from billing.adapters import stripe_gateway
from billing.adapters.stripe_gateway import ERROR_MAP, CheckoutOrder, CheckoutSession, StripeGateway, connect
from billing.catalog import load_catalog
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.invoices import Invoice
from billing.domain.subscriptions import Subscription
from billing.services.reconciler import retry_stripe
from billing.stripe_events.event_types import EVENT_PARSERS, ObjectRef, RelatedObject
from tests.conftest import template
from tests.wire import SILENCE_SECONDS, Answer, Wire

API_KEY = "sk_test_payments"
EMAIL = "billing@acme.test"
ANSWERED = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
ORDER = CheckoutOrder(
    account_id="acme",
    customer_id="cus_1",
    price_id="price_1",
    quantity=3,
    success_url="https://app.example.com/?checkout=success",
    cancel_url="https://app.example.com/?checkout=cancelled",
    trial_days=14,
    allow_promotion_codes=True,
)
SESSION = {"object": "checkout.session", "id": "cs_1", "status": "open", "url": "https://checkout.test/c/cs_1"}
SUBSCRIPTION = {
    "object": "subscription",
    "id": "sub_1",
    "customer": "cus_1",
    "status": "active",
    "created": 1_780_000_000,
    "items": {
        "object": "list",
        "data": [
            {
                "object": "subscription_item",
                "price": {"object": "price", "id": "price_1", "lookup_key": "pro_monthly"},
                "quantity": 1,
                "current_period_start": 1_780_000_000,
                "current_period_end": 1_782_592_000,
            }
        ],
    },
}
PRICE = {"object": "price", "id": "price_1", "active": True, "lookup_key": "pro_monthly"}
INVOICE = {
    "object": "invoice",
    "id": "in_1",
    "customer": "cus_1",
    "status": "paid",
    "created": 1_780_000_000,
    "currency": "usd",
    "total": 1900,
    "amount_due": 1900,
    "amount_paid": 1900,
    "amount_remaining": 0,
}


def page(*objects: Mapping[str, Any], has_more: bool = False) -> Mapping[str, Any]:
    """A page of a list."""
    return {"object": "list", "data": list(objects), "has_more": has_more}


# Every way to call Stripe, and a good answer to it.
CALLS: Mapping[str, tuple[Callable[[StripeGateway], Any], Mapping[str, Any]]] = {
    "create_customer": (
        lambda stripe_: stripe_.create_customer("acme", EMAIL, idempotency_key="key-1"),
        {"object": "customer", "id": "cus_1"},
    ),
    "is_customer_gone": (
        lambda stripe_: stripe_.is_customer_gone("cus_1"),
        {"object": "customer", "id": "cus_1", "deleted": True},
    ),
    "price_id": (
        lambda stripe_: stripe_.price_id("pro_monthly"),
        {"object": "list", "data": [{"object": "price", "id": "price_1"}]},
    ),
    "create_checkout_session": (
        lambda stripe_: stripe_.create_checkout_session(ORDER, idempotency_key="key-1"),
        SESSION,
    ),
    "find_checkout_session": (lambda stripe_: stripe_.find_checkout_session("cs_1"), SESSION),
    "close_checkout_session": (lambda stripe_: stripe_.close_checkout_session("cs_1"), SESSION),
    "create_portal_session": (
        lambda stripe_: stripe_.create_portal_session("cus_1", "https://app.example.com/"),
        {"object": "billing_portal.session", "url": "https://portal.test/p/1"},
    ),
    "fetch subscription": (
        lambda stripe_: stripe_.fetch(ObjectRef(Subscription, "sub_1"), load_catalog()),
        SUBSCRIPTION,
    ),
    "fetch invoice": (lambda stripe_: stripe_.fetch(ObjectRef(Invoice, "in_1"), load_catalog()), INVOICE),
    "look_up": (lambda stripe_: stripe_.look_up(RelatedObject("invoice", "in_1")), INVOICE),
    "lookup_key_of": (lambda stripe_: stripe_.lookup_key_of("price_1"), PRICE),
    "list_events": (lambda stripe_: stripe_.list_events(ANSWERED, None), page({"object": "event", "id": "evt_1"})),
    "list_subscriptions": (lambda stripe_: stripe_.list_subscriptions(None), page(SUBSCRIPTION)),
    "list_invoices": (lambda stripe_: stripe_.list_invoices(None), page(INVOICE)),
    "list_customers": (lambda stripe_: stripe_.list_customers(None), page({"object": "customer", "id": "cus_1"})),
}
CREATIONS = ("create_customer", "create_checkout_session")
FINDERS = (
    "find_checkout_session",
    "close_checkout_session",
    "fetch subscription",
    "fetch invoice",
    "look_up",
    "lookup_key_of",
)

each_call = pytest.mark.parametrize("call", CALLS)


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK waits half a second before it tries again; these tests need not."""
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.001)


@pytest.fixture
def connected(wire: Wire) -> StripeGateway:
    """The real adapter on the real SDK."""
    return StripeGateway(connect(API_KEY, wire.url))


def ok(body: object) -> Answer:
    """A good answer."""
    return Answer(body=json.dumps(body).encode())


def refusal(status: int, headers: Mapping[str, str] | None = None, **error: object) -> Answer:
    """An error in Stripe's own shape."""
    body = {"error": {"type": "invalid_request_error", "message": f"No, {EMAIL} and {API_KEY}"} | error}
    return Answer(status, json.dumps(body).encode(), headers or {})


def make(call: str, connected: StripeGateway) -> Any:
    """Make a call of CALLS."""
    return CALLS[call][0](connected)


# --- what is sent -----------------------------------------------------------------------------------------------------


def sent(call: str, wire: Wire, connected: StripeGateway) -> tuple[str, str, Mapping[str, str]]:
    """The request of a call that goes well."""
    wire.answer(ok(CALLS[call][1]))
    make(call, connected)
    return wire.only.method, wire.only.path, wire.only.form


def test_create_customer(wire: Wire, connected: StripeGateway) -> None:
    """A customer carries its account's id and e-mail."""
    assert sent("create_customer", wire, connected) == (
        "POST",
        "/v1/customers",
        {"metadata[account_id]": "acme", "email": EMAIL},
    )


def test_create_customer_without_an_email(wire: Wire, connected: StripeGateway) -> None:
    """An account without an e-mail address gets a customer without one, not one with an empty one."""
    wire.answer(ok({"id": "cus_1"}))
    assert connected.create_customer("acme", None, idempotency_key="key-1") == "cus_1"
    assert wire.only.form == {"metadata[account_id]": "acme"}


def test_price_id(wire: Wire, connected: StripeGateway) -> None:
    """Only an active price with just this lookup key is asked for."""
    assert sent("price_id", wire, connected) == (
        "GET",
        "/v1/prices",
        {"lookup_keys[0]": "pro_monthly", "active": "true", "limit": "1"},
    )


CHECKOUT_FORM = {
    "mode": "subscription",
    "customer": "cus_1",
    "client_reference_id": "acme",
    "line_items[0][price]": "price_1",
    "line_items[0][quantity]": "3",
    "success_url": "https://app.example.com/?checkout=success",
    "cancel_url": "https://app.example.com/?checkout=cancelled",
    "allow_promotion_codes": "true",
    "metadata[account_id]": "acme",
    "subscription_data[metadata][account_id]": "acme",
}


def test_create_checkout_session(wire: Wire, connected: StripeGateway) -> None:
    """A session sells one price to one customer, and both it and its subscription name the account."""
    assert sent("create_checkout_session", wire, connected) == (
        "POST",
        "/v1/checkout/sessions",
        CHECKOUT_FORM | {"subscription_data[trial_period_days]": "14"},
    )


def test_create_checkout_session_without_a_trial(wire: Wire, connected: StripeGateway) -> None:
    """No trial is no parameter at all: Stripe refuses a trial of 0 days."""
    wire.answer(ok(SESSION))
    connected.create_checkout_session(replace(ORDER, trial_days=0), idempotency_key="key-1")
    assert wire.only.form == CHECKOUT_FORM


def test_find_checkout_session(wire: Wire, connected: StripeGateway) -> None:
    """A session is read by its id."""
    assert sent("find_checkout_session", wire, connected) == ("GET", "/v1/checkout/sessions/cs_1", {})


def test_close_checkout_session(wire: Wire, connected: StripeGateway) -> None:
    """Closing a session is expiring it."""
    assert sent("close_checkout_session", wire, connected) == ("POST", "/v1/checkout/sessions/cs_1/expire", {})


PORTAL_FORM = {"customer": "cus_1", "return_url": "https://app.example.com/"}


def test_create_portal_session(wire: Wire, connected: StripeGateway) -> None:
    """A portal session is of a customer, and leads back to the product."""
    assert sent("create_portal_session", wire, connected) == ("POST", "/v1/billing_portal/sessions", PORTAL_FORM)


def test_create_portal_session_with_a_configuration(wire: Wire) -> None:
    """The deployment's own portal configuration is named where there is one."""
    wire.answer(ok({"url": "https://portal.test/p/1"}))
    configured = StripeGateway(connect(API_KEY, wire.url), "bpc_1")
    assert configured.create_portal_session("cus_1", "https://app.example.com/") == "https://portal.test/p/1"
    assert wire.only.form == PORTAL_FORM | {"configuration": "bpc_1"}


def test_fetch(wire: Wire, connected: StripeGateway) -> None:
    """A subscription and an invoice are read by their ids."""
    assert sent("fetch subscription", wire, connected) == ("GET", "/v1/subscriptions/sub_1", {})
    assert sent("fetch invoice", wire, connected) == ("GET", "/v1/invoices/in_1", {})


@each_call
def test_every_request_names_key_and_version(call: str, wire: Wire, connected: StripeGateway) -> None:
    """The API version is the SDK's own, whatever the Stripe account's default is."""
    sent(call, wire, connected)
    assert wire.only.headers["authorization"] == f"Bearer {API_KEY}"
    assert wire.only.headers["stripe-version"] == stripe.api_version


@pytest.mark.parametrize("call", CREATIONS)
def test_what_creates_carries_our_idempotency_key(call: str, wire: Wire, connected: StripeGateway) -> None:
    """Two of our processes that do the same get the same object from Stripe."""
    sent(call, wire, connected)
    assert wire.only.headers["idempotency-key"] == "key-1"


@each_call
def test_a_second_try_repeats_the_first(call: str, wire: Wire, connected: StripeGateway) -> None:
    """After one failure the SDK asks once more, the same, with the same idempotency key."""
    wire.answer(Answer(cut=True), ok(CALLS[call][1]))
    make(call, connected)
    first, second = wire.requests
    assert (first.path, first.form) == (second.path, second.form)
    assert first.headers.get("idempotency-key") == second.headers.get("idempotency-key")


# --- what comes back --------------------------------------------------------------------------------------------------


def test_a_price_is_remembered_for_five_minutes(
    wire: Wire, connected: StripeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe is asked for a price once in five minutes, and a price that moved is found afterwards."""
    clock = [1000.0]
    monkeypatch.setattr(stripe_gateway, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    wire.answer(ok(CALLS["price_id"][1]), ok({"object": "list", "data": [{"object": "price", "id": "price_2"}]}))
    assert [connected.price_id("pro_monthly") for _ in range(3)] == ["price_1"] * 3
    clock[0] += 300
    assert connected.price_id("pro_monthly") == "price_2"


def test_a_price_that_is_not_there_is_asked_for_again(wire: Wire, connected: StripeGateway) -> None:
    """An operator who creates the price need not wait."""
    wire.answer(ok({"object": "list", "data": []}), ok(CALLS["price_id"][1]))
    with pytest.raises(StripeRefused):
        connected.price_id("pro_monthly")
    assert connected.price_id("pro_monthly") == "price_1"


@pytest.mark.parametrize("subscription", ["sub_1", {"object": "subscription", "id": "sub_1"}])
def test_a_session_says_which_subscription_it_became(
    subscription: object, wire: Wire, connected: StripeGateway
) -> None:
    """An expanded subscription counts as its id; a session that was paid has no page any more."""
    wire.answer(ok(SESSION | {"status": "complete", "url": None, "subscription": subscription}))
    assert connected.find_checkout_session("cs_1") == CheckoutSession("cs_1", "complete", None, "sub_1")


def test_a_session_that_cannot_be_closed_is_read(wire: Wire, connected: StripeGateway) -> None:
    """A session that was paid meanwhile cannot expire: what it became is told."""
    wire.answer(refusal(400), ok(SESSION | {"status": "complete", "url": None, "subscription": "sub_1"}))
    assert connected.close_checkout_session("cs_1") == CheckoutSession("cs_1", "complete", None, "sub_1")


@pytest.mark.parametrize("call", FINDERS)
def test_what_stripe_does_not_have_is_none(call: str, wire: Wire, connected: StripeGateway) -> None:
    """Stripe's own 404 means that the object is gone."""
    wire.answer(refusal(404, code="resource_missing"))
    assert make(call, connected) is None


def test_a_customer_that_stripe_does_not_have_is_gone(wire: Wire, connected: StripeGateway) -> None:
    """Deleted or forgotten: neither pays any more."""
    wire.answer(refusal(404, code="resource_missing"), ok({"id": "cus_1", "object": "customer"}))
    assert connected.is_customer_gone("cus_1")
    assert not connected.is_customer_gone("cus_1")


def test_fetch_reads_stripes_clock(wire: Wire, connected: StripeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fetched was Stripe's state some time between sending the request and the answer's Date."""
    readings = iter([10.0, 12.5])
    monkeypatch.setattr(stripe_gateway, "time", SimpleNamespace(monotonic=lambda: next(readings)))
    wire.answer(ok(SUBSCRIPTION))
    fetched = connected.fetch(ObjectRef(Subscription, "sub_1"), load_catalog())
    assert fetched is not None
    assert (fetched.seen_from, fetched.seen_to) == (ANSWERED - timedelta(seconds=2.5), ANSWERED)
    assert (fetched.content.id, fetched.content.status) == ("sub_1", "active")


@pytest.mark.parametrize("date", [{}, {"date": ""}, {"date": "yesterday"}])
def test_fetch_needs_stripes_clock(date: Mapping[str, str], wire: Wire, connected: StripeGateway) -> None:
    """Without a Date nobody can say when the content was true: it is not used."""
    wire.answer(Answer(body=json.dumps(SUBSCRIPTION).encode(), headers=date))
    with pytest.raises(StripeRefused):
        connected.fetch(ObjectRef(Subscription, "sub_1"), load_catalog())


# --- what goes wrong --------------------------------------------------------------------------------------------------

# Of API v2, of OAuth and of the SDK's own webhook helper, which we do not call; or a class that is only derived from.
NOT_RAISED_BY_V1 = {
    stripe.StripeError,
    stripe.StripeErrorWithParamCode,
    stripe.SignatureVerificationError,
    stripe.AlreadyCanceledError,
    stripe.BlockedByStripeError,
    stripe.CannotProceedError,
    stripe.CapabilityNotEnabledError,
    stripe.ControlledByAlternateResourceError,
    stripe.FeatureNotEnabledError,
    stripe.FinancialAccountNotOpenError,
    stripe.FxQuoteNeedsRefreshError,
    stripe.InsufficientFundsError,
    stripe.InvalidPaymentMethodError,
    stripe.InvalidPayoutMethodError,
    stripe.InvalidVaultedCredentialError,
    stripe.NotCancelableError,
    stripe.QuotaExceededError,
    stripe.RecipientNotNotifiableError,
    stripe.TemporarySessionExpiredError,
    stripe.VerificationAttemptFailedError,
    stripe.VerificationExpiredError,
    stripe.VerificationNotInitiatedError,
}


def classes_of(base: type[Any]) -> Iterator[type[Any]]:
    """A class and all that derive from it."""
    yield base
    for derived in base.__subclasses__():
        yield from classes_of(derived)


def test_every_error_of_the_sdk_is_decided_on() -> None:
    """An error class that a new SDK brings fails here until somebody says what it means to our callers."""
    raised = set(classes_of(stripe.StripeError)) - NOT_RAISED_BY_V1
    decided = {theirs for theirs, _ in ERROR_MAP} - {stripe.StripeError}
    oauth = {each for each in raised if each.__module__ == "stripe.oauth_error"}
    assert raised - oauth == decided


def test_no_line_of_the_translation_hides_another() -> None:
    """The most specific class comes first, and the last line takes whatever is left."""
    classes = [theirs for theirs, _ in ERROR_MAP]
    for place, theirs in enumerate(classes):
        assert not any(issubclass(theirs, earlier) for earlier in classes[:place])
    assert classes[-1] is stripe.StripeError


REFUSALS = {
    "too many": (refusal(429), StripeUnavailable),
    "too many, in the old way": (refusal(400, code="rate_limit"), StripeUnavailable),
    "bad parameter": (refusal(400), StripeRefused),
    "key used for something else": (refusal(400, type="idempotency_error"), StripeRefused),
    "wrong key": (refusal(401), StripeRefused),
    "card": (refusal(402, type="card_error", code="card_declined"), StripeRefused),
    "not allowed": (refusal(403), StripeRefused),
    "Stripe's own fault": (refusal(500, type="api_error"), StripeUnavailable),
    "down": (refusal(503, type="api_error"), StripeUnavailable),
    "the same key at the same time": (refusal(409, type="idempotency_error"), StripeUnavailable),
    "down, says a proxy": (Answer(503, b"<html>Service Unavailable</html>"), StripeUnavailable),
    "gone, says a proxy": (Answer(404, b"<html>Not Found</html>"), StripeRefused),
    "cut off": (Answer(cut=True), StripeUnavailable),
}


@pytest.mark.parametrize("kind", REFUSALS)
@each_call
def test_every_refusal_is_ours(call: str, kind: str, wire: Wire, connected: StripeGateway) -> None:
    """Whatever Stripe refuses with, the caller gets StripeUnavailable or StripeRefused and when to try again."""
    answer, expected = REFUSALS[kind]
    wire.answer(answer)
    with pytest.raises(expected) as refused:
        make(call, connected)
    assert 0 < refused.value.retry_after_seconds <= 60


MALFORMED_RESPONSE_ERRORS = [
    b"",
    b"<html>Welcome to the hotel's network</html>",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'"id"',
    b"5",
    b"{}",
    b'{"id": null, "url": null, "data": null}',
    b'{"id": 5, "url": 5, "data": 5}',
    b'{"id": "", "url": "", "data": [{}]}',
    b'{"id": "#", "url": [], "data": [5]}',
    b'{"object": "list", "data": {"0": 1}}',
    b'{"object": 5}',
    b'{"error": null}',
    b'{"error": "no"}',
    b'{"error": ["no"]}',
    b'{"error": {"type": 5, "message": {}}}',
    b"[" * 600 + b"]" * 600,
]


@pytest.mark.parametrize("body", MALFORMED_RESPONSE_ERRORS)
@pytest.mark.parametrize("status", [200, 400, 500])
@each_call
def test_nonsense_is_refused(call: str, status: int, body: bytes, wire: Wire, connected: StripeGateway) -> None:
    """An answer that is not Stripe's is refused like any other, never guessed from, and never taken for a 404."""
    wire.answer(Answer(status, body))
    with pytest.raises(StripeFailed):
        make(call, connected)


@pytest.mark.parametrize("field", SUBSCRIPTION)
@pytest.mark.parametrize("value", [5.5, [], {"id": 5}, "\u0000", True])
def test_a_fetched_object_of_other_types_is_refused(
    field: str, value: object, wire: Wire, connected: StripeGateway
) -> None:
    """What is fetched is read as strictly as what is delivered; what has another id is no answer to what was asked."""
    wire.answer(ok(SUBSCRIPTION | {field: value}))
    if field == "object":
        assert connected.fetch(ObjectRef(Subscription, "sub_1"), load_catalog()) is not None
    else:
        with pytest.raises(StripeRefused if field == "id" else EventUnprocessable):
            connected.fetch(ObjectRef(Subscription, "sub_1"), load_catalog())


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("7", 7), ("60", 60), ("86400", 60), ("0", 5), ("-1", 5), ("soon", 5), ("", 5), ("٣", 5), ("9" * 5000, 5)],
)
def test_stripes_word_on_when_to_retry_counts(
    retry_after: str, seconds: int, wire: Wire, connected: StripeGateway
) -> None:
    """Retry-After is passed on up to a minute; what is no number of seconds is replaced by ours."""
    wire.answer(refusal(429, {"Retry-After": retry_after.encode().decode("latin-1")}))
    with pytest.raises(StripeUnavailable) as refused:
        connected.price_id("pro_monthly")
    assert refused.value.retry_after_seconds == seconds


@each_call
def test_a_silent_stripe_is_unavailable(call: str, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is not answered ends by itself."""
    monkeypatch.setattr(stripe_gateway, "ANSWER_SECONDS_MAX", 0.05)
    wire.answer(Answer(silent=True))
    began = time.monotonic()
    with pytest.raises(StripeUnavailable):
        make(call, StripeGateway(connect(API_KEY, wire.url)))
    assert time.monotonic() - began < SILENCE_SECONDS
    assert len(wire.requests) == stripe_gateway.RETRIES_MAX + 1


@each_call
def test_an_unreachable_stripe_is_unavailable(call: str) -> None:
    """Nobody listens: the same."""
    with pytest.raises(StripeUnavailable):
        make(call, StripeGateway(connect(API_KEY, "http://127.0.0.1:9")))


@pytest.mark.parametrize("function", ["CheckoutFunction", "PortalFunction", "StripeWebhookFunction"])
def test_a_silent_stripe_ends_before_the_function_does(function: str) -> None:
    """All tries of a call fit into the time of the function that makes it, so that it can still answer."""
    resources = template()
    defaults = resources["Globals"]["Function"]
    timeout = (defaults | resources["Resources"][function]["Properties"])["Timeout"]
    tries, pauses = stripe_gateway.RETRIES_MAX + 1, 1.5
    assert tries * stripe_gateway.ANSWER_SECONDS_MAX + pauses + 1 < timeout


def test_without_a_base_it_is_stripe_itself() -> None:
    """No api_base means api.stripe.com over TLS, not an empty address."""
    client = connect(API_KEY, None)
    assert client._requestor._options.base_addresses.get("api", stripe.DEFAULT_API_BASE) == "https://api.stripe.com"


# --- what is logged ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFUSALS)
def test_no_log_line_holds_a_secret(
    kind: str, wire: Wire, connected: StripeGateway, printed: Callable[[], str]
) -> None:
    """A failure is logged, and neither key nor e-mail address with it, not even where Stripe repeats them."""
    wire.answer(REFUSALS[kind][0])
    with pytest.raises(StripeFailed):
        make("create_customer", connected)
    log = printed()
    assert "Stripe did not do what was asked" in log
    assert API_KEY not in log
    assert EMAIL not in log


def test_the_log_says_which_request_failed(wire: Wire, connected: StripeGateway, printed: Callable[[], str]) -> None:
    """Stripe's request id and error code are there: what its support asks for."""
    wire.answer(refusal(402, {"Request-Id": "req_1"}, type="card_error", code="card_declined"))
    with pytest.raises(StripeRefused):
        connected.price_id("pro_monthly")
    line = json.loads(printed().splitlines()[-1])
    assert (line["stripe_error"], line["stripe_code"], line["stripe_request_id"]) == (
        "CardError",
        "card_declined",
        "req_1",
    )


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "path", "form"),
    [
        (lambda stripe_: stripe_.list_subscriptions("sub_9"), "/v1/subscriptions", {"status": "all"}),
        (lambda stripe_: stripe_.list_invoices("sub_9", "cus_1"), "/v1/invoices", {"customer": "cus_1"}),
        (lambda stripe_: stripe_.list_customers("sub_9"), "/v1/customers", {}),
        (
            lambda stripe_: stripe_.list_events(ANSWERED, "sub_9"),
            "/v1/events",
            {"created[gte]": str(int(ANSWERED.timestamp()))}
            | {f"types[{place}]": name for place, name in enumerate(sorted(EVENT_PARSERS))},
        ),
    ],
)
def test_a_page_is_asked_for_whole(
    wire: Wire, connected: StripeGateway, call: Callable[[StripeGateway], Any], path: str, form: Mapping[str, str]
) -> None:
    """As many objects as Stripe gives at once, after the last one seen, and events of the handled types alone."""
    wire.answer(Answer(body=json.dumps(page(SUBSCRIPTION)).encode()))
    call(connected)
    assert (wire.only.method, wire.only.path) == ("GET", path)
    assert wire.only.form == {"limit": "100", "starting_after": "sub_9", **form}


def test_stripe_takes_as_many_types_at_once() -> None:
    """https://docs.stripe.com/api/events/list allows twenty."""
    assert len(EVENT_PARSERS) <= 20


@pytest.mark.parametrize(("has_more", "after"), [(True, "sub_2"), (False, None)])
def test_a_page_says_where_the_next_begins(
    wire: Wire, connected: StripeGateway, *, has_more: bool, after: str | None
) -> None:
    """And between which times of Stripe's clock it was so."""
    second = {**SUBSCRIPTION, "id": "sub_2"}
    wire.answer(Answer(body=json.dumps(page(SUBSCRIPTION, second, has_more=has_more)).encode()))
    listing = connected.list_subscriptions(None)
    assert (listing.objects, listing.after) == ({"sub_1": SUBSCRIPTION, "sub_2": second}, after)
    assert listing.seen_to == ANSWERED
    assert ANSWERED - timedelta(seconds=2) < listing.seen_from < ANSWERED


def test_paced_payments_keep_to_the_rate(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token for each request, those that the SDK repeats by itself among them."""
    taken: list[float] = []
    monkeypatch.setattr(
        "billing.adapters.token_bucket.TokenBucket.acquire", lambda bucket: taken.append(bucket.per_second)
    )
    wire.answer(Answer(500), Answer(500), Answer(body=json.dumps(page(SUBSCRIPTION)).encode()))
    stripe_gateway.rate_limited_gateway(API_KEY, wire.url).list_subscriptions(None)
    assert taken == [stripe_gateway.LISTS_A_SECOND] * 3
    assert stripe_gateway.LISTS_A_SECOND <= 25 / 2


def test_stripes_own_waiting_time_is_kept(wire: Wire, connected: StripeGateway) -> None:
    """429 with Retry-After: the next try comes after that many seconds, and not a moment earlier."""
    good = Answer(body=json.dumps(page(SUBSCRIPTION)).encode())
    wire.answer(Answer(429, b'{"error": {"type": "invalid_request_error"}}', {"retry-after": "17"}), good)
    pauses: list[float] = []
    listing = retry_stripe(lambda: connected.list_subscriptions(None), pauses.append)
    assert [*listing.objects] == ["sub_1"]
    assert [17 <= pause < 19 for pause in pauses] == [True]


def test_patience_ends(wire: Wire, connected: StripeGateway) -> None:
    """After a few tries it is for somebody else to come back later."""
    wire.answer(Answer(429, b'{"error": {"type": "invalid_request_error"}}', {}))
    pauses: list[float] = []
    with pytest.raises(StripeUnavailable):
        retry_stripe(lambda: connected.list_subscriptions(None), pauses.append)
    assert len(pauses) == len(wire.requests) - 1 == 2
