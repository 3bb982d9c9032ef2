"""Helpers for the Stripe simulator that the functions call."""

import ssl
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import httpx
import stripe

from billing.domain.subscriptions import PendingChange
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


def inject_stored_failure(simulator: Simulator, path: str, status: int, when: str) -> None:
    """Make the next POST to this path prefix fail, and store the failure under its idempotency key.

    Args:
        simulator: The Stripe simulator.
        path: Prefix of the path.
        status: Status of the failure.
        when: `before` or `after` the operation takes effect.
    """
    match = {"method": "POST", "path_prefix": path}
    fault = {"match": match, "kind": f"status:{status}", "when": when, "stored": True}
    control(simulator, "POST", "faults", fault)


def clear_faults(simulator: Simulator) -> None:
    """Let every request succeed again."""
    control(simulator, "DELETE", "faults")


def create_subscription(
    client: stripe.StripeClient, account_id: str | None = "acme", *, customer_id: str | None = None
) -> stripe.Subscription:
    """Create a paid subscription, and its customer unless one is given.

    Both name the account in their metadata, unless it is None.
    """
    metadata = {"account_id": account_id} if account_id else {}
    if customer_id is None:
        customer_id = client.v1.customers.create({"email": "jo@acme.test", "metadata": metadata}).id
    card = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer_id}).id
    client.v1.customers.update(customer_id, {"invoice_settings": {"default_payment_method": card}})
    [price] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    subscription_params: Any = {"customer": customer_id, "items": [{"price": price.id}], "metadata": metadata}
    return client.v1.subscriptions.create(subscription_params)


def complete_checkout(simulator: Simulator, session: stripe.checkout.Session) -> None:
    """Pay on the session's hosted page."""
    control(simulator, "POST", f"checkout/{session.id}", {"outcome": "pay"})


def deliver_all(deployment: FunctionHarness, simulator: Simulator) -> None:
    """Deliver the simulator's 20 newest events to the webhook, oldest first."""
    for event in reversed(list_events(simulator)):
        deployment.deliver(event)


def open_session(client: stripe.StripeClient, deployment: FunctionHarness) -> stripe.checkout.Session:
    """Retrieve the Checkout Session that is stored for acme."""
    checkout = deployment.repository.load_account("acme").profile.open_checkout
    assert checkout
    return client.v1.checkout.sessions.retrieve(checkout.session_id, {"expand": ["line_items"]})


def all_events(simulator: Simulator, known: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the simulator's events that are not known yet, at most 100, oldest first."""
    return [each for each in reversed(list_events(simulator, 100)) if each["id"] not in known]


def list_events(simulator: Simulator, limit: int = 20) -> list[dict[str, Any]]:
    """Return the simulator's newest events, newest first."""
    url, api_key = f"{simulator.url}/v1/events", ("sk_test_functions", "")
    listed = httpx.get(url, params={"limit": limit}, auth=api_key, trust_env=False, verify=TLS_CONTEXT).json()
    return list(listed["data"])


def phase(price: str, start: int, end: int, quantity: int = 1) -> dict[str, Any]:
    """Return a phase of a subscription schedule, as a parameter."""
    return {"items": [{"price": price, "quantity": quantity}], "start_date": start, "end_date": end}


def price_id(client: stripe.StripeClient, lookup_key: str) -> str:
    """Return the id of a price of the catalog."""
    [price] = client.v1.prices.list({"lookup_keys": [lookup_key]}).data
    return price.id


def schedule_change(
    client: stripe.StripeClient, subscription: stripe.Subscription, lookup_key: str, quantity: int = 1
) -> stripe.SubscriptionSchedule:
    """Schedule a change of price and quantity for the end of the period, as the portal does."""
    item = subscription["items"].data[0]
    start, end = item.current_period_start, item.current_period_end
    schedule = client.v1.subscription_schedules.create({"from_subscription": subscription.id})
    following = phase(price_id(client, lookup_key), end, end + 2_592_000, quantity)
    params: Any = {"phases": [phase(item.price.id, start, end), following]}
    return client.v1.subscription_schedules.update(schedule.id, params)


def pending_change(
    client: stripe.StripeClient, subscription: stripe.Subscription, lookup_key: str, quantity: int = 1
) -> PendingChange:
    """Return the stored form of a change that `schedule_change` scheduled."""
    effective_at = datetime.fromtimestamp(subscription["items"].data[0].current_period_end, UTC)
    plan = lookup_key.removesuffix("_monthly")
    return PendingChange(plan, price_id(client, lookup_key), quantity, effective_at, is_per_seat=plan == "team")
