"""Errors of Stripe, of its SDK and of the network, as the Stripe gateway raises and logs them."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe

from billing.adapters import stripe_gateway
from billing.adapters.stripe_gateway import ERROR_MAP, StripeGateway, connect
from billing.catalog import load_catalog
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import ObjectRef
from tests.adapters.stripe_calls import API_KEY, EMAIL, SUBSCRIPTION, call, each_call, ok, stripe_error
from tests.conftest import template
from tests.wire import SILENCE_SECONDS, Answer, Wire

pytestmark = pytest.mark.usefixtures("immediate_retries")

# --- The SDK's error classes ------------------------------------------------------------------------------------------

# Classes of API v2, of OAuth and of the SDK's webhook helper, which are not used; and abstract base classes.
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
    """Yield a class and all its subclasses."""
    yield base
    for derived in base.__subclasses__():
        yield from classes_of(derived)


def test_every_error_class_of_the_sdk_is_in_the_error_map() -> None:
    """A class that a new SDK adds fails here until it is mapped."""
    raised = set(classes_of(stripe.StripeError)) - NOT_RAISED_BY_V1
    mapped = {theirs for theirs, _ in ERROR_MAP} - {stripe.StripeError}
    oauth = {each for each in raised if each.__module__ == "stripe.oauth_error"}
    assert raised - oauth == mapped


def test_no_entry_of_the_error_map_hides_a_later_one() -> None:
    """The most specific class comes first, and the last entry catches all others."""
    classes = [theirs for theirs, _ in ERROR_MAP]
    for place, theirs in enumerate(classes):
        assert not any(issubclass(theirs, earlier) for earlier in classes[:place])
    assert classes[-1] is stripe.StripeError


# --- Error responses --------------------------------------------------------------------------------------------------

ERRORS = {
    "rate limit": (stripe_error(429), StripeUnavailable),
    "rate limit in the old format": (stripe_error(400, code="rate_limit"), StripeUnavailable),
    "invalid parameter": (stripe_error(400), StripeRefused),
    "idempotency key reused": (stripe_error(400, type="idempotency_error"), StripeRefused),
    "wrong API key": (stripe_error(401), StripeRefused),
    "card declined": (stripe_error(402, type="card_error", code="card_declined"), StripeRefused),
    "no permission": (stripe_error(403), StripeRefused),
    "internal error": (stripe_error(500, type="api_error"), StripeUnavailable),
    "unavailable": (stripe_error(503, type="api_error"), StripeUnavailable),
    "concurrent idempotency key": (stripe_error(409, type="idempotency_error"), StripeUnavailable),
    "503 of a proxy": (Answer(503, b"<html>Service Unavailable</html>"), StripeUnavailable),
    "404 of a proxy": (Answer(404, b"<html>Not Found</html>"), StripeRefused),
    "connection closed": (Answer(cut=True), StripeUnavailable),
}


@pytest.mark.parametrize("kind", ERRORS)
@each_call
def test_stripe_error_raises_our_error_with_retry_after(
    name: str, kind: str, wire: Wire, gateway: StripeGateway
) -> None:
    answer, expected = ERRORS[kind]
    wire.answer(answer)
    with pytest.raises(expected) as raised:
        call(name, gateway)
    assert 0 < raised.value.retry_after_seconds <= 60


REPLAYED = {"Idempotent-Replayed": "true"}
PROXY_PAGE = b"<html>Bad Gateway</html>"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (stripe_error(500, type="api_error"), True),
        (stripe_error(400), True),
        (stripe_error(400, type="idempotency_error"), True),
        (stripe_error(402, type="card_error"), True),
        (stripe_error(403), True),
        (stripe_error(401), False),
        (stripe_error(409, type="idempotency_error", code="idempotency_key_in_use"), False),
        (stripe_error(429), False),
        (stripe_error(400, code="rate_limit"), False),
        (stripe_error(409, REPLAYED), True),
        (stripe_error(429, REPLAYED), True),
        (Answer(502, PROXY_PAGE), False),
        (Answer(200, PROXY_PAGE), False),
        (Answer(200, b"{}"), False),
        (Answer(cut=True), False),
    ],
)
def test_error_that_stripe_may_replay_is_answered(
    answer: Answer, expected: object, wire: Wire, gateway: StripeGateway
) -> None:
    """Without Stripe's own answer, the request may still take effect, and its idempotency key must stay."""
    wire.answer(answer)
    with pytest.raises(StripeFailed) as raised:
        call("create_customer", gateway)
    assert raised.value.is_answered is expected


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("7", 7), ("60", 60), ("86400", 60), ("0", 5), ("-1", 5), ("soon", 5), ("", 5), ("٣", 5), ("9" * 5000, 5)],
)
def test_retry_after_is_used_up_to_a_minute(retry_after: str, seconds: int, wire: Wire, gateway: StripeGateway) -> None:
    """A value that is no number of seconds is replaced by the default."""
    wire.answer(stripe_error(429, {"Retry-After": retry_after.encode().decode("latin-1")}))
    with pytest.raises(StripeUnavailable) as raised:
        gateway.find_price_id("pro_monthly")
    assert raised.value.retry_after_seconds == seconds


