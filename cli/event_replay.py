"""Stripe's own events: list them with their outcomes, show them, and process them again.

A replay uses the event processor of the webhook. Repeating it, or running it while deliveries arrive, changes nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import batched
from typing import TYPE_CHECKING, Any

import stripe

from billing.adapters.repository import ProcessedEvent
from billing.adapters.stripe_gateway import StripeGateway, event_type_groups
from billing.catalog import load_catalog
from billing.domain.errors import EventUnidentified, EventUnprocessable
from billing.domain.timestamps import iso
from billing.services.event_processor import EventProcessor
from billing.stripe_events import objects
from billing.stripe_events.event_types import EventOutcome
from billing.stripe_events.eventbridge import stripe_event
from billing.stripe_events.objects import Json
from cli.dead_letters import DeadLetterQueue
from cli.event_log import ABSENT, EventEntry, EventFilter
from cli.stack import Stack
from cli.stripe_connection import NOT_FOUND, connect_client
from cli.subscription_terms import subscription_terms

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

PAGE_SIZE = 100
# Fields of an event's object that identify no person.
DISPLAYED_FIELDS = (
    "id",
    "object",
    "customer",
    "subscription",
    "status",
    "mode",
    "payment_status",
    "currency",
    "total",
    "amount_due",
    "amount_paid",
    "cancel_at_period_end",
    "cancel_at",
    "canceled_at",
    "ended_at",
    "trial_end",
    "schedule",
    "end_behavior",
    "released_subscription",
    "created",
)


@dataclass(frozen=True, slots=True)
class EventReplayer:
    """Access to the events of a stack's Stripe account and to its event processor."""

    stack: Stack
    client: stripe.StripeClient

    @classmethod
    def connect(cls, stack: Stack) -> "EventReplayer":
        """Connect with the stack's Stripe key. Raises CommandFailed."""
        return cls(stack, connect_client(stack))

    def list_events(self, event_filter: EventFilter) -> Iterator[EventEntry]:
        """Yield the events of handled types in Stripe's list with their outcomes, newest first."""
        period = {"gte": int(event_filter.since.timestamp()), "lte": int(event_filter.until.timestamp())}
        groups = [[event_filter.type]] if event_filter.type else list(map(list, event_type_groups()))
        wanted: list[Any] = [{"types": types, "created": period, "limit": PAGE_SIZE} for types in groups]
        lists = [self.client.v1.events.list(params).auto_paging_iter() for params in wanted]
        events = merge(*lists, key=lambda event: event.created, reverse=True)
        for page in batched(events, PAGE_SIZE, strict=False):
            markers = self.stack.repository().find_markers(event.id for event in page)
            entries = (self._entry(each, markers.get(each.id)) for each in page)
            yield from (entry for entry in entries if entry and event_filter.matches(entry))

    def _entry(self, event: stripe.Event, marker: ProcessedEvent | None) -> EventEntry | None:
        """Return the entry of an event; None for an event of another deployment that never arrived."""
        if marker:
            return EventEntry.of(marker)
        source: Any = event.data.object.to_dict()
        is_excluded = self.stack.deployment.excludes(objects.deployment_id_of(source))
        return None if is_excluded else _absent_entry(event, source)

    def find(self, event_id: str) -> Mapping[str, Any] | None:
        """Return an event, or None if Stripe does not have it. Stripe keeps events for 30 days.

        Thin events are among the events of API v2.
        """
        for events in (self.client.v1.events, self.client.v2.core.events):
            try:
                return events.retrieve(event_id).to_dict()
            except stripe.InvalidRequestError as error:
                if error.http_status != NOT_FOUND:
                    raise
        return None

    def replay(self, event_id: str) -> EventOutcome | None:
        """Process an event again. Returns its outcome, or None if Stripe no longer has the event."""
        event = self.find(event_id)
        return None if event is None else self._processor().process(event)

    def redrive(self) -> Iterator[tuple[str, EventOutcome | None]]:
        """Process the messages of the dead-letter queue and delete them. Yields each event's id and outcome.

        A message that is not a Stripe event stays in the queue. It is returned with the message id and None.
        """
        queue = DeadLetterQueue(self.stack.sqs_client(), self.stack.dead_letter_queue_url or "")
        for batch in queue.receive_all():
            for message in batch:
                yield self._redrive_message(queue, message)

    def _redrive_message(self, queue: DeadLetterQueue, message: "MessageTypeDef") -> tuple[str, EventOutcome | None]:
        try:
            event = stripe_event(json.loads(message["Body"]))
            outcome = self._processor().process(event)
        except (EventUnidentified, ValueError):
            return message["MessageId"], None
        queue.delete([message])
        return str(event["id"]), outcome

    def _processor(self) -> EventProcessor:
        gateway = StripeGateway(self.client)
        return EventProcessor.connect(
            self.stack.repository(),
            load_catalog(),
            lambda: gateway,
            self.stack.deployment,
            verify_customers=True,
        )


def summarize_event(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parts of an event that identify no person."""
    data = objects.mapping(event, "data")
    source = objects.mapping(data, "object")
    envelope = ("id", "type", "created", "api_version", "livemode", "pending_webhooks")
    return {
        **{name: event.get(name) for name in envelope},
        "object": {name: source[name] for name in DISPLAYED_FIELDS if isinstance(source.get(name), str | int | bool)},
        "phases": _phases(source),
        "account_id": objects.account_id_of(source),
        "terms": _subscription_terms(source),
        "deployment": objects.deployment_id_of(source),
        "changed": sorted(objects.mapping(data, "previous_attributes")),
        "related_object": event.get("related_object"),
    }


def _subscription_terms(source: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the terms of a subscription; None for another or an unreadable object."""
    if source.get("object") != "subscription":
        return None
    try:
        return subscription_terms(objects.parse_subscription(source, load_catalog()))
    except EventUnprocessable:
        return None


def _phases(source: Mapping[str, Any]) -> list[str]:
    """Return start, prices and quantities of each phase of a subscription schedule."""
    phases = source.get("phases") if source.get("object") == "subscription_schedule" else None
    return [
        f"{iso(objects.time(phase, 'start_date'))} "
        + " + ".join(f"{objects.reference(item, 'price')} x {item.get('quantity')}" for item in phase.get("items", ()))
        for phase in phases or ()
    ]


def _absent_entry(event: stripe.Event, source: Json) -> EventEntry:
    return EventEntry(
        id=event.id,
        type=event.type,
        outcome=ABSENT,
        created=datetime.fromtimestamp(event.created, UTC),
        account_id=objects.account_id_of(source),
        customer_id=objects.reference(source, "customer"),
    )
