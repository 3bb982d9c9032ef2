"""Outbound events with a movable clock: the real table and services, and queues in memory.

The queues have the properties that the services rely on: a delay, one batch at a time for each message group, and
deduplication for five minutes. `tests/adapters/test_sqs.py` shows them on SQS.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from billing.adapters.dynamodb import Table
from billing.adapters.outbox import put_outbound
from billing.adapters.sqs import Message, Queue
from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.outbound_events import OutboundEvent, event_id
from billing.domain.webhook_deliveries import AttemptResult, Delivery
from billing.domain.webhook_endpoints import EndpointList, SigningSecret, WebhookEndpoint
from billing.services.delivery_batch import DeliveryBatch
from billing.services.delivery_schedule import DeliverySchedule
from billing.services.event_dispatch import EventDispatcher
from billing.services.webhook_delivery import WebhookDelivery
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest
from billing.services.webhook_redelivery import WebhookRedelivery
from tests.samples import NOW

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DEDUPLICATION = timedelta(minutes=5)
BATCH_SIZE = 10

type Receiver = Callable[[bytes, Mapping[str, str]], AttemptResult]


@dataclass
class SentMessage:
    """Message in a queue."""

    id: str
    body: str
    visible_at: datetime
    group: str | None
    received: int = 0


@dataclass
class MemoryQueue:
    """SQS client of one queue in memory; its methods are those that `Queue` calls."""

    clock: "Clock"
    messages: list[SentMessage] = field(default_factory=list)
    deduplicated: dict[str, datetime] = field(default_factory=dict)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG002, N803
        """Send messages."""
        for entry in Entries:
            self._send(entry)
        return {"Successful": Entries}

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> None:  # noqa: ARG002, N803
        """Send one message."""
        self._send({"MessageBody": MessageBody})

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: ARG002, N803
        """Delete a received message."""
        with self.lock:
            self.messages = [each for each in self.messages if each.id != ReceiptHandle]

    def _send(self, entry: dict[str, Any]) -> None:
        now, key = self.clock.now, entry.get("MessageDeduplicationId")
        if key and now - self.deduplicated.get(key, now - DEDUPLICATION) < DEDUPLICATION:
            return
        if key:
            self.deduplicated[key] = now
        with self.lock:
            self._append(entry, now)

    def _append(self, entry: dict[str, Any], now: datetime) -> None:
        self.sent += 1
        visible_at = now + timedelta(seconds=entry.get("DelaySeconds", 0))
        self.messages.append(SentMessage(str(self.sent), entry["MessageBody"], visible_at, entry.get("MessageGroupId")))

    def body_of(self, message: SentMessage) -> dict[str, Any]:
        """Return the body of a message."""
        return dict(json.loads(message.body))

    def receive(self) -> list[Message]:
        """Return visible messages and hide them for four minutes."""
        now = self.clock.now
        busy = {each.group for each in self.messages if each.received and each.visible_at > now and each.group}
        batch = [each for each in self.messages if each.visible_at <= now and each.group not in busy][:BATCH_SIZE]
        for each in batch:
            each.visible_at, each.received = now + timedelta(seconds=240), each.received + 1
        return [Message(each.id, json.loads(each.body), each.id, each.received) for each in batch]


class RecordedRepository(WebhookRepository):
    """Repository that remembers the time of each delivery's next attempt."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.upcoming: dict[str, datetime | None] = {}

    def save_delivery(self, delivery: Delivery) -> Delivery:
        """Write a delivery."""
        saved = super().save_delivery(delivery)
        self.upcoming[saved.id] = saved.next_attempt_at
        return saved


