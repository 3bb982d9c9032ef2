"""Stripe events from EventBridge's SQS queue, on the deployed stack."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from local import stack
from local.environment import LocalEnvironment
from tests.e2e.support import AccountClient, StripeClient, eventually

pytestmark = pytest.mark.stack

SOURCE = "aws.partner/stripe.com/ed_local"


def test_eventbridge_message_without_webhook_updates_plan(
    environment: LocalEnvironment, account: AccountClient, stripe_client: StripeClient
) -> None:
    with _webhooks_paused(stripe_client):
        subscription_id = stripe_client.pay(account.checkout_url())
        assert account.status()["plan"] == "free"
        events = stripe_client.get("/v1/events", limit="50")["data"]
        event = next(each for each in events if _is_active(each["data"]["object"], subscription_id))
        envelope = {"source": SOURCE, "detail-type": event["type"], "detail": event}
        sqs = boto3.client("sqs", **stack.client_options(environment.env))
        sqs.send_message(QueueUrl=_physical_id(environment, "StripeEventQueue"), MessageBody=json.dumps(envelope))
        status_from_queue = eventually(account.status, lambda status: status["plan"] == "pro")
    assert stripe_client.control("delivery/drain", deadline_seconds=60)["idle"]
    assert account.status() == status_from_queue


@contextmanager
def _webhooks_paused(stripe_client: StripeClient) -> Iterator[None]:
    """Pause Stripe's deliveries. On exit, deliver all events."""
    stripe_client.control("delivery", paused=True)
    try:
        yield
    finally:
        stripe_client.control("delivery")
        stripe_client.control("delivery/flush")


def _is_active(source: dict[str, Any], subscription_id: str) -> bool:
    return (source["id"], source.get("status")) == (subscription_id, "active")


def _physical_id(environment: LocalEnvironment, logical_id: str) -> str:
    cloudformation = boto3.client("cloudformation", **stack.client_options(environment.env))
    answer = cloudformation.describe_stack_resource(StackName=stack.STACK, LogicalResourceId=logical_id)
    return str(answer["StackResourceDetail"]["PhysicalResourceId"])
