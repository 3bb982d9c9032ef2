"""Stripe, and the only module that imports its SDK. Its errors become StripeUnavailable and StripeRefused.

Calls are bounded: 2 s to connect, 5 s to answer, two retries by the SDK (which sends the same idempotency key again).
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import stripe

from billing.adapters.token_bucket import TokenBucket
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.stripe_events import objects
from billing.stripe_events.event_types import EVENT_PARSERS, FetchedObject, ObjectRef, RelatedObject, Snapshot
from billing.stripe_events.objects import Json
from billing.telemetry import logger

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

CONNECT_SECONDS_MAX = 2
ANSWER_SECONDS_MAX = 5
LIST_SECONDS_MAX = 20
"""A page of a hundred objects takes Stripe longer, and nobody waits for it at a counter."""
RETRIES_MAX = 2
PRICE_AGE_SECONDS_MAX = 300
RETRY_AFTER_SECONDS_MAX = 60
RETRY_AFTER = re.compile(r"[0-9]{1,9}", re.ASCII)
NOT_FOUND = 404
CONFLICT = 409
PAGE_SIZE = 100
"""The most that Stripe lists at once: https://docs.stripe.com/api/pagination."""
LISTS_A_SECOND = 10
"""Of the 25 that Stripe allows a sandbox, and one resource in live mode, so that the product always has room beside it.

https://docs.stripe.com/rate-limits
"""
SERVER_ERROR = 500

