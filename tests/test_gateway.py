"""The HTTP front must do between HTTP and a function what API Gateway does."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from local import gateway
from local.gateway import Api, Cors, Request, Route

ORIGIN = "https://app.example.com"
CORS = Cors((ORIGIN,), ("GET", "POST"), ("authorization",), ("retry-after",), 600)
REQUEST = Request(
    method="GET",
    target="/v1/billing",
    query="",
    headers=(("host", "127.0.0.1:8000"), ("user-agent", "curl")),
    body=b"",
    source_ip="127.0.0.1",
    protocol="HTTP/1.1",
    request_id="req-1",
    received_at=datetime(2026, 11, 21, 14, 0, 0, 500_000, UTC),
)
ROUTES = tuple(
    Route(method, path, f"{method} {path}")
    for method, path in [
        ("ANY", "$default"),
        ("GET", "/pets/{proxy+}"),
        ("GET", "/pets/dog/{id}"),
        ("GET", "/pets/dog/1"),
        ("ANY", "/pets/dog/2"),
        ("POST", "/pets"),
    ]
)
API = Api("local", "127.0.0.1:8000", "000000000000", ROUTES, CORS)


def _event(**changes: Any) -> dict[str, Any]:
    return gateway.request_event(API, ROUTES[0], {}, replace(REQUEST, **changes))


@pytest.mark.parametrize(
    ("method", "target", "key", "parameters"),
    [
        ("GET", "/pets/dog/1", "GET /pets/dog/1", {}),
        ("GET", "/pets/dog/a%20b", "GET /pets/dog/{id}", {"id": "a b"}),
        ("GET", "/pets/dog/1/teeth", "GET /pets/{proxy+}", {"proxy": "dog/1/teeth"}),
        ("GET", "/pets/dog/2", "ANY /pets/dog/2", {}),
        ("PUT", "/pets/dog/1", "$default", {}),
        ("POST", "/pets", "POST /pets", {}),
        ("POST", "/pets/", "$default", {}),
        ("GET", "/pets.dog/1", "$default", {}),
    ],
)
def test_route_precedence(method: str, target: str, key: str, parameters: dict[str, str]) -> None:
    """The most specific route takes a request, $default what no other does."""
    found = gateway.find_route(ROUTES, method, target)
    assert found is not None
    assert (found[0].key, found[1]) == (key, parameters)


def test_no_route() -> None:
    """Without a $default route nothing takes an unknown path."""
    assert gateway.find_route(ROUTES[1:], "GET", "/cats") is None


def test_event_of_a_plain_request() -> None:
    """A bodiless request has AWS's keys, and none that AWS leaves out."""
    event = _event()
    assert set(event) == {
        *("version", "routeKey", "rawPath", "rawQueryString", "headers", "requestContext", "isBase64Encoded")
    }
    assert event["requestContext"]["time"] == "21/Nov/2026:14:00:00 +0000"
    assert event["requestContext"]["timeEpoch"] == 1795269600500
    assert event["requestContext"]["http"]["userAgent"] == "curl"


def test_repeated_headers_cookies_and_parameters() -> None:
    """What occurs several times is joined by commas; cookies have a list of their own."""
    headers = (("x-tag", "a"), ("x-tag", "b"), ("cookie", "one=1; two=2"))
    event = _event(headers=headers, query="tag=1&name=x%20y&tag=2&empty=")
    assert event["headers"] == {"x-tag": "a,b"}
    assert event["cookies"] == ["one=1", "two=2"]
    assert event["queryStringParameters"] == {"empty": "", "name": "x y", "tag": "1,2"}
    assert event["rawQueryString"] == "tag=1&name=x%20y&tag=2&empty="


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "text/plain"])
def test_text_body(content_type: str) -> None:
    """JSON and text arrive as they were sent."""
    event = _event(body=b'{"a": "\xc3\xa4"}', headers=(("content-type", content_type),))
    assert (event["body"], event["isBase64Encoded"]) == ('{"a": "ä"}', False)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_binary_body(content_type: str) -> None:
    """Everything else arrives in base64."""
    event = _event(body=b"a=1", headers=(("content-type", content_type),))
    assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"a=1").decode(), True)


def test_body_that_is_not_the_text_it_claims_to_be() -> None:
    """Bytes that are no UTF-8 reach the function unharmed."""
    event = _event(body=b"\xff", headers=(("content-type", "application/json"),))
    assert base64.b64decode(event["body"]) == b"\xff"


def test_function_response() -> None:
    """Status, headers, cookies and a base64 body become HTTP."""
    result = {
        "statusCode": 201,
        "headers": {"Content-Type": "image/png"},
        "cookies": ["a=1", "b=2"],
        "body": base64.b64encode(b"\x89PNG").decode(),
        "isBase64Encoded": True,
    }
    response = gateway.function_response(result)
    headers = (("content-type", "image/png"), ("set-cookie", "a=1"), ("set-cookie", "b=2"))
    assert response == gateway.Response(201, headers, b"\x89PNG")


def test_inferred_response() -> None:
    """A result without a status is the body of a 200."""
    response = gateway.function_response({"hello": "world"})
    assert (response.status, json.loads(response.body)) == (200, {"hello": "world"})


@pytest.mark.parametrize(
    "result", [{"statusCode": "x"}, {"statusCode": 200, "body": {"a": 1}}, {"statusCode": 200, "headers": 1}]
)
def test_malformed_response(result: object) -> None:
    """What a function may not answer is an internal error to its caller."""
    assert gateway.function_response(result) == gateway.FUNCTION_FAILED


def test_cors_of_an_allowed_origin() -> None:
    """An allowed origin is echoed, and the API's CORS headers replace the function's."""
    answer = gateway.Response(200, (("access-control-allow-origin", "*"),), b"")
    response = gateway.with_cors(CORS, replace(REQUEST, headers=(("origin", ORIGIN),)), answer)
    assert dict(response.headers) == {
        "access-control-allow-origin": ORIGIN,
        "access-control-expose-headers": "retry-after",
    }


def test_cors_of_another_origin() -> None:
    """A foreign origin gets no CORS headers."""
    answer = gateway.Response(200, (), b"")
    response = gateway.with_cors(CORS, replace(REQUEST, headers=(("origin", "https://evil.example"),)), answer)
    assert response.headers == ()


def test_preflight() -> None:
    """A preflight is told the methods and headers, a plain OPTIONS is not."""
    preflight = replace(
        REQUEST, method="OPTIONS", headers=(("origin", ORIGIN), ("access-control-request-method", "POST"))
    )
    answer = gateway.Response(204, (), b"")
    headers = dict(gateway.with_cors(CORS, preflight, answer).headers)
    assert headers["access-control-allow-methods"] == "GET,POST"
    assert headers["access-control-allow-headers"] == "authorization"
    assert headers["access-control-max-age"] == "600"
    assert not gateway.is_preflight(replace(REQUEST, method="OPTIONS"))
