"""API operations as Lambda handlers: authenticate → rate limit → parse → run → render."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, Operation, Route, render
from billing.api.http import (
    NO_CONTENT,
    HttpResponse,
    LambdaEvent,
    LambdaHandler,
    rate_limit_headers,
    respond,
    to_json,
)
from billing.api.request_parsing import (
    parse_body,
    parse_query,
    read_body,
    read_idempotency_key,
    with_request_field_names,
)
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import (
    CredentialKindForbidden,
    Forbidden,
    MethodNotAllowed,
    NeverSubscribed,
    RateLimited,
    RequestInvalid,
    RouteUnknown,
)
from billing.domain.return_urls import resolve_return_url
from billing.telemetry import count, logger

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from billing.adapters.repository import Repository
    from billing.api.authentication import Authenticator
    from billing.api.idempotency import Replayable
    from billing.api.rate_limit import RateLimiter, RateLimitStatus
    from billing.api.request_models import RequestModel
    from billing.settings import Settings

BILLING_OPERATIONS = frozenset({Operation.CHECKOUT, Operation.PORTAL})
"""Operations that need a billing role, if the deployment configures such roles."""

RATE_LIMIT_SECONDS_MAX = 1.0
"""Longest wait for the rate limiter. After it the request proceeds: a failing limiter must not block payments."""

type ResponseData = Mapping[str, Any]


class Dependencies(Protocol):
    """Clients that the request pipeline needs; `billing.bootstrap.Application` provides them."""

    @property
    def settings(self) -> "Settings":
        """Settings of the deployment."""

    @property
    def repository(self) -> "Repository":
        """Accounts."""

    @property
    def authenticator(self) -> "Authenticator":
        """Checker of credentials."""

    @property
    def rate_limiter(self) -> "RateLimiter":
        """Limiter of requests."""

    def run_idempotent(
        self, request: "ApiRequest", compute: Callable[[], str], context: "LambdaContext"
    ) -> "Replayable":
        """Run `compute` once for the request's idempotency key."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that is authenticated, within its rate limits and parsed.

    Attributes:
        account_id: Account of the credential; "" on routes without a credential.
        headers: Request headers with lower-case names.
        input: Instance of the operation's request model; None without one.
        account: The Account, if the operation loads it.
    """

    contract: Contract
    route: Route
    account_id: str
    now: datetime
    headers: Mapping[str, str]
    raw_body: bytes
    allowed_origins: Sequence[str]
    input: Any = None
    account: Any = None
    idempotency_key: str | None = None

    def return_url(self, name: str, default: str) -> str:
        """Return a URL field of the input as an absolute URL on an allowed origin. Raises RequestInvalid."""
        return resolve_return_url(name, getattr(self.input, name), default, self.allowed_origins)


type OperationHandler = Callable[[ApiRequest], ResponseData]


def operation(
    dependencies: Dependencies,
    name: Operation,
    *,
    input: "type[RequestModel] | None" = None,  # noqa: A002 - the model of the operation's input
    loads_account: bool = False,
) -> Callable[[OperationHandler], LambdaHandler]:
    """Turn an operation's function into a Lambda handler that serves every contract with a route for it.

    Args:
        dependencies: Clients of the deployment.
        name: The operation.
        input: Model of the request body (POST) or query string (GET).
        loads_account: Load the account while the rate limiter runs.

    Returns:
        A decorator. The decorated function returns response data; the contract's response template selects and names
        its fields.
    """

    def decorate(run: OperationHandler) -> LambdaHandler:
        def handler(event: LambdaEvent, context: "LambdaContext") -> dict[str, Any]:
            contract, route = _find_route(name, event["routeKey"])

            def handle(headers: dict[str, str]) -> HttpResponse:
                pipeline = RequestPipeline(dependencies, contract, route, name, event, headers)
                request = pipeline.run(input, loads_account=loads_account)
                return _respond_once(dependencies, request, lambda: _render_response(request, run), context)

            return respond(event, contract, name, handle)

        return handler

    return decorate


def unknown_route(event: LambdaEvent, _context: object) -> dict[str, Any]:
    """Handle `$default` in the envelope of the contract that the path belongs to.

    | request | response |
    |---|---|
    | unknown path | 404 |
    | known path, other method | 405 with `Allow` |
    | known path, `OPTIONS` | 204; a browser's preflight needs a success, and API Gateway adds the CORS headers |
    """
    path, method = event["rawPath"], event["requestContext"]["http"]["method"]
    contract = next((each for each in CONTRACTS if _pattern(each.base_path, "(/.*)?").fullmatch(path)), CONTRACTS[0])

    def handle(_headers: dict[str, str]) -> HttpResponse:
        methods = [route.method for route in contract.routes.values() if _pattern(route.path).fullmatch(path)]
        if methods and method == "OPTIONS":
            return HttpResponse(NO_CONTENT, "", {"allow": ", ".join(methods)})
        if methods and method not in methods:
            raise MethodNotAllowed(method, methods)
        raise RouteUnknown(path)

    return respond(event, contract, "unknown_route", handle)


def as_dict(value: Any) -> ResponseData:  # noqa: ANN401 - any of the domain's dataclasses
    """Return a dataclass's fields as response data."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _find_route(name: Operation, route_key: str) -> tuple[Contract, Route]:
    routes = ((contract, contract.routes[name]) for contract in CONTRACTS if name in contract.routes)
    return next((contract, route) for contract, route in routes if route.key == route_key)


