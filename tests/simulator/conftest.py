"""Fixtures of the simulator's tests."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import stripe

from stripe_simulator import Simulator, SimulatorSettings, running_simulator
from tests.simulator.support import Account, Receiver


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """One simulator for all tests."""
    with running_simulator(settings=SimulatorSettings(seed=7)) as running:
        yield running


@pytest.fixture(scope="session")
def browser(simulator: Simulator) -> Iterator[httpx.Client]:
    """HTTP client for pages and requests without the SDK."""
    with httpx.Client(base_url=simulator.url, trust_env=False) as client:
        yield client


@pytest.fixture
def account(simulator: Simulator, browser: httpx.Client) -> Account:
    """An empty account."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": simulator.url}, max_network_retries=0)
    new = Account(simulator, client, browser)
    new.control("reset", {"seed": 7, "draft_seconds": 0, "retry_days": [3, 5, 7], "after_dunning": "canceled"})
    return new


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook receiver on its own port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(running.receive(payload, self.headers["Stripe-Signature"]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Suppress the log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield running
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def registered_receiver(account: Account, receiver: Receiver) -> Receiver:
    """The receiver, registered as a webhook endpoint for every event of the account."""
    endpoint = account.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    receiver.secret = endpoint.secret
    return receiver
