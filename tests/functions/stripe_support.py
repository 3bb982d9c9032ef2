"""Helpers for the Stripe simulator that the functions call."""

import ssl
from typing import Any

import httpx
import stripe

from stripe_simulator import Simulator
from tests.functions.support import FunctionHarness

# The simulator is served without TLS. A context without CA certificates saves 25 ms a request.
TLS_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def reset(simulator: Simulator) -> None:
    """Delete everything in the simulator except the catalog's prices."""
    control(simulator, "POST", "reset", {})
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


def connect(simulator: Simulator) -> stripe.StripeClient:
    """Return a client of the simulator that is independent of the functions."""
    return stripe.StripeClient("sk_test_functions", base_addresses={"api": simulator.url})


def control(simulator: Simulator, method: str, path: str, body: object = None) -> Any:
    """Call the simulator's control surface."""
    url = f"{simulator.url}/_simulator/{path}"
    response = httpx.request(method, url, json=body, trust_env=False, verify=TLS_CONTEXT)
    return response.raise_for_status().json()


def inject_fault(simulator: Simulator, kind: str, prefix: str = "/v1", count: int = 20) -> None:
    """Make the next `count` requests with this path prefix fail."""
    control(simulator, "POST", "faults", {"match": {"path_prefix": prefix}, "count": count, "kind": kind})


def clear_faults(simulator: Simulator) -> None:
    """Let every request succeed again."""
    control(simulator, "DELETE", "faults")


def create_subscription(client: stripe.StripeClient, account_id: str | None = "acme") -> stripe.Subscription:
    """Create a customer with a paid subscription; both name the account in their metadata, unless it is None."""
    metadata = {"account_id": account_id} if account_id else {}
    card = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer_params: Any = {"email": "jo@acme.test", "metadata": metadata, **card}
    customer = client.v1.customers.create(customer_params)
    [price] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    subscription_params: Any = {"customer": customer.id, "items": [{"price": price.id}], "metadata": metadata}
    return client.v1.subscriptions.create(subscription_params)


def complete_checkout(simulator: Simulator, session: stripe.checkout.Session) -> None:
    """Pay on the session's hosted page."""
    control(simulator, "POST", f"checkout/{session.id}", {"outcome": "pay"})


def deliver_all(deployment: FunctionHarness, simulator: Simulator) -> None:
    """Deliver the simulator's 20 newest events to the webhook, oldest first."""
    for event in reversed(list_events(simulator)):
        deployment.deliver(event)


def list_events(simulator: Simulator) -> list[dict[str, Any]]:
    """Return the simulator's 20 newest events, newest first."""
    url, api_key = f"{simulator.url}/v1/events", ("sk_test_functions", "")
    listed = httpx.get(url, params={"limit": 20}, auth=api_key, trust_env=False, verify=TLS_CONTEXT).json()
    return listed["data"]  # type: ignore[no-any-return]


def open_session(client: stripe.StripeClient, deployment: FunctionHarness) -> stripe.checkout.Session:
    """Retrieve the Checkout Session that is stored for acme."""
    checkout = deployment.repository.load_account("acme").profile.open_checkout
    assert checkout
    return client.v1.checkout.sessions.retrieve(checkout.session_id, {"expand": ["line_items"]})
