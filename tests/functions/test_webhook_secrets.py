"""Webhook signing secrets that change while functions run: the new one counts at once, and nonsense costs little."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from billing.adapters import secrets as secrets_module
from billing.adapters.secrets import SECRETS_REREAD_SECONDS_MIN
from billing.bootstrap import app
from tests.functions.conftest import Deployment
from tests.functions.events import subscription_event

pytestmark = pytest.mark.engine


class Clock:
    """The process's monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still, unless a test moves it."""
    clock = Clock()
    monkeypatch.setattr("billing.adapters.secrets.time.monotonic", clock)
    return clock


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The secrets that were asked of Secrets Manager."""
    asked: list[str] = []
    read = secrets_module.read_secret

    def counted(client: Any, secret_id: str) -> Any:
        asked.append(secret_id)
        return read(client, secret_id)

    monkeypatch.setattr(secrets_module, "read_secret", counted)
    return asked


@pytest.fixture
def store_secrets(
    deployment: Deployment,  # noqa: ARG001 - its environment comes first
    emulator_url: str,
) -> Callable[..., None]:
    """Stores other webhook secrets, as `billing setup` does."""

    def store(*secrets: str) -> None:
        value = json.dumps({"api_key": "sk_test_functions", "webhook_secrets": secrets})
        secret_id = app.settings.stripe_secret_id
        client = boto3.client("secretsmanager", endpoint_url=emulator_url)
        client.put_secret_value(SecretId=secret_id, SecretString=value)

    return store


def test_a_new_secret_counts_at_once(
    deployment: Deployment, clock: Clock, store_secrets: Callable[..., None], reads: list[str]
) -> None:
    """A function that knows only the older one reads them again, once, when a signature does not fit."""
    store_secrets("whsec_one")
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 200
    store_secrets("whsec_two", "whsec_one")
    clock.now += SECRETS_REREAD_SECONDS_MIN
    assert deployment.deliver(subscription_event(), secret="whsec_two").status == 200
    assert deployment.deliver(subscription_event(), secret="whsec_two").status == 200
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 200
    assert len(reads) == 2


def test_nonsense_does_not_read_secrets_again_and_again(deployment: Deployment, clock: Clock, reads: list[str]) -> None:
    """However many deliveries nobody signed: one read in so many seconds."""
    for second in range(3 * SECRETS_REREAD_SECONDS_MIN):
        clock.now = 1000.0 + second
        for _ in range(3):
            assert deployment.deliver(subscription_event(), secret="whsec_nobodys").status == 400
    assert len(reads) == 3


def test_a_dropped_secret_counts_no_more(
    deployment: Deployment, clock: Clock, store_secrets: Callable[..., None]
) -> None:
    """Five minutes after it was dropped no function takes what it signed."""
    store_secrets("whsec_two", "whsec_one")
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 200
    store_secrets("whsec_two")
    clock.now += secrets_module.SECRETS_AGE_SECONDS_MAX
    assert deployment.deliver(subscription_event(), secret="whsec_one").status == 400
    assert deployment.deliver(subscription_event(), secret="whsec_two").status == 200
