"""Properties of the FIFO queue of deliveries that `tests/services/webhook_support.py` imitates, on a real SQS API."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from billing.adapters.sqs import BATCH_MAX, Message, OutgoingMessage, Queue, messages_of
from billing.domain.errors import QueueUnavailable
from tests.conftest import template
from tests.wire import Answer, Wire

PROPERTIES = template()["Resources"]["DeliveryQueue"]["Properties"]


@pytest.fixture
def queue(emulator_url: str) -> Iterator[Queue]:
    """A new queue with the attributes of the template."""
    sqs = boto3.client("sqs", endpoint_url=emulator_url)
    names = ("DeduplicationScope", "FifoThroughputLimit", "VisibilityTimeout")
    attributes: Any = {"FifoQueue": "true"} | {name: str(PROPERTIES[name]) for name in names}
    url = sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex}.fifo", Attributes=attributes)["QueueUrl"]
    yield Queue(sqs, url)
    sqs.delete_queue(QueueUrl=url)


def message(number: int, group: str, key: str | None = None) -> OutgoingMessage:
    """Return a message of a group."""
    return OutgoingMessage({"number": number}, group_id=group, deduplication_id=key or str(number))


def receive(queue: Queue) -> list[Message]:
    """Receive messages as Lambda does."""
    names: Any = ["ApproximateReceiveCount"]
    found = queue.sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10, MessageSystemAttributeNames=names)
    records = [
        {
            "messageId": each["MessageId"],
            "body": each["Body"],
            "receiptHandle": each["ReceiptHandle"],
            "attributes": each["Attributes"],
        }
        for each in found.get("Messages", [])
    ]
    return messages_of({"Records": records})


@pytest.mark.engine
def test_more_messages_than_a_batch_are_sent_in_order(queue: Queue) -> None:
    queue.send_all([message(number, f"group-{number}") for number in range(2 * BATCH_MAX + 1)])
    received = [each.body["number"] for _ in range(3) for each in receive(queue)]
    assert sorted(received) == [*range(2 * BATCH_MAX + 1)]


@pytest.mark.engine
def test_group_is_held_back_until_its_messages_are_deleted(queue: Queue) -> None:
    queue.send_all([message(1, "a")])
    [first] = receive(queue)
    queue.send_all([message(2, "a"), message(3, "b")])
    [other] = receive(queue)
    assert other.body == {"number": 3}
    queue.delete(first)
    [second] = receive(queue)
    assert second.body == {"number": 2}


@pytest.mark.engine
def test_message_with_a_used_deduplication_id_is_dropped(queue: Queue) -> None:
    queue.send_all([message(1, "a", "same"), message(2, "a", "same")])
    queue.send_all([message(3, "a", "same")])
    assert [each.body["number"] for each in receive(queue)] == [1]


@pytest.mark.engine
def test_message_with_a_delay_is_invisible_at_first(emulator_url: str) -> None:
    sqs = boto3.client("sqs", endpoint_url=emulator_url)
    delayed = Queue(sqs, sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex}")["QueueUrl"])
    delayed.send_all([OutgoingMessage({"late": True}, delay_seconds=900), OutgoingMessage({"late": False})])
    assert [each.body for each in receive(delayed)] == [{"late": False}]
    sqs.delete_queue(QueueUrl=delayed.url)


def test_batch_that_fails_in_part_is_an_error(wire: Wire) -> None:
    """Whoever repeats the batch sends some messages twice, which the queue drops."""
    failed = [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]
    wire.answer(Answer(200, json.dumps({"Successful": [], "Failed": failed}).encode()))
    client = boto3.client("sqs", endpoint_url=wire.url)
    with pytest.raises(QueueUnavailable):
        Queue(client, f"{wire.url}/queue").send_all([message(1, "a")])
