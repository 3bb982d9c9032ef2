"""The API: from an HTTP request to an operation and back, with everything that Stripe does around it."""

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

from stripe_simulator.errors import InvalidRequest, NotAuthenticated, StripeError, UnknownUrl
from stripe_simulator.expansion import expanded
from stripe_simulator.idempotency import Answer, IdempotencyKeys
from stripe_simulator.objects import list_of
from stripe_simulator.parameters import nest, read_parameters
from stripe_simulator.resources import (
    catalog,
    checkout,
    customers,
    events,
    invoices,
    portal,
    subscriptions,
    test_clocks,
)
from stripe_simulator.routing import PAGING, Route, page_of
from stripe_simulator.shapes import ShapeViolation, check_object
from stripe_simulator.world import API_VERSION, World

RESOURCES = (customers, catalog, checkout, portal, subscriptions, invoices, events, test_clocks)
ROUTES: tuple[Route, ...] = tuple(route for resource in RESOURCES for route in resource.ROUTES)
FORM = "application/x-www-form-urlencoded"
KEY_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request; header names are lower case."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str]


class Api:
    """Stripe's API over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._keys = IdempotencyKeys()

    async def answer(self, call: Call, hesitation: float = 0) -> Answer:
        """Answer one request, errors included; every answer has Stripe's headers.

        Args:
            call: The HTTP request.
            hesitation: Seconds to wait in the middle of it, for tests of what happens meanwhile.
        """
        request_id = f"req_{self._world.token(14)}"
        key = call.headers.get("idempotency-key") if call.method == "POST" else None
        try:
            answer = await self._answer(call, request_id, key, hesitation)
        except StripeError as error:
            answer = self._error(error, request_id)
        own = {"Request-Id": request_id, **self.common_headers(), **({"Idempotency-Key": key} if key else {})}
        return Answer(answer.status, answer.body, {**own, **answer.headers})

    def common_headers(self) -> dict[str, str]:
        """Return the headers that answers have in common; ``Date`` is the simulator's own time."""
        return {"Date": formatdate(self._world.now(), usegmt=True), "Stripe-Version": API_VERSION}

    async def _answer(self, call: Call, request_id: str, key: str | None, hesitation: float) -> Answer:
        self._authenticate(call.headers)
        route, ids = _find(call.method, call.path)
        form = nest(_pairs(call))
        if key is None:
            parameters = read_parameters(route.parameters, form)
            await asyncio.sleep(hesitation)
            return self._perform(route, ids, parameters, request_id, None)
        if len(key) > KEY_LIMIT:
            raise InvalidRequest(f"Idempotency keys must be {KEY_LIMIT} characters or less.")
        replayed = self._keys.begin(key, (call.method, call.path, form), self._world.now())
        if replayed:
            return Answer(replayed.status, replayed.body, {**replayed.headers, "Idempotent-Replayed": "true"})
        try:
            parameters = read_parameters(route.parameters, form)
        except StripeError:
            self._keys.release(key)
            raise
        await asyncio.sleep(hesitation)
        answer = self._perform_once(route, ids, parameters, request_id, key)
        self._keys.finish(key, answer)
        return answer

    def _perform_once(
        self, route: Route, ids: tuple[str, ...], parameters: dict[str, Any], request_id: str, key: str
    ) -> Answer:
        try:
            answer = self._perform(route, ids, parameters, request_id, key)
        except StripeError as error:
            answer = self._error(error, request_id)
        return Answer(answer.status, answer.body, {"Original-Request": request_id, **answer.headers})

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
        wanted = self._world.settings.api_key
        if key != wanted if wanted else not key.startswith(("sk_test_", "rk_test_")):
            raise NotAuthenticated(f"Invalid API Key provided: {key[:8]}{'*' * 8}{key[-4:]}")

    def _perform(
        self, route: Route, ids: tuple[str, ...], parameters: dict[str, Any], request_id: str, key: str | None
    ) -> Answer:
        expand = parameters.pop("expand", [])
        paging = {name: parameters.pop(name) for name in PAGING & parameters.keys()}
        try:
            with self._world.requested_by(request_id, key):
                result = route.run(self._world, ids, parameters)
            if not isinstance(result, dict):
                position: Mapping[str, int] = self._world.position
                if not isinstance(result, Iterator):
                    position = {each["id"]: -index for index, each in enumerate(result)} | self._world.position
                data, has_more = page_of(result, paging, position)
                result = list_of(data, route.path.format(*ids), has_more=has_more)
            body = expanded(self._world, result, expand)
            check_object(body)
        except ShapeViolation as violation:
            return Answer(500, {"error": {"type": "api_error", "message": f"simulator mistake: {violation}"}}, {})
        return Answer(200, body, {})

    def _error(self, error: StripeError, request_id: str) -> Answer:
        log = f"https://dashboard.stripe.com/test/logs/{request_id}?t={self._world.now()}"
        return Answer(error.status, error.body(log), {})


def _find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    for route in ROUTES:
        match = route.pattern.fullmatch(path)
        if match and route.method == method:
            return route, match.groups()
    raise UnknownUrl(method, path)


def _pairs(call: Call) -> list[tuple[str, str]]:
    pairs = parse_qsl(call.query, keep_blank_values=True)
    if call.method == "GET" or not call.body:
        return pairs
    if not call.headers.get("content-type", FORM).startswith(FORM):
        raise InvalidRequest(
            f"Invalid request (check that your POST content type is {FORM}). If you have any questions, we can help at "
            "https://support.stripe.com/."
        )
    return pairs + parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True)


def _api_key(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(credentials).decode().partition(":")[0]
    return ""


def encoded(answer: Answer) -> bytes:
    """Return the body of an answer, indented as Stripe's are."""
    return json.dumps(answer.body, indent=2).encode()
