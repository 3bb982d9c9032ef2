"""Requests of the product, checked by stripe-mock, Stripe's server of its OpenAPI document.

stripe-mock stores nothing, so the simulator sends the responses. stripe-mock checks names and types of top-level
parameters; the simulator checks nested ones against the SDK's types.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from billing.adapters.stripe_gateway import CheckoutOrder, StripeGateway
from billing.catalog import load_catalog
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import ObjectRef
from cli.own_metadata import OwnMetadata
from cli.setup_report import SetupChange
from cli.stripe_account import sync_catalog, sync_portals
from cli.webhook_setup import set_up_webhook
from local.ports import free_port
from local.processes import start, stop, wait_until
from stripe_simulator import SimulatorSettings, running_simulator
from tests.adapters.conftest import STRIPE_MOCK

DOCUMENT_VERSION = "2026-08-26.dahlia"
"""API version of stripe-mock's document. It rejects webhook endpoints of later versions."""

WEBHOOK_URL = "https://api.example.com/v1/billing/webhooks"


class CheckedClient(stripe.RequestsClient):
    """HTTP client of the SDK that sends each request to stripe-mock, and then to the simulator."""

    def __init__(self, mock_url: str, simulator_url: str) -> None:
        super().__init__(timeout=10)
        self._mock_url, self._simulator_url = mock_url, simulator_url
        self.operations: set[str] = set()

    def request(  # type: ignore[override]  # RequestsClient's signature
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send a request. Raises AssertionError with stripe-mock's error if it rejects the request."""
        checked_data = post_data and post_data.replace(stripe.api_version, DOCUMENT_VERSION)
        mock_url = url.replace(self._simulator_url, self._mock_url)
        body, status, _ = super().request(method, mock_url, headers, checked_data)
        assert status < 400, f"{method} {url} {post_data}: {body.decode()}"
        self.operations.add(f"{method.upper()} {url.removeprefix(self._simulator_url).partition('?')[0]}")
        return super().request(method, url, headers, post_data)


@pytest.fixture(scope="module")
def mock_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of stripe-mock, started for these tests."""
    port = free_port()
    command: list[str | Path] = [str(STRIPE_MOCK), "-http-addr", f"127.0.0.1:{port}", "-https-addr", "127.0.0.1:0"]
    child = start("stripe-mock", command, os.environ, tmp_path_factory.mktemp("stripe-mock") / "log")
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(partial(_answers, url), child)
        yield url
    finally:
        stop([child])


def _answers(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True


@pytest.fixture(scope="module")
def simulator_url() -> Iterator[str]:
    """URL of the simulator, started for these tests."""
    with running_simulator(settings=SimulatorSettings(seed=7)) as running:
        yield running.url


@pytest.fixture
def checked(mock_url: str, simulator_url: str) -> CheckedClient:
    """A client that has sent no request."""
    return CheckedClient(mock_url, simulator_url)


@pytest.fixture
def client(checked: CheckedClient, simulator_url: str) -> stripe.StripeClient:
    """Client of the SDK whose requests are checked."""
    return stripe.StripeClient("sk_test_x", base_addresses={"api": simulator_url}, http_client=checked)


OWN = OwnMetadata("billing-test", "billing")


def set_up(client: stripe.StripeClient, catalog: Catalog) -> str:
    """Run the Stripe part of `billing setup`. Returns the id of the portal configuration."""
    _, prices = sync_catalog(client, OWN, catalog)
    portals = sync_portals(client, OWN, catalog, prices)
    replace_webhook(client, {})
    return next(iter(portals.values())).id


def replace_webhook(client: stripe.StripeClient, secret: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace the webhook endpoint as `billing setup` does. Returns the new secret."""
    stored: list[Mapping[str, Any]] = []

    def repository(value: Mapping[str, Any]) -> SetupChange:
        stored.append(value)
        return SetupChange("secret", "webhook", "arn", "updated")

    set_up_webhook(client, OWN, WEBHOOK_URL, secret, repository, rotate=True)
    return stored[-1]


def repriced(catalog: Catalog) -> Catalog:
    """Return the catalog with other names and higher prices."""
    return Catalog(
        tuple(
            replace(
                plan,
                name=f"{plan.name} 2",
                prices=tuple(replace(price, unit_amount=price.unit_amount + 100) for price in plan.prices),
            )
            for plan in catalog.plans
        )
    )


def test_setup_sends_only_requests_of_stripes_openapi_document(
    client: stripe.StripeClient, checked: CheckedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.webhook_setup.sleep", lambda _seconds: None)
    set_up(client, load_catalog())
    set_up(client, repriced(load_catalog()))
    replace_webhook(client, replace_webhook(client, {}))
    resources = {"products", "prices", "webhook_endpoints", "billing_portal/configurations"}
    written = {
        operation.removeprefix("POST /v1/") for operation in checked.operations if operation.startswith("POST /v1/")
    }
    assert resources <= written
    assert any(operation.startswith("DELETE /v1/webhook_endpoints/") for operation in checked.operations)


def order(customer_id: str, price_id: str, trial_days: int) -> CheckoutOrder:
    """Return an order."""
    return CheckoutOrder(
        account_id="acme",
        deployment_id="billing-test",
        customer_id=customer_id,
        price_id=price_id,
        quantity=1,
        success_url="https://app.example.com/?checkout=success",
        cancel_url="https://app.example.com/?checkout=cancelled",
        trial_days=trial_days,
        allow_promotion_codes=True,
    )


def test_functions_send_only_requests_of_stripes_openapi_document(
    client: stripe.StripeClient, checked: CheckedClient
) -> None:
    gateway = StripeGateway(client, set_up(client, load_catalog()))
    checked.operations.clear()
    customer_id = gateway.create_customer(
        "acme", "billing@acme.test", deployment_id="billing-test", idempotency_key="customer"
    )
    price_id = gateway.find_price_id("team_monthly")
    for trial_days in (0, 14):
        session = gateway.create_checkout_session(
            order(customer_id, price_id, trial_days), idempotency_key=f"checkout-{trial_days}"
        )
        assert gateway.find_checkout_session(session.id) == session
        closed = gateway.expire_checkout_session(session.id)
        assert closed is not None
        assert closed.status == "expired"
    assert gateway.create_portal_session(customer_id, "https://app.example.com/").startswith("http")
    written = {"POST /v1/customers", "POST /v1/checkout/sessions", "POST /v1/billing_portal/sessions"}
    assert written <= checked.operations


def test_fetch_sends_only_requests_of_stripes_openapi_document(
    client: stripe.StripeClient, checked: CheckedClient
) -> None:
    set_up(client, load_catalog())
    gateway = StripeGateway(client)
    customer = client.v1.customers.create(
        {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    )
    items: Any = [{"price": gateway.find_price_id("pro_monthly")}]
    subscription = client.v1.subscriptions.create({"customer": customer.id, "items": items})
    fetched = gateway.fetch(ObjectRef(Subscription, subscription.id), load_catalog())
    assert fetched is not None
    assert isinstance(fetched.content, Subscription)
    assert (fetched.content.status, fetched.content.plan) == ("active", "pro")
    invoice_id = str(subscription.latest_invoice)
    invoice = gateway.fetch(ObjectRef(Invoice, invoice_id), load_catalog())
    assert invoice is not None
    assert isinstance(invoice.content, Invoice)
    assert invoice.content.subscription_id == subscription.id
    assert {f"GET /v1/subscriptions/{subscription.id}", f"GET /v1/invoices/{invoice_id}"} <= checked.operations


@pytest.mark.parametrize(
    "params",
    [
        {"email": "billing@acme.test", "favourite_colour": "red"},
        {"email": 5, "metadata": "acme"},
        {"tax_exempt": "perhaps"},
    ],
)
def test_stripe_mock_rejects_unknown_parameters_types_and_values(params: Any, client: stripe.StripeClient) -> None:
    """The tests above would otherwise prove nothing."""
    with pytest.raises(AssertionError):
        client.v1.customers.create(params)
