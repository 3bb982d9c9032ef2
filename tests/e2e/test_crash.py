"""A deployment that dies in the middle of its work must end in Stripe's state all the same."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import batched
from typing import Any

import boto3
import pytest

from local import stack
from local.environment import LocalEnvironment
from tests.e2e.support import AccountClient, StripeSide, descendants, eventually

pytestmark = pytest.mark.stack

ACCOUNTS = 4
CHANGES_OF_EACH = 50
DELIVERED_BEFORE_THE_CRASH = 20


def _kill_functions_and_front(world: LocalEnvironment) -> None:
    """End every execution environment in the middle of what it does, and the front with its open connections.

    The table survives, as it would on AWS: the emulator itself goes on.
    """
    front = world.services["http_server"].process.pid
    for pid in {front, *descendants(front)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _markers(world: LocalEnvironment, event_ids: set[str]) -> dict[str, dict[str, Any]]:
    """What the table keeps of these events."""
    dynamodb = boto3.client("dynamodb", **stack.client_options(world.env))
    table = stack.outputs(world.env, stack.STACK)["TableName"]
    found = {}
    for batch in batched(event_ids, 100, strict=False):
        keys: list[dict[str, Any]] = [{"pk": {"S": f"EVENT#{each}"}, "sk": {"S": "RECEIVED"}} for each in batch]
        for item in dynamodb.batch_get_item(RequestItems={table: {"Keys": keys}})["Responses"][table]:
            found[item["pk"]["S"].removeprefix("EVENT#")] = item
    return found


def test_killed_during_deliveries(
    world: LocalEnvironment, new_account: Callable[[], AccountClient], stripe_side: StripeSide
) -> None:
    """Killed during 200 concurrent deliveries and given again what it did not acknowledge, it has Stripe's state."""
    accounts = [new_account() for _ in range(ACCOUNTS)]
    subscriptions = {account.account_id: stripe_side.pay(account.checkout_url()) for account in accounts}
    assert stripe_side.control("delivery/drain")["idle"]
    settled = {attempt["event"] for attempt in stripe_side.attempts()}

    stripe_side.control("delivery", paused=True)
    for number in range(CHANGES_OF_EACH):
        for subscription_id in subscriptions.values():
            cancelling = "true" if number % 2 == 0 or number == CHANGES_OF_EACH - 1 else "false"
            changes = {"cancel_at_period_end": cancelling, "metadata[change]": str(number)}
            stripe_side.post(f"/v1/subscriptions/{subscription_id}", **changes)
    stripe_side.control("delivery")
    assert stripe_side.control("delivery/flush")["flushed"] >= ACCOUNTS * CHANGES_OF_EACH

    def new_attempts() -> list[dict[str, Any]]:
        return [attempt for attempt in stripe_side.attempts() if attempt["event"] not in settled]

    eventually(lambda: len(new_attempts()), lambda count: count >= DELIVERED_BEFORE_THE_CRASH)
    _kill_functions_and_front(world)
    eventually(lambda: [each for each in new_attempts() if each["status"] is None], bool)
    world.restart("http_server")
    assert stripe_side.control("delivery/drain", deadline_seconds=60)["idle"]

    attempts = new_attempts()
    acknowledged = {attempt["event"] for attempt in attempts if attempt["status"] == 200}
    for event in {attempt["event"] for attempt in attempts} - acknowledged:
        stripe_side.control(f"events/{event}/resend")
    assert stripe_side.control("delivery/drain", deadline_seconds=60)["idle"]

    events = {attempt["event"] for attempt in attempts}
    assert len(events) >= ACCOUNTS * CHANGES_OF_EACH
    assert set(_markers(world, events)) == events
    for account in accounts:
        truth = stripe_side.get(f"/v1/subscriptions/{subscriptions[account.account_id]}")
        status = account.status()
        assert status["status"] == truth["status"]
        assert status["cancel_at_period_end"] == truth["cancel_at_period_end"] is True
