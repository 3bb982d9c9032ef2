"""Fixtures for the functions: a real table on the engine, a stored secret, and a Stripe simulator over HTTP."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
import stripe

from billing.adapters.dynamodb import Table
from billing.adapters.repository import KeyRecord, Repository
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.bootstrap import app
from billing.domain.accounts import Profile
from stripe_simulator import Simulator, running_simulator
from tests.functions.stripe_support import clear_faults, connect, reset
from tests.functions.support import OLDER_WEBHOOK_SECRET, WEBHOOK_SECRET, FunctionHarness
from tests.samples import DEPLOYMENT


@pytest.fixture(scope="session")
def stripe_secret_id(emulator_url: str) -> Callable[[dict[str, Any]], str]:
    """Function that stores a secret as `billing setup` does and returns its ARN."""
    client = boto3.client("secretsmanager", endpoint_url=emulator_url)

    def store(value: dict[str, Any]) -> str:
        created = client.create_secret(Name=f"stripe-{uuid.uuid4()}", SecretString=json.dumps(value))
        return created["ARN"]

    return store


@pytest.fixture
def deployment(
    table: Table,
    repository: Repository,
    dynamodb: Any,
    emulator_url: str,
    stripe_secret_id: Callable[[dict[str, Any]], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FunctionHarness]:
    """The functions of a deployment with one account, acme, that has a secret key.

    Stripe cannot be reached, and the SDK retries without waiting.
    """
    secret = {"api_key": "sk_test_functions", "webhook_secrets": [OLDER_WEBHOOK_SECRET, WEBHOOK_SECRET]}
    environment = {
        "TABLE_NAME": table.name,
        "DEPLOYMENT_ID": DEPLOYMENT.id,
        "STRIPE_SECRET_ID": stripe_secret_id(secret),
        "ALLOWED_ORIGINS": "http://localhost:3000,https://app.example.com",
        "ALLOW_PROMOTION_CODES": "true",
        "STRIPE_API_BASE": "http://127.0.0.1:9",  # nothing listens here
        "AWS_ENDPOINT_URL": emulator_url,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.meta.endpoint_url,
        "POWERTOOLS_SERVICE_NAME": "billing-test",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    key = new_key(KeyKind.SECRET, livemode=False)
    repository.create_account(Profile("acme", email="billing@acme.test"))
    repository.create_key(digest_of(key), KeyRecord("key_1", "acme", "secret", datetime.now(UTC), key[-4:]))
    yield FunctionHarness(table, repository, key)
    app.reset()


@pytest.fixture(scope="session")
def running_stripe() -> Iterator[Simulator]:
    """The Stripe simulator of this run, with the data of earlier tests."""
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def simulator(running_stripe: Simulator) -> Simulator:
    """The Stripe simulator with the catalog's prices, and with no customers of another test module."""
    reset(running_stripe)
    return running_stripe


@pytest.fixture
def stripe_client(
    simulator: Simulator,
    deployment: FunctionHarness,  # noqa: ARG001 - its environment comes first
    monkeypatch: pytest.MonkeyPatch,
    stripe_secret_id: Callable[[dict[str, Any]], str],
) -> Iterator[stripe.StripeClient]:
    """A client of the Stripe that the functions call."""
    client = connect(simulator)
    configuration = client.v1.billing_portal.configurations.create({"features": {"invoice_history": {"enabled": True}}})
    secret = {
        "api_key": "sk_test_functions",
        "webhook_secrets": [WEBHOOK_SECRET],
        "portal_configuration": configuration.id,
    }
    monkeypatch.setenv("STRIPE_API_BASE", simulator.url)
    monkeypatch.setenv("STRIPE_SECRET_ID", stripe_secret_id(secret))
    yield client
    clear_faults(simulator)
