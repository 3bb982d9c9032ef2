"""Messages of the delivery queues.

A message names a delivery and asks for an attempt. The table has the delivery's state, so a lost, repeated or late
message does no harm.

| queue | messages |
|---|---|
| delivery queue (FIFO) | attempts that may start now. One group for each endpoint: a slow endpoint delays no other |
| retry queue (standard) | attempts that are due within 15 minutes |
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.adapters.sqs import DELAY_SECONDS_MAX, OutgoingMessage, Queue
from billing.domain.errors import EventUnprocessable
from billing.domain.outbound_events import OutboundEvent
from billing.domain.webhook_deliveries import BUS_ID, Delivery

DELAY_MAX = timedelta(seconds=DELAY_SECONDS_MAX)
ENDPOINT_ID = re.compile(rf"whe_[A-Za-z0-9]+|{BUS_ID}", re.ASCII)
EVENT_ID = re.compile(r"msg_[0-9a-f]+", re.ASCII)
BUS_GROUPS = 8
"""Message groups of the EventBridge bus, which takes more events at a time than an endpoint."""


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """Request to attempt a delivery.

    Attributes:
        owner_id: Account of the endpoint; None for the deployment.
        account_id: Account of the event; None for the deployment.
        version: Version of the delivery; 0 for the first attempt.
    """

    owner_id: str | None
    endpoint_id: str
    account_id: str | None
    event_id: str
    version: int = 0

    @classmethod
    def of_event(cls, owner_id: str | None, endpoint_id: str, event: OutboundEvent) -> "DeliveryRequest":
        """Return the request for the first attempt."""
        return cls(owner_id, endpoint_id, event.account_id, event.id)

    @classmethod
    def of_delivery(cls, delivery: Delivery) -> "DeliveryRequest":
        """Return the request for the next attempt."""
        return cls(delivery.owner_id, delivery.endpoint_id, delivery.account_id, delivery.event_id, delivery.version)

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> "DeliveryRequest":
        """Return the request in a message. Raises EventUnprocessable."""
        try:
            request = cls(body["owner"], body["endpoint"], body["account"], body["event"], body["version"])
            is_valid = ENDPOINT_ID.fullmatch(request.endpoint_id) and EVENT_ID.fullmatch(request.event_id)
        except (KeyError, TypeError) as error:
            raise EventUnprocessable("The message is not a delivery request") from error
        if not is_valid:
            raise EventUnprocessable("The message is not a delivery request")
        return request

    @property
    def body(self) -> Mapping[str, Any]:
        """Body of the message."""
        return {
            "owner": self.owner_id,
            "endpoint": self.endpoint_id,
            "account": self.account_id,
            "event": self.event_id,
            "version": self.version,
        }

    @property
    def message_group(self) -> str:
        """Message group. SQS gives the messages of a group to one worker at a time."""
        if self.endpoint_id.startswith("whe_"):
            return self.endpoint_id
        return f"{self.endpoint_id}-{int(self.event_id.removeprefix('msg_')[-7:], 16) % BUS_GROUPS}"


@dataclass(frozen=True, slots=True)
class DeliveryQueues:
    """The delivery queue and the retry queue. Every method raises QueueUnavailable if SQS fails."""

    delivery_queue: Queue
    retry_queue: Queue

    def request_now(self, requests: Iterable[DeliveryRequest]) -> None:
        """Request attempts that may start now.

        A request for the same version of a delivery that was sent in the last five minutes has no effect.
        """
        self.delivery_queue.send_all(
            [
                OutgoingMessage(
                    each.body,
                    group_id=each.message_group,
                    deduplication_id=f"{each.endpoint_id}.{each.event_id}.{each.version}",
                )
                for each in requests
            ]
        )

    def request_later(self, delivery: Delivery, now: datetime) -> None:
        """Request the next attempt of a delivery if it is due within 15 minutes.

        Later attempts are requested by the schedule, which finds them in the table.
        """
        if delivery.next_attempt_at is None or delivery.next_attempt_at - now > DELAY_MAX:
            return
        seconds = max(0, int((delivery.next_attempt_at - now).total_seconds()) + 1)
        message = OutgoingMessage(
            DeliveryRequest.of_delivery(delivery).body, delay_seconds=min(seconds, DELAY_SECONDS_MAX)
        )
        self.retry_queue.send_all([message])
