"""Stripe's events: what each type tells us. No event is trusted to be the newest; `sightings` decides that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from billing.domain.errors import EventUnidentified, EventUnprocessable
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.stripe_events import objects
from billing.stripe_events.objects import Json
from billing.stripe_events.ordering import StoredObject


class EventOutcome(StrEnum):
    """What became of an event, as its marker records it."""

    APPLIED = "applied"
    """It told news: a row has another content by it, from the snapshot or from a fetch."""
    NO_CHANGE = "no_change"
    """It told no news: what is stored already included it."""
    IGNORED = "ignored"
    """Not ours: a type we do not handle, another mode, a connected account, no subscription."""
    UNKNOWN_CUSTOMER = "unknown_customer"
    """Of a customer that no account has; processed again when it is seen again."""
    CUSTOMER_CONFLICT = "customer_conflict"
    """Names an account that has another customer: not applied."""
    MISSING = "missing"
    """Stripe does not have the object any more that had to be fetched."""
    FAILED = "failed"
    """Can never be processed: its object is not what its type says."""
    DUPLICATE = "duplicate"
    """Processed before; only ever answered, never recorded."""

    @property
    def is_final(self) -> bool:
        """Whether seeing the event once more changes nothing. The others are worth another look."""
        return self in {EventOutcome.APPLIED, EventOutcome.NO_CHANGE, EventOutcome.IGNORED, EventOutcome.DUPLICATE}


THIN = "v2.core.event"
"""What the `object` of a thin event says: one that names what changed instead of carrying it."""
THIN_OF_V1 = "v1."
"""Begins the type of a thin event about an object of API v1; what follows is the type of its ordinary event."""

ID_ONLY_TYPES = frozenset({"customer"})
"""Objects of which an event needs no more than the id: all that is left of a customer that is gone."""


@dataclass(frozen=True, slots=True)
class RelatedObject:
    """What a thin event is about: `type` is what the `object` of Stripe's object says, as in "checkout.session"."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """The envelope of an event. `connected_account` is set for events of Stripe Connect accounts.

    A thin event has a `related` object, and no `object` of its own before that was looked up.
    """

    id: str
    type: str
    created: datetime
    livemode: bool
    connected_account: str | None
    api_version: str | None
    object: Json
    related: RelatedObject | None = None

    @property
    def reader(self) -> "EventParser | None":
        """What reads the object; None for a type that is not handled."""
        is_of_v1 = self.related is not None and self.type.startswith(THIN_OF_V1)
        return EVENT_PARSERS.get(self.type.removeprefix(THIN_OF_V1) if is_of_v1 else self.type)


type Snapshot = Subscription | Invoice


@dataclass(frozen=True, slots=True)
class FetchedObject:
    """An object fetched from Stripe, and the interval of Stripe's clock in which it was Stripe's state."""

    content: Snapshot
    seen_from: datetime
    seen_to: datetime


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One row an event is about. Without a snapshot the event only names it.

    `fetch_required`: so it does with this one, which says where the row lies and is no proof of Stripe's state.
    """

    kind: type[Subscription] | type[Invoice]
    id: str
    snapshot: Snapshot | None = None
    fetch_required: bool = False


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """What an event tells: of which customer, perhaps of which account, about which rows.

    `missing_has_ended`: a subscription of them that Stripe does not have has ended.
    """

    customer_id: str
    account_id: str | None
    targets: tuple[ObjectRef, ...] = ()
    ends_checkout: str | None = None
    customer_deleted: bool = False
    ended_if_missing: bool = False


def identify(payload: object) -> tuple[str, Json]:
    """The id of a delivery, and the delivery as an object. Raises EventUnidentified."""
    if not isinstance(payload, Mapping):
        raise EventUnidentified("The body is not a JSON object")
    try:
        return objects.required_id(payload, "id"), payload
    except EventUnprocessable as error:
        raise EventUnidentified(f"The event cannot be identified: {error}") from error


def read_event(payload: Json) -> StripeEvent:
    """The envelope of a delivery. Raises EventUnprocessable naming what is impossible in it."""
    if payload.get("object") == THIN:
        return _read_thin_event(payload)
    data = objects.mapping(payload, "data")
    return StripeEvent(
        id=objects.required_id(payload, "id"),
        type=objects.required_text(payload, "type"),
        created=objects.required_time(payload, "created"),
        livemode=objects.boolean(payload, "livemode"),
        connected_account=objects.text(payload, "account"),
        api_version=objects.text(payload, "api_version"),
        object=objects.mapping(data, "object"),
    )


def _read_thin_event(payload: Json) -> StripeEvent:
    """An event notification (https://docs.stripe.com/event-destinations). Its `context` is another account's."""
    related = objects.mapping(payload, "related_object")
    return StripeEvent(
        id=objects.required_id(payload, "id"),
        type=objects.required_text(payload, "type"),
        created=objects.required_iso_time(payload, "created"),
        livemode=objects.boolean(payload, "livemode"),
        connected_account=objects.text(payload, "context"),
        api_version=None,
        object={},
        related=RelatedObject(objects.required_text(related, "type"), objects.required_id(related, "id"))
        if related
        else None,
    )


def is_out_of_scope(event: StripeEvent, *, livemode: bool) -> bool:
    """Whether the event is of the other mode, or of an account connected to ours."""
    return event.livemode is not livemode or event.connected_account is not None


