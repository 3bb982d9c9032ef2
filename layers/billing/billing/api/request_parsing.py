"""From the bytes of a request to an operation's input: every problem found, each with the caller's own path."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Never
from urllib.parse import parse_qsl

from billing.api.contracts.contract import Route
from billing.domain.errors import IdempotencyKeyInvalid, Problem, RequestInvalid

if TYPE_CHECKING:
    from billing.api.request_models import RequestModel

BODY_BYTES_MAX = 256 * 1024
JSON_CONTENT_TYPE = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
QUERY_PARAMETERS_MAX = 100
NAME_LENGTH_MAX = 100

# Where pydantic's words are about Python rather than JSON.
WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "model_type": "RequestModel should be an object",
}


def read_body(body: str, *, is_base64: bool) -> bytes:
    """The body as it was sent. Raises RequestInvalid."""
    if not is_base64:
        return body.encode(errors="surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise RequestInvalid.at("", "The body is not valid base64") from None


def read_idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The `Idempotency-Key` header, if there is one. Raises IdempotencyKeyInvalid."""
    key = headers.get("idempotency-key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise IdempotencyKeyInvalid.at("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    return key


def parse_body(
    raw_body: bytes, headers: Mapping[str, str], route: Route, model: "type[RequestModel]"
) -> "RequestModel":
    """A JSON body as the operation's input; no body is an empty object. Raises RequestInvalid."""
    received = _json_object(raw_body, headers) if raw_body else {}
    return _parse(received, route, model, strings=False)


def parse_query(query: str, route: Route, model: "type[RequestModel] | None") -> "RequestModel | None":
    """A query string as the operation's input. Raises RequestInvalid, also for parameters where none are taken."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_PARAMETERS_MAX)
    except ValueError:
        raise RequestInvalid.at("", "The query string is not readable") from None
    received = dict(pairs)
    repeated = [name for name in received if sum(name == each for each, _ in pairs) > 1]
    if repeated:
        raise RequestInvalid([Problem(name, "is given more than once") for name in repeated])
    if model is None and not received:
        return None
    return _parse(received, route, model, strings=True)


def _parse(
    received: Mapping[str, Any], route: Route, model: "type[RequestModel] | None", *, strings: bool
) -> "RequestModel":
    problems = [
        Problem(name[:NAME_LENGTH_MAX], f"is not a known {'parameter' if strings else 'field'}")
        for name in received
        if name not in route.input
    ]
    problems += [Problem(name, "is required") for name in route.required if received.get(name) is None]
    renamed = {route.input[name]: value for name, value in received.items() if name in route.input}
    if model is None:
        raise RequestInvalid(problems)
    from pydantic import ValidationError  # noqa: PLC0415 - 70 ms that functions without input do not spend

    try:
        parsed = model.model_validate_strings(renamed) if strings else model.model_validate(renamed)
    except ValidationError as error:
        wrong = [
            Problem(".".join(map(str, each["loc"])), WORDS.get(each["type"], each["msg"])) for each in error.errors()
        ]
        raise RequestInvalid([*problems, *with_request_field_names(RequestInvalid(wrong), route).problems]) from None
    if problems:
        raise RequestInvalid(problems)
    return parsed


def with_request_field_names(error: RequestInvalid, route: Route) -> RequestInvalid:
    """Problems named by the document's fields instead of the operation's."""
    names = {ours: theirs for theirs, ours in route.input.items()}

    def renamed(path: str) -> str:
        first, dot, rest = path.partition(".")
        return names.get(first, first) + dot + rest

    return RequestInvalid([Problem(renamed(each.path), each.message) for each in error.problems])


def _json_object(raw_body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
    if len(raw_body) > BODY_BYTES_MAX:
        raise RequestInvalid.at("", f"The body has more than {BODY_BYTES_MAX} bytes")
    if not JSON_CONTENT_TYPE.fullmatch(headers.get("content-type", "")):
        raise RequestInvalid.at("", "The Content-Type header must be application/json")
    received = parse_json(raw_body, object_of=_without_duplicates)
    if not isinstance(received, dict):
        raise RequestInvalid.at("", "The body must be a JSON object")
    return received


def parse_json(raw_body: bytes, *, object_of: Callable[[list[tuple[str, Any]]], object] | None = None) -> object:
    """JSON as RFC 8259 has it: UTF-8, no NaN, no infinities. Raises RequestInvalid.

    `object_of` makes objects of their members, which may hold a name twice; without it the last one counts.
    """
    try:
        return json.loads(raw_body.decode(), parse_constant=_refuse_constant, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise RequestInvalid.at("", f"The body is not valid JSON: {place}") from None
    except (ValueError, RecursionError):
        raise RequestInvalid.at("", "The body is not valid JSON in UTF-8") from None


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """What a name means that is given twice, each reader decides for itself (RFC 8259, 4): none should about money."""
    found = dict(members)
    if len(found) < len(members):
        raise RequestInvalid.at("", "The body has a field twice in one object")
    return found


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)
