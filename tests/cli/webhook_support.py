"""Helpers of the tests of `billing webhooks`: events, deliveries and queues of a deployed stack."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.adapters.dynamodb import Table, update
from billing.adapters.outbox import outbox_key, put_outbound
from billing.adapters.sqs import Queue
from billing.adapters.webhook_repository import WebhookRepository
from billing.adapters.webhook_sender import WebhookSender
from billing.domain.outbound_events import OutboundEvent, OutboundEventType, event_id
from billing.domain.webhook_deliveries import AttemptResult, Delivery, DeliveryStatus
from billing.services.webhook_delivery import WebhookDelivery
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest
from tests.cli.support import DeployedStack, aws, stack_outputs

PUBLIC_URL = "https://8.8.8.8/hooks"
"""Public URL without a name to resolve. No test sends a request to it."""
NOW = datetime.now(UTC).replace(microsecond=0)


# --- Table ------------------------------------------------------------------------------------------------------------


def table_of(stack: DeployedStack) -> Table:
    """Return the stack's table."""
    return Table(aws("dynamodb", stack.endpoint_url), stack.table_name)


def webhooks_of(stack: DeployedStack) -> WebhookRepository:
    """Return the repository of endpoints and deliveries."""
    return WebhookRepository(table_of(stack))


def commit_event(
    stack: DeployedStack,
    account_id: str | None = "acme",
    *,
    number: int = 1,
    age: timedelta = timedelta(minutes=1),
    event_type: OutboundEventType = OutboundEventType.INVOICE_PAID,
) -> OutboundEvent:
    """Store an outbound event that was committed some time ago."""
    committed = NOW - age
    event = OutboundEvent(
        id=event_id(committed, account_id, f"in_{number}", 1),
        type=event_type,
        account_id=account_id,
        occurred_at=committed,
        sequence=1,
        object={"id": f"in_{number}"},
        previous=None,
    )
    table_of(stack).write(put_outbound(event, committed))
    return event


def break_event(stack: DeployedStack, event: OutboundEvent) -> None:
    """Store an impossible time in an outbound event, so that it cannot be read."""
    _set_time(stack, event, "yesterday")


def mend_event(stack: DeployedStack, event: OutboundEvent) -> None:
    """Store the right time again."""
    _set_time(stack, event, int(event.occurred_at.timestamp()))


def _set_time(stack: DeployedStack, event: OutboundEvent, value: object) -> None:
    key = outbox_key(event.account_id, event.id)
    table_of(stack).update(update(key, "SET occurred_at = :value", {":value": value}))


def save_delivery(
    stack: DeployedStack, endpoint_id: str, event: OutboundEvent, status: DeliveryStatus, **fields: Any
) -> Delivery:
    """Store a delivery with one attempt."""
    delivery = Delivery(
        endpoint_id, event.id, event.type, event.account_id, fields.pop("owner_id", None), created=NOW, **fields
    ).start(NOW, "claim")
    results = {
        DeliveryStatus.DELIVERED: AttemptResult(204, 12),
        DeliveryStatus.PENDING: AttemptResult(500, 40, body="broken"),
        DeliveryStatus.FAILED: AttemptResult(410, 7, body="gone"),
    }
    return webhooks_of(stack).save_delivery(delivery.finish(results[status], NOW, 0))


# --- Queues -----------------------------------------------------------------------------------------------------------


def receive(stack: DeployedStack, queue: str) -> list[dict[str, Any]]:
    """Return the bodies of the messages of a queue, and delete them."""
    sqs, url = aws("sqs", stack.endpoint_url), stack_outputs(stack)[f"{queue}Url"]
    bodies = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            bodies.append(json.loads(message["Body"]))
    return bodies


def requested(stack: DeployedStack) -> list[tuple[str, str]]:
    """Return endpoint and event of each requested delivery, and empty the delivery queue."""
    return [(body["endpoint"], body["event"]) for body in receive(stack, "DeliveryQueue")]


def attempt(stack: DeployedStack, endpoint_id: str, events: Sequence[OutboundEvent]) -> None:
    """Attempt deliveries to an endpoint of the deployment, as the function `deliver_events` does."""
    outputs, sqs = stack_outputs(stack), aws("sqs", stack.endpoint_url)
    queues = DeliveryQueues(Queue(sqs, outputs["DeliveryQueueUrl"]), Queue(sqs, outputs["RetryQueueUrl"]))
    send = WebhookSender(allows_loopback=True).send
    worker = WebhookDelivery(webhooks_of(stack), queues, send, lambda _event: AttemptResult(200, 1))
    for event in events:
        worker.attempt(DeliveryRequest.of_event(None, endpoint_id, event))
