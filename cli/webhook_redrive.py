"""Dead letters of outbound events: request the deliveries again.

| queue | message | effect |
|---|---|---|
| DeliveryDeadLetters | delivery request | the delivery is requested again |
| DispatchDeadLetters | key of an outbox item that could not be read | the event is dispatched, if it can be read now |
| DispatchDeadLetters | Lambda's record of a failed batch of the stream | the events of its time span are dispatched |

Each step may be repeated. A delivery that succeeded meanwhile is not attempted again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any

from billing.adapters.dynamodb import Item, Table
from billing.adapters.outbox import decode_event
from billing.adapters.sqs import Queue
from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.errors import EventUnprocessable
from billing.domain.outbound_events import OutboundEvent
from billing.services.event_dispatch import EventDispatcher
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest
from cli.dead_letters import DeadLetterQueue
from cli.output import ShowProgress, columns
from cli.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

SPAN_MARGIN = timedelta(minutes=1)
"""Largest difference between the commit of an event and its arrival in the stream."""
EVENTS_PER_DISPATCH = 100


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """Message that stays in its queue."""

    queue: str
    id: str
    reason: str


@dataclass(slots=True)
class RedriveSummary:
    """Result of a redrive.

    Attributes:
        deliveries: Deliveries that were requested again.
        events: Events that were dispatched again.
        expired: Outbox items that no longer exist.
    """

    deliveries: int = 0
    events: int = 0
    expired: int = 0
    kept: list[KeptMessage] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON output."""
        return {
            "deliveries": self.deliveries,
            "events": self.events,
            "expired": self.expired,
            "kept": [{"queue": each.queue, "message_id": each.id, "reason": each.reason} for each in self.kept],
        }

    def as_text(self) -> str:
        """Return the summary for text output."""
        totals = [
            ("deliveries requested", self.deliveries),
            ("events dispatched", self.events),
            ("expired", self.expired),
            ("messages kept", len(self.kept)),
        ]
        rows = [(each.queue, each.id, each.reason) for each in self.kept]
        return "\n\n".join(columns(table) for table in (totals, rows) if table)


@dataclass(slots=True)
class WebhookRedrive:
    """One run over both dead-letter queues.

    Attributes:
        dispatched: Events that this run has dispatched. The records of a divided batch have overlapping time spans.
    """

    stack: Stack
    table: Table
    queues: DeliveryQueues
    dispatcher: EventDispatcher
    summary: RedriveSummary = field(default_factory=RedriveSummary)
    dispatched: set[str] = field(default_factory=set)

    @classmethod
    def connect(cls, stack: Stack) -> "WebhookRedrive":
        """Connect to the queues and the table of a stack."""
        table, queues = stack.table(), stack.delivery_queues()
        dispatcher = EventDispatcher(
            WebhookRepository(table),
            queues,
            Queue(stack.sqs_client(), stack.webhook_queues.dispatch_dead_letters),
            has_event_bus=stack.outbound_event_bus is not None,
        )
        return cls(stack, table, queues, dispatcher)

    def run(self, show: ShowProgress) -> RedriveSummary:
        """Process both queues. A message is deleted after its deliveries were requested.

        Raises:
            StoreUnavailable: DynamoDB is unavailable.
            QueueUnavailable: SQS is unavailable.
        """
        sqs, urls = self.stack.sqs_client(), self.stack.webhook_queues
        for name, url, process in (
            ("DeliveryDeadLetters", urls.delivery_dead_letters, self._request_deliveries),
            ("DispatchDeadLetters", urls.dispatch_dead_letters, self._dispatch_events),
        ):
            queue, kept = DeadLetterQueue(sqs, url), list["MessageTypeDef"]()
            for batch in queue.receive_all():
                unprocessed = process(batch)
                queue.delete([message for message in batch if message["MessageId"] not in unprocessed])
                kept += [message for message in batch if message["MessageId"] in unprocessed]
                self.summary.kept += [KeptMessage(name, each, reason) for each, reason in unprocessed.items()]
                show(f"{self.summary.deliveries:,} deliveries, {self.summary.events:,} events")
            queue.release(kept)
        return self.summary

    def _request_deliveries(self, batch: "Sequence[MessageTypeDef]") -> Mapping[str, str]:
        """Request the deliveries of messages. Returns the reason for each message that is no delivery request."""
        requests, unprocessed = [], {}
        for message in batch:
            try:
                requests.append(DeliveryRequest.of_body(_parse_body(message)))
            except EventUnprocessable as error:
                unprocessed[message["MessageId"]] = str(error)
        self.queues.request_now(requests)
        self.summary.deliveries += len(requests)
        return unprocessed

    def _dispatch_events(self, batch: "Sequence[MessageTypeDef]") -> Mapping[str, str]:
        """Dispatch the events of messages. Returns the reason for each message that was not processed."""
        unprocessed = {}
        for message in batch:
            try:
                self._dispatch_message(_parse_body(message))
            except EventUnprocessable as error:
                unprocessed[message["MessageId"]] = str(error)
        return unprocessed

    def _dispatch_message(self, body: object) -> None:
        match body:
            case {"pk": str(pk), "sk": str(sk)}:
                item = self.table.get(pk, sk)
                if item is None:
                    self.summary.expired += 1
                else:
                    self._dispatch_items([item])
            case {
                "DDBStreamBatchInfo": {
                    "approximateArrivalOfFirstRecord": str(first),
                    "approximateArrivalOfLastRecord": str(last),
                }
            }:
                since, until = _parse_time(first) - SPAN_MARGIN, _parse_time(last) + SPAN_MARGIN
                self._dispatch_items(self.dispatcher.repository.list_outbox(since, until))
            case _:
                raise EventUnprocessable("The message has an unknown form")

    def _dispatch_items(self, items: Iterable[Item]) -> None:
        """Dispatch the events of outbox items. Raises EventUnprocessable after the others if one cannot be read."""
        unreadable: dict[str, str] = {}

        def readable() -> Iterable[OutboundEvent]:
            for item in items:
                try:
                    yield decode_event(item)
                except EventUnprocessable as error:
                    unreadable[f"{item['pk']} {item['sk']}"] = str(error)

        for events in batched(readable(), EVENTS_PER_DISPATCH, strict=False):
            new = [event for event in events if event.id not in self.dispatched]
            self.dispatcher.dispatch(new)
            self.dispatched.update(event.id for event in new)
            self.summary.events += len(new)
        if unreadable:
            raise EventUnprocessable("; ".join(f"{key}: {reason}" for key, reason in unreadable.items()))


def _parse_body(message: "MessageTypeDef") -> Any:  # noqa: ANN401 - any JSON value
    """Return the content of a message. Raises EventUnprocessable if it is not JSON."""
    try:
        return json.loads(message["Body"])
    except ValueError as error:
        raise EventUnprocessable("The message is not JSON") from error


def _parse_time(text: str) -> datetime:
    """Return a time of Lambda's record. Raises EventUnprocessable."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise EventUnprocessable("The message has an invalid time") from error
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
