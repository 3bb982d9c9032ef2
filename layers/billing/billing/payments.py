"""Stripe, and the only module that imports its SDK. Its errors become StripeUnavailable and StripeRefused.

Calls are bounded: 3 s to connect, 8 s to answer, one retry by the SDK (which sends the same idempotency key again).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import stripe

from billing.domain import stripe_objects
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.stripe_events import Target
from billing.event_processor import Fetched
from billing.settings import load_settings, load_stripe_secrets
from billing.telemetry import logger

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

CONNECT_SECONDS_MAX = 3
ANSWER_SECONDS_MAX = 8
PRICE_AGE_SECONDS_MAX = 300
RETRY_AFTER_SECONDS_MAX = 60
NOT_FOUND = 404

# Most specific first; tests/adapters/test_payments.py fails if the SDK raises what has no line here.
TRANSLATION: tuple[tuple[type[stripe.StripeError], type[StripeFailed]], ...] = (
    (stripe.RateLimitError, StripeUnavailable),
    (stripe.APIConnectionError, StripeUnavailable),
    (stripe.InvalidRequestError, StripeRefused),
    (stripe.AuthenticationError, StripeRefused),
    (stripe.PermissionError, StripeRefused),
    (stripe.IdempotencyError, StripeRefused),
    (stripe.CardError, StripeRefused),
    (stripe.APIError, StripeRefused),
    (stripe.StripeError, StripeRefused),
)


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A Checkout Session. `status` is Stripe's: open, complete or expired; `url` is there while it is open."""

    id: str
    status: str | None
    url: str | None
    subscription_id: str | None


@dataclass(frozen=True, slots=True)
class CheckoutOrder:
    """What a Checkout Session is to be made for. `trial_days` 0 is no trial."""

    account_id: str
    customer_id: str
    price_id: str
    quantity: int
    success_url: str
    cancel_url: str
    trial_days: int
    allow_promotion_codes: bool


