"""Stripe as the protocol may assume it: objects with a past, and events that tell of it, stamped by clocks that differ.

Every change makes another value, so that a state of the world can be kept, compared and gone back to.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from billing.domain.invoices import Invoice
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import Snapshot
from billing.stripe_events.objects import invoice_subscription_id, parse_invoice, parse_subscription, reference
from billing.stripe_events.ordering import StoredObject
from tests.protocol.model import CATALOG, START, Json


class FrozenDict[K, V](dict[K, V]):
    """A dict that nobody changes, so that it has a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def having(self, changes: dict[K, V]) -> "FrozenDict[K, V]":
        """This one with some entries more, or other."""
        return FrozenDict(self | changes)


@dataclass(frozen=True)
class State:
    """What an object was from the true time `since` on. Without content it was gone."""

    content: Snapshot | None
    since: float
    source: Json = field(compare=False)


@dataclass(frozen=True)
class Event:
    """An event. `tells` holds, for each object that it is about, how far the object's past had come."""

    number: int
    type: str
    created: int
    source: Json = field(compare=False)
    tells: tuple[tuple[str, int], ...] = ()

    @property
    def id(self) -> str:
        """Stripe's id of it."""
        return f"evt_{self.number}"

    @cached_property
    def _hash(self) -> int:
        return hash((self.number, self.type, self.created, self.tells))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The Event object that Stripe delivers."""
        envelope = {"id": self.id, "type": self.type, "created": self.created, "livemode": False}
        return envelope | {"data": {"object": self.source}}

    def __str__(self) -> str:
        about = describe(read(self.source)) if self.source["id"].startswith(("sub_", "in_")) else self.source["id"]
        return f"{self.id}, {self.type}, stamped {second(self.created)}: {about}"


@dataclass(frozen=True)
class Stripe:
    """All objects with their pasts, all events, and the customers of the account that are not deleted."""

    time: float = START
    pasts: FrozenDict[str, tuple[State, ...]] = field(default_factory=FrozenDict)
    events: tuple[Event, ...] = ()
    customers: tuple[str, ...] = ("cus_1",)

    @cached_property
    def _hash(self) -> int:
        return hash((self.time, self.pasts, self.events, self.customers))

    def __hash__(self) -> int:
        return self._hash

    def put(self, source: Json, event_type: str, drift: float) -> "Stripe":
        """Change an object, and tell of it by an event that a server stamps whose clock is `drift` seconds fast."""
        state = State(read(source), self.time, source)
        past = (*self.pasts.get(source["id"], ()), state)
        return replace(self, pasts=self.pasts.having({source["id"]: past})).emit(source, event_type, drift)

    def emit(self, source: Json, event_type: str, drift: float) -> "Stripe":
        """Make an event of an object that is not one of ours, or has changed by now."""
        names = {source["id"], reference(source, "subscription")}
        if event_type == "invoice.payment_failed":
            names.add(invoice_subscription_id(source))
        tells = tuple((name, len(self.pasts[name]) - 1) for name in sorted(filter(None, names)) if name in self.pasts)
        event = Event(len(self.events), event_type, int(self.time + drift), source, tells)
        return replace(self, events=(*self.events, event))

    def forget(self, object_id: str) -> "Stripe":
        """Delete an object, so that asking for it answers 404."""
        past = (*self.pasts[object_id], State(None, self.time, self.now(object_id).source))
        return replace(self, pasts=self.pasts.having({object_id: past}))

    def now(self, object_id: str) -> State:
        """An object as it is."""
        return self.pasts[object_id][-1]

    def places(self, content: Snapshot) -> list[int]:
        """Where in its object's past this content was true, or may be concluded."""
        past = self.pasts[content.id]
        places = [place for place, state in enumerate(past) if state.content == facts(content)]
        return places or ([len(past) - 1] if self._ended_with_its_customer(content) else [])

    def _ended_with_its_customer(self, content: Snapshot) -> bool:
        """Of a subscription that is gone, as its customer is: it ended with that, as what it was before."""
        if not isinstance(content, Subscription) or content.ended_at is None or content.customer_id in self.customers:
            return False
        *states, last = self.pasts[content.id]
        lived = [state.content.ended(content.ended_at) for state in states if isinstance(state.content, Subscription)]
        return last.content is None and facts(content) in lived

    def until(self, object_id: str, place: int) -> float:
        """When the state at this place of an object's past ended; a state that still is, or was its end, ends never."""
        state, *later = self.pasts[object_id][place:]
        if not later or (state.content and state.content.has_ended and later[0].content is None):
            return float("inf")
        return later[0].since

    def living(self, kind: type[Snapshot]) -> Iterable[Snapshot]:
        """The objects of a kind that are not gone."""
        return [past[-1].content for past in self.pasts.values() if isinstance(past[-1].content, kind)]


def read(source: Json) -> Snapshot:
    """A model's object as the code under test reads it."""
    return parse_invoice(source) if source["id"].startswith("in_") else parse_subscription(source, CATALOG)


def facts(content: Snapshot) -> Snapshot:
    """What is Stripe's of a row; since when a subscription is past due is our own reckoning."""
    if isinstance(content, Subscription) and content.past_due_since is not None:
        return replace(content, past_due_since=None)
    return content


def describe(what: Snapshot | StoredObject[Snapshot] | None) -> str:
    """An object or a row in a few words."""
    match what:
        case StoredObject():
            seen = f"seen {second(what.seen_from.timestamp())} to {second(what.seen_to.timestamp())}"
            return f"{describe(what.content)}, {seen}, version {what.version}"
        case Subscription():
            return f"{what.id} {what.status} {what.plan} x{what.quantity}"
        case Invoice():
            return f"{what.id} {what.status}, attempt {what.attempt_count}"
        case _:
            return "nothing"


def second(time: float) -> str:
    """A time of the model, after its beginning."""
    return f"{time - START:g}s"