@dataclass
class Clock:
    """Current time of the world."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """Return the current time."""
        return self.now


@dataclass
class WebhookWorld:
    """Services of outbound events.

    Attributes:
        receivers: Behavior of each URL; others answer 204.
        received: Requests by URL.
    """

    table: Table
    clock: Clock = field(default_factory=Clock)
    receivers: dict[str, Receiver] = field(default_factory=dict)
    received: dict[str, list[tuple[bytes, Mapping[str, str]]]] = field(default_factory=dict)
    bus: Callable[[OutboundEvent], AttemptResult] = lambda _event: AttemptResult(200, 1)
    has_bus: bool = False
    _dispatched: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.delivery_queue, self.retry_queue, self.dead_letters = (MemoryQueue(self.clock) for _ in range(3))
        self.repository = RecordedRepository(self.table)
        self.queues = DeliveryQueues(
            Queue(cast(Any, self.delivery_queue), "delivery"), Queue(cast(Any, self.retry_queue), "retry")
        )

    # --- Services -----------------------------------------------------------------------------------------------------

    @property
    def dispatcher(self) -> EventDispatcher:
        """The dispatcher."""
        dead_letters = Queue(cast(Any, self.dead_letters), "dead letters")
        return EventDispatcher(self.repository, self.queues, dead_letters, has_event_bus=self.has_bus)

    @property
    def delivery(self) -> WebhookDelivery:
        """The sender of events, without jitter."""
        return WebhookDelivery(self.repository, self.queues, self._send, self.bus, now=self.clock, random=lambda: 0.0)

    def redelivery(self, account_id: str | None = "acme") -> WebhookRedelivery:
        """Redelivery to the endpoints of an owner."""
        return WebhookRedelivery(self.repository, self.queues, account_id)

    def _send(self, url: str, body: bytes, headers: Mapping[str, str]) -> AttemptResult:
        self.received.setdefault(url, []).append((body, headers))
        return self.receivers[url](body, headers) if url in self.receivers else AttemptResult(204, 5)

    # --- Steps of time ------------------------------------------------------------------------------------------------

    def add_endpoint(self, name: str, account_id: str | None = "acme", **changes: Any) -> WebhookEndpoint:
        """Create an endpoint at https://<name>.test."""
        endpoint = WebhookEndpoint(
            id=f"whe_{name.encode().hex()}",
            url=f"https://{name}.test",
            events=("*",),
            description="",
            created=self.clock.now,
            secrets=(SigningSecret(SECRET),),
        )
        endpoint = replace(endpoint, **changes)
        self.repository.save_endpoints(self.repository.load_endpoints(account_id).add(endpoint))
        return endpoint

    def emit(
        self, account_id: str = "acme", subject: str = "sub_1", sequence: int = 1, **changes: Any
    ) -> OutboundEvent:
        """Commit an event."""
        event = OutboundEvent(
            id=event_id(self.clock.now, account_id, subject, sequence),
            type="subscription.updated",
            account_id=account_id,
            occurred_at=self.clock.now,
            sequence=sequence,
            object={"id": subject, "plan": "pro"},
            previous={"plan": "free"},
        )
        event = replace(event, **changes)
        self.table.write(put_outbound(event, self.clock.now))
        return event

    def dispatch(self) -> int:
        """Dispatch the events that were committed since the last call. Returns their number."""
        items = [item for item in self.table.scan("OUT#") if item["sk"] not in self._dispatched]
        self.dispatcher.dispatch_items(items)
        self._dispatched |= {item["sk"] for item in items}
        return len(items)

    def deliver(self) -> int:
        """Run every attempt that may start now. Returns the number of messages."""
        delivered = 0
        while batch := self.delivery_queue.receive():
            delivered += len(batch)
            DeliveryBatch(self.delivery.attempt, self.queues.delivery_queue).run(batch)
        return delivered

    def run(self, duration: timedelta = timedelta(0)) -> None:
        """Dispatch, deliver and retry until nothing happens in `duration`."""
        end = self.clock.now + duration
        while True:
            while self.dispatch() + self.deliver() + self._forward():
                pass
            upcoming = self._next_moment()
            if upcoming is None or upcoming > end:
                break
            self.clock.now = upcoming
            if any(each and each <= upcoming for each in self.repository.upcoming.values()):
                DeliverySchedule(self.repository, self.queues).request_due(upcoming)
        self.clock.now = end

    def _forward(self) -> int:
        forwarded = 0
        while batch := self.retry_queue.receive():
            forwarded += len(batch)
            requests = [DeliveryRequest.of_body(each.body) for each in batch]
            DeliverySchedule(self.repository, self.queues).forward(requests)
            for each in batch:
                self.queues.retry_queue.delete(each)
        return forwarded

    def _next_moment(self) -> datetime | None:
        """Return the next time at which a message appears or the schedule finds a due attempt."""
        now = self.clock.now
        queued = [each.visible_at for queue in (self.delivery_queue, self.retry_queue) for each in queue.messages]
        due = list(self.repository.upcoming.values())
        # The schedule runs every minute, and repeats what is still due.
        minutes = [_next_minute(max(each, now)) for each in due if each]
        return min([*(each for each in queued if each > now), *minutes], default=None)

    # --- Results ------------------------------------------------------------------------------------------------------

    def log(self, endpoint: WebhookEndpoint) -> list[Delivery]:
        """Return the deliveries of an endpoint, the latest event first."""
        return [*self.repository.list_deliveries(endpoint.id, 1000).deliveries]

    def bodies(self, endpoint: WebhookEndpoint) -> list[dict[str, Any]]:
        """Return the bodies that an endpoint received."""
        return [json.loads(body) for body, _headers in self.received.get(endpoint.url, [])]

    def endpoints(self, account_id: str | None = "acme") -> EndpointList:
        """Return the stored endpoints of an owner."""
        return self.repository.load_endpoints(account_id)


def _next_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0) + timedelta(minutes=1)


def answers(*results: AttemptResult) -> Receiver:
    """Return a receiver with these results, the last one from then on."""
    remaining = list(results)

    def receive(_body: bytes, _headers: Mapping[str, str]) -> AttemptResult:
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    return receive


def statuses(deliveries: Iterable[Delivery]) -> list[str]:
    """Return the status of each delivery."""
    return [each.status.value for each in deliveries]
