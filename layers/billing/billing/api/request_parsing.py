"""Parsing of request bodies, query strings and headers. Every problem is reported, with the caller's field names."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Never
from urllib.parse import parse_qsl

from billing.api.endpoint import Endpoint
from billing.domain.errors import IdempotencyKeyInvalid, Problem, RequestInvalid

if TYPE_CHECKING:
    from billing.api.request_models import RequestModel

BODY_BYTES_MAX = 256 * 1024
JSON_CONTENT_TYPE = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
QUERY_PARAMETERS_MAX = 100
NAME_LENGTH_MAX = 100


def read_body(body: str, *, is_base64: bool) -> bytes:
    """Return the body's bytes. Raises RequestInvalid."""
    if not is_base64:
        return body.encode(errors="surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise RequestInvalid.at("", "The body is not valid base64") from None


def read_idempotency_key(headers: Mapping[str, str]) -> str | None:
    """Return the `Idempotency-Key` header, or None. Raises IdempotencyKeyInvalid."""
    key = headers.get("idempotency-key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise IdempotencyKeyInvalid.at("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    return key


def parse_body(raw_body: bytes, headers: Mapping[str, str], endpoint: Endpoint) -> "RequestModel | None":
    """Parse a JSON body; an empty body is an empty object.

    Returns:
        The operation's input, or None if the operation has no request model.

    Raises:
        RequestInvalid: The body is not a JSON object with the endpoint's fields.
    """
    if endpoint.operation.body is not None:
        return None  # The handler reads it.
    received = _parse_json_object(raw_body, headers) if raw_body else {}
    return _parse(received, endpoint, from_strings=False)


def parse_query(query: str, endpoint: Endpoint) -> "RequestModel | None":
    """Parse a query string.

    Returns:
        The operation's input, or None if the operation has no request model.

    Raises:
        RequestInvalid: The query string is malformed or has unknown parameters.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_PARAMETERS_MAX)
    except ValueError:
        raise RequestInvalid.at("", "The query string is not readable") from None
    received = dict(pairs)
    repeated = [name for name in received if sum(name == each for each, _ in pairs) > 1]
    if repeated:
        raise RequestInvalid([Problem(name, "is given more than once") for name in repeated])
    return _parse(received, endpoint, from_strings=True)


def with_request_field_names(error: RequestInvalid, endpoint: Endpoint) -> RequestInvalid:
    """Return the error with the contract's field names in place of the operation's."""
    names = {own: received for received, own in endpoint.request_fields.items()}

    def rename(path: str) -> str:
        first, dot, rest = path.partition(".")
        return names.get(first, first) + dot + rest

    return RequestInvalid([Problem(rename(each.path), each.message) for each in error.problems])


def parse_json(raw_body: bytes, *, object_of: Callable[[list[tuple[str, Any]]], object] | None = None) -> object:
    """Parse JSON strictly by RFC 8259: UTF-8, no NaN, no infinities.

    Args:
        raw_body: The JSON text.
        object_of: Converts the members of each object. By default the last of several members with a name is used.

    Raises:
        RequestInvalid: The body is not valid JSON.
    """
    try:
        return json.loads(raw_body.decode(), parse_constant=_reject_constant, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise RequestInvalid.at("", f"The body is not valid JSON: {place}") from None
    except (ValueError, RecursionError):
        raise RequestInvalid.at("", "The body is not valid JSON in UTF-8") from None


def _parse(received: Mapping[str, Any], endpoint: Endpoint, *, from_strings: bool) -> "RequestModel | None":
    fields, model = endpoint.request_fields, endpoint.operation.request
    kind = "parameter" if from_strings else "field"
    problems = [Problem(name[:NAME_LENGTH_MAX], f"is not a known {kind}") for name in received if name not in fields]
    missing = {name for name in endpoint.required_request_fields if received.get(name) is None}
    problems += [Problem(name, "is required") for name in endpoint.required_request_fields if name in missing]
    if endpoint.is_partial_update:
        problems += _partial_update_problems(received, endpoint)
    values = {fields[name]: value for name, value in received.items() if name in fields.keys() - missing}
    parsed = None
    try:
        parsed = model.parse(values, from_strings=from_strings) if model else None
    except RequestInvalid as error:
        problems += with_request_field_names(error, endpoint).problems
    if problems:
        raise RequestInvalid(problems)
    return parsed


def _partial_update_problems(received: Mapping[str, Any], endpoint: Endpoint) -> list[Problem]:
    """Return the problems of a PATCH: it has a field, and null is not the same as a missing one."""
    if not received:
        return [Problem("", "The body must have at least one field")]
    return [Problem(name, "must not be null") for name in endpoint.request_fields if received.get(name, name) is None]


def _parse_json_object(raw_body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
    if len(raw_body) > BODY_BYTES_MAX:
        raise RequestInvalid.at("", f"The body has more than {BODY_BYTES_MAX} bytes")
    if not JSON_CONTENT_TYPE.fullmatch(headers.get("content-type", "")):
        raise RequestInvalid.at("", "The Content-Type header must be application/json")
    received = parse_json(raw_body, object_of=_reject_duplicates)
    if not isinstance(received, dict):
        raise RequestInvalid.at("", "The body must be a JSON object")
    return received


def _reject_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Parsers treat duplicate names differently (RFC 8259, section 4), so none are accepted."""
    found = dict(members)
    if len(found) < len(members):
        raise RequestInvalid.at("", "The body has a field twice in one object")
    return found


def _reject_constant(name: str) -> Never:
    raise ValueError(name)
