"""Helpers of the simulator's tests: an account client and a webhook receiver."""

import threading
from dataclasses import dataclass, field
from typing import Any

import httpx
import stripe

from stripe_simulator import Simulator

DEADLINE_SECONDS = 10.0
DAY = 86_400
AUTHORIZATION = {"Authorization": "Bearer sk_test_x"}
PAYMENT_EVENTS = ["invoice.updated", "invoice.paid", "invoice.payment_succeeded"]


@dataclass
class Account:
    """A simulated Stripe account: the SDK's client, the control surface and a browser."""

    simulator: Simulator
    client: stripe.StripeClient
    browser: httpx.Client

    @property
    def v1(self) -> Any:
        return self.client.v1

    def control(self, path: str, document: dict[str, Any] | None = None, method: str = "POST") -> Any:
        response = self.browser.request(method, f"/_simulator/{path}", json=document)
        response.raise_for_status()
        return response.json()

    def advance(self, days: float = 0, seconds: int = 0) -> None:
        self.control("clock", {"advance_seconds": int(days * DAY) + seconds})

    def price(self, amount: int = 2900, interval: str = "month", **fields: Any) -> Any:
        product = self.v1.products.create({"name": f"Plan at {amount}"})
        recurring = {"interval": interval}
        return self.v1.prices.create(
            {"product": product.id, "currency": "usd", "unit_amount": amount, "recurring": recurring, **fields}
        )

    def customer(self, card: str | None = "pm_card_visa", **fields: Any) -> Any:
        payment = {"payment_method": card, "invoice_settings": {"default_payment_method": card}} if card else {}
        return self.v1.customers.create({"email": "jo@acme.example", **payment, **fields})

    def checkout(self, price: Any, **fields: Any) -> Any:
        return self.v1.checkout.sessions.create(
            {
                "mode": "subscription",
                "line_items": [{"price": price.id, "quantity": 1}],
                "success_url": "http://app.example/done?session={CHECKOUT_SESSION_ID}",
                "cancel_url": "http://app.example/pricing",
                **fields,
            }
        )

    def subscribe(self, price: Any | None = None, customer: Any | None = None, **fields: Any) -> Any:
        price, customer = price or self.price(), customer or self.customer()
        return self.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}], **fields})

    def event_ids(self) -> frozenset[str]:
        return frozenset(event.id for event in self.events())

    def events(self, excluded_ids: frozenset[str] = frozenset()) -> list[Any]:
        """Return all events but the excluded ones, oldest first."""
        listed = self.v1.events.list({"limit": 100}).auto_paging_iter()
        return [event for event in reversed(list(listed)) if event.id not in excluded_ids]

    def event_types(self, excluded_ids: frozenset[str] = frozenset()) -> list[str]:
        return [event.type for event in self.events(excluded_ids)]


def send_raw(account: Account, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
    """Send a request without the SDK and return the status and the error of its response."""
    response = account.browser.request(method, path, **{"headers": AUTHORIZATION, **request})
    return response.status_code, response.json()["error"]


@dataclass
class Receiver:
    """A webhook endpoint that verifies signatures and records the accepted events.

    Attributes:
        url: The endpoint's URL.
        secret: The signing secret.
        down: True to respond with 503.
        statuses: Statuses of the next responses; after them, the status is 200.
        events: Accepted events.
        refused: Number of responses with another status than 200.
        changed: Condition that is notified after each request.
    """

    url: str
    secret: str = ""
    down: bool = False
    statuses: list[int] = field(default_factory=list)
    events: list[stripe.Event] = field(default_factory=list)
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def receive(self, payload: bytes, signature: str) -> int:
        """Return the status of the response to a delivery."""
        with self.changed:
            status = 503 if self.down else self.statuses.pop(0) if self.statuses else 200
            if status == 200:
                self.events.append(stripe.Webhook.construct_event(payload, signature, self.secret))
            else:
                self.refused += 1
            self.changed.notify_all()
        return status

    def wait_for(self, count: int) -> list[str]:
        """Wait until a number of events is received, and return their types."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, DEADLINE_SECONDS), self.types
        return self.types

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]
