"""Stripe gateway: the only module of the package that imports Stripe's SDK.

Errors of the SDK become StripeUnavailable or StripeRefused (`ERROR_MAP`). Every call has a connect timeout of 2 s and a
read timeout of 5 s. The SDK retries it twice with the same idempotency key.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import batched
from typing import TYPE_CHECKING, Any

import stripe

from billing.adapters.token_bucket import TokenBucket
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.stripe_events import objects
from billing.stripe_events.customer_links import StripeCustomer
from billing.stripe_events.event_types import EVENT_PARSERS, FetchedObject, ObjectRef, RelatedObject, Snapshot
from billing.stripe_events.objects import Json
from billing.telemetry import logger

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
LIST_READ_TIMEOUT_SECONDS = 20
"""List calls return up to 100 objects and run in the background, so they get a longer timeout."""
RETRIES_MAX = 2
PRICE_AGE_SECONDS_MAX = 300
RETRY_AFTER_SECONDS_MAX = 60
RETRY_AFTER = re.compile(r"[0-9]{1,9}", re.ASCII)
UNAUTHORIZED = 401
NOT_FOUND = 404
CONFLICT = 409
SERVER_ERROR = 500
PAGE_SIZE = 100
"""Largest page of a list: https://docs.stripe.com/api/pagination."""
BACKGROUND_REQUESTS_PER_SECOND = 10
"""Rate of background requests. Stripe allows 25 requests a second in a sandbox, and on one resource in live mode.

The rest is for the API. https://docs.stripe.com/rate-limits
"""

SCHEDULE_WITH_PRICES = "schedule.phases.items.price"
"""Expansion of a subscription's schedule and of the prices of its phases."""
EVENT_TYPES_PER_LIST = 20
"""Most event types that a list of events accepts: https://docs.stripe.com/api/events/list."""

# Most specific class first. tests/adapters/test_stripe_gateway_errors.py fails if the SDK raises a class without entry.
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

