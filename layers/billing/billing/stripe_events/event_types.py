"""Event types of Stripe: a table of parsers, and the values that they return.

No event is assumed to be the newest one. `ordering.py` decides that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from billing.domain.deployment import Deployment
from billing.domain.errors import EventUnidentified, EventUnprocessable
from billing.domain.identifiers import is_id
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.subscriptions import UNKNOWN_CHANGE, Subscription
from billing.stripe_events import objects
from billing.stripe_events.objects import Json
from billing.stripe_events.ordering import StoredObject

THIN_EVENT = "v2.core.event"
"""`object` of a thin event, which names the changed object instead of carrying it."""
THIN_V1_PREFIX = "v1."
"""Type prefix of a thin event about an API v1 object. The rest is the type of the equivalent snapshot event."""

ID_ONLY_TYPES = frozenset({"customer"})
"""Object types of which an id is enough. A thin event may name a deleted customer, of which nothing else is left."""

CLIENT_REFERENCE_TYPES = frozenset({"checkout.session.completed", "checkout.session.async_payment_succeeded"})
"""Event types of which the `client_reference_id` can name the account."""


class EventOutcome(StrEnum):
    """Result of processing an event, as its marker stores it."""

    APPLIED = "applied"
    """A row or the profile has new content, from the snapshot or from a fetch."""
    NO_CHANGE = "no_change"
    """The stored state already included the event."""
    IGNORED = "ignored"
    """The event is out of scope: unhandled type, another mode, deployment or Stripe account, or no subscription."""
    UNKNOWN_CUSTOMER = "unknown_customer"
    """No account has the event's customer."""
    CUSTOMER_CONFLICT = "customer_conflict"
    """The metadata names an account that has another customer."""
    MISSING = "missing"
    """Stripe no longer has an object that had to be fetched."""
    FAILED = "failed"
    """The event or an object cannot be parsed."""
    DUPLICATE = "duplicate"
    """The event was processed before, with a final outcome. This outcome is returned, never stored."""

    @property
    def is_final(self) -> bool:
        """True if processing the event again changes nothing. With another outcome it is processed again."""
        return self in {EventOutcome.APPLIED, EventOutcome.NO_CHANGE, EventOutcome.IGNORED, EventOutcome.DUPLICATE}


# --- Objects of events ------------------------------------------------------------------------------------------------

type Snapshot = Subscription | Invoice
"""State of one of Stripe's objects, as an event carries it, Stripe returns it or a row stores it."""


