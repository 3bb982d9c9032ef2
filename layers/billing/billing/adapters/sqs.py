"""A queue whose messages start work, and start it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

HIDDEN_SECONDS_MAX = 12 * 60 * 60
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html"""


@dataclass(frozen=True, slots=True)
class Message:
    """One that Lambda handed over. `receives` counts how often it was, this time included."""

    id: str
    body: Mapping[str, Any]
    receipt_handle: str
    receives: int


@dataclass(frozen=True, slots=True)
class Queue:
    """One SQS queue."""

    sqs: "SQSClient"
    url: str

    def send(self, body: Mapping[str, Any]) -> None:
        """Add a message."""
        self.sqs.send_message(QueueUrl=self.url, MessageBody=json.dumps(body))

    def hide(self, message: Message, seconds: int) -> None:
        """Let a message that is being worked on, and will not be done, come back after so many seconds."""
        self.sqs.change_message_visibility(
            QueueUrl=self.url,
            ReceiptHandle=message.receipt_handle,
            VisibilityTimeout=min(seconds, HIDDEN_SECONDS_MAX),
        )


def message_of(event: Mapping[str, Any]) -> Message:
    """The one message of an event of Lambda's SQS event source with a batch size of 1."""
    [record] = event["Records"]
    receives = int(record["attributes"]["ApproximateReceiveCount"])
    return Message(record["messageId"], json.loads(record["body"]), record["receiptHandle"], receives)
