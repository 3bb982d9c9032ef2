"""Schedule of deliveries: request the attempts that are due, and forward those of the retry queue."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from billing.adapters.webhook_repository import DUE_SHARDS, WebhookRepository
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest

DUE_MAX = 400
"""Attempts of an index partition that one run requests, so that it ends in time. The next run continues."""


@dataclass(frozen=True, slots=True)
class DeliverySchedule:
    """Requests of attempts that are due."""

    repository: WebhookRepository
    queues: DeliveryQueues

    def forward(self, requests: Iterable[DeliveryRequest]) -> None:
        """Request the attempts of the retry queue now. Raises QueueUnavailable."""
        self.queues.request_now(requests)

    def request_due(self, now: datetime) -> int:
        """Request every attempt that is due, also those whose message was lost. Returns their number.

        An attempt that was requested in the last five minutes is not requested twice: the queue drops the message.

        Raises:
            StoreUnavailable: DynamoDB is unavailable.
            QueueUnavailable: SQS is unavailable.
        """
        requested = 0
        for shard in range(DUE_SHARDS):
            due = list(islice(self.repository.list_due(now, shard), DUE_MAX))
            self.queues.request_now(map(DeliveryRequest.of_delivery, due))
            requested += len(due)
        return requested
