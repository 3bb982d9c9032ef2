"""`billing webhooks listen` on the local environment: events of a checkout, and sample events of the functions."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.environment import LocalEnvironment
from local.invoke import invoke
from local.sam_local import EVENT_SOURCE_RESPONSES
from local.sample_events import EVENTS, operation_of, read_sample
from tests.e2e.support import DEADLINE_SECONDS, AccountClient, StripeClient, billing, eventually

pytestmark = pytest.mark.stack

BILLING = Path(sys.executable).parent / "billing"
SAMPLES = [each for each in sorted(EVENTS.glob("*.json")) if operation_of(each) in EVENT_SOURCE_RESPONSES]


@contextmanager
def listening(environment: LocalEnvironment, output: Path) -> Iterator[str]:
    """Run `billing webhooks listen` with its output in a file. Yields the id of its endpoint."""
    with output.open("w") as stdout:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [BILLING, "webhooks", "listen", "--json"], env=dict(environment.env), stdout=stdout
        )
    try:
        endpoints = eventually(lambda: billing(environment, "webhooks", "list")["endpoints"], bool)
        yield endpoints[0]["id"]
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def printed_events(output: Path) -> list[dict[str, Any]]:
    """Return the events that `listen` has printed so far."""
    return [json.loads(line)["event"] for line in output.read_text().splitlines()]


def test_listen_prints_the_events_of_a_checkout(
    environment: LocalEnvironment, account: AccountClient, stripe_client: StripeClient, tmp_path: Path
) -> None:
    output = tmp_path / "events"
    with listening(environment, output) as endpoint_id:
        subscription_id = stripe_client.pay(account.checkout_url())
        eventually(account.status, lambda status: status["plan"] == "pro")
        printed = eventually(lambda: printed_events(output), lambda events: len(events) == 2)
        assert billing(environment, "webhooks", "test", endpoint_id)["status_code"] == 204
    own = {event["type"]: event for event in printed if event["account_id"] == account.account_id}
    assert own.keys() == {"subscription.created", "invoice.paid"}
    assert own["subscription.created"]["data"]["object"]["id"] == subscription_id
    assert billing(environment, "webhooks", "list")["endpoints"] == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_invoke_sample_of_an_event_source_returns_the_expected_response(
    environment: LocalEnvironment, sample: Path
) -> None:
    event = read_sample(sample, secret_key="", webhook_secret="", now=datetime.now(UTC))
    result = invoke(operation_of(sample), event, environment.env, environment.state_dir)
    assert result.succeeded, result.payload
    assert result.payload == EVENT_SOURCE_RESPONSES[operation_of(sample)]
