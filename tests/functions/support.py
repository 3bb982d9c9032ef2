"""Helpers that call the functions as Lambda does, and read what they stored."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.api.contracts import CONTRACTS
from billing.stripe_events.webhook_signature import sign
from local.stack import ROOT

WEBHOOK_SECRET = "whsec_of_these_tests"
OLDER_WEBHOOK_SECRET = "whsec_older"
NO_BATCH_FAILURES: dict[str, Any] = {"batchItemFailures": []}
FUNCTIONS = {route.key: operation for contract in CONTRACTS for operation, route in contract.routes.items()}
"""Name of the function behind each route key."""

type Handler = Callable[[dict[str, Any], object], dict[str, Any]]


@dataclass
class Response:
    """HTTP response of a function, with its body parsed."""

    status: int
    body: Any
    headers: dict[str, str]


class LambdaContext:
    """The part of Lambda's context that the functions use."""

    def get_remaining_time_in_millis(self) -> int:
        """Return 20 seconds."""
        return 20_000


@dataclass
class FunctionHarness:
    """The functions by name, their DynamoDB table, and the secret key of the account acme."""

    table: Table
    repository: Repository
    key: str
    handlers: dict[str, Handler] = field(default_factory=dict)

    def call(self, method: str, path: str, *, route: str | None = None, **request: Any) -> Response:
        """Send a request to the function that template.yaml assigns to its route."""
        event = api_gateway_event(method, path, route=route or f"{method} {path}", **request)
        function = FUNCTIONS.get(event["routeKey"], "unknown_route")
        if function not in self.handlers:
            self.handlers[function] = load_handler(function)
        response = self.handlers[function](event, LambdaContext())
        return Response(response["statusCode"], json.loads(response["body"]), response["headers"])

    def authorized(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        more_headers: Mapping[str, str] = MappingProxyType({}),
        **request: Any,
    ) -> Response:
        """Send a JSON request with acme's secret key."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **more_headers}
        sent = None if body is None else json.dumps(body)
        return self.call(method, path, headers=headers, body=sent, **request)

    def deliver(self, event: object, *, secret: str = WEBHOOK_SECRET) -> Response:
        """Deliver an event as Stripe's webhook does, signed now."""
        body = json.dumps(event)
        signature = sign(body.encode(), secret, datetime.now(UTC))
        return self.call("POST", "/v1/billing/webhooks", headers={"Stripe-Signature": signature}, body=body)


def api_gateway_event(
    method: str,
    path: str,
    *,
    route: str,
    headers: dict[str, str] | None = None,
    body: str | None = None,
    is_base64: bool = False,
    parameters: dict[str, str] | None = None,
    query: str = "",
    source_ip: str = "192.0.2.1",
) -> dict[str, Any]:
    """Return an API Gateway event, payload format 2.0. API Gateway sends header names in lower case."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name.lower(): value for name, value in (headers or {}).items()},
        "requestContext": {
            "requestId": "request-1",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": source_ip},
            "domainName": "api.example.com",
            "stage": "$default",
        },
        "isBase64Encoded": is_base64,
    }
    if parameters:
        event["pathParameters"] = parameters
    return event if body is None else event | {"body": body}


def load_handler(function: str) -> Handler:
    """Import the handler of functions/<function>/app.py under a module name of its own."""
    path = ROOT / "functions" / function / "app.py"
    spec = importlib.util.spec_from_file_location(f"function_{function}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler  # type: ignore[no-any-return]


def stored_items(deployment: FunctionHarness) -> list[dict[str, Any]]:
    """Return every item of the table except acme's profile and keys."""
    items = deployment.table.client.scan(TableName=deployment.table.name)["Items"]
    return [item for item in items if item["sk"]["S"] not in {"PROFILE", "KEY"} and "KEY#" not in item["sk"]["S"]]


def items_with_prefix(deployment: FunctionHarness, prefix: str) -> list[dict[str, Any]]:
    """Return the items whose partition or sort key has the prefix."""
    items = deployment.table.client.scan(TableName=deployment.table.name)["Items"]
    return [item for item in items if item["pk"]["S"].startswith(prefix) or item["sk"]["S"].startswith(prefix)]


def event_marker(deployment: FunctionHarness, event_id: str) -> dict[str, Any]:
    """Return the marker of a processed event."""
    item = next(item for item in stored_items(deployment) if item["pk"]["S"] == f"EVENT#{event_id}")
    return {name: next(iter(value.values())) for name, value in item.items()}


def outbox_types(deployment: FunctionHarness) -> list[str]:
    """Return the sorted types of the outbound events."""
    return sorted(item["type"]["S"] for item in items_with_prefix(deployment, "OUT#"))
