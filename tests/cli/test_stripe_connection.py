"""Tests of Stripe's errors as errors of the command."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ECONNREFUSED
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import stripe

from billing.adapters.stripe_gateway import StripeGateway, connect
from cli.errors import CommandFailed
from cli.stripe_connection import map_stripe_error, map_stripe_errors
from tests.cli.support import STRIPE_KEY

REFUSED = f"[Errno {ECONNREFUSED}] Connection refused"


@contextmanager
def running_server(body: bytes) -> Iterator[str]:
    """Start a web server that is not Stripe."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def errors_of(api_base: str) -> set[tuple[str, str]]:
    """Return the errors of a request through the SDK, and of one through the gateway."""
    client, errors = connect(STRIPE_KEY, api_base), set()
    with pytest.raises(CommandFailed) as failed, map_stripe_errors():
        client.v1.customers.list({"limit": 100})
    errors.add((failed.value.code, failed.value.message))
    with pytest.raises(CommandFailed) as failed, map_stripe_errors():
        StripeGateway(client).list_customers(None)
    return errors | {(failed.value.code, failed.value.message)}


@pytest.mark.parametrize(
    ("api_base", "reason"),
    [
        ("http://127.0.0.1:9", f"(127.0.0.1:9: Failed to establish a new connection: {REFUSED})"),
        ("localhost:8001", "(No connection adapters were found for 'localhost:8001/v1/customers')"),
    ],
)
def test_unreachable_stripe_error_has_host_and_cause_only(
    api_base: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    message = f"Stripe cannot be reached: check the network and STRIPE_API_BASE. {reason}"
    assert errors_of(api_base) == {("stripe_unreachable", message)}


def test_error_for_html_response_is_shortened() -> None:
    with running_server(b"<html>" + b"<p>Welcome</p> " * 1000) as url:
        [(code, message)] = errors_of(url)
    assert code == "stripe_failed"
    assert "<html>" in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("api_key_expired", ("stripe_key_expired", "has expired")),
        ("platform_api_key_expired", ("stripe_key_expired", "has expired")),
        ("secret_key_required", ("stripe_key", "publishable key")),
        (None, ("stripe_key", "does not know this API key")),
    ],
)
def test_rejected_key_is_reported_as_what_it_is(code: str | None, expected: tuple[str, str]) -> None:
    body = {"error": {"type": "invalid_request_error", "message": "No", "code": code}}
    error = map_stripe_error(stripe.AuthenticationError("No", json.dumps(body), 401, body, {}))
    assert error.code == expected[0]
    assert expected[1] in error.message
