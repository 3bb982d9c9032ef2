"""Responses of every endpoint, validated against the contract's OpenAPI document."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract
from billing.api.endpoint import Endpoint
from billing.domain.webhook_deliveries import AttemptResult, Delivery
from local.sample_events import read_sample
from local.stack import ROOT
from tests.api.contracts.examples import (
    NEVER_SUBSCRIBED,
    NO_PORTAL,
    PORTAL,
    SUBSCRIBED,
    SUBSCRIPTION,
    UNAUTHENTICATED,
)
from tests.api.contracts.openapi_support import contract_named, document_of, endpoints_of, validate_body
from tests.functions.events import event, invoice, subscription
from tests.functions.support import WEBHOOK_SECRET, FunctionHarness, Response
from tests.functions.webhook_api.support import URL, create, store_delivery, store_event
from tests.wire import Wire

BODIES: dict[str, dict[str, Any]] = {
    "POST /api/billing/checkout": {"priceId": "pro_monthly"},
    "POST /v1/billing/webhook-endpoints": {"url": URL},
}
"""Request bodies of routes that do not accept the body of the sample event, by route key.

The URL of the sample event needs name resolution.
"""

each_contract = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)


@pytest.mark.parametrize("name", SUBSCRIBED)
def test_example_responses_match_the_document(name: str) -> None:
    path, _ = SUBSCRIPTION[name]
    validate_body(SUBSCRIBED[name], contract_named(name), f"GET {path}", 200)
    if name in NEVER_SUBSCRIBED:
        validate_body(NEVER_SUBSCRIBED[name], contract_named(name), f"GET {path}", 200)


@pytest.mark.parametrize("name", PORTAL)
def test_example_errors_match_the_document(name: str) -> None:
    path, _ = PORTAL[name]
    status, body = NO_PORTAL[name]
    validate_body(with_timestamp(UNAUTHENTICATED[name]), contract_named(name), f"POST {path}", 401)
    validate_body(with_timestamp(body), contract_named(name), f"POST {path}", status)


def with_timestamp(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with a timestamp in place of "TIME"."""
    return body | {"meta": {"timestamp": "2026-11-21T14:00:00Z"}} if "meta" in body else body


@pytest.mark.engine
@pytest.mark.usefixtures("stripe_client", "delivery_queue")
@each_contract
def test_every_endpoints_response_matches_the_document(
    deployment: FunctionHarness, wire: Wire, contract: Contract, subtests: pytest.Subtests
) -> None:
    """Also finds a handler whose response data differ from the operation's declaration."""
    give_history(deployment)
    parameters = {"teamId": "acme", **store_failed_delivery(deployment, wire.url)}
    for endpoint in sorted(endpoints_of(contract), key=is_last):
        with subtests.test(endpoint.route.key):
            response = request_sample(deployment, endpoint, parameters)
            assert response.status == 200, response.body
            validate_body(response.body, contract, endpoint.route.key, 200)


def give_history(deployment: FunctionHarness) -> None:
    """Give acme a canceled subscription and an invoice, so that portal and checkout are both possible."""
    deployment.authorized("POST", "/v1/billing/checkout", {"tier": "pro"})
    customer = deployment.repository.load_account("acme").profile.customer_id
    deployment.deliver(event("customer.subscription.deleted", subscription(customer=customer, status="canceled")))
    deployment.deliver(event("invoice.paid", invoice(customer=customer)))


def store_failed_delivery(deployment: FunctionHarness, url: str) -> dict[str, str]:
    """Create a webhook endpoint with a delivery that failed. Returns both ids as path parameters."""
    endpoint_id = create(deployment, url)["id"]
    event = store_event(deployment, datetime.now(UTC))
    new = Delivery(endpoint_id, event.id, event.type, "acme", "acme", created=datetime.now(UTC))
    failed = (
        new.start(new.created, "claim")
        .finish(AttemptResult(500, 12, body="failed"), new.created, jitter=0)
        .fail("stopped")
    )
    return {"endpointId": endpoint_id, "deliveryId": store_delivery(deployment, failed).id}


def is_last(endpoint: Endpoint) -> int:
    """Return a sort key: requests that need an enabled endpoint come before those that disable or delete it."""
    return ["GET", "POST", "PATCH", "DELETE"].index(endpoint.route.method)


def request_sample(deployment: FunctionHarness, endpoint: Endpoint, parameters: dict[str, str]) -> Response:
    """Send the sample event of the endpoint's operation to the endpoint's route."""
    sample_path = ROOT / f"events/{endpoint.operation.name}.json"
    sample = read_sample(sample_path, secret_key=deployment.key, webhook_secret=WEBHOOK_SECRET, now=datetime.now(UTC))
    route = endpoint.route
    own_body = BODIES.get(route.key)
    return deployment.call(
        route.method,
        route.path.format(**parameters),
        route=route.key,
        headers=sample["headers"],
        body=json.dumps(own_body) if own_body else sample.get("body"),
        query=sample.get("rawQueryString", ""),
        parameters=parameters,
    )


@pytest.mark.engine
@each_contract
def test_document_is_served_without_a_credential(deployment: FunctionHarness, contract: Contract) -> None:
    route = contract.routes["openapi"]
    response = deployment.call("GET", route.path.format(teamId="anyone"), route=route.key)
    assert (response.status, response.body) == (200, document_of(contract))