# --- Malformed responses ----------------------------------------------------------------------------------------------

MALFORMED_BODIES = [
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


@pytest.mark.parametrize("body", MALFORMED_BODIES)
@pytest.mark.parametrize("status", [200, 400, 500])
@each_call
def test_malformed_response_is_rejected(
    name: str, status: int, body: bytes, wire: Wire, gateway: StripeGateway
) -> None:
    """It is never treated as a 404."""
    wire.answer(Answer(status, body))
    with pytest.raises(StripeFailed):
        call(name, gateway)


@pytest.mark.parametrize("field", SUBSCRIPTION)
@pytest.mark.parametrize("value", [5.5, [], {"id": 5}, "\u0000", True])
def test_fetched_object_with_wrong_type_or_id_is_rejected(
    field: str, value: object, wire: Wire, gateway: StripeGateway
) -> None:
    """A fetched object is parsed as strictly as a delivered one."""
    wire.answer(ok(SUBSCRIPTION | {field: value}))
    if field == "object":
        assert gateway.fetch(ObjectRef(Subscription, "sub_1"), load_catalog()) is not None
    else:
        with pytest.raises(StripeRefused if field == "id" else EventUnprocessable):
            gateway.fetch(ObjectRef(Subscription, "sub_1"), load_catalog())


# --- Timeouts ---------------------------------------------------------------------------------------------------------


@each_call
def test_stripe_that_does_not_respond_raises_stripe_unavailable(
    name: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_gateway, "READ_TIMEOUT_SECONDS", 0.05)
    wire.answer(Answer(silent=True))
    started = time.monotonic()
    with pytest.raises(StripeUnavailable):
        call(name, StripeGateway(connect(API_KEY, wire.url)))
    assert time.monotonic() - started < SILENCE_SECONDS
    assert len(wire.requests) == stripe_gateway.RETRIES_MAX + 1


@each_call
def test_unreachable_stripe_raises_stripe_unavailable(name: str) -> None:
    with pytest.raises(StripeUnavailable):
        call(name, StripeGateway(connect(API_KEY, "http://127.0.0.1:9")))


@pytest.mark.parametrize("function", ["CheckoutFunction", "PortalFunction", "StripeWebhookFunction"])
def test_all_attempts_of_a_call_fit_the_functions_timeout(function: str) -> None:
    """The function can still respond if Stripe does not."""
    resources = template()
    defaults = resources["Globals"]["Function"]
    timeout = (defaults | resources["Resources"][function]["Properties"])["Timeout"]
    attempts, pauses = stripe_gateway.RETRIES_MAX + 1, 1.5
    assert attempts * stripe_gateway.READ_TIMEOUT_SECONDS + pauses + 1 < timeout


# --- Log --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS)
def test_log_of_an_error_has_neither_key_nor_email(
    kind: str, wire: Wire, gateway: StripeGateway, printed: Callable[[], str]
) -> None:
    """This applies also if Stripe's message repeats them."""
    wire.answer(ERRORS[kind][0])
    with pytest.raises(StripeFailed):
        call("create_customer", gateway)
    log = printed()
    assert "Stripe API error" in log
    assert API_KEY not in log
    assert EMAIL not in log


def test_log_of_an_error_has_stripes_request_id_and_code(
    wire: Wire, gateway: StripeGateway, printed: Callable[[], str]
) -> None:
    """Stripe's support asks for them."""
    wire.answer(stripe_error(402, {"Request-Id": "req_1"}, type="card_error", code="card_declined"))
    with pytest.raises(StripeRefused):
        gateway.find_price_id("pro_monthly")
    line = json.loads(printed().splitlines()[-1])
    assert (line["stripe_error"], line["stripe_code"], line["stripe_request_id"]) == (
        "CardError",
        "card_declined",
        "req_1",
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "api_key_expired"), (401, "secret_key_required"), (403, "more_permissions_required"), (429, "lock_timeout")],
)
def test_log_has_the_code_that_the_sdk_leaves_out(
    status: int, code: str, wire: Wire, gateway: StripeGateway, printed: Callable[[], str]
) -> None:
    """The SDK sets `code` of an error only for some statuses."""
    wire.answer(stripe_error(status, code=code))
    with pytest.raises(StripeFailed):
        gateway.find_price_id("pro_monthly")
    assert json.loads(printed().splitlines()[-1])["stripe_code"] == code
