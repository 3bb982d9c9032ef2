"""A running simulator, the official SDK at it, and a receiver of its webhooks."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import stripe

from stripe_simulator import Settings, Simulator, running_simulator

DEADLINE = 10.0
DAY = 86_400


@dataclass
class Account:
    """A simulated Stripe account as a test uses it: through the SDK, the control surface and a browser."""

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
        paying = {"payment_method": card, "invoice_settings": {"default_payment_method": card}} if card else {}
        return self.v1.customers.create({"email": "jo@acme.example", **paying, **fields})

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

    def seen(self) -> frozenset[str]:
        """Return the ids of the events so far."""
        return frozenset(event.id for event in self.events())

    def events(self, seen: frozenset[str] = frozenset()) -> list[Any]:
        """Return the events, oldest first, without those already seen."""
        listed = self.v1.events.list({"limit": 100}).auto_paging_iter()
        return [event for event in reversed(list(listed)) if event.id not in seen]

    def event_types(self, seen: frozenset[str] = frozenset()) -> list[str]:
        return [event.type for event in self.events(seen)]


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """One simulator for all tests."""
    with running_simulator(settings=Settings(seed=7)) as running:
        yield running


@pytest.fixture(scope="session")
def browser(simulator: Simulator) -> Iterator[httpx.Client]:
    """A browser, and whatever else speaks plain HTTP."""
    with httpx.Client(base_url=simulator.url, trust_env=False) as client:
        yield client


@pytest.fixture
def account(simulator: Simulator, browser: httpx.Client) -> Account:
    """A new account."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": simulator.url}, max_network_retries=0)
    new = Account(simulator, client, browser)
    new.control("reset", {"seed": 7, "draft_seconds": 0, "retry_days": [3, 5, 7], "after_dunning": "canceled"})
    return new


@dataclass
class Receiver:
    """A webhook endpoint that verifies signatures and records what it accepts.

    It answers 503 while it is down, then the statuses one by one, then 200.
    """

    url: str
    secret: str = ""
    down: bool = False
    statuses: list[int] = field(default_factory=list)
    events: list[stripe.Event] = field(default_factory=list)
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, payload: bytes, signature: str) -> int:
        with self.changed:
            status = 503 if self.down else self.statuses.pop(0) if self.statuses else 200
            if status == 200:
                self.events.append(stripe.Webhook.construct_event(payload, signature, self.secret))
            else:
                self.refused += 1
            self.changed.notify_all()
        return status

    def wait_for(self, count: int) -> list[str]:
        """Return the types of the events received, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, DEADLINE), self.types
        return self.types

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(received.take(payload, self.headers["Stripe-Signature"]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def listening(account: Account, receiver: Receiver) -> Receiver:
    """The receiver, registered for every event of the account."""
    endpoint = account.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    receiver.secret = endpoint.secret
    return receiver
