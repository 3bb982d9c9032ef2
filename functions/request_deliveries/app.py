"""Request the delivery attempts that are due."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billing.adapters.sqs import messages_of
from billing.bootstrap import app
from billing.services.webhook_queue import DeliveryRequest


def handler(event: Mapping[str, Any], _context: object) -> None:
    """Forward the messages of the retry queue, or request every attempt that is due if the schedule calls."""
    schedule = app.delivery_schedule()
    if "Records" in event:
        schedule.forward(DeliveryRequest.of_body(each.body) for each in messages_of(event))
    else:
        schedule.request_due(datetime.now(UTC))
