"""The only HTTP module: authenticate → limit → parse → operation → envelope, for API Gateway's payload format 2.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from billing.adapters.dynamodb import open_table
from billing.adapters.repository import open_store
from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, Operation, Route, fill
from billing.api.request_parsing import in_callers_words, parse_body, parse_query, read_body, read_idempotency_key
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import (
    BillingError,
    CredentialKindForbidden,
    Forbidden,
    MethodNotAllowed,
    NeverSubscribed,
    RateLimited,
    RequestInvalid,
    RouteUnknown,
    TryAgainLater,
    Unauthenticated,
)
from billing.domain.outbound_events import iso
from billing.domain.return_urls import resolve_return_url
from billing.settings import load_settings
from billing.telemetry import count, logger

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from billing.api.rate_limit import Allowance
    from billing.api.request_models import Input

NO_CONTENT = 204

PAYING = frozenset({Operation.CHECKOUT, Operation.PORTAL})
"""What only a user with a paying role may do, where the deployment names such roles."""

COUNTING_SECONDS_MAX = 1.0
"""How long counting may hold a request up. After that it is let through: a limiter must keep nobody from paying."""

type LambdaEvent = Mapping[str, Any]
type Facts = Mapping[str, Any]
type LambdaHandler = Callable[[LambdaEvent, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, authenticated, counted and parsed. `account_id` is "" on routes without a credential.

    `input` is of the operation's model, `account` the Account where the operation loads it.
    """

    contract: Contract
    account_id: str
    now: datetime
    headers: Mapping[str, str]
    raw_body: bytes
    input: Any = None
    account: Any = None
    idempotency_key: str | None = None

    def return_url(self, name: str, default: str) -> str:
        """An input's URL field as an absolute URL on an allowed origin. Raises RequestInvalid."""
        return resolve_return_url(name, getattr(self.input, name), default, load_settings().allowed_origins)


@dataclass(frozen=True, slots=True)
class _Answer:
    """`body` is JSON."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


def operation(
    name: Operation,
    *,
    input: "type[Input] | None" = None,  # noqa: A002 - what it is
    loads_account: bool = False,
) -> Callable[[Callable[[Call], Facts]], LambdaHandler]:
    """Make a function of a Call into a Lambda handler for `name` in every contract that serves it.

    What the function returns are facts; the contract's shape says which of them are answered, and how. An account that
    is asked for by `loads_account` is read while the request is counted.
    """

    def decorate(answer: Callable[[Call], Facts]) -> LambdaHandler:
        def handler(event: LambdaEvent, context: "LambdaContext") -> dict[str, Any]:
            contract, route = _served(name, event["routeKey"])

            def respond(headers: dict[str, str]) -> _Answer:
                call = _Reception(contract, route, name, event, headers).call(input, loads_account=loads_account)
                return _answer_once(call, route, lambda: _answer(call, route, answer), context)

            return _guarded(event, contract, name, respond)

        return handler

    return decorate


def unknown_route(event: LambdaEvent, _context: object) -> dict[str, Any]:
    """The handler of `$default`: 404, or 405 where the path has other methods, as the path's contract says it.

    `$default` also takes a browser's preflight, which must be answered with success; API Gateway adds the headers.
    """
    path, method = event["rawPath"], event["requestContext"]["http"]["method"]
    contract = next((each for each in CONTRACTS if _pattern(each.base_path, "(/.*)?").fullmatch(path)), CONTRACTS[0])

    def respond(_headers: dict[str, str]) -> _Answer:
        methods = [route.method for route in contract.routes.values() if _pattern(route.path).fullmatch(path)]
        if methods and method == "OPTIONS":
            return _Answer(NO_CONTENT, "", {"allow": ", ".join(methods)})
        if methods and method not in methods:
            raise MethodNotAllowed(method, methods)
        raise RouteUnknown(path)

    return _guarded(event, contract, "unknown_route", respond)


def facts_of(value: Any) -> Facts:  # noqa: ANN401 - any of the domain's dataclasses
    """A dataclass's fields as facts."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _served(name: Operation, route_key: str) -> tuple[Contract, Route]:
    routes = ((contract, contract.routes[name]) for contract in CONTRACTS if name in contract.routes)
    return next((contract, route) for contract, route in routes if route.key == route_key)


