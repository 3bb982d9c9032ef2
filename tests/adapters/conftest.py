"""Fixtures of the Stripe gateway's tests. If stripe-mock is not installed, its tests are skipped and reported."""

import shutil

import pytest
import stripe

from billing.adapters.stripe_gateway import StripeGateway, connect
from local.stack import ROOT
from tests.adapters.stripe_calls import API_KEY
from tests.wire import Wire

STRIPE_MOCK = shutil.which("stripe-mock", path=ROOT / ".tools/go/bin") or shutil.which("stripe-mock")
collect_ignore = [] if STRIPE_MOCK else ["test_stripe_mock.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report that no requests were checked by stripe-mock; installing it requires Go."""
    if STRIPE_MOCK is None:
        terminalreporter.write_line("stripe-mock is not installed: requests to Stripe were not checked by it")


@pytest.fixture
def immediate_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK retry at once; by default it waits half a second."""
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.001)


@pytest.fixture
def gateway(wire: Wire, immediate_retries: None) -> StripeGateway:  # noqa: ARG001 - patches the SDK
    """A gateway on the real SDK and a server whose responses the test sets."""
    return StripeGateway(connect(API_KEY, wire.url))