@dataclass(frozen=True, slots=True)
class FetchedObject:
    """An object fetched from Stripe, and an interval of Stripe's clock within which `content` was its state.

    Attributes:
        account_id: Account in the object's metadata.
        deployment_id: Deployment in the object's metadata.
    """

    content: Snapshot
    seen_from: datetime
    seen_to: datetime
    account_id: str | None = None
    deployment_id: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Reference to an object that an event is about, and that has a row.

    Attributes:
        kind: Class of the object.
        id: Id in Stripe.
        snapshot: State that the event carries; None if the event only names the object.
        fetch_required: True if `snapshot` only says where the row is stored. It may be older than the event, so the
            object has to be fetched.
        always_fetched: True if the event is about a related object whose state the row contains too, such as the
            subscription's schedule. The row's interval does not apply to it, so the object is fetched even if the row
            is newer.
    """

    kind: type[Subscription] | type[Invoice]
    id: str
    snapshot: Snapshot | None = None
    fetch_required: bool = False
    always_fetched: bool = False


@dataclass(frozen=True, slots=True)
class RelatedObject:
    """Object that a thin event names.

    Attributes:
        type: Value of the object's `object` field, for example "checkout.session".
        id: Id in Stripe.
    """

    type: str
    id: str


# --- Events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """An event before its object is parsed.

    Attributes:
        id: Id of the event.
        type: Event type.
        created: Time of the event, by Stripe's clock.
        livemode: True for live mode.
        connected_account: Stripe account of the event, if it is not the one that the deployment uses.
        object: `data.object` of the event. Empty for a thin event until the related object is looked up.
        related: Object that a thin event names.
    """

    id: str
    type: str
    created: datetime
    livemode: bool
    connected_account: str | None
    object: Json
    related: RelatedObject | None = None

    @property
    def snapshot_type(self) -> str:
        """Type of the snapshot event about the same change."""
        is_thin_v1 = self.related is not None and self.type.startswith(THIN_V1_PREFIX)
        return self.type.removeprefix(THIN_V1_PREFIX) if is_thin_v1 else self.type

    @property
    def parser(self) -> "EventParser | None":
        """Parser of the object; None if the event type is not handled."""
        return EVENT_PARSERS.get(self.snapshot_type)


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """Content of an event.

    Attributes:
        customer_id: Stripe customer of the object.
        account_id: Account in the object's metadata, or in the `client_reference_id` of a Checkout Session.
        targets: Objects whose rows the event may change.
        deployment_id: Deployment in the object's metadata.
        ended_checkout_id: Checkout Session that is no longer open.
        customer_deleted: True if the customer was deleted.
        ended_if_missing: True if a subscription that Stripe no longer has is treated as ended.
    """

    customer_id: str
    account_id: str | None
    targets: tuple[ObjectRef, ...] = ()
    deployment_id: str | None = None
    ended_checkout_id: str | None = None
    customer_deleted: bool = False
    ended_if_missing: bool = False


def identify(payload: object) -> tuple[str, Json]:
    """Return the event id of a payload, and the payload as a JSON object.

    Raises:
        EventUnidentified: The payload is not an object, or has no usable id.
    """
    if not isinstance(payload, Mapping):
        raise EventUnidentified("The body is not a JSON object")
    try:
        return objects.required_id(payload, "id"), payload
    except EventUnprocessable as error:
        raise EventUnidentified(f"The event has no usable id: {error}") from error


def parse_envelope(payload: Json) -> StripeEvent:
    """Parse an Event object, except for the object that it is about.

    Raises:
        EventUnprocessable: A field is missing or has an impossible value.
    """
    if payload.get("object") == THIN_EVENT:
        return _parse_thin_envelope(payload)
    data = objects.mapping(payload, "data")
    return StripeEvent(
        id=objects.required_id(payload, "id"),
        type=objects.required_text(payload, "type"),
        created=objects.required_time(payload, "created"),
        livemode=objects.boolean(payload, "livemode"),
        connected_account=_other_account(payload),
        object=objects.mapping(data, "object"),
    )


def _parse_thin_envelope(payload: Json) -> StripeEvent:
    """Parse a thin event (https://docs.stripe.com/event-destinations)."""
    related = objects.mapping(payload, "related_object")
    return StripeEvent(
        id=objects.required_id(payload, "id"),
        type=objects.required_text(payload, "type"),
        created=objects.required_iso_time(payload, "created"),
        livemode=objects.boolean(payload, "livemode"),
        connected_account=_other_account(payload),
        object={},
        related=RelatedObject(objects.required_text(related, "type"), objects.required_id(related, "id"))
        if related
        else None,
    )


def _other_account(payload: Json) -> str | None:
    """Return the connected account (`account`) or the account of an organization (`context`) of an event.

    Both fields occur in snapshot events and in thin events. An event of the deployment's own account has neither.
    """
    return objects.text(payload, "context") or objects.text(payload, "account")


def is_out_of_scope(event: StripeEvent, deployment: Deployment) -> bool:
    """Return True if the event is of the other mode, of another Stripe account or of another deployment.

    A thin event names a deployment only after its related object was looked up.

    Raises:
        EventUnprocessable: The metadata of the object is malformed.
    """
    return (
        event.livemode is not deployment.livemode
        or event.connected_account is not None
        or deployment.excludes(objects.deployment_id_of(event.object))
    )


def parse_event(event: StripeEvent, catalog: Catalog, deployment: Deployment) -> ParsedEvent | None:
    """Parse the object of an event.

    The object of a thin event is looked up before its row is read. Its state is therefore no evidence, and a fetch is
    required.

    Returns:
        The content of the event, or None if its type or object is not handled.

    Raises:
        EventUnprocessable: A field is missing or has an impossible value.
    """
    if event.parser is None:
        return None
    if not event.object:
        raise EventUnprocessable("data.object is missing")
    try:
        parsed = event.parser(event.object, catalog)
    except EventUnprocessable as error:
        raise EventUnprocessable(f"data.object: {error}") from error
    if parsed and parsed.account_id is None and deployment.links_by_client_reference:
        parsed = replace(parsed, account_id=_client_reference(event))
    return _require_fetch(parsed) if parsed and event.related else parsed


def _client_reference(event: StripeEvent) -> str | None:
    """Return the account in the `client_reference_id` of a Checkout Session; None for a session that is not paid."""
    if event.snapshot_type not in CLIENT_REFERENCE_TYPES or event.object.get("payment_status") == "unpaid":
        return None
    value = event.object.get("client_reference_id")
    return value if isinstance(value, str) and is_id(value) else None


def _require_fetch(parsed: ParsedEvent) -> ParsedEvent:
    """Return the event with a fetch required for each of its objects."""
    return replace(parsed, targets=tuple(replace(target, fetch_required=True) for target in parsed.targets))


# --- Parsers ----------------------------------------------------------------------------------------------------------


def _parse_subscription_event(source: Json, catalog: Catalog) -> ParsedEvent:
    snapshot = objects.parse_subscription(source, catalog)
    return _parsed_event(source, snapshot.customer_id, ObjectRef(Subscription, snapshot.id, snapshot))


def _parse_invoice_event(source: Json, _catalog: Catalog) -> ParsedEvent | None:
    if source.get("customer") is None or source.get("id") is None:
        return None
    snapshot = objects.parse_invoice(source)
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
    return replace(parsed, ended_checkout_id=objects.required_id(source, "id"))


def _parse_schedule_event(source: Json, _catalog: Catalog) -> ParsedEvent | None:
    subscription_id = objects.schedule_subscription_id(source)
    if subscription_id is None:
        return None
    target = ObjectRef(Subscription, subscription_id, always_fetched=True)
    return _parsed_event(source, objects.required_reference(source, "customer"), target)


def _parse_customer_deleted_event(source: Json, _catalog: Catalog) -> ParsedEvent:
    parsed = _parsed_event(source, objects.required_id(source, "id"))
    return replace(parsed, customer_deleted=True, ended_if_missing=True)


def _parsed_event(source: Json, customer_id: str, *targets: ObjectRef) -> ParsedEvent:
    return ParsedEvent(customer_id, objects.account_id_of(source), targets, objects.deployment_id_of(source))


type EventParser = Callable[[Json, Catalog], ParsedEvent | None]

# Event types that are handled: https://docs.stripe.com/api/events/types
# `billing setup` subscribes to these types, and reconciliation lists them. To handle another type, add a line here
# and a sample to events/stripe/.
EVENT_PARSERS: Mapping[str, EventParser] = {
    # A Checkout Session is no longer open. If it was paid, it names the new subscription, without its state.
    "checkout.session.completed": _parse_checkout_event,
    "checkout.session.async_payment_succeeded": _parse_checkout_event,
    "checkout.session.async_payment_failed": _parse_checkout_event,
    "checkout.session.expired": _parse_checkout_event,
    # The subscription with its complete state: plan, status, period and cancellation.
    "customer.subscription.created": _parse_subscription_event,
    "customer.subscription.updated": _parse_subscription_event,
    "customer.subscription.deleted": _parse_subscription_event,
    "customer.subscription.paused": _parse_subscription_event,
    "customer.subscription.resumed": _parse_subscription_event,
    "customer.subscription.trial_will_end": _parse_subscription_event,
    # The schedule of a subscription, which changes its plan or quantity later. The subscription's own events contain
    # only the id of the schedule.
    "subscription_schedule.aborted": _parse_schedule_event,
    "subscription_schedule.canceled": _parse_schedule_event,
    "subscription_schedule.completed": _parse_schedule_event,
    "subscription_schedule.created": _parse_schedule_event,
    "subscription_schedule.expiring": _parse_schedule_event,
    "subscription_schedule.released": _parse_schedule_event,
    "subscription_schedule.updated": _parse_schedule_event,
    # The invoice with its complete state, for the list of invoices.
    "invoice.finalized": _parse_invoice_event,
    "invoice.paid": _parse_invoice_event,
    "invoice.payment_succeeded": _parse_invoice_event,
    "invoice.payment_action_required": _parse_invoice_event,
    "invoice.updated": _parse_invoice_event,
    "invoice.voided": _parse_invoice_event,
    "invoice.marked_uncollectible": _parse_invoice_event,
    # The invoice, and often the first evidence that its subscription is `past_due`.
    "invoice.payment_failed": _parse_payment_failed_event,
    # The subscriptions of the customer end, and the account needs another customer for its next checkout.
    "customer.deleted": _parse_customer_deleted_event,
}


# --- Derived fields ---------------------------------------------------------------------------------------------------


def is_change_unknown(snapshot: Snapshot, stored: StoredObject[Snapshot] | None) -> bool:
    """Return True if only a fetch shows the pending change of a subscription.

    A snapshot contains the id of the schedule alone. The stored change applies while the schedule is the same and none
    of its phases has begun since.
    """
    if not isinstance(snapshot, Subscription) or snapshot.pending_change != UNKNOWN_CHANGE:
        return False
    before = stored.content if stored is not None else None
    return not isinstance(before, Subscription) or not snapshot.has_same_schedule(before)


def is_past_due(snapshot: Snapshot) -> bool:
    """Return True for a subscription whose payment failed and is retried."""
    return isinstance(snapshot, Subscription) and snapshot.status == "past_due"


def derive_fields[S: Snapshot](
    snapshot: S, stored: StoredObject[S] | None, observed_at: datetime, conflicting_account_id: str | None = None
) -> S:
    """Add the fields of a subscription that Stripe does not have.

    | field                    | value                                                                                 |
    |--------------------------|---------------------------------------------------------------------------------------|
    | `plan`                   | the stored plan, if the catalog does not contain the price                            |
    | `pending_change`         | the stored change, if the snapshot has the schedule of the row without its phases     |
    | `past_due_since`         | while the status is `past_due`: the stored value, or `observed_at` if there is none   |
    | `conflicting_account_id` | `conflicting_account_id`, until the subscription ends                                 |

    Args:
        snapshot: State from Stripe.
        stored: Row as it was read; None if no row is stored.
        observed_at: Earliest time at which the event or fetch shows this state.
        conflicting_account_id: Result of `account_matching.find_conflict`.
    """
    if not isinstance(snapshot, Subscription):
        return snapshot
    before = stored.content if stored is not None and isinstance(stored.content, Subscription) else None
    plan = before.plan if before and not snapshot.price_is_mapped else snapshot.plan
    past_due_since = None
    if is_past_due(snapshot):
        past_due_since = (before.past_due_since if before else None) or observed_at
    pending_change = snapshot.pending_change
    if before and pending_change == UNKNOWN_CHANGE and not is_change_unknown(snapshot, stored):
        pending_change = before.pending_change
    conflict = None if snapshot.has_ended else conflicting_account_id
    return replace(
        snapshot,
        plan=plan,
        pending_change=pending_change,
        past_due_since=past_due_since,
        conflicting_account_id=conflict,
    )