def _pattern(path: str, end: str = "") -> re.Pattern[str]:
    """A path of the contract tables as what it matches; `{name}` is one segment."""
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", path)) + end)


# --- authenticate → limit → parse -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reception:
    """What happens to a request before its operation. `told` are headers of the answer, whatever it will be."""

    contract: Contract
    route: Route
    operation: Operation
    event: LambdaEvent
    told: dict[str, str]

    def call(self, model: "type[Input] | None", *, loads_account: bool) -> Call:
        now = datetime.now(UTC)
        headers = {name.lower(): value for name, value in self.event.get("headers", {}).items()}
        account_id, account, idempotency_key = "", None, None
        if self.route.credentials:
            credential = self._authenticate(headers, now)
            account_id = credential.account_id
            account = self._admit(credential, now, loads_account=loads_account)
            idempotency_key = read_idempotency_key(headers) if self.route.method == "POST" else None
        raw_body = read_body(self.event.get("body") or "", is_base64=self.event.get("isBase64Encoded", False))
        return Call(
            contract=self.contract,
            account_id=account_id,
            now=now,
            headers=headers,
            raw_body=raw_body,
            input=self._parse(raw_body, headers, model),
            account=account,
            idempotency_key=idempotency_key,
        )

    def _authenticate(self, headers: Mapping[str, str], now: datetime) -> Credential:
        from billing.api.authentication import open_authenticator  # noqa: PLC0415 - Stripe's events bring no credential

        credential = open_authenticator().authenticate(headers.get("authorization"), now)
        logger().append_keys(account_id=credential.account_id, credential=_loggable(credential))
        if credential.kind not in self.route.credentials:
            raise CredentialKindForbidden
        parameter = self.contract.account_parameter
        if parameter and self.event["pathParameters"][parameter] != credential.account_id:
            raise Forbidden.for_account()
        if self.operation in PAYING and not credential.may_pay:
            raise Forbidden.for_role()
        return credential

    def _admit(self, credential: Credential, now: datetime, *, loads_account: bool) -> object:
        """Count the request, and meanwhile read the account if it is wanted. Raises RateLimited."""
        from billing.api.rate_limit import open_rate_limiter  # noqa: PLC0415 - and are not counted

        counting = _background().submit(open_rate_limiter().take, credential, now)
        account = open_store().load_account(credential.account_id) if loads_account else None
        allowance = _counted(counting)
        if allowance:
            self.told.update(_rate_limit_headers(allowance.limit, allowance.remaining, allowance.reset_seconds))
        return account

    def _parse(self, raw_body: bytes, headers: Mapping[str, str], model: "type[Input] | None") -> object:
        if self.route.method == "GET":
            return parse_query(self.event.get("rawQueryString", ""), self.route, model)
        return parse_body(raw_body, headers, self.route, model) if model else None


def _loggable(credential: Credential) -> str:
    """Which key it is; of a user only that it is one, whose id may be an e-mail address."""
    is_user = credential.kind is CredentialKind.SESSION_TOKEN
    return credential.kind if is_user else credential.subject


@cache
def _background() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - for requests that are counted

    return ThreadPoolExecutor(max_workers=1)


def _counted(counting: "Future[Allowance]") -> "Allowance | None":
    """What the limiter says; None if it cannot say anything, which is counted and lets the request through."""
    try:
        error = counting.exception(timeout=COUNTING_SECONDS_MAX)
    except TimeoutError as too_slow:
        error = too_slow
    if isinstance(error, RateLimited):
        raise error
    if error is not None:
        count("RateLimiterUnavailable")
        logger().error("A request was not counted", extra={"reason": type(error).__name__})
        return None
    return counting.result()


# --- operation → envelope ---------------------------------------------------------------------------------------------


