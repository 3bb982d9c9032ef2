"""Deliver outbound events to webhook endpoints."""

from collections.abc import Mapping
from typing import Any

from billing.adapters.sqs import messages_of
from billing.bootstrap import app


def handler(batch: Mapping[str, Any], _context: object) -> Mapping[str, Any]:
    """Attempt each delivery, and return the messages that SQS delivers again."""
    return {"batchItemFailures": app.delivery_batch().run(messages_of(batch))}