class Payments:
    """Stripe, by what is asked of it. Every method raises StripeUnavailable and StripeRefused."""

    def __init__(self, client: stripe.StripeClient) -> None:
        """Take a client for any Stripe-compatible server."""
        self._v1 = client.v1
        self._price_ids: dict[str, tuple[float, str]] = {}

    def create_customer(self, account_id: str, email: str | None, *, idempotency_key: str) -> str:
        """Make the account's customer; the same key makes it once. Returns its id."""
        params: Any = {"metadata": {"account_id": account_id}} | ({"email": email} if email else {})
        with _translated():
            return self._v1.customers.create(params, {"idempotency_key": idempotency_key}).id

    def price_id(self, lookup_key: str) -> str:
        """The active price that has this lookup key, remembered for five minutes."""
        found_at, price_id = self._price_ids.get(lookup_key, (0.0, ""))
        if price_id and time.monotonic() - found_at < PRICE_AGE_SECONDS_MAX:
            return price_id
        with _translated():
            prices = self._v1.prices.list({"lookup_keys": [lookup_key], "active": True, "limit": 1}).data
        if not prices:
            logger().error("Stripe has no active price with a lookup key", lookup_key=lookup_key)
            raise StripeRefused
        self._price_ids[lookup_key] = (time.monotonic(), prices[0].id)
        return prices[0].id

    def create_checkout_session(self, order: CheckoutOrder, *, idempotency_key: str) -> CheckoutSession:
        """Open a hosted checkout page for one subscription."""
        metadata = {"account_id": order.account_id}
        subscription: SessionCreateParams = {"subscription_data": {"metadata": metadata}}
        if order.trial_days:
            subscription = {"subscription_data": {"metadata": metadata, "trial_period_days": order.trial_days}}
        with _translated():
            session = self._v1.checkout.sessions.create(
                {
                    "mode": "subscription",
                    "customer": order.customer_id,
                    "client_reference_id": order.account_id,
                    "line_items": [{"price": order.price_id, "quantity": order.quantity}],
                    "success_url": order.success_url,
                    "cancel_url": order.cancel_url,
                    "allow_promotion_codes": order.allow_promotion_codes,
                    "metadata": metadata,
                    **subscription,
                },
                {"idempotency_key": idempotency_key},
            )
        return _checkout_session(session)

    def find_checkout_session(self, session_id: str) -> CheckoutSession | None:
        """A Checkout Session as it is now; None if Stripe does not have it."""
        with _translated():
            session = _or_none(lambda: self._v1.checkout.sessions.retrieve(session_id))
        return _checkout_session(session) if session else None

    def close_checkout_session(self, session_id: str) -> CheckoutSession | None:
        """Expire a session, so that nobody can pay it any more; as it is now if it was no longer open."""
        try:
            return _checkout_session(self._v1.checkout.sessions.expire(session_id))
        except stripe.InvalidRequestError:
            return self.find_checkout_session(session_id)
        except stripe.StripeError as error:
            raise _translate(error) from error

    def create_portal_session(self, customer_id: str, return_url: str) -> str:
        """The URL of a billing portal session."""
        with _translated():
            return self._v1.billing_portal.sessions.create({"customer": customer_id, "return_url": return_url}).url

    def fetch(self, target: Target, catalog: Catalog) -> Fetched | None:
        """The object an event is about, as it is now and between which times of Stripe's clock; None if it is gone."""
        started = time.monotonic()
        with _translated():
            found: Any = _or_none(
                lambda: (
                    self._v1.invoices.retrieve(target.id)
                    if target.kind is Invoice
                    else self._v1.subscriptions.retrieve(target.id)
                )
            )
        if found is None:
            return None
        took = timedelta(seconds=time.monotonic() - started)
        source = found.to_dict()
        try:
            answered = parsedate_to_datetime(found.last_response.headers["date"]).astimezone(UTC)
            content = (
                stripe_objects.read_invoice(source)
                if target.kind is Invoice
                else stripe_objects.read_subscription(source, catalog)
            )
        except (EventUnprocessable, KeyError, ValueError) as error:
            raise StripeRefused from error
        return Fetched(content, answered - took, answered)


@cache
def connect_payments() -> Payments:
    """Stripe as this deployment reaches it, connected on first use."""
    settings, secrets = load_settings(), load_stripe_secrets()
    return Payments(connect(secrets.api_key, settings.stripe_api_base))


def connect(api_key: str, api_base: str | None) -> stripe.StripeClient:
    """A client of Stripe, or of the server at `api_base` that speaks as Stripe does."""
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base} if api_base else {},
        http_client=stripe.RequestsClient(timeout=(CONNECT_SECONDS_MAX, ANSWER_SECONDS_MAX)),
        max_network_retries=1,
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except stripe.StripeError as error:
        raise _translate(error) from error


def _translate(error: stripe.StripeError) -> StripeFailed:
    translated = next(ours for theirs, ours in TRANSLATION if isinstance(error, theirs))
    logger().error(
        "Stripe did not do what was asked",
        extra={"stripe_error": type(error).__name__, "stripe_code": error.code, "stripe_request_id": error.request_id},
    )
    return translated(_retry_after_seconds(error.headers or {}))


def _retry_after_seconds(headers: Mapping[str, str]) -> int | None:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return min(int(value), RETRY_AFTER_SECONDS_MAX) if value.isascii() and value.isdigit() else None


def _or_none[T](call: Callable[[], T]) -> T | None:
    try:
        return call()
    except stripe.InvalidRequestError as error:
        if error.http_status == NOT_FOUND:
            return None
        raise


def _checkout_session(session: stripe.checkout.Session) -> CheckoutSession:
    subscription = session.subscription
    return CheckoutSession(
        id=session.id,
        status=session.status,
        url=session.url,
        subscription_id=subscription if isinstance(subscription, str) or subscription is None else subscription.id,
    )
