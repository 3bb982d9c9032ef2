"""The only HTTP module: authenticate → parse → operation → envelope, for API Gateway's payload format 2.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Never

from billing.auth import Authenticator
from billing.contracts import CONTRACTS
from billing.contracts.contract import Contract, Operation, Route, fill
from billing.domain.errors import (
    BillingError,
    Forbidden,
    MethodNotAllowed,
    NeverSubscribed,
    Problem,
    RequestInvalid,
    RouteUnknown,
    TryAgainLater,
    Unauthenticated,
)
from billing.domain.outbound_events import iso
from billing.domain.return_urls import resolve_return_url
from billing.settings import load_settings
from billing.store import open_store
from billing.telemetry import logger

if TYPE_CHECKING:
    from billing.inputs import Input

BODY_BYTES_MAX = 256 * 1024
NO_CONTENT = 204
JSON_CONTENT_TYPE = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)

type LambdaEvent = Mapping[str, Any]
type Facts = Mapping[str, Any]
type LambdaHandler = Callable[[LambdaEvent, object], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, authenticated and parsed. `account_id` is "" on routes without a credential."""

    account_id: str
    now: datetime
    headers: Mapping[str, str]
    raw_body: bytes
    input: Any = None

    def return_url(self, name: str, default: str) -> str:
        """An input's URL field as an absolute URL on an allowed origin. Raises RequestInvalid."""
        return resolve_return_url(name, getattr(self.input, name), default, load_settings().allowed_origins)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


def operation(
    name: Operation, *, body: "type[Input] | None" = None
) -> Callable[[Callable[[Call], Facts]], LambdaHandler]:
    """Make a function of a Call into a Lambda handler for `name` in every contract that serves it.

    What the function returns are facts; the contract's shape says which of them are answered, and how.
    """

    def decorate(answer: Callable[[Call], Facts]) -> LambdaHandler:
        def handler(event: LambdaEvent, _context: object) -> dict[str, Any]:
            contract, route = _served(name, event["routeKey"])

            def respond() -> _Answer:
                call = _call(event, contract, route, body)
                try:
                    facts = answer(call)
                except RequestInvalid as error:
                    raise _in_callers_words(error, route) from error
                if route.needs is not None and facts[route.needs] is None:
                    raise NeverSubscribed
                return _Answer(200, fill(route.response, facts))

            return _guarded(event, contract, name, respond)

        return handler

    return decorate


def unknown_route(event: LambdaEvent, _context: object) -> dict[str, Any]:
    """The handler of `$default`: 404, or 405 where the path has other methods, as the path's contract says it.

    `$default` also takes a browser's preflight, which must be answered with success; API Gateway adds the headers.
    """
    path, method = event["rawPath"], event["requestContext"]["http"]["method"]
    contract = next((each for each in CONTRACTS if _pattern(each.base_path, "(/.*)?").fullmatch(path)), CONTRACTS[0])

    def respond() -> _Answer:
        methods = [route.method for route in contract.routes.values() if _pattern(route.path).fullmatch(path)]
        if methods and method == "OPTIONS":
            return _Answer(NO_CONTENT, None, {"allow": ", ".join(methods)})
        if methods and method not in methods:
            raise MethodNotAllowed(method, methods)
        raise RouteUnknown(path)

    return _guarded(event, contract, "unknown_route", respond)


