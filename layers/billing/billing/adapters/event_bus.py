"""EventBridge bus that receives the outbound events."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from billing.domain.outbound_events import OutboundEvent
from billing.domain.webhook_deliveries import AttemptResult

if TYPE_CHECKING:
    from mypy_boto3_events.client import EventBridgeClient

SOURCE = "serverless-billing"
HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class EventBus:
    """An EventBridge bus.

    Attributes:
        client: Returns the client of EventBridge. A deployment without a bus never calls it.
        name: Name or ARN of the bus.
    """

    client: Callable[[], "EventBridgeClient"]
    name: str

    def send(self, event: OutboundEvent) -> AttemptResult:
        """Put an event on the bus. Failures are results, so that the delivery is retried.

        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
        """
        began = time.monotonic()
        entry = {
            "Source": SOURCE,
            "DetailType": event.type,
            "Detail": json.dumps(event.body),
            "EventBusName": self.name,
            "Time": event.occurred_at,
        }
        error = None
        try:
            answer = self.client().put_events(Entries=[entry])  # type: ignore[list-item]  # a TypedDict
            if answer["FailedEntryCount"]:
                error = answer["Entries"][0].get("ErrorCode", "failed")
        except ClientError as failure:
            error = failure.response["Error"]["Code"]
        except BotoCoreError as failure:
            error = type(failure).__name__
        latency_ms = int((time.monotonic() - began) * 1000)
        return AttemptResult(status_code=None if error else HTTP_OK, latency_ms=latency_ms, error=error)
