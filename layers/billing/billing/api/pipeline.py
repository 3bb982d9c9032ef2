"""API operations as Lambda handlers: authenticate → rate limit → parse → run → render."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from billing.api.authentication import Authenticator
from billing.api.contracts import CONTRACTS
from billing.api.declaration import OperationDeclaration
from billing.api.endpoint import Endpoint, ResponseData, read_field
from billing.api.http import (
    NO_CONTENT,
    HttpResponse,
    LambdaEvent,
    LambdaHandler,
    rate_limit_headers,
    respond,
    to_json,
)
from billing.api.rate_limit import RateLimiter, RateLimitStatus
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
    ObjectUnknown,
    RateLimited,
    RequestInvalid,
    RouteUnknown,
)
from billing.domain.identifiers import is_id
from billing.domain.return_urls import resolve_return_url
from billing.telemetry import count, logger

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from billing.adapters.repository import Repository
    from billing.api.idempotency import Replayable
    from billing.domain.accounts import Account
    from billing.settings import Settings

RATE_LIMIT_SECONDS_MAX = 1.0
"""Longest wait for the rate limiter. After it the request proceeds: a failing limiter must not block payments."""


class Dependencies(Protocol):
    """Clients that the request pipeline needs; `billing.bootstrap.Application` provides them."""

    @property
    def settings(self) -> "Settings":
        """Settings of the deployment."""

    @property
    def repository(self) -> "Repository":
        """Accounts."""

    @property
    def authenticator(self) -> Authenticator:
        """Checker of credentials."""

    @property
    def rate_limiter(self) -> RateLimiter:
        """Limiter of requests."""

    def run_idempotent(
        self, request: "ApiRequest", compute: Callable[[], str], context: "LambdaContext"
    ) -> "Replayable":
        """Run `compute` once for the request's idempotency key."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that is authenticated, within its rate limits and parsed.

    Attributes:
        account_id: Account of the credential; "" on endpoints without a credential.
        path_ids: Ids in the path, by the name of the path parameter.
        headers: Request headers with lower-case names.
        input: Instance of the operation's request model; None without one.
        loaded_account: The account, if the operation loads it.
    """

    endpoint: Endpoint
    account_id: str
    path_ids: Mapping[str, str]
    now: datetime
    headers: Mapping[str, str]
    raw_body: bytes
    allowed_origins: Sequence[str]
    input: Any = None
    loaded_account: "Account | None" = None
    idempotency_key: str | None = None

    @property
    def account(self) -> "Account":
        """The account, in an operation with `loads_account`."""
        if self.loaded_account is None:
            raise RuntimeError(f"The operation {self.endpoint.operation.name} does not load the account")
        return self.loaded_account

    @property
    def target(self) -> str:
        """Route key with the ids of the path: a request for another object has another target."""
        key = self.endpoint.route.key
        for name, value in self.path_ids.items():
            key = key.replace(f"{{{name}}}", value)
        return key

    def return_url(self, name: str, default: str) -> str:
        """Return a URL field of the input as an absolute URL on an allowed origin. Raises RequestInvalid."""
        return resolve_return_url(name, getattr(self.input, name), default, self.allowed_origins)


type OperationHandler = Callable[[ApiRequest], ResponseData]


def operation(
    dependencies: Dependencies, declaration: OperationDeclaration, *, loads_account: bool = False
) -> Callable[[OperationHandler], LambdaHandler]:
    """Turn an operation's function into a Lambda handler that serves every contract with a route for it.

    Args:
        dependencies: Clients of the deployment.
        declaration: Declaration of the operation.
        loads_account: Load the account while the rate limiter runs.

    Returns:
        A decorator. The decorated function returns the declared response data.
    """

    def decorate(run: OperationHandler) -> LambdaHandler:
        def handler(event: LambdaEvent, context: "LambdaContext") -> dict[str, Any]:
            endpoint = _find_endpoint(declaration, event["routeKey"])

            def handle(headers: dict[str, str]) -> HttpResponse:
                request = RequestPipeline(dependencies, endpoint, event, headers).run(loads_account=loads_account)
                return _respond_once(dependencies, request, lambda: _render_response(request, run), context)

            return respond(event, endpoint.contract, declaration.name, handle)

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


def as_dict(value: "DataclassInstance") -> dict[str, Any]:
    """Return a dataclass's fields, to combine them with others as response data."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def declared_fields(value: "DataclassInstance", properties: Iterable[str]) -> dict[str, Any]:
    """Return those fields of a dataclass that a schema declares, to combine them with others as response data."""
    return {name: getattr(value, name) for name in properties}


