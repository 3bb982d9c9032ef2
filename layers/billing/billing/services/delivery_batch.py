"""Batch of delivery messages: all attempts run at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from billing.adapters.sqs import Message, Queue
from billing.domain.errors import BillingError
from billing.services.webhook_queue import DeliveryRequest
from billing.telemetry import logger


@dataclass(frozen=True, slots=True)
class DeliveryBatch:
    """Batch of delivery messages.

    Attributes:
        attempt: Attempts a delivery.
        queue: Delivery queue. A message is deleted as soon as its attempt ends: until then, the queue holds back the
            other messages of its endpoint, also if the batch waits for a slow endpoint.
    """

    attempt: Callable[[DeliveryRequest], None]
    queue: Queue

    def run(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        """Attempt the deliveries of at most ten messages, and return those that SQS delivers again."""
        with ThreadPoolExecutor(len(messages)) as pool:
            succeeded = list(pool.map(self._succeeds, messages))
        failed = [each for each, is_done in zip(messages, succeeded, strict=True) if not is_done]
        return [{"itemIdentifier": each.id} for each in failed]

    def _succeeds(self, message: Message) -> bool:
        try:
            self.attempt(DeliveryRequest.of_body(message.body))
        except BillingError as error:
            logger().error("Message not processed", extra={"message_id": message.id, "reason": str(error)})
            return False
        try:
            self.queue.delete(message)
        except BillingError as error:
            # Lambda deletes it at the end of the batch.
            logger().warning("Message not deleted", extra={"message_id": message.id, "reason": str(error)})
        return True
