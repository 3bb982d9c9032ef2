"""What API Gateway does between HTTP and a Lambda function, as pure functions: routes, CORS, payload format 2.0.

API Gateway's own names are used throughout; what is here follows AWS's documentation of HTTP APIs, and where that is
silent, what a deployed one was seen to do.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from urllib.parse import parse_qsl, unquote

BODY_BYTES_MAX = 10_000_000

_DEFAULT_ROUTE = "$default"
_ANY_METHOD = "x-amazon-apigateway-any-method"
_FUNCTION_IN_URI = re.compile(r"\$\{(\w+)\.Arn\}")
# Every other body, also a form and one without a content type, reaches the function in base64.
_TEXT_TYPES = re.compile(r"^(text/.*|application/(json|xml|javascript))$")


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the API: `ANY` or one method, a path with `{name}` and `{name+}`, and the function's name."""

    method: str
    path: str
    function: str

    @property
    def key(self) -> str:
        """The route key as the event carries it."""
        return self.path if self.path == _DEFAULT_ROUTE else f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Cors:
    """The API's CORS configuration."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    request_headers: tuple[str, ...]
    exposed_headers: tuple[str, ...]
    max_age_seconds: int


@dataclass(frozen=True, slots=True)
class Api:
    """A deployed HTTP API: where it answers, its routes and who may call it from a browser."""

    api_id: str
    domain_name: str
    account_id: str
    routes: tuple[Route, ...]
    cors: Cors | None


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as received; `target` is the path still percent-encoded, header names are lower case."""

    method: str
    target: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_ip: str
    protocol: str
    request_id: str
    received_at: datetime

    def header(self, name: str) -> str | None:
        """All values of a header joined as API Gateway joins them, or None."""
        values = [value for key, value in self.headers if key == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; a header may occur several times."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def message(status: int, text: str) -> Response:
    """An answer of API Gateway itself."""
    return Response(status, (("content-type", "application/json"),), json.dumps({"message": text}).encode())


NOT_FOUND = message(404, "Not Found")
TOO_LARGE = message(413, "Request Entity Too Large")
FUNCTION_FAILED = message(500, "Internal Server Error")


# --- The API out of a processed template ------------------------------------------------------------------------------
def read_routes(definition: Mapping[str, Any], functions: Mapping[str, str]) -> tuple[Route, ...]:
    """The routes of the OpenAPI definition that SAM makes. `functions` maps logical ids to deployed names."""
    return tuple(
        Route(
            "ANY" if method == _ANY_METHOD else method.upper(),
            path,
            functions[_function_id(operation["x-amazon-apigateway-integration"]["uri"])],
        )
        for path, operations in definition["paths"].items()
        for method, operation in operations.items()
    )


def _function_id(uri: Mapping[str, str]) -> str:
    found = _FUNCTION_IN_URI.search(uri["Fn::Sub"])
    if not found:
        raise ValueError(f"No function in the integration {uri}")
    return found[1]


def read_cors(definition: Mapping[str, Any], origins: Sequence[str]) -> Cors | None:
    """The CORS configuration, with the origins that the stack was deployed with."""
    configuration = definition.get("x-amazon-apigateway-cors")
    if configuration is None:
        return None
    return Cors(
        origins=tuple(origins),
        methods=tuple(configuration.get("allowMethods", ())),
        request_headers=tuple(configuration.get("allowHeaders", ())),
        exposed_headers=tuple(configuration.get("exposeHeaders", ())),
        max_age_seconds=configuration.get("maxAge", 0),
    )


# --- Which route takes a request --------------------------------------------------------------------------------------
def find_route(routes: Iterable[Route], method: str, target: str) -> tuple[Route, dict[str, str]] | None:
    """The most specific matching route, literal before {name} before {name+} before $default; and its parameters."""
    found = [
        (route, parameters)
        for route in routes
        if route.method in (method, "ANY") and (parameters := _path_parameters(route.path, target)) is not None
    ]
    return min(found, key=lambda match: _breadth(match[0]), default=None)


def _path_parameters(path: str, target: str) -> dict[str, str] | None:
    if path == _DEFAULT_ROUTE:
        return {}
    pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", re.escape(path))
    found = re.fullmatch(pattern, target)
    return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


def _breadth(route: Route) -> tuple[object, ...]:
    """Sorts routes from the most to the least specific."""
    segments = tuple((segment.endswith("+}"), segment.startswith("{")) for segment in route.path.split("/"))
    return route.path == _DEFAULT_ROUTE, any(greedy for greedy, _ in segments), segments, route.method == "ANY"


# --- The event that a function gets -----------------------------------------------------------------------------------
def request_event(api: Api, route: Route, parameters: Mapping[str, str], request: Request) -> dict[str, Any]:
    """The payload-2.0 event of a request; keys that AWS leaves out are left out."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": unquote(request.target),
        "rawQueryString": request.query,
        "headers": {
            name: request.header(name) for name in dict.fromkeys(key for key, _ in request.headers) if name != "cookie"
        },
        "requestContext": _request_context(api, route, request),
        "isBase64Encoded": False,
    }
    cookies = [cookie.strip() for cookie in (request.header("cookie") or "").split(";") if cookie.strip()]
    optional = {
        "cookies": cookies,
        "queryStringParameters": _joined(parse_qsl(request.query, keep_blank_values=True)),
        "pathParameters": dict(parameters),
        **_body(request),
    }
    return event | {key: value for key, value in optional.items() if value}


def _request_context(api: Api, route: Route, request: Request) -> dict[str, Any]:
    return {
        "accountId": api.account_id,
        "apiId": api.api_id,
        "domainName": api.domain_name,
        "domainPrefix": api.domain_name.split(".")[0],
        "http": {
            "method": request.method,
            "path": unquote(request.target),
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.header("user-agent") or "",
        },
        "requestId": request.request_id,
        "routeKey": route.key,
        "stage": "$default",
        "time": request.received_at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": int(request.received_at.timestamp() * 1000),
    }


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    ordered = sorted(pairs, key=lambda pair: pair[0])
    return {name: ",".join(value for _, value in group) for name, group in groupby(ordered, key=lambda pair: pair[0])}


def _body(request: Request) -> dict[str, Any]:
    if not request.body:
        return {}
    media_type = (request.header("content-type") or "").split(";")[0].strip().lower()
    if _TEXT_TYPES.match(media_type):
        try:
            return {"body": request.body.decode()}
        except UnicodeDecodeError:
            pass  # not the text that it claims to be: bytes, then
    return {"body": base64.b64encode(request.body).decode(), "isBase64Encoded": True}


# --- The response that a function's result becomes --------------------------------------------------------------------
def function_response(result: object) -> Response:
    """The HTTP response of a function's result in format 2.0; a malformed result is API Gateway's 500."""
    if not isinstance(result, dict) or "statusCode" not in result:
        text = result if isinstance(result, str) else json.dumps(result)
        return Response(200, (("content-type", "application/json"),), text.encode())
    try:
        headers = {str(name).lower(): str(value) for name, value in (result.get("headers") or {}).items()}
        body = result.get("body") or ""
        content = base64.b64decode(body, validate=True) if result.get("isBase64Encoded") else body.encode()
        status = int(result["statusCode"])
    except (AttributeError, TypeError, ValueError, binascii.Error):
        return FUNCTION_FAILED
    cookies = [("set-cookie", str(cookie)) for cookie in result.get("cookies") or ()]
    return Response(status, (*({"content-type": "text/plain;charset=UTF-8"} | headers).items(), *cookies), content)


# --- CORS -------------------------------------------------------------------------------------------------------------
def is_preflight(request: Request) -> bool:
    """Whether a browser asks if it may send a request from another origin."""
    names = {name for name, _ in request.headers}
    return request.method == "OPTIONS" and {"origin", "access-control-request-method"} <= names


def with_cors(cors: Cors | None, request: Request, response: Response) -> Response:
    """The response with the API's CORS headers, which replace those of the function."""
    if cors is None:
        return response
    own = tuple(pair for pair in response.headers if not pair[0].startswith("access-control-"))
    return Response(response.status, own + _cors_headers(cors, request), response.body)


def _cors_headers(cors: Cors, request: Request) -> tuple[tuple[str, str], ...]:
    origin = request.header("origin")
    if origin is None or not {origin, "*"} & set(cors.origins):
        return ()
    headers = {"access-control-allow-origin": "*" if "*" in cors.origins else origin}
    if cors.exposed_headers:
        headers["access-control-expose-headers"] = ",".join(cors.exposed_headers)
    if is_preflight(request):
        headers["access-control-allow-methods"] = ",".join(cors.methods)
        headers["access-control-allow-headers"] = ",".join(cors.request_headers)
        headers["access-control-max-age"] = str(cors.max_age_seconds)
    return tuple(headers.items())
