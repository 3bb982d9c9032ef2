"""Each handler as Lambda calls it, with a real table on the engine and a real secret; only the wires are local."""

import importlib.util
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import boto3
import httpx
import pytest
import stripe

import billing.telemetry
from billing.adapters.dynamodb import Table
from billing.adapters.repository import KeyRecord, Repository
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.api.contracts import CONTRACTS
from billing.bootstrap import app
from billing.domain.accounts import Profile
from billing.stripe_events.webhook_signature import sign
from local.stack import ROOT
from stripe_simulator import Simulator, running_simulator

WEBHOOK_SECRET = "whsec_of_these_tests"


@dataclass
class Answer:
    """A Lambda answer, read."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class Deployment:
    """What the tests call: functions by operation, the table behind them and a key for acme."""

    table: Table
    repository: Repository
    key: str
    handlers: dict[str, Callable[[dict[str, Any], object], dict[str, Any]]] = field(default_factory=dict)

    def call(self, method: str, path: str, *, route: str | None = None, **request: Any) -> Answer:
        """Send a request through the function that template.yaml gives its route."""
        event = payload(method, path, route=route or f"{method} {path}", **request)
        function = FUNCTIONS.get(event["routeKey"], "unknown_route")
        if function not in self.handlers:
            self.handlers[function] = load_handler(function)
        answer = self.handlers[function](event, LambdaContext())
        return Answer(answer["statusCode"], json.loads(answer["body"]), answer["headers"])

    def authorized(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        more_headers: Mapping[str, str] = MappingProxyType({}),
        **request: Any,
    ) -> Answer:
        """The same, as acme."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **more_headers}
        sent = None if body is None else json.dumps(body)
        return self.call(method, path, headers=headers, body=sent, **request)

    def deliver(self, event: object, *, secret: str = WEBHOOK_SECRET) -> Answer:
        """Deliver an event as Stripe does, signed now."""
        body = json.dumps(event)
        signature = sign(body.encode(), secret, datetime.now(UTC))
        return self.call("POST", "/v1/billing/webhooks", headers={"Stripe-Signature": signature}, body=body)


class LambdaContext:
    """What the functions ask of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        """Time enough."""
        return 20_000


FUNCTIONS = {route.key: operation for contract in CONTRACTS for operation, route in contract.routes.items()}


def payload(
    method: str,
    path: str,
    *,
    route: str,
    headers: dict[str, str] | None = None,
    body: str | None = None,
    is_base64: bool = False,
    parameters: dict[str, str] | None = None,
    query: str = "",
) -> dict[str, Any]:
    """An API Gateway payload 2.0 event; header names arrive in lower case."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name.lower(): value for name, value in (headers or {}).items()},
        "requestContext": {
            "requestId": "request-1",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            "domainName": "api.example.com",
            "stage": "$default",
        },
        "isBase64Encoded": is_base64,
    }
    if parameters:
        event["pathParameters"] = parameters
    return event if body is None else event | {"body": body}


def load_handler(function: str) -> Callable[[dict[str, Any], object], dict[str, Any]]:
    """The handler of functions/<function>/app.py, each under a module name of its own."""
    path = ROOT / "functions" / function / "app.py"
    spec = importlib.util.spec_from_file_location(f"function_{function}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def stripe_secret_id(emulator_url: str) -> Callable[[dict[str, Any]], str]:
    """Stores a secret as `billing setup` does, and names it."""
    client = boto3.client("secretsmanager", endpoint_url=emulator_url)
    return lambda value: client.create_secret(
        Name=f"stripe-{datetime.now(UTC).timestamp()}", SecretString=json.dumps(value)
    )["ARN"]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """All that the functions wrote: the log, and metrics on standard output."""
    log = io.StringIO()
    [handler] = billing.telemetry.logger().handlers
    monkeypatch.setattr(handler, "stream", log)
    return lambda: log.getvalue() + capsys.readouterr().out


@pytest.fixture
def deployment(
    table: Table,
    repository: Repository,
    dynamodb: Any,
    emulator_url: str,
    stripe_secret_id: Callable[[dict[str, Any]], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Deployment]:
    """A deployment with one account, acme, that has a key."""
    secret = {"api_key": "sk_test_functions", "webhook_secrets": ["whsec_older", WEBHOOK_SECRET]}
    environment = {
        "TABLE_NAME": table.name,
        "STRIPE_SECRET_ID": stripe_secret_id(secret),
        "ALLOWED_ORIGINS": "http://localhost:3000,https://app.example.com",
        "ALLOW_PROMOTION_CODES": "true",
        "AWS_ENDPOINT_URL": emulator_url,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.meta.endpoint_url,
        "POWERTOOLS_SERVICE_NAME": "billing-test",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    key = new_key(KeyKind.SECRET, livemode=False)
    repository.create_account(Profile("acme", email="billing@acme.test"))
    repository.create_key(digest_of(key), KeyRecord("key_1", "acme", "secret", datetime.now(UTC), key[-4:]))
    yield Deployment(table, repository, key)
    app.reset()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A Stripe with the catalog's prices."""
    with stripe_with_prices() as simulator:
        yield simulator


@contextmanager
def stripe_with_prices() -> Iterator[Simulator]:
    """A Stripe that sells what the catalog has, and has no customer yet."""
    with running_simulator() as simulator:
        client = connect(simulator)
        for lookup_key, amount in (("pro_monthly", 1900), ("team_monthly", 4900)):
            product = client.v1.products.create({"name": lookup_key})
            client.v1.prices.create(
                {
                    "product": product.id,
                    "lookup_key": lookup_key,
                    "currency": "usd",
                    "unit_amount": amount,
                    "recurring": {"interval": "month"},
                }
            )
        yield simulator


@pytest.fixture
def stripe_client(
    simulator: Simulator,
    deployment: Deployment,  # noqa: ARG001 - its environment comes first
    monkeypatch: pytest.MonkeyPatch,
    stripe_secret_id: Callable[[Any], str],
) -> Iterator[stripe.StripeClient]:
    """The deployment's Stripe, looked at from outside."""
    client = connect(simulator)
    configuration = client.v1.billing_portal.configurations.create({"features": {"invoice_history": {"enabled": True}}})
    secret = {
        "api_key": "sk_test_functions",
        "webhook_secrets": ["whsec_of_these_tests"],
        "portal_configuration": configuration.id,
    }
    monkeypatch.setenv("STRIPE_API_BASE", simulator.url)
    monkeypatch.setenv("STRIPE_SECRET_ID", stripe_secret_id(secret))
    yield client
    control(simulator, "DELETE", "faults")


def connect(simulator: Simulator) -> stripe.StripeClient:
    """An independent client of that Stripe."""
    return stripe.StripeClient("sk_test_functions", base_addresses={"api": simulator.url})


def control(simulator: Simulator, method: str, path: str, body: object = None) -> Any:
    """The simulator's control surface."""
    answer = httpx.request(method, f"{simulator.url}/_simulator/{path}", json=body, trust_env=False)
    return answer.raise_for_status().json()
