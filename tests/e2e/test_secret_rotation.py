"""The webhook's signing secret is rotated while events come in, and not one delivery is refused."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import local.invoke
from local.world import World
from tests.e2e.support import AccountClient, StripeSide, billing, eventually

pytestmark = pytest.mark.stack

CHANGES_BEFORE = 20
PAUSE_SECONDS = 0.1


@contextmanager
def changing(stripe_side: StripeSide, subscription_id: str) -> Iterator[list[str]]:
    """Have the subscription change ten times a second; yields what was changed so far."""
    made: list[str] = []
    ended = threading.Event()

    def change() -> None:
        while not ended.wait(PAUSE_SECONDS):
            number = secrets.token_hex(4)
            stripe_side.post(f"/v1/subscriptions/{subscription_id}", **{"metadata[change]": number})
            made.append(number)

    worker = threading.Thread(target=change)
    worker.start()
    try:
        yield made
    finally:
        ended.set()
        worker.join()


def endpoints(stripe_side: StripeSide) -> list[dict[str, Any]]:
    """Stripe's webhook endpoints."""
    return list(stripe_side.get("/v1/webhook_endpoints")["data"])


def test_a_rotation_under_load_refuses_nothing(world: World, account: AccountClient, stripe_side: StripeSide) -> None:
    """Every attempt of every delivery is answered 200, by functions that knew only the old secret before."""
    subscription_id = stripe_side.pay(account.checkout_url())
    assert stripe_side.control("delivery/drain")["idle"]
    [old] = endpoints(stripe_side)
    before = len(stripe_side.attempts())
    with changing(stripe_side, subscription_id) as made:
        eventually(lambda: len(made), lambda count: count >= CHANGES_BEFORE)
        rotated = billing(world, "setup", "--rotate-webhook-secret")
        count = len(made)
        eventually(lambda: len(made), lambda now: now >= count + CHANGES_BEFORE)
    assert stripe_side.control("delivery/drain", deadline_seconds=60)["idle"]

    [new] = endpoints(stripe_side)
    assert new["id"] != old["id"]
    assert "drop the older" in rotated["warnings"][0]
    attempts = stripe_side.attempts()[before:]
    assert [attempt for attempt in attempts if attempt["status"] != 200] == []
    assert {attempt["endpoint"] for attempt in attempts} == {old["id"], new["id"]}
    assert len({attempt["event"] for attempt in attempts}) >= len(made)
    truth = stripe_side.get(f"/v1/subscriptions/{subscription_id}")
    assert truth["metadata"]["change"] == made[-1]
    assert account.status()["status"] == truth["status"]


def test_make_invoke_signs_with_what_counts(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once the secret of run.json was rotated and dropped, a sample event is still accepted."""
    # No delivery is under way, so the rotation need not wait for functions that still use the older secret.
    monkeypatch.setattr("cli.webhook_setup.PROPAGATION_SECONDS", 0)
    billing(world, "setup", "--rotate-webhook-secret")
    billing(world, "setup")
    monkeypatch.setattr(local.invoke, "STATE_DIR", world.state_dir)
    monkeypatch.setattr("sys.argv", ["make invoke", "stripe_webhook", "events/stripe_webhook.json"])
    succeeded = local.invoke.main() == 0
    # The tests that follow sign with what the world began with.
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", world.webhook_secret)
    billing(world, "setup", "--no-webhook-endpoint")
    assert succeeded
    assert json.loads(capfd.readouterr().out)["statusCode"] == 200
