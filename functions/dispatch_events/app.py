"""Dispatch outbound events from the table's stream to their webhook endpoints."""

from collections.abc import Mapping
from typing import Any

from billing.adapters.outbox import images_of_stream
from billing.bootstrap import app


def handler(batch: Mapping[str, Any], _context: object) -> None:
    """Request the deliveries of each event. After an error, Lambda repeats the batch."""
    app.event_dispatcher().dispatch_items(images_of_stream(batch))