def _pattern(path: str, end: str = "") -> re.Pattern[str]:
    """Compile a path of the contract tables; `{name}` matches one segment."""
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", path)) + end)


# --- Authenticate → rate limit → parse --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestPipeline:
    """Steps before an operation runs.

    Attributes:
        response_headers: Headers of the response, whether it succeeds or fails; the pipeline adds the rate limit's.
    """

    dependencies: Dependencies
    contract: Contract
    route: Route
    operation: Operation
    event: LambdaEvent
    response_headers: dict[str, str]

    def run(self, model: "type[RequestModel] | None", *, loads_account: bool) -> ApiRequest:
        """Authenticate, rate limit and parse the request. Raises BillingError."""
        now = datetime.now(UTC)
        headers = {name.lower(): value for name, value in self.event.get("headers", {}).items()}
        account_id, account, idempotency_key = "", None, None
        if self.route.credentials:
            credential = self._authenticate(headers, now)
            account_id = credential.account_id
            account = self._rate_limit_and_load(credential, now, loads_account=loads_account)
            idempotency_key = read_idempotency_key(headers) if self.route.method == "POST" else None
        raw_body = read_body(self.event.get("body") or "", is_base64=self.event.get("isBase64Encoded", False))
        return ApiRequest(
            contract=self.contract,
            route=self.route,
            account_id=account_id,
            now=now,
            headers=headers,
            raw_body=raw_body,
            allowed_origins=self.dependencies.settings.allowed_origins,
            input=self._parse(raw_body, headers, model),
            account=account,
            idempotency_key=idempotency_key,
        )

    def _authenticate(self, headers: Mapping[str, str], now: datetime) -> Credential:
        credential = self.dependencies.authenticator.authenticate(headers.get("authorization"), now)
        logger().append_keys(account_id=credential.account_id, credential=_loggable(credential))
        if credential.kind not in self.route.credentials:
            raise CredentialKindForbidden
        parameter = self.contract.account_parameter
        if parameter and self.event["pathParameters"][parameter] != credential.account_id:
            raise Forbidden.for_account()
        if self.operation in BILLING_OPERATIONS and not credential.can_manage_billing:
            raise Forbidden.for_role()
        return credential

    def _rate_limit_and_load(self, credential: Credential, now: datetime, *, loads_account: bool) -> object:
        """Apply the rate limits and, at the same time, load the account if requested. Raises RateLimited."""
        acquiring = _background().submit(self.dependencies.rate_limiter.acquire, credential, now)
        account = self.dependencies.repository.load_account(credential.account_id) if loads_account else None
        status = _rate_limit_status(acquiring)
        if status:
            self.response_headers.update(rate_limit_headers(status.limit, status.remaining, status.reset_seconds))
        return account

    def _parse(self, raw_body: bytes, headers: Mapping[str, str], model: "type[RequestModel] | None") -> object:
        if self.route.method == "GET":
            return parse_query(self.event.get("rawQueryString", ""), self.route, model)
        return parse_body(raw_body, headers, self.route, model) if model else None


def _loggable(credential: Credential) -> str:
    """Return the id of a key; of a user only the kind, because a user's id may be an e-mail address."""
    is_user = credential.kind is CredentialKind.SESSION_TOKEN
    return credential.kind if is_user else credential.subject


@cache
def _background() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - the webhook is not limited

    return ThreadPoolExecutor(max_workers=1)


def _rate_limit_status(acquiring: "Future[RateLimitStatus]") -> "RateLimitStatus | None":
    """Return the limiter's result; None if the limiter is unavailable, which is counted. Raises RateLimited."""
    try:
        error = acquiring.exception(timeout=RATE_LIMIT_SECONDS_MAX)
    except TimeoutError as timeout:
        error = timeout
    if isinstance(error, RateLimited):
        raise error
    if error is not None:
        count("RateLimiterUnavailable")
        logger().error("Rate limiter unavailable, request not counted", extra={"reason": type(error).__name__})
        return None
    return acquiring.result()


# --- Run → render -----------------------------------------------------------------------------------------------------


def _render_response(request: ApiRequest, run: OperationHandler) -> str:
    route = request.route
    try:
        data = run(request)
    except RequestInvalid as error:
        raise with_request_field_names(error, route) from error
    if route.not_found_if_null is not None and data[route.not_found_if_null] is None:
        raise NeverSubscribed
    return to_json(render(route.response, data))


def _respond_once(
    dependencies: Dependencies, request: ApiRequest, compute: Callable[[], str], context: "LambdaContext"
) -> HttpResponse:
    if request.idempotency_key is None:
        return HttpResponse(200, compute())
    result = dependencies.run_idempotent(request, compute, context)
    return HttpResponse(200, result.text, {"idempotent-replayed": "true"} if result.replayed else {})
