"""SQS queue of the reconciliation job, and the message that Lambda receives from it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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

    def change_visibility(self, message: Message, seconds: int) -> None:
        """Set the time after which a received message that is not deleted is delivered again; at most 12 hours."""
        with _map_errors():
            self.sqs.change_message_visibility(
                QueueUrl=self.url,
                ReceiptHandle=message.receipt_handle,
                VisibilityTimeout=min(seconds, VISIBILITY_TIMEOUT_SECONDS_MAX),
            )


def message_of(event: Mapping[str, Any]) -> Message:
    """Return the only message of an event from Lambda's SQS event source with a batch size of 1."""
    [record] = event["Records"]
    receive_count = int(record["attributes"]["ApproximateReceiveCount"])
    return Message(record["messageId"], json.loads(record["body"]), record["receiptHandle"], receive_count)


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
