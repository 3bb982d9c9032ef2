"""Dead-letter queues: receive their messages, and delete what was processed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any

from billing.domain.errors import QueueUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

WAIT_SECONDS = 2
"""Long polling makes SQS query all its servers. Without it, a receive can miss messages."""
RECEIVES_WITHOUT_NEW_MAX = 3
"""Consecutive receives without a new message after which the queue is treated as empty."""
BATCH_MAX = 10
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html"""


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """One dead-letter queue."""

    sqs: "SQSClient"
    url: str

    def receive_all(self) -> "Iterator[Sequence[MessageTypeDef]]":
        """Yield the messages in batches, each message once. A message that is not deleted stays in the queue."""
        seen = set[str]()
        without_new = 0
        while without_new < RECEIVES_WITHOUT_NEW_MAX:
            response = self.sqs.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=BATCH_MAX, WaitTimeSeconds=WAIT_SECONDS
            )
            new = [message for message in response.get("Messages", ()) if message["MessageId"] not in seen]
            seen.update(message["MessageId"] for message in new)
            without_new = 0 if new else without_new + 1
            if new:
                yield new

    def delete(self, messages: "Sequence[MessageTypeDef]") -> None:
        """Delete messages. Raises QueueUnavailable."""
        for entries in _entries(messages):
            if self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries).get("Failed"):
                raise QueueUnavailable

    def release(self, messages: "Sequence[MessageTypeDef]") -> None:
        """Make messages visible again, so that the next run and the alarm find them at once."""
        for entries in _entries(messages):
            visible: Any = [{**entry, "VisibilityTimeout": 0} for entry in entries]
            # A message that cannot be released becomes visible again by itself.
            self.sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=visible)


def _entries(messages: "Sequence[MessageTypeDef]") -> Iterator[Any]:
    """Yield the entries of each batch request."""
    for batch in batched(messages, BATCH_MAX, strict=False):
        yield [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(batch)]
