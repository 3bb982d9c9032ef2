"""Skips stripe-mock's tests, visibly, if stripe-mock is not installed."""

import shutil

import pytest

from local.stack import ROOT

STRIPE_MOCK = shutil.which("stripe-mock", path=ROOT / ".tools/go/bin") or shutil.which("stripe-mock")
collect_ignore = [] if STRIPE_MOCK else ["test_stripe_mock.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report that no requests were checked by stripe-mock; installing it requires Go."""
    if STRIPE_MOCK is None:
        terminalreporter.write_line("stripe-mock is not installed: requests to Stripe were not judged by it")
