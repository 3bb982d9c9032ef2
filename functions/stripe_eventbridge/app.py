"""Stripe events from Amazon EventBridge, through SQS."""

from collections.abc import Mapping
from typing import Any

from billing.api.request_parsing import parse_json
from billing.bootstrap import app
from billing.domain.errors import BillingError
from billing.stripe_events.eventbridge import stripe_event
from billing.telemetry import logger


def handler(batch: Mapping[str, Any], _context: object) -> Mapping[str, Any]:
    """Process each message's event, and return the messages that are not durable so that SQS delivers them again."""
    failed = [record["messageId"] for record in batch["Records"] if not _is_durable(record)]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _is_durable(record: Mapping[str, Any]) -> bool:
    try:
        app.event_processor().process(stripe_event(parse_json(record["body"].encode())))
    except BillingError as error:
        logger().error("Message not processed", extra={"message_id": record["messageId"], "reason": str(error)})
        return False
    return True
