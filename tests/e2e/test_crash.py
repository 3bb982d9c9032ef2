"""Convergence after all functions are killed during deliveries."""

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
from tests.e2e.support import AccountClient, StripeClient, descendants, eventually

pytestmark = pytest.mark.stack

ACCOUNTS = 4
CHANGES_OF_EACH = 50
DELIVERED_BEFORE_THE_CRASH = 20


def _kill_functions_and_http_server(environment: LocalEnvironment) -> None:
    """Kill all execution environments and the HTTP server with its open connections.

    The emulator keeps running, so the table survives as on AWS.
    """
    http_server = environment.services["http_server"].process.pid
    for pid in {http_server, *descendants(http_server)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _markers(environment: LocalEnvironment, event_ids: set[str]) -> dict[str, dict[str, Any]]:
    """Return the stored markers of these events by id."""
    dynamodb = boto3.client("dynamodb", **stack.client_options(environment.env))
    table = stack.outputs(environment.env, stack.STACK)["TableName"]
    found = {}
    for batch in batched(event_ids, 100, strict=False):
        keys: list[dict[str, Any]] = [{"pk": {"S": f"EVENT#{each}"}, "sk": {"S": "RECEIVED"}} for each in batch]
        for item in dynamodb.batch_get_item(RequestItems={table: {"Keys": keys}})["Responses"][table]:
            found[item["pk"]["S"].removeprefix("EVENT#")] = item
    return found


def test_webhook_functions_killed_during_deliveries_converge_to_stripe_state(
    environment: LocalEnvironment, new_account: Callable[[], AccountClient], stripe_client: StripeClient
) -> None:
    accounts = [new_account() for _ in range(ACCOUNTS)]
    subscriptions = {account.account_id: stripe_client.pay(account.checkout_url()) for account in accounts}
    assert stripe_client.control("delivery/drain")["idle"]
    earlier_events = {attempt["event"] for attempt in stripe_client.attempts()}

    stripe_client.control("delivery", paused=True)
    for number in range(CHANGES_OF_EACH):
        for subscription_id in subscriptions.values():
            cancelling = "true" if number % 2 == 0 or number == CHANGES_OF_EACH - 1 else "false"
            changes = {"cancel_at_period_end": cancelling, "metadata[change]": str(number)}
            stripe_client.post(f"/v1/subscriptions/{subscription_id}", **changes)
    stripe_client.control("delivery")
    assert stripe_client.control("delivery/flush")["flushed"] >= ACCOUNTS * CHANGES_OF_EACH

    def new_attempts() -> list[dict[str, Any]]:
        return [attempt for attempt in stripe_client.attempts() if attempt["event"] not in earlier_events]

    eventually(lambda: len(new_attempts()), lambda count: count >= DELIVERED_BEFORE_THE_CRASH)
    _kill_functions_and_http_server(environment)
    eventually(lambda: [each for each in new_attempts() if each["status"] is None], bool)
    environment.restart("http_server")
    assert stripe_client.control("delivery/drain", deadline_seconds=60)["idle"]

    attempts = new_attempts()
    acknowledged = {attempt["event"] for attempt in attempts if attempt["status"] == 200}
    for event in {attempt["event"] for attempt in attempts} - acknowledged:
        stripe_client.control(f"events/{event}/resend")
    assert stripe_client.control("delivery/drain", deadline_seconds=60)["idle"]

    events = {attempt["event"] for attempt in attempts}
    assert len(events) >= ACCOUNTS * CHANGES_OF_EACH
    assert set(_markers(environment, events)) == events
    for account in accounts:
        expected = stripe_client.get(f"/v1/subscriptions/{subscriptions[account.account_id]}")
        status = account.status()
        assert status["status"] == expected["status"]
        assert status["cancel_at_period_end"] == expected["cancel_at_period_end"] is True
