"""API requests: authentication, routing, idempotency, execution and error responses."""

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from stripe_simulator.errors import InvalidRequest, NotAuthenticated, NotSimulated, StripeError, UnknownUrl
from stripe_simulator.expansion import expand_properties
from stripe_simulator.idempotency import IdempotencyKeys, SimulatedResponse
from stripe_simulator.objects import list_object
from stripe_simulator.parameters import parse_form, read_parameters
from stripe_simulator.resources import (
    catalog,
    checkout,
    customers,
    events,
    invoices,
    portal,
    subscription_schedules,
    subscriptions,
    test_clocks,
)
from stripe_simulator.response_validation import InvalidObject, check_object
from stripe_simulator.routing import PAGINATION_PARAMETERS, ResourceRoute, paginate
from stripe_simulator.sdk_operations import is_sdk_operation, sdk_operations
from stripe_simulator.state import API_VERSION, SimulatorState

RESOURCES = (customers, catalog, checkout, portal, subscriptions, subscription_schedules, invoices, events, test_clocks)
ROUTES: tuple[ResourceRoute, ...] = tuple(route for resource in RESOURCES for route in resource.ROUTES)
FORM = "application/x-www-form-urlencoded"
KEY_LIMIT = 255


@dataclass(frozen=True, slots=True)
class SimulatedRequest:
    """An HTTP request. Header names are in lower case."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """An injected failure that is stored under the request's idempotency key.

    Attributes:
        response: The error response.
        executes: True if the operation takes effect before the failure.
    """

    response: SimulatedResponse
    executes: bool


class SimulatedApi:
    """Stripe's API for one account."""

    def __init__(self, state: SimulatorState) -> None:
        self._state = state
        self._keys = IdempotencyKeys()

    async def handle(
        self, request: SimulatedRequest, delay_seconds: float = 0, failure: StoredFailure | None = None
    ) -> SimulatedResponse:
        """Handle a request. An error becomes a response; every response has Stripe's headers.

        Args:
            request: The HTTP request.
            delay_seconds: Time to wait before the operation runs, for tests with concurrent requests.
            failure: Failure to respond with. A stored response of the same idempotency key takes precedence.
        """
        request_id = f"req_{self._state.random_string(14)}"
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        try:
            response = await self._handle(request, request_id, key, delay_seconds, failure)
        except StripeError as error:
            response = self._error_response(error, request_id)
        headers = {"Request-Id": request_id, **self.common_headers(), **({"Idempotency-Key": key} if key else {})}
        return SimulatedResponse(response.status, response.body, {**headers, **response.headers})

    def common_headers(self) -> dict[str, str]:
        """Return the headers of every response. ``Date`` follows the simulator's clock."""
        return {"Date": formatdate(self._state.now(), usegmt=True), "Stripe-Version": API_VERSION}

    async def _handle(
        self,
        request: SimulatedRequest,
        request_id: str,
        key: str | None,
        delay_seconds: float,
        failure: StoredFailure | None,
    ) -> SimulatedResponse:
        self._authenticate(request.headers)
        route, ids = _find_route(request.method, request.path)
        form = parse_form(_form_pairs(request))
        if key is None:
            parameters = read_parameters(route.parameters, form)
            await asyncio.sleep(delay_seconds)
            return self._run(route, ids, parameters, request_id, None, failure)
        if len(key) > KEY_LIMIT:
            raise InvalidRequest(f"Idempotency keys must be {KEY_LIMIT} characters or less.")
        replayed = self._keys.begin(key, (request.method, request.path, form), self._state.now())
        if replayed:
            return SimulatedResponse(
                replayed.status, replayed.body, {**replayed.headers, "Idempotent-Replayed": "true"}
            )
        try:
            parameters = read_parameters(route.parameters, form)
        except StripeError:
            self._keys.release(key)
            raise
        await asyncio.sleep(delay_seconds)
        try:
            response = self._run(route, ids, parameters, request_id, key, failure)
        except StripeError as error:
            response = self._error_response(error, request_id)
        response = SimulatedResponse(
            response.status, response.body, {"Original-Request": request_id, **response.headers}
        )
        self._keys.finish(key, response)
        return response

    def _run(
        self,
        route: ResourceRoute,
        ids: tuple[str, ...],
        parameters: dict[str, Any],
        request_id: str,
        key: str | None,
        failure: StoredFailure | None,
    ) -> SimulatedResponse:
        if failure is None:
            return self._execute(route, ids, parameters, request_id, key)
        if failure.executes:
            self._execute(route, ids, parameters, request_id, key)
        return failure.response

    def _authenticate(self, headers: Mapping[str, str]) -> None:
        key = _api_key(headers.get("authorization", ""))
        if not key:
            raise NotAuthenticated(
                "You did not provide an API key. You need to provide your API key in the Authorization header, using "
                "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
                "https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/."
            )
        if key.startswith("pk_"):
            raise NotAuthenticated(
                "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a "
                "list of your API keys at https://dashboard.stripe.com/account/apikeys.",
                code="secret_key_required",
            )
        accepted = self._state.settings.api_key
        if key != accepted if accepted else not key.startswith(("sk_test_", "rk_test_")):
            raise NotAuthenticated(f"Invalid API Key provided: {key[:8]}{'*' * 8}{key[-4:]}")

    def _execute(
        self, route: ResourceRoute, ids: tuple[str, ...], parameters: dict[str, Any], request_id: str, key: str | None
    ) -> SimulatedResponse:
        expand = parameters.pop("expand", [])
        pagination = {name: parameters.pop(name) for name in PAGINATION_PARAMETERS & parameters.keys()}
        try:
            with self._state.caused_by_request(request_id, key):
                result = route.run(self._state, ids, parameters)
            if not isinstance(result, dict):
                order = self._state.creation_order
                if not isinstance(result, Iterator):
                    # The members of a nested list may not be in `creation_order`: an invoice's lines are not.
                    order = {member["id"]: -index for index, member in enumerate(result)} | order
                data, has_more = paginate(result, pagination, order)
                result = list_object(data, route.path.format(*ids), has_more=has_more)
            body = expand_properties(self._state, result, expand)
            check_object(body)
        except InvalidObject as error:
            return SimulatedResponse(500, {"error": {"type": "api_error", "message": f"simulator bug: {error}"}}, {})
        return SimulatedResponse(200, body, {})

    def _error_response(self, error: StripeError, request_id: str) -> SimulatedResponse:
        log = f"https://dashboard.stripe.com/test/logs/{request_id}?t={self._state.now()}"
        return SimulatedResponse(error.status, error.body(log), {})


def _find_route(method: str, path: str) -> tuple[ResourceRoute, tuple[str, ...]]:
    for route in ROUTES:
        match = route.pattern.fullmatch(path)
        if match and route.method == method:
            # A path such as /v1/customers/search is an operation of its own, not the id "search".
            if match.groups() and (method, path) in sdk_operations():
                raise NotSimulated(f"{method} {path}")
            return route, match.groups()
    if is_sdk_operation(method, path):
        raise NotSimulated(f"{method} {path}")
    raise UnknownUrl(method, path)


def _form_pairs(request: SimulatedRequest) -> list[tuple[str, str]]:
    pairs = parse_qsl(request.query, keep_blank_values=True)
    if request.method == "GET" or not request.body:
        return pairs
    if not request.headers.get("content-type", FORM).startswith(FORM):
        raise InvalidRequest(
            f"Invalid request (check that your POST content type is {FORM}). If you have any questions, we can help at "
            "https://support.stripe.com/."
        )
    return pairs + parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)


def _api_key(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(credentials).decode().partition(":")[0]
    return ""


def encode_body(response: SimulatedResponse) -> bytes:
    """Return the body of a response as JSON, indented like Stripe's."""
    return json.dumps(response.body, indent=2).encode()