def _find_endpoint(declaration: OperationDeclaration, route_key: str) -> Endpoint:
    endpoints = (
        Endpoint(contract, contract.routes[declaration.name], declaration)
        for contract in CONTRACTS
        if declaration.name in contract.routes
    )
    return next(each for each in endpoints if each.route.key == route_key)


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
    endpoint: Endpoint
    event: LambdaEvent
    response_headers: dict[str, str]

    def run(self, *, loads_account: bool) -> ApiRequest:
        """Authenticate, rate limit and parse the request. Raises BillingError."""
        now = datetime.now(UTC)
        headers = {name.lower(): value for name, value in self.event.get("headers", {}).items()}
        account_id, account, idempotency_key = "", None, None
        if self.endpoint.credentials:
            credential = self._authenticate(headers, now)
            account_id = credential.account_id
            account = self._rate_limit_and_load(credential, now, loads_account=loads_account)
            idempotency_key = read_idempotency_key(headers) if self.endpoint.accepts_idempotency_key else None
        raw_body = read_body(self.event.get("body") or "", is_base64=self.event.get("isBase64Encoded", False))
        return ApiRequest(
            endpoint=self.endpoint,
            account_id=account_id,
            path_ids=self._path_ids(),
            now=now,
            headers=headers,
            raw_body=raw_body,
            allowed_origins=self.dependencies.settings.allowed_origins,
            input=self._parse(raw_body, headers),
            loaded_account=account,
            idempotency_key=idempotency_key,
        )

    def _authenticate(self, headers: Mapping[str, str], now: datetime) -> Credential:
        credential = self.dependencies.authenticator.authenticate(headers.get("authorization"), now)
        logger().append_keys(account_id=credential.account_id, credential=_loggable(credential))
        if credential.kind not in self.endpoint.credentials:
            raise CredentialKindForbidden
        parameter = self.endpoint.contract.account_parameter
        if parameter and self.event["pathParameters"][parameter] != credential.account_id:
            raise Forbidden.for_account()
        if self.endpoint.operation.needs_billing_role and not credential.can_manage_billing:
            raise Forbidden.for_role()
        return credential

    def _rate_limit_and_load(self, credential: Credential, now: datetime, *, loads_account: bool) -> "Account | None":
        """Apply the rate limits and, at the same time, load the account if requested. Raises RateLimited."""
        client_address = self.event["requestContext"]["http"].get("sourceIp", "")
        acquiring = _background().submit(self.dependencies.rate_limiter.acquire, credential, now, client_address)
        account = self.dependencies.repository.load_account(credential.account_id) if loads_account else None
        status = _rate_limit_status(acquiring)
        if status:
            self.response_headers.update(rate_limit_headers(status.limit, status.remaining, status.reset_seconds))
        return account

    def _path_ids(self) -> Mapping[str, str]:
        """Return the ids in the path, which API Gateway has decoded. Raises ObjectUnknown if one cannot be an id."""
        declared = self.endpoint.operation.path_ids
        ids: dict[str, str] = {name: self.event["pathParameters"][name] for name in declared}
        for name, value in ids.items():
            if not is_id(value):
                raise ObjectUnknown(declared[name].object_name)
        return ids

    def _parse(self, raw_body: bytes, headers: Mapping[str, str]) -> object:
        if self.endpoint.takes_body:
            return parse_body(raw_body, headers, self.endpoint)
        return parse_query(self.event.get("rawQueryString", ""), self.endpoint)


def _loggable(credential: Credential) -> str:
    """Return the id of a key; of a user only the kind, because a user's id may be an e-mail address."""
    is_user = credential.kind is CredentialKind.SESSION_TOKEN
    return credential.kind if is_user else credential.subject


@cache
def _background() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1)


def _rate_limit_status(acquiring: Future[RateLimitStatus]) -> RateLimitStatus | None:
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
    endpoint = request.endpoint
    try:
        data = run(request)
    except RequestInvalid as error:
        raise with_request_field_names(error, endpoint) from error
    field = endpoint.route.not_found_if_null
    if field is not None and read_field(data, field) is None:
        raise NeverSubscribed
    return to_json(endpoint.response_body(data))


def _respond_once(
    dependencies: Dependencies, request: ApiRequest, compute: Callable[[], str], context: "LambdaContext"
) -> HttpResponse:
    if request.idempotency_key is None:
        return HttpResponse(200, compute())
    result = dependencies.run_idempotent(request, compute, context)
    return HttpResponse(200, result.text, {"idempotent-replayed": "true"} if result.replayed else {})