def _answer(call: Call, route: Route, answer: Callable[[Call], Facts]) -> str:
    try:
        facts = answer(call)
    except RequestInvalid as error:
        raise in_callers_words(error, route) from error
    if route.needs is not None and facts[route.needs] is None:
        raise NeverSubscribed
    return _json(fill(route.response, facts))


def _answer_once(call: Call, route: Route, answer: Callable[[], str], context: "LambdaContext") -> _Answer:
    if call.idempotency_key is None:
        return _Answer(200, answer())
    from billing.api.idempotency import KeyedRequest, once  # noqa: PLC0415 - imports boto3, which few requests need

    request = KeyedRequest(call.account_id, route.key, call.idempotency_key, content=repr(call.input))
    known = once(request, answer, open_table(), context)
    return _Answer(200, known.text, {"idempotent-replayed": "true"} if known.replayed else {})


def _guarded(
    event: LambdaEvent, contract: Contract, operation_name: str, respond: Callable[[dict[str, str]], _Answer]
) -> dict[str, Any]:
    """Turn whatever happens into the contract's envelope; log it under the request's id."""
    request_id = event["requestContext"]["requestId"]
    logger().append_keys(request_id=request_id, operation=operation_name, account_id=None, credential=None)
    headers = {"content-type": "application/json", "cache-control": "no-store", "x-request-id": request_id}
    cause: dict[str, str] = {}
    try:
        answer = respond(headers)
    except BillingError as error:
        answer, cause = _refusal(contract, error, request_id), _cause(error)
    except Exception as error:  # noqa: BLE001 - the only one: a fault of ours is a 500 and a log line
        logger().exception("Unhandled error")
        answer = _refusal(contract, error, request_id)
    logger().info("Request answered", extra={"status": answer.status, **cause})
    return {"statusCode": answer.status, "headers": {**headers, **answer.headers}, "body": answer.body}


def _refusal(contract: Contract, error: Exception, request_id: str) -> _Answer:
    refusal = contract.refusal(type(error))
    is_ours = refusal is contract.internal_error
    if is_ours and isinstance(error, BillingError):
        logger().error("Misconfigured", extra={"reason": str(error)})
    told = "An internal error occurred; it has been reported" if is_ours else str(error)
    facts: dict[str, Any] = {
        "code": refusal.code,
        "message": refusal.message or told,
        "type": refusal.type,
        "request_id": request_id,
        "timestamp": datetime.now(UTC),
    }
    if refusal.doc_url:
        facts["doc_url"] = refusal.doc_url
    if isinstance(error, RequestInvalid):
        facts["details"] = [{"path": each.path, "message": each.message} for each in error.problems]
    return _Answer(refusal.status, _json(fill(contract.error, facts)), _refusal_headers(error))


def _cause(error: BillingError) -> dict[str, str]:
    """What the log tells of a refusal, and of a credential that does not count more than its caller is told."""
    reason = {"reason": error.reason} if isinstance(error, Unauthenticated) else {}
    return {"error": type(error).__name__, **reason}


def _refusal_headers(error: Exception) -> Mapping[str, str]:
    match error:
        case Unauthenticated():
            return {"www-authenticate": "Bearer"}
        case MethodNotAllowed():
            return {"allow": ", ".join(error.allowed)}
        case RateLimited():
            seconds = error.retry_after_seconds
            return {"retry-after": str(seconds)} | _rate_limit_headers(error.limit, 0, seconds)
        case TryAgainLater():
            return {"retry-after": str(error.retry_after_seconds)}
        case _:
            return {}


def _rate_limit_headers(limit: int, remaining: int, reset_seconds: int) -> dict[str, str]:
    """The three headers of draft-ietf-httpapi-ratelimit-headers-06; the reset is in seconds from now."""
    return {
        "ratelimit-limit": str(limit),
        "ratelimit-remaining": str(remaining),
        "ratelimit-reset": str(reset_seconds),
    }


def _json(value: object) -> str:
    return json.dumps(value, default=_json_default)


def _json_default(value: object) -> str | None:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(f"{type(value).__name__} has no place in an answer")
