"""Rotation of the webhook's signing secret while events arrive."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import local.invoke
from local.environment import LocalEnvironment
from tests.e2e.support import AccountClient, StripeClient, billing, eventually

pytestmark = pytest.mark.stack

CHANGES_BEFORE = 20
PAUSE_SECONDS = 0.1


@contextmanager
def changing_subscription(stripe_client: StripeClient, subscription_id: str) -> Iterator[list[str]]:
    """Change the subscription ten times a second. Yields the list of changes made so far."""
    changes: list[str] = []
    stopped = threading.Event()

    def change() -> None:
        while not stopped.wait(PAUSE_SECONDS):
            number = secrets.token_hex(4)
            stripe_client.post(f"/v1/subscriptions/{subscription_id}", **{"metadata[change]": number})
            changes.append(number)

    worker = threading.Thread(target=change)
    worker.start()
    try:
        yield changes
    finally:
        stopped.set()
        worker.join()


def endpoints(stripe_client: StripeClient) -> list[dict[str, Any]]:
    """Return Stripe's webhook endpoints."""
    return list(stripe_client.get("/v1/webhook_endpoints")["data"])


def test_webhook_secret_rotated_under_load_rejects_no_delivery(
    environment: LocalEnvironment, account: AccountClient, stripe_client: StripeClient
) -> None:
    subscription_id = stripe_client.pay(account.checkout_url())
    assert stripe_client.control("delivery/drain")["idle"]
    [old] = endpoints(stripe_client)
    before = len(stripe_client.attempts())
    with changing_subscription(stripe_client, subscription_id) as changes:
        eventually(lambda: len(changes), lambda count: count >= CHANGES_BEFORE)
        rotated = billing(environment, "setup", "--rotate-webhook-secret")
        count = len(changes)
        eventually(lambda: len(changes), lambda now: now >= count + CHANGES_BEFORE)
    assert stripe_client.control("delivery/drain", deadline_seconds=60)["idle"]

    [new] = endpoints(stripe_client)
    assert new["id"] != old["id"]
    assert "drop the older" in rotated["warnings"][0]
    attempts = stripe_client.attempts()[before:]
    assert [attempt for attempt in attempts if attempt["status"] != 200] == []
    assert {attempt["endpoint"] for attempt in attempts} == {old["id"], new["id"]}
    assert len({attempt["event"] for attempt in attempts}) >= len(changes)
    expected = stripe_client.get(f"/v1/subscriptions/{subscription_id}")
    assert expected["metadata"]["change"] == changes[-1]
    assert account.status()["status"] == expected["status"]


def test_invoke_after_secret_rotation_signs_with_current_secret(
    environment: LocalEnvironment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # No delivery is in progress, so the rotation need not wait for functions that still use the older secret.
    monkeypatch.setattr("cli.webhook_setup.PROPAGATION_SECONDS", 0)
    billing(environment, "setup", "--rotate-webhook-secret")
    billing(environment, "setup")
    monkeypatch.setattr(local.invoke, "STATE_DIR", environment.state_dir)
    monkeypatch.setattr("sys.argv", ["make invoke", "stripe_webhook", "events/stripe_webhook.json"])
    succeeded = local.invoke.main() == 0
    # Later tests use the initial secret of the environment.
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", environment.webhook_secret)
    billing(environment, "setup", "--no-webhook-endpoint")
    assert succeeded
    assert json.loads(capfd.readouterr().out)["statusCode"] == 200