# Errors that the SDK and the parsers in `objects` raise for a response that does not come from Stripe.
MALFORMED_RESPONSE_ERRORS = (
    AttributeError,
    EventUnprocessable,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def event_type_groups() -> list[tuple[str, ...]]:
    """Return the handled event types in groups that a list of events accepts."""
    return list(batched(sorted(EVENT_PARSERS), EVENT_TYPES_PER_LIST, strict=False))


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """Checkout Session.

    Attributes:
        status: Stripe's status: open, complete or expired.
        url: Address of the hosted page; None unless the session is open.
        subscription_id: Subscription that the completed session created.
        customer_id: Customer that the session is for.
    """

    id: str
    status: str | None
    url: str | None
    subscription_id: str | None
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Page of one of Stripe's lists.

    Attributes:
        objects: Objects by id, newest first.
        after: Id after which the next page begins; None at the end.
        listed_at: Earliest time, by Stripe's clock, at which Stripe can have read the objects.
    """

    objects: Mapping[str, Json]
    after: str | None
    listed_at: datetime


@dataclass(frozen=True, slots=True)
class CheckoutOrder:
    """Order that a Checkout Session is created for.

    Attributes:
        deployment_id: Deployment that creates the session.
        trial_days: Length of the trial; 0 for no trial.
    """

    account_id: str
    deployment_id: str
    customer_id: str
    price_id: str
    quantity: int
    success_url: str
    cancel_url: str
    trial_days: int
    allow_promotion_codes: bool


class StripeGateway:
    """Calls to Stripe. Every method raises StripeUnavailable and StripeRefused."""

    def __init__(self, client: stripe.StripeClient, portal_configuration: str | None = None) -> None:
        """Create a gateway.

        Args:
            client: Client of Stripe or of a server with Stripe's API.
            portal_configuration: Id of the default portal configuration; None for the Stripe account's default.
        """
        self._client = client
        self._v1 = client.v1
        self._portal_configuration = portal_configuration
        self._price_ids: dict[str, tuple[float, str]] = {}

    # --- Checkout and portal ------------------------------------------------------------------------------------------

    def create_customer(self, account_id: str, email: str | None, *, deployment_id: str, idempotency_key: str) -> str:
        """Create a customer for an account, once for each idempotency key. Returns its id."""
        metadata = objects.identity_metadata(account_id, deployment_id)
        params: Any = {"metadata": metadata} | ({"email": email} if email else {})
        with _map_errors():
            customer = self._v1.customers.create(params, {"idempotency_key": idempotency_key})
            return objects.required_id(customer.to_dict(), "id")

    def is_customer_deleted(self, customer_id: str) -> bool:
        """Return True if a customer was deleted or does not exist, as after "Delete all test data"."""
        customer = self.find_customer(customer_id)
        return customer is None or customer.is_deleted

    def find_customer(self, customer_id: str) -> StripeCustomer | None:
        """Return a customer, also if it was deleted; None if it does not exist."""
        with _map_errors():
            source = _none_if_not_found(lambda: _require_same_id(customer_id, self._v1.customers.retrieve(customer_id)))
            if source is None:
                return None
            return StripeCustomer(
                id=customer_id,
                account_id=objects.account_id_of(source),
                deployment_id=objects.deployment_id_of(source),
                is_deleted=objects.boolean(source, "deleted"),
                missing_metadata=objects.missing_identity_keys(source),
            )

    def add_customer_metadata(self, customer_id: str, metadata: Mapping[str, str]) -> None:
        """Write values into a customer's metadata. Stripe keeps the values of other keys."""
        with _map_errors():
            _require_same_id(customer_id, self._v1.customers.update(customer_id, {"metadata": dict(metadata)}))

    def find_price_id(self, lookup_key: str, *, refresh: bool = False) -> str:
        """Return the id of the active price with a lookup key.

        Args:
            lookup_key: Lookup key.
            refresh: If False, the id may come from memory, where it is stored for five minutes.
        """
        found_at, price_id = self._price_ids.get(lookup_key, (0.0, ""))
        if price_id and not refresh and time.monotonic() - found_at < PRICE_AGE_SECONDS_MAX:
            return price_id
        with _map_errors():
            prices = self._v1.prices.list({"lookup_keys": [lookup_key], "active": True, "limit": 1})
            found = [objects.required_id(price.to_dict(), "id") for price in prices.data]
        if not found:
            logger().error("No active Stripe price has this lookup key", lookup_key=lookup_key)
            raise StripeRefused
        self._price_ids[lookup_key] = (time.monotonic(), found[0])
        return found[0]

    def find_lookup_key(self, price_id: str) -> str | None:
        """Return the lookup key of an active price; None if it has none, is inactive or does not exist."""
        with _map_errors():
            price = _none_if_not_found(lambda: _require_same_id(price_id, self._v1.prices.retrieve(price_id)))
            return objects.text(price, "lookup_key") if price and price["active"] else None

    def create_checkout_session(self, order: CheckoutOrder, *, idempotency_key: str) -> CheckoutSession:
        """Create a Checkout Session for one subscription."""
        metadata = objects.identity_metadata(order.account_id, order.deployment_id)
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
        """Return a Checkout Session; None if it does not exist."""
        with _map_errors():
            return _none_if_not_found(lambda: _checkout_session(self._v1.checkout.sessions.retrieve(session_id)))

    def expire_checkout_session(self, session_id: str) -> CheckoutSession | None:
        """Expire a Checkout Session, so that it can no longer be paid.

        Returns:
            The session; if it was no longer open, its present state. None if it does not exist.

        Raises:
            StripeRefused: Stripe refused, and the session is still open.
        """
        with _map_errors():
            try:
                return _checkout_session(self._v1.checkout.sessions.expire(session_id))
            except stripe.InvalidRequestError:
                session = self.find_checkout_session(session_id)
                if session is not None and session.status == "open":
                    raise
                return session

    def create_portal_session(
        self,
        customer_id: str,
        return_url: str,
        idempotency_key: str | None = None,
        configuration: str | None = None,
    ) -> str:
        """Create a billing portal session and return its URL.

        Args:
            customer_id: Customer who opens the portal.
            return_url: Address that the portal links back to.
            idempotency_key: Key of the API request. The same key and arguments create one session.
            configuration: Id of the portal configuration; None for the default one.
        """
        params: Any = {"customer": customer_id, "return_url": return_url}
        configuration = configuration or self._portal_configuration
        if configuration:
            params["configuration"] = configuration
        options: Any = {}
        if idempotency_key:
            # Stripe rejects a key that is repeated with other parameters, so the key includes them.
            text = f"portal-{customer_id}-{return_url}-{configuration}-{idempotency_key}"
            options["idempotency_key"] = hashlib.sha256(text.encode()).hexdigest()
        with _map_errors():
            session = self._v1.billing_portal.sessions.create(params, options)
            return objects.required_text(session.to_dict(), "url")

    # --- Objects of events --------------------------------------------------------------------------------------------

    def fetch(self, target: ObjectRef, catalog: Catalog) -> FetchedObject | None:
        """Return the present state of an event's subscription or invoice; None if it does not exist.

        Raises:
            EventUnprocessable: Stripe's object does not have the fields of its type.
        """
        with _map_errors():
            found = _none_if_not_found(lambda: self._retrieve(target))
        if found is None:
            return None
        source, seen_from, seen_to = found
        content: Snapshot = (
            objects.parse_invoice(source) if target.kind is Invoice else objects.parse_subscription(source, catalog)
        )
        account_id, deployment_id = objects.account_id_of(source), objects.deployment_id_of(source)
        return FetchedObject(content, seen_from, seen_to, account_id, deployment_id)

    def _retrieve(self, target: ObjectRef) -> tuple[Json, datetime, datetime]:
        """Return the JSON of an object, and the interval of Stripe's clock in which Stripe read it."""
        service: Any = self._v1.invoices if target.kind is Invoice else self._v1.subscriptions
        params = {} if target.kind is Invoice else {"expand": [SCHEDULE_WITH_PRICES]}
        started = time.monotonic()
        found = service.retrieve(target.id, params)
        seen_from, seen_to = _observation_window(started, found.last_response.headers)
        return _require_same_id(target.id, found), seen_from, seen_to

    def look_up(self, related: RelatedObject) -> Json | None:
        """Return the object that a thin event names; None if it does not exist or its type is not handled."""
        services: Mapping[str, Any] = {
            "checkout.session": self._v1.checkout.sessions,
            "customer": self._v1.customers,
            "invoice": self._v1.invoices,
            "subscription": self._v1.subscriptions,
            "subscription_schedule": self._v1.subscription_schedules,
        }
        service = services.get(related.type)
        if service is None:
            return None
        with _map_errors():
            return _none_if_not_found(lambda: _require_same_id(related.id, service.retrieve(related.id)))

    # --- Lists --------------------------------------------------------------------------------------------------------

    def list_events(self, since: datetime, after: str | None) -> Listing:
        """Return a page of the events of handled types that were created since a time.

        Stripe lists one group of types at a time. `after` of a later group begins with the number of the group.
        """
        number, _, last = (after or "").rpartition(":")
        group = int(number or 0)
        groups = event_type_groups()
        types = groups[group]
        listing = self._list("events", last or None, types=list(types), created={"gte": int(since.timestamp())})
        if listing.after is None and group + 1 < len(groups):
            return replace(listing, after=f"{group + 1}:")
        return replace(listing, after=f"{group}:{listing.after}") if listing.after and group else listing

    def list_subscriptions(self, after: str | None, customer_id: str | None = None) -> Listing:
        """Return a page of the subscriptions of one customer or of all, ended ones included.

        The schedules are expanded. Their prices are not: an expansion has at most four levels.
        """
        return self._list("subscriptions", after, status="all", customer=customer_id, expand=["data.schedule"])

    def list_invoices(self, after: str | None, customer_id: str | None = None) -> Listing:
        """Return a page of the invoices of one customer or of all, drafts included."""
        return self._list("invoices", after, customer=customer_id)

    def list_customers(self, after: str | None) -> Listing:
        """Return a page of the customers that are not deleted."""
        return self._list("customers", after)

    def _list(self, name: str, after: str | None, **filters: Any) -> Listing:  # noqa: ANN401 - JSON
        """Return a page as raw JSON. Creating the SDK's objects for it takes longer than the request."""
        params = {"limit": PAGE_SIZE, "starting_after": after, **filters}
        given = {name: value for name, value in params.items() if value is not None}
        with _map_errors():
            started = time.monotonic()
            response = self._client.raw_request("get", f"/v1/{name}", **given)
            by_id = {objects.required_id(each, "id"): each for each in response.data["data"]}
            next_after = [*by_id][-1] if response.data["has_more"] else None
            listed_at, _ = _observation_window(started, response.headers)
            return Listing(by_id, next_after, listed_at)


# --- Clients ----------------------------------------------------------------------------------------------------------


def connect(api_key: str, api_base: str | None) -> stripe.StripeClient:
    """Return a client of Stripe, or of a server with Stripe's API at `api_base`."""
    timeout = (CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS)
    return _create_client(api_key, api_base, stripe.RequestsClient(timeout=timeout))


def rate_limited_gateway(api_key: str, api_base: str | None) -> StripeGateway:
    """Return a gateway for background work. It sends at most BACKGROUND_REQUESTS_PER_SECOND, retries included."""
    http_client = RateLimitedHttpClient(TokenBucket(BACKGROUND_REQUESTS_PER_SECOND))
    return StripeGateway(_create_client(api_key, api_base, http_client))


def _create_client(api_key: str, api_base: str | None, http_client: stripe.HTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base} if api_base else {},
        http_client=http_client,
        max_network_retries=RETRIES_MAX,
    )


