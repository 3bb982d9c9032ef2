"""Every request that the product sends, judged by stripe-mock: Stripe's own server of its OpenAPI document.

stripe-mock keeps no state, so the simulator gives the answers. It knows parameters by name and type on the first level;
what is nested is checked by the simulator, against the SDK's annotations.
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
from cli.setup_report import SetupChange
from cli.stripe_account import sync_catalog, sync_portal
from cli.webhook_setup import set_up_webhook
from local.ports import free_port
from local.processes import start, stop, wait_until
from stripe_simulator import SimulatorSettings, running_simulator
from tests.adapters.conftest import STRIPE_MOCK

DOCUMENT_VERSION = "2026-08-26.dahlia"
"""The API version of stripe-mock's document, which knows none of the younger ones that an endpoint can be made for."""

WEBHOOK_URL = "https://api.example.com/v1/billing/webhooks"


class Judged(stripe.RequestsClient):
    """The SDK's HTTP client; stripe-mock must take each request before the simulator gets it."""

    def __init__(self, mock_url: str, simulator_url: str) -> None:
        super().__init__(timeout=10)
        self._mock_url, self._simulator_url = mock_url, simulator_url
        self.operations: set[str] = set()

    def request(  # type: ignore[override]  # as RequestsClient has it
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Have a request judged, then send it. Raises AssertionError with what stripe-mock says against it."""
        judged_data = post_data and post_data.replace(stripe.api_version, DOCUMENT_VERSION)
        mock_url = url.replace(self._simulator_url, self._mock_url)
        body, status, _ = super().request(method, mock_url, headers, judged_data)
        assert status < 400, f"{method} {url} {post_data}: {body.decode()}"
        self.operations.add(f"{method.upper()} {url.removeprefix(self._simulator_url).partition('?')[0]}")
        return super().request(method, url, headers, post_data)


@pytest.fixture(scope="module")
def mock_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """stripe-mock, started for these tests."""
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
    """The simulator, started for these tests."""
    with running_simulator(settings=SimulatorSettings(seed=7)) as running:
        yield running.url


@pytest.fixture
def judged(mock_url: str, simulator_url: str) -> Judged:
    """A judge who has seen nothing."""
    return Judged(mock_url, simulator_url)


@pytest.fixture
def client(judged: Judged, simulator_url: str) -> stripe.StripeClient:
    """Stripe's SDK as the product uses it, under judgement."""
    return stripe.StripeClient("sk_test_x", base_addresses={"api": simulator_url}, http_client=judged)


def set_up(client: stripe.StripeClient, catalog: Catalog) -> str:
    """`billing setup`, without its AWS side. Returns the portal configuration's id."""
    _, prices = sync_catalog(client, catalog)
    portal = sync_portal(client, "billing", catalog, prices)
    replace_webhook(client, {})
    return portal.id


def replace_webhook(client: stripe.StripeClient, secret: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its part about the endpoint, which makes another one. Returns what is to be stored."""
    stored: list[Mapping[str, Any]] = []

    def repository(value: Mapping[str, Any]) -> SetupChange:
        stored.append(value)
        return SetupChange("secret", "webhook", "arn", "updated")

    set_up_webhook(client, "billing", WEBHOOK_URL, secret, repository, rotate=True)
    return stored[-1]


def repriced(catalog: Catalog) -> Catalog:
    """Every plan renamed, and every price raised."""
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


def test_setup_sends_nothing_that_stripe_does_not_know(
    client: stripe.StripeClient, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `billing setup` creates, updates, replaces and deletes is known to Stripe's document."""
    monkeypatch.setattr("cli.webhook_setup.sleep", lambda _seconds: None)
    set_up(client, load_catalog())
    set_up(client, repriced(load_catalog()))
    replace_webhook(client, replace_webhook(client, {}))
    resources = {"products", "prices", "webhook_endpoints", "billing_portal/configurations"}
    written = {
        operation.removeprefix("POST /v1/") for operation in judged.operations if operation.startswith("POST /v1/")
    }
    assert resources <= written
    assert any(operation.startswith("DELETE /v1/webhook_endpoints/") for operation in judged.operations)


def order(customer_id: str, price_id: str, trial_days: int) -> CheckoutOrder:
    """Something to buy."""
    return CheckoutOrder(
        account_id="acme",
        customer_id=customer_id,
        price_id=price_id,
        quantity=1,
        success_url="https://app.example.com/?checkout=success",
        cancel_url="https://app.example.com/?checkout=cancelled",
        trial_days=trial_days,
        allow_promotion_codes=True,
    )


def test_the_functions_send_nothing_that_stripe_does_not_know(client: stripe.StripeClient, judged: Judged) -> None:
    """Every way in which the functions call Stripe is known to Stripe's document."""
    gateway = StripeGateway(client, set_up(client, load_catalog()))
    judged.operations.clear()
    customer_id = gateway.create_customer("acme", "billing@acme.test", idempotency_key="customer")
    price_id = gateway.price_id("team_monthly")
    for trial_days in (0, 14):
        session = gateway.create_checkout_session(
            order(customer_id, price_id, trial_days), idempotency_key=f"checkout-{trial_days}"
        )
        assert gateway.find_checkout_session(session.id) == session
        closed = gateway.close_checkout_session(session.id)
        assert closed is not None
        assert closed.status == "expired"
    assert gateway.create_portal_session(customer_id, "https://app.example.com/").startswith("http")
    written = {"POST /v1/customers", "POST /v1/checkout/sessions", "POST /v1/billing_portal/sessions"}
    assert written <= judged.operations


def test_what_is_fetched_is_asked_for_as_stripe_knows_it(client: stripe.StripeClient, judged: Judged) -> None:
    """A subscription and its invoice are read back from ids that events name."""
    set_up(client, load_catalog())
    gateway = StripeGateway(client)
    customer = client.v1.customers.create(
        {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    )
    items: Any = [{"price": gateway.price_id("pro_monthly")}]
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
    assert {f"GET /v1/subscriptions/{subscription.id}", f"GET /v1/invoices/{invoice_id}"} <= judged.operations


@pytest.mark.parametrize(
    "params",
    [
        {"email": "billing@acme.test", "favourite_colour": "red"},
        {"email": 5, "metadata": "acme"},
        {"tax_exempt": "perhaps"},
    ],
)
def test_the_judge_can_see(params: Any, client: stripe.StripeClient) -> None:
    """An unknown parameter, a wrong type and an unknown value do not pass: silence above means something."""
    with pytest.raises(AssertionError):
        client.v1.customers.create(params)
