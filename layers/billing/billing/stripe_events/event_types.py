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
from billing.stripe_events.ordering import Sighting


class Outcome(StrEnum):
    """What became of an event, as its marker records it."""

    APPLIED = "applied"
    """It told news: a row has another content by it, from the snapshot or from a fetch."""
    INCLUDED = "included"
    """It told no news: what is stored already included it."""
    IGNORED = "ignored"
    """Not ours: a type we do not handle, another mode, a connected account, no subscription."""
    UNMATCHED = "unmatched"
    """Of a customer that no account has; processed again when it is seen again."""
    MISMATCHED = "mismatched"
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
        return self in {Outcome.APPLIED, Outcome.INCLUDED, Outcome.IGNORED, Outcome.DUPLICATE}


THIN = "v2.core.event"
"""What the `object` of a thin event says: one that names what changed instead of carrying it."""
THIN_OF_V1 = "v1."
"""Begins the type of a thin event about an object of API v1; what follows is the type of its ordinary event."""

TOLD_BY_ID = frozenset({"customer"})
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
    def reader(self) -> "Reader | None":
        """What reads the object; None for a type that is not handled."""
        is_of_v1 = self.related is not None and self.type.startswith(THIN_OF_V1)
        return READERS.get(self.type.removeprefix(THIN_OF_V1) if is_of_v1 else self.type)


type Snapshot = Subscription | Invoice


@dataclass(frozen=True, slots=True)
class Target:
    """One row an event is about. Without a snapshot the event only names it.

    `names_only`: so it does with this one, which says where the row lies and is no proof of Stripe's state.
    """

    kind: type[Subscription] | type[Invoice]
    id: str
    snapshot: Snapshot | None = None
    names_only: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """What an event tells: of which customer, perhaps of which account, about which rows.

    `missing_has_ended`: a subscription of them that Stripe does not have has ended.
    """

    customer_id: str
    account_id: str | None
    targets: tuple[Target, ...] = ()
    ends_checkout: str | None = None
    customer_deleted: bool = False
    missing_has_ended: bool = False


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


def is_foreign(event: StripeEvent, *, livemode: bool) -> bool:
    """Whether the event is of the other mode, or of an account connected to ours."""
    return event.livemode is not livemode or event.connected_account is not None


def read_notice(event: StripeEvent, catalog: Catalog) -> Notice | None:
    """What the event tells us; None if its type or object is none of ours. Raises EventUnprocessable."""
    if event.reader is None:
        return None
    if not event.object:
        raise EventUnprocessable("data.object is missing")
    try:
        notice = event.reader(event.object, catalog)
    except EventUnprocessable as error:
        raise EventUnprocessable(f"data.object: {error}") from error
    return _naming_only(notice) if notice and event.related else notice


def _naming_only(notice: Notice) -> Notice:
    """The notice of an object that was looked up before its row was read, and so proves nothing about it."""
    return replace(notice, targets=tuple(replace(target, names_only=True) for target in notice.targets))


def _subscription_notice(source: Json, catalog: Catalog) -> Notice:
    snapshot = objects.read_subscription(source, catalog)
    return _notice(source, snapshot.customer_id, Target(Subscription, snapshot.id, snapshot))


def _invoice_notice(source: Json, _catalog: Catalog) -> Notice | None:
    if source.get("customer") is None or source.get("id") is None:
        return None
    snapshot = objects.read_invoice(source)
    return _notice(source, snapshot.customer_id, Target(Invoice, snapshot.id, snapshot))


def _failed_invoice_notice(source: Json, catalog: Catalog) -> Notice | None:
    notice = _invoice_notice(source, catalog)
    subscription_id = objects.invoice_subscription_id(source)
    if notice is None or subscription_id is None:
        return notice
    return replace(notice, targets=(*notice.targets, Target(Subscription, subscription_id)))


def _checkout_notice(source: Json, _catalog: Catalog) -> Notice | None:
    if objects.text(source, "mode") != "subscription":
        return None
    customer_id = objects.reference(source, "customer")
    if customer_id is None:
        return None
    subscription_id = objects.reference(source, "subscription")
    targets = (Target(Subscription, subscription_id),) if subscription_id else ()
    notice = _notice(source, customer_id, *targets)
    return replace(notice, ends_checkout=objects.required_id(source, "id"))


def _customer_deleted_notice(source: Json, _catalog: Catalog) -> Notice:
    notice = _notice(source, objects.required_id(source, "id"))
    return replace(notice, customer_deleted=True, missing_has_ended=True)


def _notice(source: Json, customer_id: str, *targets: Target) -> Notice:
    account_id = objects.account_id_of(source)
    return Notice(customer_id, account_id, targets)


type Reader = Callable[[Json, Catalog], Notice | None]

# https://docs.stripe.com/api/events/types, and what each is to us
READERS: Mapping[str, Reader] = {
    # Somebody paid, or did not after all: the session names the subscription, and is no longer open.
    "checkout.session.completed": _checkout_notice,
    "checkout.session.async_payment_succeeded": _checkout_notice,
    "checkout.session.async_payment_failed": _checkout_notice,
    "checkout.session.expired": _checkout_notice,
    # The subscription itself, whole: the source of plan, status, period and cancellation.
    "customer.subscription.created": _subscription_notice,
    "customer.subscription.updated": _subscription_notice,
    "customer.subscription.deleted": _subscription_notice,
    "customer.subscription.paused": _subscription_notice,
    "customer.subscription.resumed": _subscription_notice,
    "customer.subscription.trial_will_end": _subscription_notice,
    # The invoice list.
    "invoice.finalized": _invoice_notice,
    "invoice.paid": _invoice_notice,
    "invoice.payment_succeeded": _invoice_notice,
    "invoice.payment_action_required": _invoice_notice,
    "invoice.updated": _invoice_notice,
    "invoice.voided": _invoice_notice,
    "invoice.marked_uncollectible": _invoice_notice,
    # Also the first to tell that the subscription it names is past due.
    "invoice.payment_failed": _failed_invoice_notice,
    # Its subscriptions end with it, and the account needs another customer for its next checkout.
    "customer.deleted": _customer_deleted_notice,
}


def is_past_due(snapshot: Snapshot) -> bool:
    """Whether it shows a subscription whose payment failed and may still be made."""
    return isinstance(snapshot, Subscription) and snapshot.status == "past_due"


def settle[S: Snapshot](snapshot: S, known: Sighting[S] | None, shown: datetime) -> S:
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
