"""Immutable model of Stripe: objects with all their states, and events with timestamps of inexact clocks.

Every change returns a new value. A state of the whole system can therefore be stored, compared and restored.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from billing.domain.invoices import Invoice
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import Snapshot
from billing.stripe_events.objects import (
    account_id_of,
    invoice_subscription_id,
    parse_invoice,
    parse_subscription,
    reference,
)
from billing.stripe_events.ordering import StoredObject
from tests.protocol.model import CATALOG, START, Json


class FrozenDict[K, V](dict[K, V]):
    """A dict that is never changed, so that it has a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def updated(self, changes: dict[K, V]) -> "FrozenDict[K, V]":
        """Return a copy with changed or additional entries."""
        return FrozenDict(self | changes)


@dataclass(frozen=True)
class State:
    """State of an object from the true time `since` on. `content` is None if the object was deleted."""

    content: Snapshot | None
    since: float
    source: Json = field(compare=False)


@dataclass(frozen=True)
class Event:
    """An event.

    Attributes:
        number: Position among all events.
        type: Event type.
        created: Timestamp.
        source: Object that the event carries.
        object_states: For each object that the event is about, the index of its state.
    """

    number: int
    type: str
    created: int
    source: Json = field(compare=False)
    object_states: tuple[tuple[str, int], ...] = ()

    @property
    def id(self) -> str:
        """Id in Stripe."""
        return f"evt_{self.number}"

    @cached_property
    def _hash(self) -> int:
        return hash((self.number, self.type, self.created, self.object_states))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def payload(self) -> dict[str, Any]:
        """Event object that Stripe delivers."""
        envelope = {"id": self.id, "type": self.type, "created": self.created, "livemode": False}
        return envelope | {"data": {"object": self.source}}

    def __str__(self) -> str:
        about = describe(parse(self.source)) if self.source["id"].startswith(("sub_", "in_")) else self.source["id"]
        return f"{self.id}, {self.type}, stamped {second(self.created)}: {about}"


@dataclass(frozen=True)
class Stripe:
    """All objects and events.

    Attributes:
        time: True time.
        states: For each object, all states in order.
        events: All events in order.
        customers: Customers of the account that are not deleted.
    """

    time: float = START
    states: FrozenDict[str, tuple[State, ...]] = field(default_factory=FrozenDict)
    events: tuple[Event, ...] = ()
    customers: tuple[str, ...] = ("cus_1",)

    @cached_property
    def _hash(self) -> int:
        return hash((self.time, self.states, self.events, self.customers))

    def __hash__(self) -> int:
        return self._hash

    def put(self, source: Json, event_type: str, clock_offset: float) -> "Stripe":
        """Change an object, and emit an event.

        Args:
            source: New state of the object.
            event_type: Type of the event.
            clock_offset: Seconds by which the clock of the server that stamps the event is fast.
        """
        return self.change(source).emit(sent(source), event_type, clock_offset)

    def change(self, source: Json) -> "Stripe":
        """Change an object without an event."""
        state = State(parse(source), self.time, source)
        states = (*self.states.get(source["id"], ()), state)
        return replace(self, states=self.states.updated({source["id"]: states}))

    def emit(self, source: Json, event_type: str, clock_offset: float) -> "Stripe":
        """Emit an event about an object that has no row, or has changed already."""
        names = {source["id"], reference(source, "subscription"), reference(source, "released_subscription")}
        if event_type == "invoice.payment_failed":
            names.add(invoice_subscription_id(source))
        object_states = tuple(
            (name, len(self.states[name]) - 1) for name in sorted(filter(None, names)) if name in self.states
        )
        event = Event(len(self.events), event_type, int(self.time + clock_offset), source, object_states)
        return replace(self, events=(*self.events, event))

    def delete(self, object_id: str) -> "Stripe":
        """Delete an object without an event. A request for it returns 404."""
        states = (*self.states[object_id], State(None, self.time, self.current(object_id).source))
        return replace(self, states=self.states.updated({object_id: states}))

    def current(self, object_id: str) -> State:
        """Return the current state of an object."""
        return self.states[object_id][-1]

    def account_id(self, object_id: str) -> str | None:
        """Return the account in the metadata of an object."""
        return account_id_of(self.current(object_id).source)

    def indexes(self, content: Snapshot) -> list[int]:
        """Return the indexes of the object's states that have this content, or from which it may be concluded.

        The pending change is left out: it may be of another moment than the rest.
        """
        states = self.states[content.id]
        wanted = without_pending_change(stripe_fields(content))
        indexes = [
            index
            for index, state in enumerate(states)
            if state.content and without_pending_change(state.content) == wanted
        ]
        return indexes or ([len(states) - 1] if self._ended_with_its_customer(content) else [])

    def _ended_with_its_customer(self, content: Snapshot) -> bool:
        """Return True for a deleted subscription of a deleted customer, which ended in one of its earlier states."""
        if not isinstance(content, Subscription) or content.ended_at is None or content.customer_id in self.customers:
            return False
        *states, last = self.states[content.id]
        ended = [
            state.content.as_canceled(content.ended_at) for state in states if isinstance(state.content, Subscription)
        ]
        return last.content is None and stripe_fields(content) in ended

    def end_of_state(self, object_id: str, index: int) -> float:
        """Return the time at which a state ended; infinity for the current state and for the end of an object."""
        state, *later = self.states[object_id][index:]
        if not later or (state.content and state.content.has_ended and later[0].content is None):
            return float("inf")
        return later[0].since


def parse(source: Json) -> Snapshot:
    """Parse an object of the model as the product does."""
    return parse_invoice(source) if source["id"].startswith("in_") else parse_subscription(source, CATALOG)


def stripe_fields(content: Snapshot) -> Snapshot:
    """Remove the derived fields, which Stripe does not have."""
    if isinstance(content, Subscription) and (content.past_due_since or content.conflicting_account_id):
        return replace(content, past_due_since=None, conflicting_account_id=None)
    return content


def without_pending_change(content: Snapshot) -> Snapshot:
    """Remove the pending change, to which the interval of a row does not apply."""
    if isinstance(content, Subscription) and content.pending_change is not None:
        return replace(content, pending_change=None)
    return content


def sent(source: Json) -> Json:
    """Return an object as an event contains it: with the id of its schedule alone."""
    schedule = source.get("schedule")
    return source | {"schedule": schedule["id"]} if schedule else source


def describe(subject: Snapshot | StoredObject[Snapshot] | None) -> str:
    """Describe an object or a row in a few words."""
    match subject:
        case StoredObject():
            seen = f"seen {second(subject.seen_from.timestamp())} to {second(subject.seen_to.timestamp())}"
            return f"{describe(subject.content)}, {seen}, version {subject.version}"
        case Subscription():
            change = subject.pending_change
            then = f", then {change.plan} x{change.quantity}" if change and change.plan else ""
            return f"{subject.id} {subject.status} {subject.plan} x{subject.quantity}{then}"
        case Invoice():
            return f"{subject.id} {subject.status}, attempt {subject.attempt_count}"
        case _:
            return "nothing"


def second(time: float) -> str:
    """Format a time as seconds since the start of the model."""
    return f"{time - START:g}s"
