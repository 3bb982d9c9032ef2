"""Helpers for tests of the repositories on a DynamoDB engine."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from billing.adapters.repository import ProcessedEvent
from billing.domain.outbound_events import OutboundEvent, event_id
from billing.stripe_events.event_types import EventOutcome, Snapshot
from billing.stripe_events.ordering import StoredObject
from tests.samples import NOW, SUBSCRIPTION

WRITERS = 8
OUTBOUND = OutboundEvent(
    id=event_id(NOW, "acme", "sub_1", 1),
    type="subscription.created",
    account_id="acme",
    occurred_at=NOW,
    sequence=1,
    object={"id": "sub_1", "plan": "pro", "ended_at": None},
    previous=None,
)


def marker(
    event_id: str = "evt_1", outcome: EventOutcome = EventOutcome.APPLIED, account_id: str | None = "acme"
) -> ProcessedEvent:
    """Return the marker of an event."""
    return ProcessedEvent(event_id, "customer.subscription.updated", outcome, NOW, account_id=account_id)


def row(content: Snapshot = SUBSCRIPTION, version: int = 1) -> StoredObject[Snapshot]:
    """Return a row to write; `version` is one more than that of the row it replaces."""
    return StoredObject(content, NOW, NOW, version)


def stored_items(dynamodb: Any, table_name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return all items of the table by key."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True)
    return {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}


def run_concurrently[T](work: Callable[[int], T], threads: int = WRITERS) -> list[T]:
    """Return the results of `work` in threads that start at the same moment; the argument is the thread's number."""
    barrier = threading.Barrier(threads)

    def start(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(start, range(threads)))


@contextmanager
def recorded_calls(dynamodb: Any, **query_params: int) -> Iterator[list[str]]:
    """Record the operations that a client calls, and add parameters to every Query."""
    calls: list[str] = []

    def record(model: Any, **_rest: Any) -> None:
        calls.append(model.name)

    def add(params: dict[str, Any], **_rest: Any) -> dict[str, Any]:
        return params | query_params

    handlers: dict[str, Any] = {"before-call.dynamodb": record, "provide-client-params.dynamodb.Query": add}
    for event, handler in handlers.items():
        dynamodb.meta.events.register(event, handler)
    try:
        yield calls
    finally:
        for event, handler in handlers.items():
            dynamodb.meta.events.unregister(event, handler)