def parse_event(event: StripeEvent, catalog: Catalog) -> ParsedEvent | None:
    """What the event tells us; None if its type or object is none of ours. Raises EventUnprocessable."""
    if event.reader is None:
        return None
    if not event.object:
        raise EventUnprocessable("data.object is missing")
    try:
        parsed = event.reader(event.object, catalog)
    except EventUnprocessable as error:
        raise EventUnprocessable(f"data.object: {error}") from error
    return _require_fetch(parsed) if parsed and event.related else parsed


def _require_fetch(parsed: ParsedEvent) -> ParsedEvent:
    """The notice of an object that was looked up before its row was read, and so proves nothing about it."""
    return replace(parsed, targets=tuple(replace(target, fetch_required=True) for target in parsed.targets))


def _parse_subscription_event(source: Json, catalog: Catalog) -> ParsedEvent:
    snapshot = objects.read_subscription(source, catalog)
    return _parsed_event(source, snapshot.customer_id, ObjectRef(Subscription, snapshot.id, snapshot))


def _parse_invoice_event(source: Json, _catalog: Catalog) -> ParsedEvent | None:
    if source.get("customer") is None or source.get("id") is None:
        return None
    snapshot = objects.read_invoice(source)
    return _parsed_event(source, snapshot.customer_id, ObjectRef(Invoice, snapshot.id, snapshot))


def _parse_payment_failed_event(source: Json, catalog: Catalog) -> ParsedEvent | None:
    parsed = _parse_invoice_event(source, catalog)
    subscription_id = objects.invoice_subscription_id(source)
    if parsed is None or subscription_id is None:
        return parsed
    return replace(parsed, targets=(*parsed.targets, ObjectRef(Subscription, subscription_id)))


def _parse_checkout_event(source: Json, _catalog: Catalog) -> ParsedEvent | None:
    if objects.text(source, "mode") != "subscription":
        return None
    customer_id = objects.reference(source, "customer")
    if customer_id is None:
        return None
    subscription_id = objects.reference(source, "subscription")
    targets = (ObjectRef(Subscription, subscription_id),) if subscription_id else ()
    parsed = _parsed_event(source, customer_id, *targets)
    return replace(parsed, ends_checkout=objects.required_id(source, "id"))


def _parse_customer_deleted_event(source: Json, _catalog: Catalog) -> ParsedEvent:
    parsed = _parsed_event(source, objects.required_id(source, "id"))
    return replace(parsed, customer_deleted=True, ended_if_missing=True)


def _parsed_event(source: Json, customer_id: str, *targets: ObjectRef) -> ParsedEvent:
    account_id = objects.account_id_of(source)
    return ParsedEvent(customer_id, account_id, targets)


type EventParser = Callable[[Json, Catalog], ParsedEvent | None]

# https://docs.stripe.com/api/events/types, and what each is to us
EVENT_PARSERS: Mapping[str, EventParser] = {
    # Somebody paid, or did not after all: the session names the subscription, and is no longer open.
    "checkout.session.completed": _parse_checkout_event,
    "checkout.session.async_payment_succeeded": _parse_checkout_event,
    "checkout.session.async_payment_failed": _parse_checkout_event,
    "checkout.session.expired": _parse_checkout_event,
    # The subscription itself, whole: the source of plan, status, period and cancellation.
    "customer.subscription.created": _parse_subscription_event,
    "customer.subscription.updated": _parse_subscription_event,
    "customer.subscription.deleted": _parse_subscription_event,
    "customer.subscription.paused": _parse_subscription_event,
    "customer.subscription.resumed": _parse_subscription_event,
    "customer.subscription.trial_will_end": _parse_subscription_event,
    # The invoice list.
    "invoice.finalized": _parse_invoice_event,
    "invoice.paid": _parse_invoice_event,
    "invoice.payment_succeeded": _parse_invoice_event,
    "invoice.payment_action_required": _parse_invoice_event,
    "invoice.updated": _parse_invoice_event,
    "invoice.voided": _parse_invoice_event,
    "invoice.marked_uncollectible": _parse_invoice_event,
    # Also the first to tell that the subscription it names is past due.
    "invoice.payment_failed": _parse_payment_failed_event,
    # Its subscriptions end with it, and the account needs another customer for its next checkout.
    "customer.deleted": _parse_customer_deleted_event,
}


def is_past_due(snapshot: Snapshot) -> bool:
    """Whether it shows a subscription whose payment failed and may still be made."""
    return isinstance(snapshot, Subscription) and snapshot.status == "past_due"


def derive_fields[S: Snapshot](snapshot: S, known: StoredObject[S] | None, shown: datetime) -> S:
    """The snapshot with what we derive of it and the row: an unmapped price's plan, since when it is past due.

    `shown` is the first time at which it is known to have been so; the row may know an earlier one.
    """
    if not isinstance(snapshot, Subscription):
        return snapshot
    before = known.content if known is not None and isinstance(known.content, Subscription) else None
    plan = before.plan if before and not snapshot.price_is_mapped else snapshot.plan
    since = None
    if is_past_due(snapshot):
        since = (before.past_due_since if before else None) or shown
    return replace(snapshot, plan=plan, past_due_since=since)
