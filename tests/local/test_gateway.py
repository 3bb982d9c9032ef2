"""Mapping between HTTP and Lambda events, as in API Gateway."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from local import gateway
from local.gateway import Cors, DeployedApi, DeployedRoute, Request

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
    DeployedRoute(method, path, f"{method} {path}")
    for method, path in [
        ("ANY", "$default"),
        ("GET", "/pets/{proxy+}"),
        ("GET", "/pets/dog/{id}"),
        ("GET", "/pets/dog/1"),
        ("ANY", "/pets/dog/2"),
        ("POST", "/pets"),
    ]
)
API = DeployedApi("local", "127.0.0.1:8000", "000000000000", ROUTES, CORS)


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
def test_match_route_several_matches_returns_most_specific(
    method: str, target: str, key: str, parameters: dict[str, str]
) -> None:
    match = gateway.match_route(ROUTES, method, target)
    assert match is not None
    assert (match[0].key, match[1]) == (key, parameters)


def test_match_route_without_default_route_returns_none() -> None:
    assert gateway.match_route(ROUTES[1:], "GET", "/cats") is None


def test_request_event_without_body_has_only_required_keys() -> None:
    event = _event()
    assert set(event) == {
        *("version", "routeKey", "rawPath", "rawQueryString", "headers", "requestContext", "isBase64Encoded")
    }
    assert event["requestContext"]["time"] == "21/Nov/2026:14:00:00 +0000"
    assert event["requestContext"]["timeEpoch"] == 1795269600500
    assert event["requestContext"]["http"]["userAgent"] == "curl"


def test_request_event_repeated_values_are_joined_by_commas() -> None:
    headers = (("x-tag", "a"), ("x-tag", "b"), ("cookie", "one=1; two=2"))
    event = _event(headers=headers, query="tag=1&name=x%20y&tag=2&empty=")
    assert event["headers"] == {"x-tag": "a,b"}
    assert event["cookies"] == ["one=1", "two=2"]
    assert event["queryStringParameters"] == {"empty": "", "name": "x y", "tag": "1,2"}
    assert event["rawQueryString"] == "tag=1&name=x%20y&tag=2&empty="


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "text/plain"])
def test_request_event_text_body_is_passed_unchanged(content_type: str) -> None:
    event = _event(body=b'{"a": "\xc3\xa4"}', headers=(("content-type", content_type),))
    assert (event["body"], event["isBase64Encoded"]) == ('{"a": "ä"}', False)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_request_event_other_body_is_base64_encoded(content_type: str) -> None:
    event = _event(body=b"a=1", headers=(("content-type", content_type),))
    assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"a=1").decode(), True)


def test_request_event_invalid_utf8_text_body_is_base64_encoded() -> None:
    event = _event(body=b"\xff", headers=(("content-type", "application/json"),))
    assert base64.b64decode(event["body"]) == b"\xff"


def test_function_response_complete_result_becomes_http_response() -> None:
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


def test_function_response_without_status_code_returns_200_with_result_as_body() -> None:
    response = gateway.function_response({"hello": "world"})
    assert (response.status, json.loads(response.body)) == (200, {"hello": "world"})


@pytest.mark.parametrize(
    "result", [{"statusCode": "x"}, {"statusCode": 200, "body": {"a": 1}}, {"statusCode": 200, "headers": 1}]
)
def test_function_response_malformed_result_returns_500(result: object) -> None:
    assert gateway.function_response(result) == gateway.FUNCTION_FAILED


def test_with_cors_allowed_origin_replaces_headers_of_function() -> None:
    function_response = gateway.Response(200, (("access-control-allow-origin", "*"),), b"")
    response = gateway.with_cors(CORS, replace(REQUEST, headers=(("origin", ORIGIN),)), function_response)
    assert dict(response.headers) == {
        "access-control-allow-origin": ORIGIN,
        "access-control-expose-headers": "retry-after",
    }


def test_with_cors_other_origin_adds_no_headers() -> None:
    function_response = gateway.Response(200, (), b"")
    response = gateway.with_cors(
        CORS, replace(REQUEST, headers=(("origin", "https://evil.example"),)), function_response
    )
    assert response.headers == ()


def test_with_cors_preflight_adds_methods_headers_and_max_age() -> None:
    preflight = replace(
        REQUEST, method="OPTIONS", headers=(("origin", ORIGIN), ("access-control-request-method", "POST"))
    )
    function_response = gateway.Response(204, (), b"")
    headers = dict(gateway.with_cors(CORS, preflight, function_response).headers)
    assert headers["access-control-allow-methods"] == "GET,POST"
    assert headers["access-control-allow-headers"] == "authorization"
    assert headers["access-control-max-age"] == "600"
    assert not gateway.is_preflight(replace(REQUEST, method="OPTIONS"))
