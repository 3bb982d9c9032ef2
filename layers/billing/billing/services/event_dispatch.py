"""Dispatch of outbound events: an outbox item becomes one delivery request for each endpoint that receives it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from billing.adapters.dynamodb import Item
from billing.adapters.outbox import decode_event
from billing.adapters.sqs import Queue
from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.errors import EventUnprocessable
from billing.domain.outbound_events import OutboundEvent
from billing.domain.webhook_deliveries import BUS_ID
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest
from billing.telemetry import logger


@dataclass(frozen=True, slots=True)
class EventDispatcher:
    """Dispatcher of outbound events.

    Attributes:
        dead_letters: Queue of outbox items that cannot be read.
        has_event_bus: True if the deployment also sends events to an EventBridge bus.

    Every method raises StoreUnavailable or QueueUnavailable if DynamoDB or SQS fails. Some deliveries may then have
    been requested. The call may be repeated.
    """

    repository: WebhookRepository
    queues: DeliveryQueues
    dead_letters: Queue
    has_event_bus: bool

    def dispatch_items(self, items: Iterable[Item]) -> None:
        """Request the deliveries of outbox items. An item that cannot be read goes to the dead-letter queue."""
        events: list[OutboundEvent] = []
        for item in items:
            try:
                events.append(decode_event(item))
            except EventUnprocessable as error:
                logger().error("Outbox item not readable", extra={"pk": item["pk"], "sk": item["sk"]})
                self.dead_letters.send({"pk": item["pk"], "sk": item["sk"], "reason": str(error)})
        self.dispatch(events)

    def dispatch(self, events: Iterable[OutboundEvent]) -> int:
        """Request the deliveries of events, and return their number.

        The endpoints of an event are one read. They are not cached, so an endpoint receives every event that is
        committed after its creation.
        """
        requests = [request for event in events for request in self._requests(event)]
        self.queues.request_now(requests)
        return len(requests)

    def _requests(self, event: OutboundEvent) -> Sequence[DeliveryRequest]:
        receivers = self.repository.find_receivers(event)
        requests = [DeliveryRequest.of_event(owner_id, endpoint.id, event) for owner_id, endpoint in receivers]
        if self.has_event_bus:
            requests.append(DeliveryRequest.of_event(None, BUS_ID, event))
        return requests
