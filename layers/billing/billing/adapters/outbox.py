"""Outbox: items of outbound events, written in the transaction of the change. The table's stream dispatches them."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from billing.adapters.dynamodb import Item, Write, decode, key, put
from billing.adapters.item_codec import ItemCodec, to_seconds
from billing.domain.errors import EventUnprocessable
from billing.domain.outbound_events import OutboundEvent

OUTBOX_RETENTION = timedelta(days=35)
INDEX_SHARDS = 8
"""Index partitions of a day. One partition takes about 1,000 writes a second."""

OUTBOUND_EVENT = ItemCodec(
    OutboundEvent,
    plain=("id", "type", "account_id", "sequence", "object", "previous"),
    times=("occurred_at",),
)


def owner_key(account_id: str | None) -> str:
    """Return the partition key of an account, or that of the deployment for None."""
    return "DEPLOYMENT" if account_id is None else f"ACCOUNT#{account_id}"


def outbox_key(account_id: str | None, event_id: str) -> Item:
    """Return the key of an outbox item."""
    return key(owner_key(account_id), f"OUT#{event_id}")


def outbox_partition(day: datetime, shard: int) -> str:
    """Return an index partition with outbox items that were committed on a day (UTC)."""
    return f"OUTBOX#{day:%Y-%m-%d}#{shard}"


def put_outbound(event: OutboundEvent, committed: datetime) -> Write:
    """Return the write of an outbox item. The index lists it by the time of its commit."""
    # The id ends with the sequence. The digit before it belongs to the object's digest.
    shard = int(event.id[-7], 16) % INDEX_SHARDS
    listed = {"listed_under": outbox_partition(committed, shard), "processed": to_seconds(committed)}
    expires_at = to_seconds(max(committed, event.occurred_at) + OUTBOX_RETENTION)
    item = outbox_key(event.account_id, event.id) | OUTBOUND_EVENT.encode(event)
    return put(item | listed | {"expires_at": expires_at})


def decode_event(item: Item) -> OutboundEvent:
    """Return the event of an outbox item. Raises EventUnprocessable."""
    try:
        event = OUTBOUND_EVENT.decode(item)
    except (TypeError, ValueError, OverflowError) as error:
        raise EventUnprocessable("The outbox item has an impossible value") from error
    is_complete = (
        isinstance(event.id, str)
        and isinstance(event.type, str)
        and isinstance(event.sequence, int)
        and isinstance(event.object, Mapping)
        and isinstance(event.occurred_at, datetime)
    )
    if not is_complete:
        raise EventUnprocessable("The outbox item is not complete")
    return event


def images_of_stream(batch: Mapping[str, Any]) -> Iterator[Item]:
    """Yield the new items of an event from Lambda's DynamoDB event source."""
    for record in batch["Records"]:
        yield decode(record["dynamodb"]["NewImage"])
