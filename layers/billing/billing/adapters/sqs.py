"""SQS queues, and the messages that Lambda receives from them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from billing.domain.errors import ConfigurationMissing, QueueUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

VISIBILITY_TIMEOUT_SECONDS_MAX = 12 * 60 * 60
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html"""

THROTTLING_ERRORS = frozenset(
    {"KmsThrottled", "RequestThrottled", "RequestThrottledException", "Throttling", "ThrottlingException"}
)
HTTP_SERVER_ERROR = 500
BATCH_MAX = 10
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html"""
DELAY_SECONDS_MAX = 900
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html"""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """Message to send.

    Attributes:
        group_id: Message group of a FIFO queue.
        deduplication_id: A FIFO queue drops a message with an id that it received in the last five minutes.
        delay_seconds: Time before a standard queue delivers the message; at most DELAY_SECONDS_MAX.
    """

    body: Mapping[str, Any]
    group_id: str | None = None
    deduplication_id: str | None = None
    delay_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """Message that Lambda received.

    Attributes:
        receive_count: Number of times that it was received, this time included.
    """

    id: str
    body: Mapping[str, Any]
    receipt_handle: str
    receive_count: int


@dataclass(frozen=True, slots=True)
class Queue:
    """One SQS queue.

    Every method raises QueueUnavailable if SQS throttles or does not answer, and ConfigurationMissing if it rejects the
    request.
    """

    sqs: "SQSClient"
    url: str

    def send(self, body: Mapping[str, Any]) -> None:
        """Send a message."""
        with _map_errors():
            self.sqs.send_message(QueueUrl=self.url, MessageBody=json.dumps(body))

    def send_all(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send messages in batches. After an error, some of them may have been sent."""
        for batch in batched(messages, BATCH_MAX, strict=False):
            entries: Any = [_entry(number, message) for number, message in enumerate(batch)]
            with _map_errors():
                answer = self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
            if answer.get("Failed"):
                raise QueueUnavailable

    def delete(self, message: Message) -> None:
        """Delete a received message."""
        with _map_errors():
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt_handle)

    def change_visibility(self, message: Message, seconds: int) -> None:
        """Set the time after which a received message that is not deleted is delivered again; at most 12 hours."""
        with _map_errors():
            self.sqs.change_message_visibility(
                QueueUrl=self.url,
                ReceiptHandle=message.receipt_handle,
                VisibilityTimeout=min(seconds, VISIBILITY_TIMEOUT_SECONDS_MAX),
            )


def _entry(number: int, message: OutgoingMessage) -> Mapping[str, Any]:
    entry = {
        "Id": str(number),
        "MessageBody": json.dumps(message.body),
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
        "DelaySeconds": message.delay_seconds or None,
    }
    return {name: value for name, value in entry.items() if value is not None}


def message_of(event: Mapping[str, Any]) -> Message:
    """Return the only message of an event from Lambda's SQS event source with a batch size of 1."""
    [message] = messages_of(event)
    return message


def messages_of(event: Mapping[str, Any]) -> list[Message]:
    """Return the messages of an event from Lambda's SQS event source."""
    return [
        Message(
            record["messageId"],
            json.loads(record["body"]),
            record["receiptHandle"],
            int(record["attributes"]["ApproximateReceiveCount"]),
        )
        for record in event["Records"]
    ]


@contextmanager
def _map_errors() -> Iterator[None]:
    try:
        yield
    except BotoCoreError as error:
        raise QueueUnavailable from error
    except ClientError as error:
        response: Any = error.response
        code = response["Error"]["Code"]
        if code in THROTTLING_ERRORS or response["ResponseMetadata"]["HTTPStatusCode"] >= HTTP_SERVER_ERROR:
            raise QueueUnavailable from error
        raise ConfigurationMissing(f"SQS rejected {error.operation_name}: {code}") from error