# Most specific first; tests/adapters/test_stripe_gateway.py fails if the SDK raises what has no line here.
ERROR_MAP: tuple[tuple[type[stripe.StripeError], type[StripeFailed]], ...] = (
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

# An answer that is not Stripe's: what the SDK stumbles over when it takes one apart, and what our readers refuse.
MALFORMED_RESPONSE_ERRORS = (
    AttributeError,
    EventUnprocessable,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A Checkout Session. `status` is Stripe's: open, complete or expired; `url` is there while it is open."""

    id: str
    status: str | None
    url: str | None
    subscription_id: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of one of Stripe's lists by ids, newest first. `after`: the id after which there are more, if there are.

    `seen_from`, `seen_to`: between which times of Stripe's clock its objects were as they are here.
    """

    objects: Mapping[str, Json]
    after: str | None
    seen_from: datetime
    seen_to: datetime


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


class StripeGateway:
    """Stripe, by what is asked of it. Every method raises StripeUnavailable and StripeRefused."""

    def __init__(self, client: stripe.StripeClient, portal_configuration: str | None = None) -> None:
        """Take a client for any Stripe-compatible server, and the portal configuration of this deployment there."""
        self._client = client
        self._v1 = client.v1
        self._portal_configuration = portal_configuration
        self._price_ids: dict[str, tuple[float, str]] = {}

    def create_customer(self, account_id: str, email: str | None, *, idempotency_key: str) -> str:
        """Make the account's customer; the same key makes it once. Returns its id."""
        params: Any = {"metadata": {"account_id": account_id}} | ({"email": email} if email else {})
        with _map_errors():
            customer = self._v1.customers.create(params, {"idempotency_key": idempotency_key})
            return objects.required_id(customer.to_dict(), "id")

    def is_customer_gone(self, customer_id: str) -> bool:
        """Whether it was deleted, or Stripe does not have it at all, as after "Delete all test data"."""
        with _map_errors():
            customer = _or_none(lambda: _require_same_id(customer_id, self._v1.customers.retrieve(customer_id)))
            return customer is None or objects.boolean(customer, "deleted")

    def price_id(self, lookup_key: str) -> str:
        """The active price that has this lookup key, remembered for five minutes."""
        found_at, price_id = self._price_ids.get(lookup_key, (0.0, ""))
        if price_id and time.monotonic() - found_at < PRICE_AGE_SECONDS_MAX:
            return price_id
        with _map_errors():
            prices = self._v1.prices.list({"lookup_keys": [lookup_key], "active": True, "limit": 1})
            found = [objects.required_id(price.to_dict(), "id") for price in prices.data]
        if not found:
            logger().error("Stripe has no active price with a lookup key", lookup_key=lookup_key)
            raise StripeRefused
        self._price_ids[lookup_key] = (time.monotonic(), found[0])
        return found[0]

    def lookup_key_of(self, price_id: str) -> str | None:
        """The lookup key of a price that can be sold; None where it has none, is not active, or is not there."""
        with _map_errors():
            price = _or_none(lambda: _require_same_id(price_id, self._v1.prices.retrieve(price_id)))
            return objects.text(price, "lookup_key") if price and price["active"] else None

    def create_checkout_session(self, order: CheckoutOrder, *, idempotency_key: str) -> CheckoutSession:
        """Open a hosted checkout page for one subscription."""
        metadata = {"account_id": order.account_id}
        subscription: SessionCreateParams = {"subscription_data": {"metadata": metadata}}
        if order.trial_days:
            subscription = {"subscription_data": {"metadata": metadata, "trial_period_days": order.trial_days}}
        with _map_errors():
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
        with _map_errors():
            return _or_none(lambda: _checkout_session(self._v1.checkout.sessions.retrieve(session_id)))

    def close_checkout_session(self, session_id: str) -> CheckoutSession | None:
        """Expire a session, so that nobody can pay it any more; as it is now if it was no longer open."""
        with _map_errors():
            try:
                return _checkout_session(self._v1.checkout.sessions.expire(session_id))
            except stripe.InvalidRequestError:
                return self.find_checkout_session(session_id)

    def create_portal_session(self, customer_id: str, return_url: str, callers_key: str | None = None) -> str:
        """The URL of a billing portal session. Without a configuration Stripe takes the account's default, if any.

        `callers_key` is the caller's idempotency key: the same one makes one session, with Stripe too.
        """
        params: Any = {"customer": customer_id, "return_url": return_url}
        if self._portal_configuration:
            params["configuration"] = self._portal_configuration
        options: Any = {"idempotency_key": _portal_key(customer_id, return_url, callers_key)} if callers_key else {}
        with _map_errors():
            session = self._v1.billing_portal.sessions.create(params, options)
            return objects.required_text(session.to_dict(), "url")

    def fetch(self, target: ObjectRef, catalog: Catalog) -> FetchedObject | None:
        """The object an event is about, as it is now and between which times of Stripe's clock; None if it is gone.

        Raises EventUnprocessable if Stripe has the object, and it is not what such objects are.
        """
        with _map_errors():
            answered = _or_none(lambda: self._retrieve(target))
        if answered is None:
            return None
        source, seen_from, seen_to = answered
        content: Snapshot = (
            objects.parse_invoice(source) if target.kind is Invoice else objects.parse_subscription(source, catalog)
        )
        return FetchedObject(content, seen_from, seen_to)

    def look_up(self, related: RelatedObject) -> Json | None:
        """What a thin event names, in the API version that we read; None if it is gone, or nothing that we handle."""
        services: Mapping[str, Any] = {
            "checkout.session": self._v1.checkout.sessions,
            "customer": self._v1.customers,
            "invoice": self._v1.invoices,
            "subscription": self._v1.subscriptions,
        }
        service = services.get(related.type)
        if service is None:
            return None
        with _map_errors():
            return _or_none(lambda: _require_same_id(related.id, service.retrieve(related.id)))

    def list_events(self, since: datetime, after: str | None) -> Listing:
        """A page of the events that are handled, of those created since then that Stripe still has."""
        return self._list("events", after, types=sorted(EVENT_PARSERS), created={"gte": int(since.timestamp())})

    def list_subscriptions(self, after: str | None, customer_id: str | None = None) -> Listing:
        """A page of all subscriptions, ended ones too; `customer_id` is whose."""
        return self._list("subscriptions", after, status="all", customer=customer_id)

    def list_invoices(self, after: str | None, customer_id: str | None = None) -> Listing:
        """A page of all invoices, drafts too; `customer_id` is whose."""
        return self._list("invoices", after, customer=customer_id)

    def list_customers(self, after: str | None) -> Listing:
        """A page of all customers that were not deleted."""
        return self._list("customers", after)

    def _list(self, name: str, after: str | None, **filters: Any) -> Listing:  # noqa: ANN401 - JSON
        """A page as Stripe wrote it: to make the SDK's objects of a hundred takes longer than to get them."""
        wanted = {"limit": PAGE_SIZE, "starting_after": after, **filters}
        given = {name: value for name, value in wanted.items() if value is not None}
        with _map_errors():
            started = time.monotonic()
            response = self._client.raw_request("get", f"/v1/{name}", **given)
            by_id = {objects.required_id(each, "id"): each for each in response.data["data"]}
            after = [*by_id][-1] if response.data["has_more"] else None
            return Listing(by_id, after, *_observation_window(started, response.headers))

    def _retrieve(self, target: ObjectRef) -> tuple[Json, datetime, datetime]:
        """The object as Stripe answers it, and between which times of its clock."""
        service: Any = self._v1.invoices if target.kind is Invoice else self._v1.subscriptions
        started = time.monotonic()
        found = service.retrieve(target.id)
        seen = _observation_window(started, found.last_response.headers)
        return (_require_same_id(target.id, found), *seen)


def rate_limited_gateway(api_key: str, api_base: str | None) -> StripeGateway:
    """Payments that make at most LISTS_A_SECOND requests a second, the SDK's retries counted."""
    return StripeGateway(_client(api_key, api_base, RateLimitedHttpClient(TokenBucket(LISTS_A_SECOND))))


def connect(api_key: str, api_base: str | None) -> stripe.StripeClient:
    """A client of Stripe, or of the server at `api_base` that speaks as Stripe does."""
    return _client(api_key, api_base, stripe.RequestsClient(timeout=(CONNECT_SECONDS_MAX, ANSWER_SECONDS_MAX)))


def _client(api_key: str, api_base: str | None, http_client: stripe.HTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base} if api_base else {},
        http_client=http_client,
        max_network_retries=RETRIES_MAX,
    )


class RateLimitedHttpClient(stripe.RequestsClient):
    """The SDK's own HTTP client, which takes a token before each request that it sends."""

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        super().__init__(timeout=(CONNECT_SECONDS_MAX, LIST_SECONDS_MAX))

    def request(self, *request: Any, **options: Any) -> Any:  # noqa: ANN401 - as the SDK calls it
        """Send it once there is a token."""
        self._bucket.acquire()
        return super().request(*request, **options)


def _require_same_id(object_id: str, found: stripe.StripeObject) -> Json:
    """What Stripe answered of an object; what has another id is no answer of Stripe's."""
    source: Json = found.to_dict()
    if source["id"] != object_id:
        raise LookupError(object_id)
    return source


def _observation_window(started: float, headers: Mapping[str, str]) -> tuple[datetime, datetime]:
    """Between which times of Stripe's clock it was so what it answered just now to a call that started then."""
    took = timedelta(seconds=time.monotonic() - started)
    answered = parsedate_to_datetime(headers["date"]).astimezone(UTC)
    return answered - took, answered


@contextmanager
def _map_errors() -> Iterator[None]:
    try:
        yield
    except stripe.StripeError as error:
        raise _map_error(error) from error
    except MALFORMED_RESPONSE_ERRORS as error:
        logger().error("Stripe's answer cannot be understood", extra={"reason": type(error).__name__})
        raise StripeRefused from error


def _map_error(error: stripe.StripeError) -> StripeFailed:
    """Our error for one of the SDK's: by class, but for what Stripe itself could not do this time."""
    status = error.http_status or 0
    is_passing = isinstance(error, stripe.APIError) and (status == CONFLICT or status >= SERVER_ERROR)
    by_class = next(ours for theirs, ours in ERROR_MAP if isinstance(error, theirs))
    translated = StripeUnavailable if is_passing else by_class
    logger().error(
        "Stripe did not do what was asked",
        extra={"stripe_error": type(error).__name__, "stripe_code": error.code, "stripe_request_id": error.request_id},
    )
    return translated(_retry_after_seconds(error.headers or {}))


def _retry_after_seconds(headers: Mapping[str, str]) -> int | None:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return min(int(value), RETRY_AFTER_SECONDS_MAX) if RETRY_AFTER.fullmatch(value) else None


def _or_none[T](call: Callable[[], T]) -> T | None:
    try:
        return call()
    except stripe.InvalidRequestError as error:
        if error.http_status == NOT_FOUND:
            return None
        raise


def _portal_key(customer_id: str, return_url: str, callers_key: str) -> str:
    """Of all that the request says: Stripe refuses a key that comes with other parameters."""
    return hashlib.sha256(f"portal-{customer_id}-{return_url}-{callers_key}".encode()).hexdigest()


def _checkout_session(session: stripe.checkout.Session) -> CheckoutSession:
    source = session.to_dict()
    return CheckoutSession(
        id=objects.required_id(source, "id"),
        status=objects.text(source, "status"),
        url=objects.text(source, "url"),
        subscription_id=objects.reference(source, "subscription"),
    )