def facts_of(value: Any) -> Facts:  # noqa: ANN401 - any of the domain's dataclasses
    """A dataclass's fields as facts."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _guarded(
    event: LambdaEvent, contract: Contract, operation_name: str, respond: Callable[[], _Answer]
) -> dict[str, Any]:
    """Turn whatever happens into the contract's envelope; log it under the request's id."""
    request_id = event["requestContext"]["requestId"]
    logger().append_keys(request_id=request_id, operation=operation_name)
    try:
        answer = respond()
    except BillingError as error:
        answer = _refusal(contract, error, request_id)
    except Exception as error:  # noqa: BLE001 - the only one: a fault of ours is a 500 and a log line
        logger().exception("Unhandled error")
        answer = _refusal(contract, error, request_id)
    logger().info("Request answered", extra={"status": answer.status})
    return {
        "statusCode": answer.status,
        "headers": {
            "content-type": "application/json",
            "cache-control": "no-store",
            "x-request-id": request_id,
            **answer.headers,
        },
        "body": "" if answer.status == NO_CONTENT else json.dumps(answer.body, default=_json_default),
    }


def _refusal(contract: Contract, error: Exception, request_id: str) -> _Answer:
    refusal = contract.refusal(error)
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
    return _Answer(refusal.status, fill(contract.error, facts), _refusal_headers(error))


def _refusal_headers(error: Exception) -> Mapping[str, str]:
    match error:
        case Unauthenticated():
            return {"www-authenticate": "Bearer"}
        case MethodNotAllowed():
            return {"allow": ", ".join(error.allowed)}
        case TryAgainLater():
            return {"retry-after": str(error.retry_after_seconds)}
        case _:
            return {}


def _served(name: Operation, route_key: str) -> tuple[Contract, Route]:
    routes = ((contract, contract.routes[name]) for contract in CONTRACTS if name in contract.routes)
    return next((contract, route) for contract, route in routes if route.key == route_key)


def _pattern(path: str, end: str = "") -> re.Pattern[str]:
    """A path of the contract tables as what it matches; `{name}` is one segment."""
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", path)) + end)


@cache
def _authenticator() -> Authenticator:
    return Authenticator(open_store())


def _call(event: LambdaEvent, contract: Contract, route: Route, model: "type[Input] | None") -> Call:
    headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
    account_id = _authenticator().account_id(headers.get("authorization")) if route.needs_credential else ""
    if contract.account_parameter and event["pathParameters"][contract.account_parameter] != account_id:
        raise Forbidden.for_account()
    logger().append_keys(account_id=account_id or None)
    raw_body = _raw_body(event)
    return Call(
        account_id=account_id,
        now=datetime.now(UTC),
        headers=headers,
        raw_body=raw_body,
        input=_parse(raw_body, headers, route, model) if model else None,
    )


def _raw_body(event: LambdaEvent) -> bytes:
    body: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return body.encode(errors="surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise RequestInvalid.at("", "The body is not valid base64") from None


def _parse(raw_body: bytes, headers: Mapping[str, str], route: Route, model: "type[Input]") -> "Input":
    """The body as the operation's input. Raises RequestInvalid with every problem, each with the caller's path."""
    from pydantic import ValidationError  # noqa: PLC0415 - 70 ms that functions without a body do not spend

    received = _json_object(raw_body, headers) if raw_body else {}
    problems = [Problem(name, "is not a known field") for name in received if name not in route.body]
    problems += [Problem(name, "is required") for name in route.required if received.get(name) is None]
    renamed = {route.body[name]: value for name, value in received.items() if name in route.body}
    try:
        parsed = model.model_validate(renamed)
    except ValidationError as error:
        wrong = [Problem(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]
        raise RequestInvalid([*problems, *_in_callers_words(RequestInvalid(wrong), route).problems]) from None
    if problems:
        raise RequestInvalid(problems)
    return parsed


def _json_object(raw_body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
    if len(raw_body) > BODY_BYTES_MAX:
        raise RequestInvalid.at("", f"The body has more than {BODY_BYTES_MAX} bytes")
    if not JSON_CONTENT_TYPE.fullmatch(headers.get("content-type", "")):
        raise RequestInvalid.at("", "The Content-Type header must be application/json")
    received = parse_json(raw_body)
    if not isinstance(received, dict):
        raise RequestInvalid.at("", "The body must be a JSON object")
    return received


def parse_json(raw_body: bytes) -> object:
    """JSON as RFC 8259 has it: UTF-8, no NaN, no infinities. Raises RequestInvalid."""
    try:
        return json.loads(raw_body.decode(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise RequestInvalid.at("", f"The body is not valid JSON: {place}") from None
    except (ValueError, RecursionError):
        raise RequestInvalid.at("", "The body is not valid JSON in UTF-8") from None


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)


def _in_callers_words(error: RequestInvalid, route: Route) -> RequestInvalid:
    """Problems named by the document's fields instead of the operation's."""
    names = {ours: theirs for theirs, ours in route.body.items()}
    return RequestInvalid([Problem(names.get(each.path, each.path), each.message) for each in error.problems])


def _json_default(value: object) -> str | None:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(f"{type(value).__name__} has no place in an answer")
