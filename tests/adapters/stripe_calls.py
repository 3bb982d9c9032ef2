"""Every call of the Stripe gateway with a successful response, shared by its tests."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.adapters.stripe_gateway import CheckoutOrder, StripeGateway
from billing.catalog import load_catalog
from billing.domain.invoices import Invoice
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import ObjectRef, RelatedObject
from tests.wire import Answer

API_KEY = "sk_test_payments"
EMAIL = "billing@acme.test"
RESPONDED = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
"""`Date` header of the responses of `tests.wire`."""
ORDER = CheckoutOrder(
    account_id="acme",
    deployment_id="billing-test",
    customer_id="cus_1",
    price_id="price_1",
    quantity=3,
    success_url="https://app.example.com/?checkout=success",
    cancel_url="https://app.example.com/?checkout=cancelled",
    trial_days=14,
    allow_promotion_codes=True,
)
SESSION = {"object": "checkout.session", "id": "cs_1", "status": "open", "url": "https://checkout.test/c/cs_1"}
SUBSCRIPTION = {
    "object": "subscription",
    "id": "sub_1",
    "customer": "cus_1",
    "status": "active",
    "created": 1_780_000_000,
    "items": {
        "object": "list",
        "data": [
            {
                "object": "subscription_item",
                "price": {"object": "price", "id": "price_1", "lookup_key": "pro_monthly"},
                "quantity": 1,
                "current_period_start": 1_780_000_000,
                "current_period_end": 1_782_592_000,
            }
        ],
    },
}
PRICE = {"object": "price", "id": "price_1", "active": True, "lookup_key": "pro_monthly"}
INVOICE = {
    "object": "invoice",
    "id": "in_1",
    "customer": "cus_1",
    "status": "paid",
    "created": 1_780_000_000,
    "currency": "usd",
    "total": 1900,
    "amount_due": 1900,
    "amount_paid": 1900,
    "amount_remaining": 0,
}


def page(*objects: Mapping[str, Any], has_more: bool = False) -> Mapping[str, Any]:
    """Return a page of a list."""
    return {"object": "list", "data": list(objects), "has_more": has_more}


CALLS: Mapping[str, tuple[Callable[[StripeGateway], Any], Mapping[str, Any]]] = {
    "create_customer": (
        lambda gateway: gateway.create_customer("acme", EMAIL, deployment_id="billing-test", idempotency_key="key-1"),
        {"object": "customer", "id": "cus_1"},
    ),
    "find_customer": (
        lambda gateway: gateway.find_customer("cus_1"),
        {"object": "customer", "id": "cus_1", "metadata": {"account_id": "acme"}},
    ),
    "add_customer_metadata": (
        lambda gateway: gateway.add_customer_metadata("cus_1", {"account_id": "acme"}),
        {"object": "customer", "id": "cus_1"},
    ),
    "is_customer_deleted": (
        lambda gateway: gateway.is_customer_deleted("cus_1"),
        {"object": "customer", "id": "cus_1", "deleted": True},
    ),
    "find_price_id": (
        lambda gateway: gateway.find_price_id("pro_monthly"),
        {"object": "list", "data": [{"object": "price", "id": "price_1"}]},
    ),
    "create_checkout_session": (
        lambda gateway: gateway.create_checkout_session(ORDER, idempotency_key="key-1"),
        SESSION,
    ),
    "find_checkout_session": (lambda gateway: gateway.find_checkout_session("cs_1"), SESSION),
    "expire_checkout_session": (lambda gateway: gateway.expire_checkout_session("cs_1"), SESSION),
    "create_portal_session": (
        lambda gateway: gateway.create_portal_session("cus_1", "https://app.example.com/"),
        {"object": "billing_portal.session", "url": "https://portal.test/p/1"},
    ),
    "fetch subscription": (
        lambda gateway: gateway.fetch(ObjectRef(Subscription, "sub_1"), load_catalog()),
        SUBSCRIPTION,
    ),
    "fetch invoice": (lambda gateway: gateway.fetch(ObjectRef(Invoice, "in_1"), load_catalog()), INVOICE),
    "look_up": (lambda gateway: gateway.look_up(RelatedObject("invoice", "in_1")), INVOICE),
    "find_lookup_key": (lambda gateway: gateway.find_lookup_key("price_1"), PRICE),
    "list_events": (lambda gateway: gateway.list_events(RESPONDED, None), page({"object": "event", "id": "evt_1"})),
    "list_subscriptions": (lambda gateway: gateway.list_subscriptions(None), page(SUBSCRIPTION)),
    "list_invoices": (lambda gateway: gateway.list_invoices(None), page(INVOICE)),
    "list_customers": (lambda gateway: gateway.list_customers(None), page({"object": "customer", "id": "cus_1"})),
}
each_call = pytest.mark.parametrize("name", CALLS)


def call(name: str, gateway: StripeGateway) -> Any:
    """Run a call of CALLS."""
    return CALLS[name][0](gateway)


def ok(body: object) -> Answer:
    """Return a successful response."""
    return Answer(body=json.dumps(body).encode())


def stripe_error(status: int, headers: Mapping[str, str] | None = None, **error: object) -> Answer:
    """Return an error response in Stripe's format, whose message repeats the e-mail address and the API key."""
    body = {"error": {"type": "invalid_request_error", "message": f"No, {EMAIL} and {API_KEY}"} | error}
    return Answer(status, json.dumps(body).encode(), headers or {})
