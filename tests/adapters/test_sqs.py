"""Messages on a real SQS API over HTTP, and SQS's errors on the wire."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config

from billing.adapters.aws import CLIENT_CONFIG, session
from billing.adapters.sqs import VISIBILITY_TIMEOUT_SECONDS_MAX, Message, OutgoingMessage, Queue, message_of
from billing.domain.errors import ConfigurationMissing, QueueUnavailable
from tests.wire import SILENCE_SECONDS, Answer, Wire

# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def queue(emulator_url: str) -> Iterator[Queue]:
    """A new queue on the emulator."""
    sqs = boto3.client("sqs", endpoint_url=emulator_url)
    url = sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex}")["QueueUrl"]
    yield Queue(sqs, url)
    sqs.delete_queue(QueueUrl=url)


def receive(queue: Queue) -> dict[str, Any] | None:
    """Receive a message as the event that Lambda passes to a function."""
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


@pytest.mark.engine
def test_sent_message_is_received_with_id_handle_and_receive_count(queue: Queue) -> None:
    queue.send({"run": "r1"})
    event = receive(queue)
    assert event
    [record] = event["Records"]
    assert message_of(event) == Message(record["messageId"], {"run": "r1"}, record["receiptHandle"], receive_count=1)


@pytest.mark.engine
def test_message_is_delivered_again_after_its_visibility_timeout(queue: Queue) -> None:
    queue.send({})
    event = receive(queue)
    assert event
    queue.change_visibility(message_of(event), 0)
    event = receive(queue)
    assert event
    message = message_of(event)
    assert (message.body, message.receive_count) == ({}, 2)
    queue.change_visibility(message, VISIBILITY_TIMEOUT_SECONDS_MAX + 1)
    assert receive(queue) is None


@pytest.mark.engine
def test_visibility_timeout_is_limited_to_twelve_hours(queue: Queue) -> None:
    """SQS rejects a longer timeout, and the message would be delivered again too soon."""
    requested: list[int] = []
    queue.sqs.meta.events.register(
        "provide-client-params.sqs.ChangeMessageVisibility",
        lambda params, **_: requested.append(params["VisibilityTimeout"]),
    )
    queue.send({})
    for seconds in (12 * 60 * 60, 12 * 60 * 60 + 1):
        event = receive(queue)
        assert event
        queue.change_visibility(message_of(event), seconds)
        queue.send({})
    assert requested == [43_200, 43_200]


# --- errors -----------------------------------------------------------------------------------------------------------

MESSAGE = Message("m1", {}, "handle", receive_count=1)
CALLS: Mapping[str, Callable[[Queue], None]] = {
    "send": lambda queue: queue.send({}),
    "change_visibility": lambda queue: queue.change_visibility(MESSAGE, 30),
    "send_all": lambda queue: queue.send_all([OutgoingMessage({})]),
    "delete": lambda queue: queue.delete(MESSAGE),
}

each_call = pytest.mark.parametrize("call", CALLS)


@cache
def connect(url: str, read_timeout: float = 4) -> Queue:
    """Return a queue whose client is configured as in the functions, but without retries."""
    once = CLIENT_CONFIG.merge(Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout))
    client: Any = session().create_client("sqs", endpoint_url=url, config=once)
    return Queue(client, f"{url}/000000000000/queue")


def error(status: int, code: str) -> Answer:
    """Return an error response in SQS's JSON protocol."""
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "No"}).encode()
    return Answer(status, body, {"content-type": "application/x-amz-json-1.0"})


TEMPORARY: Mapping[str, Answer] = {
    "throttled": error(400, "ThrottlingException"),
    "requests throttled": error(403, "RequestThrottled"),
    "KMS throttled": error(400, "KmsThrottled"),
    "internal error": error(500, "InternalError"),
    "bad gateway": Answer(502, b"", {}),
    "unavailable": Answer(503, b"<html>Service Unavailable</html>", {}),
    "connection closed": Answer(cut=True),
}


@pytest.mark.parametrize("failure", TEMPORARY)
@each_call
def test_temporary_sqs_error_raises_queue_unavailable(call: str, failure: str, wire: Wire) -> None:
    wire.answer(TEMPORARY[failure])
    with pytest.raises(QueueUnavailable) as raised:
        CALLS[call](connect(wire.url))
    assert raised.value.retry_after_seconds > 0


@each_call
def test_sqs_that_does_not_respond_raises_queue_unavailable(call: str, wire: Wire) -> None:
    wire.answer(Answer(silent=True))
    with pytest.raises(QueueUnavailable):
        CALLS[call](connect(wire.url, read_timeout=SILENCE_SECONDS / 60))


@each_call
def test_unreachable_sqs_raises_queue_unavailable(call: str) -> None:
    with pytest.raises(QueueUnavailable):
        CALLS[call](connect("http://127.0.0.1:9"))


@pytest.mark.parametrize("code", ["AccessDeniedException", "QueueDoesNotExist", "InvalidSecurity"])
@each_call
def test_rejected_sqs_request_raises_configuration_missing_with_its_code(call: str, code: str, wire: Wire) -> None:
    wire.answer(error(400, code))
    with pytest.raises(ConfigurationMissing, match=code):
        CALLS[call](connect(wire.url))
