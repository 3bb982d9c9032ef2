"""Stripe's events by way of the queue that EventBridge fills, on the deployed stack."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from local import stack
from local.environment import LocalEnvironment
from tests.e2e.support import AccountClient, StripeSide, eventually

pytestmark = pytest.mark.stack

SOURCE = "aws.partner/stripe.com/ed_local"


def test_an_event_comes_by_the_queue(world: LocalEnvironment, account: AccountClient, stripe_side: StripeSide) -> None:
    """While no webhook is delivered, the queue alone brings the plan; the webhook then brings nothing else."""
    with _held_webhooks(stripe_side):
        subscription_id = stripe_side.pay(account.checkout_url())
        assert account.status()["plan"] == "free"
        events = stripe_side.get("/v1/events", limit="50")["data"]
        event = next(each for each in events if _is_active(each["data"]["object"], subscription_id))
        envelope = {"source": SOURCE, "detail-type": event["type"], "detail": event}
        sqs = boto3.client("sqs", **stack.client_options(world.env))
        sqs.send_message(QueueUrl=_physical_id(world, "StripeEventQueue"), MessageBody=json.dumps(envelope))
        by_queue = eventually(account.status, lambda status: status["plan"] == "pro")
    assert stripe_side.control("delivery/drain", deadline_seconds=60)["idle"]
    assert account.status() == by_queue


@contextmanager
def _held_webhooks(stripe_side: StripeSide) -> Iterator[None]:
    """Stripe delivers nothing meanwhile, and everything afterwards."""
    stripe_side.control("delivery", paused=True)
    try:
        yield
    finally:
        stripe_side.control("delivery")
        stripe_side.control("delivery/flush")


def _is_active(source: dict[str, Any], subscription_id: str) -> bool:
    return (source["id"], source.get("status")) == (subscription_id, "active")


def _physical_id(world: LocalEnvironment, logical_id: str) -> str:
    cloudformation = boto3.client("cloudformation", **stack.client_options(world.env))
    answer = cloudformation.describe_stack_resource(StackName=stack.STACK, LogicalResourceId=logical_id)
    return str(answer["StackResourceDetail"]["PhysicalResourceId"])
