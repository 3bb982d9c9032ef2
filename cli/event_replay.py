"""Stripe's own events: listed beside what the table has of them, shown, and processed once more.

An event that is processed again goes through the very code that takes it from the webhook, so doing it twice, or
beside a delivery, does it once.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import TYPE_CHECKING, Any

import stripe

from billing.adapters.stripe_gateway import StripeGateway, connect
from billing.catalog import load_catalog
from billing.domain.errors import EventUnidentified
from billing.services.event_processor import EventProcessor
from billing.stripe_events import objects
from billing.stripe_events.event_types import EVENT_PARSERS
from billing.stripe_events.eventbridge import stripe_event
from cli.deployment import Deployment
from cli.event_log import Entry, Found, Question
from cli.setup import stripe_key

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

PAGE_SIZE = 100
NOT_FOUND = 404
WAIT_SECONDS = 2
"""For SQS to ask all its servers: a receive that does not wait may find nothing where there is something."""
RECEIVES_WITHOUT_NEWS = 3
"""After so many in a row the queue is taken for empty: a receive may also bring only what was seen before."""
# What of an event's object is shown: nothing that says who a customer is.
SHOWN = (
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
    "created",
)


@dataclass(frozen=True, slots=True)
class Replayer:
    """A deployment's table and its Stripe."""

    deployment: Deployment
    client: stripe.StripeClient

    @classmethod
    def connected(cls, deployment: Deployment) -> "Replayer":
        """With the key that the deployment has. Raises CommandFailed."""
        key = stripe_key(deployment.load_secret(deployment.stripe_secret_arn), deployment)
        return cls(deployment, connect(key, os.environ.get("STRIPE_API_BASE") or deployment.stripe_api_base))

    def listed(self, question: Question) -> Iterator[Entry]:
        """Stripe's list of the events that are handled, latest first, with what the table has of each."""
        wanted: Any = {
            "types": [question.type] if question.type else sorted(EVENT_PARSERS),
            "created": {"gte": int(question.since.timestamp()), "lte": int(question.until.timestamp())},
            "limit": PAGE_SIZE,
        }
        events = self.client.v1.events.list(wanted)
        for page in batched(events.auto_paging_iter(), PAGE_SIZE, strict=False):
            markers = self.deployment.repository().find_markers(event.id for event in page)
            entries = (Entry.of(markers[each.id]) if each.id in markers else _absent(each) for each in page)
            yield from filter(question.includes, entries)

    def find(self, event_id: str) -> Mapping[str, Any] | None:
        """An event as Stripe has it, for thirty days; None if it does not. A thin one is among those of API v2."""
        for events in (self.client.v1.events, self.client.v2.core.events):
            try:
                return events.retrieve(event_id).to_dict()
            except stripe.InvalidRequestError as error:
                if error.http_status != NOT_FOUND:
                    raise
        return None

    def replay(self, event_id: str) -> str | None:
        """Process an event once more; its outcome now, None if Stripe does not have it any more."""
        event = self.find(event_id)
        return None if event is None else self._processor().process(event)

    def redriven(self) -> Iterator[tuple[str, str | None]]:
        """Process what lies in the dead-letter queue, and take it out: each event's id and outcome.

        A message without an event stays, and is told with its own id and None.
        """
        seen = set[str]()
        without_news = 0
        while without_news < RECEIVES_WITHOUT_NEWS:
            fresh = [message for message in self._received() if message["MessageId"] not in seen]
            seen.update(message["MessageId"] for message in fresh)
            without_news = 0 if fresh else without_news + 1
            yield from map(self._redrive, fresh)

    def _received(self) -> "Sequence[MessageTypeDef]":
        answer = self.deployment.queue().receive_message(
            QueueUrl=self.deployment.dead_letters_url or "", MaxNumberOfMessages=10, WaitTimeSeconds=WAIT_SECONDS
        )
        return answer.get("Messages", ())

    def _redrive(self, message: "MessageTypeDef") -> tuple[str, str | None]:
        try:
            event = stripe_event(json.loads(message["Body"]))
            outcome = self._processor().process(event)
        except (EventUnidentified, ValueError):
            return message["MessageId"], None
        url = self.deployment.dead_letters_url or ""
        self.deployment.queue().delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return str(event["id"]), outcome

    def _processor(self) -> EventProcessor:
        gateway, catalog = StripeGateway(self.client), load_catalog()
        return EventProcessor(
            self.deployment.repository(),
            catalog,
            lambda target: gateway.fetch(target, catalog),
            self.deployment.livemode,
            look_up=gateway.look_up,
            may_assign_customer=lambda customer_id: not gateway.is_customer_deleted(customer_id),
        )


def summary(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an operator has to know of an event, without anything that says who the customer is."""
    source = objects.mapping(objects.mapping(event, "data"), "object")
    told = {name: event.get(name) for name in ("id", "type", "created", "api_version", "livemode", "pending_webhooks")}
    shown = {name: source[name] for name in SHOWN if isinstance(source.get(name), str | int | bool)}
    changed = objects.mapping(objects.mapping(event, "data"), "previous_attributes")
    return {
        **told,
        "object": shown,
        "account_id": objects.account_id_of(source),
        "changed": sorted(changed),
        "related_object": event.get("related_object"),
    }


def _absent(event: stripe.Event) -> Entry:
    source: Any = event.data.object.to_dict()
    return Entry(
        id=event.id,
        type=event.type,
        found=Found.ABSENT,
        created=datetime.fromtimestamp(event.created, UTC),
        account_id=objects.account_id_of(source),
        customer_id=objects.reference(source, "customer"),
    )
