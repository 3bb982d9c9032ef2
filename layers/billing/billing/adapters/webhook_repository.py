"""DynamoDB repository for webhook endpoints and deliveries.

Item layout: docs/reference/data-model.md. All endpoints of an owner are one item, so that one read finds the receivers
of an event. A write is conditional on the `version` that was read.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import merge
from itertools import batched

from billing.adapters.dynamodb import Item, Table, Write, WriteRejected, delete, key, put_version
from billing.adapters.item_codec import ItemCodec, to_seconds
from billing.adapters.outbox import (
    INDEX_SHARDS,
    OUTBOUND_EVENT,
    decode_event,
    outbox_key,
    outbox_partition,
    owner_key,
    put_outbound,
)
from billing.adapters.repository import EVENTS_INDEX, VersionConflict
from billing.domain.errors import EventUnprocessable
from billing.domain.outbound_events import OutboundEvent, earliest_event_id
from billing.domain.webhook_deliveries import BUS_ID, Attempt, Delivery, DeliveryStatus, EndpointHealth
from billing.domain.webhook_endpoints import (
    DisabledReason,
    EndpointList,
    SigningSecret,
    WebhookEndpoint,
)

DELIVERY_RETENTION = timedelta(days=30)
DUE_SHARDS = 8
"""Index partitions of deliveries with a further attempt. One partition takes about 1,000 writes a second."""
BATCH_KEYS_MAX = 100
"""https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """Stored state that an attempt depends on.

    Attributes:
        endpoint: Endpoint; None if it was deleted, and for the EventBridge bus.
        delivery: Delivery; None before its first attempt.
        event: Event; None if it has expired.
    """

    endpoint: WebhookEndpoint | None
    health: EndpointHealth
    delivery: Delivery | None
    event: OutboundEvent | None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries of an endpoint, the latest event first.

    Attributes:
        continues_after: Event after which the next page begins; None on the last page.
    """

    deliveries: Sequence[Delivery]
    continues_after: str | None


class WebhookRepository:
    """Webhook endpoints and deliveries. Every method raises StoreUnavailable if DynamoDB fails."""

    def __init__(self, table: Table) -> None:
        """Create a repository on the table of any DynamoDB engine."""
        self._table = table

    # --- Endpoints ----------------------------------------------------------------------------------------------------

    def load_endpoints(self, account_id: str | None) -> EndpointList:
        """Return the endpoints of an account, or those of the deployment for None."""
        item = self._table.get(owner_key(account_id), "HOOKS")
        return ENDPOINT_LIST.decode(item) if item else EndpointList(account_id)

    def find_receivers(self, event: OutboundEvent) -> Sequence[tuple[str | None, WebhookEndpoint]]:
        """Return the endpoints that receive an event, each with its owner, in one BatchGetItem.

        These are endpoints of the event's account and of the deployment.
        """
        partitions = {owner_key(each) for each in (event.account_id, None)}
        found = self._table.batch_get([key(pk, "HOOKS") for pk in partitions])
        return [
            (owned.account_id, endpoint)
            for owned in map(ENDPOINT_LIST.decode, found)
            for endpoint in owned.endpoints
            if owned.sends(event.type, endpoint)
        ]

    def save_endpoints(
        self, endpoints: EndpointList, *, outbound: OutboundEvent | None = None, now: datetime | None = None
    ) -> EndpointList:
        """Write the endpoints of an owner over the version that was read.

        Args:
            endpoints: Endpoints with the version that was read.
            outbound: Event about the change, committed in the same transaction.
            now: Time of the commit, with `outbound`.

        Raises:
            VersionConflict: The stored version is another one.
        """
        saved = replace(endpoints, version=endpoints.version + 1)
        item = key(owner_key(endpoints.account_id), "HOOKS") | ENDPOINT_LIST.encode(saved)
        writes: dict[str, Write] = {"endpoints": put_version(item, endpoints.version)}
        if outbound is not None and now is not None:
            writes["outbound"] = put_outbound(outbound, now)
        try:
            self._table.transact(writes)
        except WriteRejected as error:
            raise VersionConflict from error
        return saved

    # --- Deliveries ---------------------------------------------------------------------------------------------------

    def read_delivery_context(
        self, owner_id: str | None, endpoint_id: str, account_id: str | None, event_id: str
    ) -> DeliveryContext:
        """Return the stored state of a delivery, in one strongly consistent BatchGetItem."""
        keys = [
            _delivery_key(endpoint_id, event_id),
            key(f"HOOK#{endpoint_id}", "HEALTH"),
            outbox_key(account_id, event_id),
        ]
        if endpoint_id != BUS_ID:
            keys.append(key(owner_key(owner_id), "HOOKS"))
        found = {(item["pk"], item["sk"]): item for item in self._table.batch_get(keys)}

        def item(item_key: Item) -> Item | None:
            return found.get((item_key["pk"], item_key["sk"]))

        delivery, health, event = map(item, keys[:3])
        stored = found.get((owner_key(owner_id), "HOOKS"))
        endpoints = ENDPOINT_LIST.decode(stored).endpoints if stored else ()
        return DeliveryContext(
            endpoint=next((each for each in endpoints if each.id == endpoint_id), None),
            health=HEALTH.decode(health) if health else EndpointHealth(),
            delivery=DELIVERY.decode(delivery) if delivery else None,
            event=OUTBOUND_EVENT.decode(event) if event else None,
        )

    def find_delivery(self, endpoint_id: str, event_id: str) -> Delivery | None:
        """Return a delivery; None if there is none."""
        item = self._table.get(**_delivery_key(endpoint_id, event_id))
        return DELIVERY.decode(item) if item else None

    def find_deliveries(self, endpoint_id: str, event_ids: Sequence[str]) -> dict[str, Delivery]:
        """Return the deliveries of events to an endpoint, by event id. Events without a delivery are left out."""
        found: list[Item] = []
        for batch in batched(event_ids, BATCH_KEYS_MAX, strict=False):
            found += self._table.batch_get([_delivery_key(endpoint_id, each) for each in batch])
        return {item["event_id"]: DELIVERY.decode(item) for item in found}

    def save_delivery(self, delivery: Delivery) -> Delivery:
        """Write a delivery over the version that was read.

        Raises:
            VersionConflict: The stored version is another one.
        """
        saved = replace(delivery, version=delivery.version + 1)
        item = _delivery_key(delivery.endpoint_id, delivery.event_id) | DELIVERY.encode(saved)
        times = (saved.created, saved.next_attempt_at, *(each.started for each in saved.attempts[-1:]))
        item["expires_at"] = to_seconds(max(each for each in times if each) + DELIVERY_RETENTION)
        if saved.next_attempt_at is not None:
            item["listed_under"] = _due_partition(_shard(delivery.endpoint_id))
            item["processed"] = to_seconds(saved.next_attempt_at)
        try:
            self._table.write(put_version(item, delivery.version))
        except WriteRejected as error:
            raise VersionConflict from error
        return saved

    def find_health(self, endpoint_id: str) -> EndpointHealth:
        """Return the health of an endpoint."""
        item = self._table.get(f"HOOK#{endpoint_id}", "HEALTH")
        return HEALTH.decode(item) if item else EndpointHealth()

    def save_health(self, endpoint_id: str, health: EndpointHealth) -> None:
        """Write the health of an endpoint.

        A good health is written over any other. Another one is left out if the stored health has changed since it was
        read: a concurrent attempt knows better.
        """
        item_key = key(f"HOOK#{endpoint_id}", "HEALTH")
        if health.is_good:
            self._table.write(delete(item_key))
            return
        latest = max(each for each in (health.failed_at, health.paused_until) if each)
        item = item_key | HEALTH.encode(replace(health, version=health.version + 1))
        item["expires_at"] = to_seconds(latest + DELIVERY_RETENTION)
        with suppress(WriteRejected):
            self._table.write(put_version(item, health.version))

    def list_deliveries(self, endpoint_id: str, limit: int, after: str | None = None) -> DeliveryPage:
        """Return at most `limit` deliveries of an endpoint, the latest event first, in one Query.

        Args:
            endpoint_id: Endpoint.
            limit: Largest number of deliveries.
            after: Event id after which the page begins; None for the first page.
        """
        before = f"DEL#{after}" if after else None
        page = self._table.query_latest(f"HOOK#{endpoint_id}", "DEL#", "DEL#~", limit=limit + 1, before=before)
        items = page.items[:limit]
        last = items[-1]["sk"] if len(page.items) > limit else page.continues_after
        return DeliveryPage(list(map(DELIVERY.decode, items)), last.removeprefix("DEL#") if last else None)

    def list_due(self, until: datetime, shard: int) -> Iterator[Delivery]:
        """Yield the deliveries of an index partition whose next attempt is at `until` or before, the earliest first."""
        bounds = ("processed", 0, to_seconds(until))
        partition = ("listed_under", _due_partition(shard))
        items = self._table.query_index(EVENTS_INDEX, partition, bounds, oldest_first=True)
        yield from map(DELIVERY.decode, items)

    # --- Outbox -------------------------------------------------------------------------------------------------------

    def find_event(self, account_id: str | None, event_id: str) -> OutboundEvent | None:
        """Return an event; None if there is none or it has expired."""
        item = self._table.get(**outbox_key(account_id, event_id))
        return OUTBOUND_EVENT.decode(item) if item else None

    def list_account_events(
        self, account_id: str | None, since: datetime, limit: int, after: str | None = None
    ) -> Sequence[OutboundEvent]:
        """Return at most `limit` events of an account, in the order of their commits, in one Query.

        Args:
            account_id: Account; None for events about the deployment.
            since: Time of the first commit.
            limit: Largest number of events.
            after: Event id after which the page begins; None for the first page.
        """
        first = f"OUT#{after}~" if after else f"OUT#{earliest_event_id(since)}"
        items = self._table.query_first(owner_key(account_id), first, "OUT#~", limit=limit)
        return list(map(OUTBOUND_EVENT.decode, items))

    def list_all_events(self, since: datetime, until: datetime) -> Iterator[OutboundEvent]:
        """Yield the events of all accounts that were committed from `since` to `until`, in the order of their commits.

        Events that cannot be read are left out. The dispatcher reports them.
        """
        for item in self.list_outbox(since, until):
            with suppress(EventUnprocessable):
                yield decode_event(item)

    def list_outbox(self, since: datetime, until: datetime) -> Iterator[Item]:
        """Yield the outbox items that were committed from `since` to `until`, in the order of their commits."""
        bounds = ("processed", to_seconds(since), to_seconds(until))
        day = since
        while day.date() <= until.date():
            partitions = [("listed_under", outbox_partition(day, shard)) for shard in range(INDEX_SHARDS)]
            shards = [self._table.query_index(EVENTS_INDEX, each, bounds, oldest_first=True) for each in partitions]
            yield from merge(*shards, key=lambda item: item["processed"])
            day += timedelta(days=1)


def _delivery_key(endpoint_id: str, event_id: str) -> Item:
    return key(f"HOOK#{endpoint_id}", f"DEL#{event_id}")


def _shard(endpoint_id: str) -> int:
    return int(endpoint_id[-1], 16) % DUE_SHARDS if endpoint_id != BUS_ID else 0


def _due_partition(shard: int) -> str:
    return f"DUE#{shard}"


# --- Items ------------------------------------------------------------------------------------------------------------

ENDPOINT = ItemCodec(
    WebhookEndpoint,
    plain=("id", "url", "description", "enabled", "sequence"),
    times=("created", "disabled_at"),
    tuples=("events",),
    enums={"disabled_reason": DisabledReason},
    lists={"secrets": ItemCodec(SigningSecret, plain=("value",), times=("expires_at",))},
)
ENDPOINT_LIST = ItemCodec(EndpointList, plain=("account_id", "version"), lists={"endpoints": ENDPOINT})
DELIVERY = ItemCodec(
    Delivery,
    plain=(
        "endpoint_id",
        "event_id",
        "event_type",
        "account_id",
        "owner_id",
        "tries",
        "response_body",
        "reason",
        "claim",
        "version",
    ),
    times=("created", "next_attempt_at", "lease_until"),
    enums={"status": DeliveryStatus},
    lists={
        "attempts": ItemCodec(Attempt, plain=("status_code", "latency_ms", "error"), times=("started",)),
    },
)
HEALTH = ItemCodec(
    EndpointHealth, plain=("slow_attempts", "version"), times=("failing_since", "paused_until", "failed_at")
)
