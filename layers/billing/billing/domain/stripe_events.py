"""Stripe's events: what each type tells us. No event is trusted to be the newest; `sightings` decides that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from billing.domain import stripe_objects
from billing.domain.errors import EventUnidentified, EventUnprocessable
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.sightings import Sighting
from billing.domain.stripe_objects import Json
from billing.domain.subscriptions import Subscription


class Outcome(StrEnum):
    """What became of an event, as its marker records it."""

    APPLIED = "applied"
    """A row was written, from the snapshot or from a fetch."""
    INCLUDED = "included"
    """Nothing to write: what is stored already includes it."""
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


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """The envelope of an Event object. `connected_account` is set for events of Stripe Connect accounts."""

    id: str
    type: str
    created: datetime
    livemode: bool
    connected_account: str | None
    api_version: str | None
    object: Json


type Snapshot = Subscription | Invoice


@dataclass(frozen=True, slots=True)
class Target:
    """One row an event is about. Without a snapshot the event only names it."""

    kind: type[Subscription] | type[Invoice]
    id: str
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What an event tells: of which customer, perhaps of which account, about which rows."""

    customer_id: str
    account_id: str | None
    targets: tuple[Target, ...] = ()
    ends_checkout: str | None = None
    customer_deleted: bool = False


def identify(payload: object) -> tuple[str, Json]:
    """The id of a delivery, and the delivery as an object. Raises EventUnidentified."""
    if not isinstance(payload, Mapping):
        raise EventUnidentified("The body is not a JSON object")
    try:
        return stripe_objects.required_id(payload, "id"), payload
    except EventUnprocessable as error:
        raise EventUnidentified(f"The event cannot be identified: {error}") from error


def read_event(payload: Json) -> StripeEvent:
    """The envelope of a delivery. Raises EventUnprocessable naming what is impossible in it."""
    data = stripe_objects.mapping(payload, "data")
    return StripeEvent(
        id=stripe_objects.required_id(payload, "id"),
        type=stripe_objects.required_text(payload, "type"),
        created=stripe_objects.required_time(payload, "created"),
        livemode=stripe_objects.boolean(payload, "livemode"),
        connected_account=stripe_objects.text(payload, "account"),
        api_version=stripe_objects.text(payload, "api_version"),
        object=stripe_objects.mapping(data, "object"),
    )


def is_foreign(event: StripeEvent, *, livemode: bool) -> bool:
    """Whether the event is of the other mode, or of an account connected to ours."""
    return event.livemode is not livemode or event.connected_account is not None


def read_notice(event: StripeEvent, catalog: Catalog) -> Notice | None:
    """What the event tells us; None if its type or object is none of ours. Raises EventUnprocessable."""
    reader = READERS.get(event.type)
    if reader is None:
        return None
    if not event.object:
        raise EventUnprocessable("data.object is missing")
    return reader(event.object, catalog)


def _subscription_notice(source: Json, catalog: Catalog) -> Notice:
    snapshot = stripe_objects.read_subscription(source, catalog)
    return _notice(source, snapshot.customer_id, Target(Subscription, snapshot.id, snapshot))


def _invoice_notice(source: Json, _catalog: Catalog) -> Notice | None:
    if source.get("customer") is None or source.get("id") is None:
        return None
    snapshot = stripe_objects.read_invoice(source)
    return _notice(source, snapshot.customer_id, Target(Invoice, snapshot.id, snapshot))


def _failed_invoice_notice(source: Json, catalog: Catalog) -> Notice | None:
    notice = _invoice_notice(source, catalog)
    subscription_id = stripe_objects.invoice_subscription_id(source)
    if notice is None or subscription_id is None:
        return notice
    return replace(notice, targets=(*notice.targets, Target(Subscription, subscription_id)))


def _checkout_notice(source: Json, _catalog: Catalog) -> Notice | None:
    if stripe_objects.text(source, "mode") != "subscription":
        return None
    customer_id = stripe_objects.reference(source, "customer")
    if customer_id is None:
        return None
    subscription_id = stripe_objects.reference(source, "subscription")
    targets = (Target(Subscription, subscription_id),) if subscription_id else ()
    notice = _notice(source, customer_id, *targets)
    return replace(notice, ends_checkout=stripe_objects.required_id(source, "id"))


def _customer_deleted_notice(source: Json, _catalog: Catalog) -> Notice:
    return replace(_notice(source, stripe_objects.required_id(source, "id")), customer_deleted=True)


def _notice(source: Json, customer_id: str, *targets: Target) -> Notice:
    account_id = stripe_objects.account_id_of(source)
    return Notice(customer_id, account_id, targets)


# https://docs.stripe.com/api/events/types, and what each is to us
READERS: Mapping[str, Callable[[Json, Catalog], Notice | None]] = {
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


def settle[S: Snapshot](snapshot: S, known: Sighting[S] | None, event_created: datetime) -> S:
    """The snapshot with what we derive of it and the row: an unmapped price's plan, since when it is past due."""
    if not isinstance(snapshot, Subscription):
        return snapshot
    before = known.content if known is not None and isinstance(known.content, Subscription) else None
    plan = before.plan if before and not snapshot.price_is_mapped else snapshot.plan
    since = None
    if snapshot.status == "past_due":
        since = (before.past_due_since if before else None) or event_created
    return replace(snapshot, plan=plan, past_due_since=since)
