"""Messages as SQS has them, on the emulator's."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from billing.adapters.sqs import HIDDEN_SECONDS_MAX, Message, Queue, message_of

pytestmark = pytest.mark.engine


@pytest.fixture
def queue(emulator_url: str) -> Iterator[Queue]:
    """A queue of this test's own."""
    sqs = boto3.client("sqs", endpoint_url=emulator_url)
    url = sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex}")["QueueUrl"]
    yield Queue(sqs, url)
    sqs.delete_queue(QueueUrl=url)


def receive(queue: Queue) -> dict[str, Any] | None:
    """A message, as Lambda hands it to a function."""
    names: Any = ["ApproximateReceiveCount"]
    found = queue.sqs.receive_message(QueueUrl=queue.url, MessageSystemAttributeNames=names).get("Messages", [])
    if not found:
        return None
    record = {
        "messageId": found[0]["MessageId"],
        "body": found[0]["Body"],
        "receiptHandle": found[0]["ReceiptHandle"],
        "attributes": found[0]["Attributes"],
    }
    return {"Records": [record]}


def test_what_is_sent_is_received(queue: Queue) -> None:
    """With how often it was, and the handle that it can be hidden by."""
    queue.send({"run": "r1"})
    event = receive(queue)
    assert event
    message = message_of(event)
    assert message == Message(
        event["Records"][0]["messageId"], {"run": "r1"}, event["Records"][0]["receiptHandle"], receives=1
    )


def test_a_message_is_hidden_for_so_long(queue: Queue) -> None:
    """Zero seconds bring it back at once, with its count; any others do not."""
    queue.send({})
    event = receive(queue)
    assert event
    queue.hide(message_of(event), 0)
    event = receive(queue)
    assert event
    message = message_of(event)
    assert message.receives == 2
    queue.hide(message, HIDDEN_SECONDS_MAX + 1)
    assert receive(queue) is None
    assert json.loads(json.dumps(message.body)) == {}


def test_no_message_is_hidden_for_longer_than_sqs_allows(queue: Queue) -> None:
    """More than twelve hours it would refuse, and the message come back too soon."""
    asked: list[int] = []
    queue.sqs.meta.events.register(
        "provide-client-params.sqs.ChangeMessageVisibility",
        lambda params, **_: asked.append(params["VisibilityTimeout"]),
    )
    queue.send({})
    for seconds in (12 * 60 * 60, 12 * 60 * 60 + 1):
        event = receive(queue)
        assert event
        queue.hide(message_of(event), seconds)
        queue.send({})
    assert asked == [43_200, 43_200]