class RateLimitedHttpClient(stripe.RequestsClient):
    """HTTP client of the SDK that acquires a token before each request."""

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        super().__init__(timeout=(CONNECT_TIMEOUT_SECONDS, LIST_READ_TIMEOUT_SECONDS))

    def request(self, *request: Any, **options: Any) -> Any:  # noqa: ANN401 - the SDK's signature
        """Send a request once a token is available."""
        self._bucket.acquire()
        return super().request(*request, **options)


# --- Responses --------------------------------------------------------------------------------------------------------


def _require_same_id(object_id: str, found: stripe.StripeObject) -> Json:
    """Return the JSON of an object. Raises LookupError if it has another id than was requested."""
    source: Json = found.to_dict()
    if source["id"] != object_id:
        raise LookupError(object_id)
    return source


def _observation_window(started: float, headers: Mapping[str, str]) -> tuple[datetime, datetime]:
    """Return the interval of Stripe's clock in which Stripe read the objects of a response.

    It ends at the response's `Date` and is as long as the call took.

    Args:
        started: Monotonic time at which the call started.
        headers: Headers of the response.
    """
    duration = timedelta(seconds=time.monotonic() - started)
    responded = parsedate_to_datetime(headers["date"]).astimezone(UTC)
    return responded - duration, responded


