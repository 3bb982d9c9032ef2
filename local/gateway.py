"""API Gateway's HTTP API as pure functions: routes, CORS and payload format 2.0.

The behaviour follows AWS's documentation of HTTP APIs. Where the documentation has a gap, it follows a deployed API.
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
# Bodies of all other types are base64-encoded, including forms and bodies without a content type.
_TEXT_TYPES = re.compile(r"^(text/.*|application/(json|xml|javascript))$")


@dataclass(frozen=True, slots=True)
class DeployedRoute:
    """A deployed route.

    Attributes:
        method: HTTP method or `ANY`.
        path: Path template with `{name}` and `{name+}`, or `$default`.
        function: Name of the deployed function.
    """

    method: str
    path: str
    function: str

    @property
    def key(self) -> str:
        """Route key of the event."""
        return self.path if self.path == _DEFAULT_ROUTE else f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Cors:
    """CORS configuration of an API."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    request_headers: tuple[str, ...]
    exposed_headers: tuple[str, ...]
    max_age_seconds: int


@dataclass(frozen=True, slots=True)
class DeployedApi:
    """A deployed HTTP API."""

    api_id: str
    domain_name: str
    account_id: str
    routes: tuple[DeployedRoute, ...]
    cors: Cors | None


@dataclass(frozen=True, slots=True)
class Request:
    """A received HTTP request. `target` is the percent-encoded path; header names are lower case."""

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
        """Return all values of a header, joined by commas, or None."""
        values = [value for key, value in self.headers if key == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response. A header may occur several times."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def error_response(status: int, text: str) -> Response:
    """Return an error response of API Gateway itself."""
    return Response(status, (("content-type", "application/json"),), json.dumps({"message": text}).encode())


NOT_FOUND = error_response(404, "Not Found")
TOO_LARGE = error_response(413, "Request Entity Too Large")
FUNCTION_FAILED = error_response(500, "Internal Server Error")


# --- Processed template -----------------------------------------------------------------------------------------------
def read_routes(definition: Mapping[str, Any], functions: Mapping[str, str]) -> tuple[DeployedRoute, ...]:
    """Return the routes of the OpenAPI definition that SAM generates.

    Args:
        definition: Body of the `AWS::ApiGatewayV2::Api` resource.
        functions: Names of the deployed functions by logical id.
    """
    return tuple(
        DeployedRoute(
            "ANY" if method == _ANY_METHOD else method.upper(),
            path,
            functions[_function_logical_id(operation["x-amazon-apigateway-integration"]["uri"])],
        )
        for path, operations in definition["paths"].items()
        for method, operation in operations.items()
    )


def _function_logical_id(uri: Mapping[str, str]) -> str:
    match = _FUNCTION_IN_URI.search(uri["Fn::Sub"])
    if not match:
        raise ValueError(f"Integration URI without a function: {uri}")
    return match[1]


def read_cors(definition: Mapping[str, Any], origins: Sequence[str]) -> Cors | None:
    """Return the CORS configuration with the given origins, or None if the API has none."""
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


# --- Route selection --------------------------------------------------------------------------------------------------
def match_route(
    routes: Iterable[DeployedRoute], method: str, target: str
) -> tuple[DeployedRoute, dict[str, str]] | None:
    """Return the most specific matching route with its path parameters, or None.

    A literal segment precedes `{name}`, which precedes `{name+}`, which precedes `$default`.
    """
    matches = [
        (route, parameters)
        for route in routes
        if route.method in (method, "ANY") and (parameters := _path_parameters(route.path, target)) is not None
    ]
    return min(matches, key=lambda match: _precedence(match[0]), default=None)


def _path_parameters(path: str, target: str) -> dict[str, str] | None:
    if path == _DEFAULT_ROUTE:
        return {}
    pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", re.escape(path))
    match = re.fullmatch(pattern, target)
    return {name: unquote(value) for name, value in match.groupdict().items()} if match else None


def _precedence(route: DeployedRoute) -> tuple[object, ...]:
    """Return a sort key that orders routes from the most to the least specific."""
    segments = tuple((segment.endswith("+}"), segment.startswith("{")) for segment in route.path.split("/"))
    return route.path == _DEFAULT_ROUTE, any(greedy for greedy, _ in segments), segments, route.method == "ANY"


# --- Lambda event -----------------------------------------------------------------------------------------------------
def request_event(
    api: DeployedApi, route: DeployedRoute, parameters: Mapping[str, str], request: Request
) -> dict[str, Any]:
    """Return the event of a request in payload format 2.0, without the keys that AWS omits."""
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
        "queryStringParameters": _join_repeated(parse_qsl(request.query, keep_blank_values=True)),
        "pathParameters": dict(parameters),
        **_body(request),
    }
    return event | {key: value for key, value in optional.items() if value}


def _request_context(api: DeployedApi, route: DeployedRoute, request: Request) -> dict[str, Any]:
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


def _join_repeated(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
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
            pass  # The content type is wrong: pass the bytes in base64.
    return {"body": base64.b64encode(request.body).decode(), "isBase64Encoded": True}


# --- HTTP response ----------------------------------------------------------------------------------------------------
def function_response(result: object) -> Response:
    """Return the HTTP response of a function's result in payload format 2.0. A malformed result returns 500."""
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
    """Return True if the request is a CORS preflight."""
    names = {name for name, _ in request.headers}
    return request.method == "OPTIONS" and {"origin", "access-control-request-method"} <= names


def with_cors(cors: Cors | None, request: Request, response: Response) -> Response:
    """Return the response with the API's CORS headers. They replace the function's own."""
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
