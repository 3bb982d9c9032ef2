"""Stripe's events by way of the queue that EventBridge fills, on the deployed stack."""

import json

import boto3
import pytest

from local import stack
from local.world import World
from tests.e2e.support import AccountClient, StripeSide, eventually

pytestmark = pytest.mark.stack

SOURCE = "aws.partner/stripe.com/ed_local"


def test_events_come_by_the_queue(world: World, account: AccountClient, stripe_side: StripeSide) -> None:
    """While no webhook is delivered, the queue's messages alone bring the plan; then each is a duplicate there."""
    stripe_side.control("delivery", paused=True)
    subscription_id = stripe_side.pay(account.checkout_url())
    assert account.status()["plan"] == "free"
    sqs = boto3.client("sqs", **stack.aws(world.env))
    queue_url = _physical_id(world, "StripeEventQueue")
    for event in reversed(stripe_side.get("/v1/events", limit="20")["data"]):
        if event["data"]["object"].get("metadata", {}).get("account_id") == account.account_id:
            envelope = {"source": SOURCE, "detail-type": event["type"], "detail": event}
            sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(envelope))
    assert eventually(account.status, lambda status: status["plan"] == "pro")["status"] == "active"
    stripe_side.control("delivery")
    stripe_side.control("delivery/flush")
    assert stripe_side.control("delivery/drain", deadline_seconds=60)["idle"]
    truth = stripe_side.get(f"/v1/subscriptions/{subscription_id}")
    assert account.status()["status"] == truth["status"] == "active"


def _physical_id(world: World, logical_id: str) -> str:
    cloudformation = boto3.client("cloudformation", **stack.aws(world.env))
    answer = cloudformation.describe_stack_resource(StackName=stack.STACK, LogicalResourceId=logical_id)
    return str(answer["StackResourceDetail"]["PhysicalResourceId"])