def _none_if_not_found[T](call: Callable[[], T]) -> T | None:
    try:
        return call()
    except stripe.InvalidRequestError as error:
        if error.http_status == NOT_FOUND:
            return None
        raise


def _checkout_session(session: stripe.checkout.Session) -> CheckoutSession:
    source = session.to_dict()
    return CheckoutSession(
        id=objects.required_id(source, "id"),
        status=objects.text(source, "status"),
        url=objects.text(source, "url"),
        subscription_id=objects.reference(source, "subscription"),
        customer_id=objects.reference(source, "customer"),
    )


# --- Errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def _map_errors() -> Iterator[None]:
    try:
        yield
    except stripe.StripeError as error:
        raise _map_error(error) from error
    except MALFORMED_RESPONSE_ERRORS as error:
        logger().error("Malformed Stripe response", extra={"reason": type(error).__name__})
        raise StripeRefused from error


def _map_error(error: stripe.StripeError) -> StripeFailed:
    """Return the error for one of the SDK's: by class, except that conflicts and server errors are temporary."""
    status = error.http_status or 0
    is_temporary = isinstance(error, stripe.APIError) and (status == CONFLICT or status >= SERVER_ERROR)
    by_class = next(ours for theirs, ours in ERROR_MAP if isinstance(error, theirs))
    mapped = StripeUnavailable if is_temporary else by_class
    logger().error(
        "Stripe API error",
        extra={
            "stripe_error": type(error).__name__,
            "stripe_code": error_code(error),
            "stripe_request_id": error.request_id,
        },
    )
    return mapped(_retry_after_seconds(error), is_answered=_is_answered(error))


def error_code(error: stripe.StripeError) -> str | None:
    """Return Stripe's code of an error, such as `api_key_expired`. The SDK's `code` lacks it for 401, 403 and 429."""
    code = error.error.code if error.error else error.code
    return code if isinstance(code, str) else None


def _is_answered(error: stripe.StripeError) -> bool:
    """Return True if Stripe answered with an error that it may replay for the same idempotency key.

    | response | replayed |
    |---|---|
    | none, or none of Stripe's, such as a proxy's | unknown: Stripe may still do what was requested |
    | with `Idempotent-Replayed` | yes |
    | 401, 409, 429 | no: Stripe sends them before it stores anything |
    | any other error | yes, if processing had begun |

    https://docs.stripe.com/error-low-level#idempotency
    """
    if _header(error, "idempotent-replayed") == "true":
        return True
    is_before_processing = error.http_status in {UNAUTHORIZED, CONFLICT} or isinstance(error, stripe.RateLimitError)
    return error.error is not None and not is_before_processing


def _retry_after_seconds(error: stripe.StripeError) -> int | None:
    value = _header(error, "retry-after")
    return min(int(value), RETRY_AFTER_SECONDS_MAX) if RETRY_AFTER.fullmatch(value) else None


def _header(error: stripe.StripeError, name: str) -> str:
    return next((value for each, value in (error.headers or {}).items() if each.lower() == name), "")
