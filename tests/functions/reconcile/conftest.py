"""Fixtures for the scheduled reconciliation."""

from collections.abc import Iterator

import boto3
import pytest
import stripe

import billing.adapters.stripe_gateway
import billing.services.reconciler
from stripe_simulator import Simulator
from tests.functions.reconcile.support import ReconcileFunction
from tests.functions.stripe_support import reset
from tests.functions.support import FunctionHarness


@pytest.fixture
def simulator(running_stripe: Simulator) -> Simulator:
    """The Stripe simulator, reset for each test: reconciliation compares everything in it."""
    reset(running_stripe)
    return running_stripe


@pytest.fixture
def single_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reconciliation call Stripe once, instead of TRIES_MAX times with pauses."""
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)


@pytest.fixture
def reconciliation(
    deployment: FunctionHarness,
    stripe_client: stripe.StripeClient,  # noqa: ARG001 - its environment comes first
    emulator_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ReconcileFunction]:
    """The function and its queue, without pauses between requests to Stripe."""
    sqs = boto3.client("sqs", endpoint_url=emulator_url)
    url = sqs.create_queue(QueueName=f"reconcile-{deployment.table.name}")["QueueUrl"]
    monkeypatch.setenv("RECONCILE_QUEUE_URL", url)
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 10_000)
    monkeypatch.setattr(billing.services.reconciler, "SETTLE_SECONDS", 0)
    yield ReconcileFunction(url, sqs)
    sqs.delete_queue(QueueUrl=url)
