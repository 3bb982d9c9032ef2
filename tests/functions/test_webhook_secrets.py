"""Webhook secrets that change while functions run."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from billing.adapters import secrets as secrets_module
from billing.adapters.secrets import SECRETS_REREAD_SECONDS_MIN
from billing.bootstrap import app
from tests.functions.events import subscription_event
from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine


class Clock:
    """Monotonic clock of the cached secrets, set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Clock that stands still until a test advances it."""
    clock = Clock()
    # Other modules keep the real clock: a patched `time.monotonic` would stop the simulator's event loop.
    monkeypatch.setattr(secrets_module, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the secrets that were read from Secrets Manager."""
    secret_ids: list[str] = []
    read = secrets_module.read_secret

    def record_read(client: Any, secret_id: str) -> Any:
        secret_ids.append(secret_id)
        return read(client, secret_id)

    monkeypatch.setattr(secrets_module, "read_secret", record_read)
    return secret_ids


@pytest.fixture
def store_secrets(
    deployment: FunctionHarness,  # noqa: ARG001 - its environment comes first
    emulator_url: str,
) -> Callable[..., None]:
    """Function that stores other webhook secrets, as `billing setup` does."""

    def store(*secrets: str) -> None:
        value = json.dumps({"api_key": "sk_test_functions", "webhook_secrets": secrets})
        secret_id = app.settings.stripe_secret_id
        client = boto3.client("secretsmanager", endpoint_url=emulator_url)
        client.put_secret_value(SecretId=secret_id, SecretString=value)

    return store


def test_new_webhook_secret_is_accepted_immediately(
    deployment: FunctionHarness, clock: Clock, store_secrets: Callable[..., None], reads: list[str]
) -> None:
    """If no known secret verifies a signature, the function reads the secrets again."""
    store_secrets("whsec_one")
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 200
    store_secrets("whsec_two", "whsec_one")
    clock.now += SECRETS_REREAD_SECONDS_MIN
    assert deployment.deliver(subscription_event(), secret="whsec_two").status == 200
    assert deployment.deliver(subscription_event(), secret="whsec_two").status == 200
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 200
    assert len(reads) == 2


def test_unsigned_deliveries_reread_the_secrets_once_per_interval(
    deployment: FunctionHarness, clock: Clock, reads: list[str]
) -> None:
    for second in range(3 * SECRETS_REREAD_SECONDS_MIN):
        clock.now = 1000.0 + second
        for _ in range(3):
            assert deployment.deliver(subscription_event(), secret="whsec_unknown").status == 400
    assert len(reads) == 3


def test_removed_webhook_secret_is_rejected_after_five_minutes(
    deployment: FunctionHarness, clock: Clock, store_secrets: Callable[..., None]
) -> None:
    store_secrets("whsec_two", "whsec_one")
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 200
    store_secrets("whsec_two")
    clock.now += secrets_module.SECRETS_AGE_SECONDS_MAX
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 400
    assert deployment.deliver(subscription_event(), secret="whsec_two").status == 200
