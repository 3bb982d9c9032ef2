"""Everything this Stripe knows: objects, time, events. Pure: no HTTP, no threads, no waiting.

Objects are the JSON that Stripe answers, kept by id. What Stripe knows and does not show (a card's behaviour, an
endpoint's secret, the line items of a checkout session) lies beside them in ``hidden``.
"""

import itertools
import string
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from heapq import heappush
from random import Random
from typing import Any, Literal, get_args

from stripe_simulator.errors import NoSuchObject
from stripe_simulator.shapes import check_object

API_VERSION = "2026-10-28.endive"
DAY = 86_400
ALPHABET = string.ascii_letters + string.digits
FIRST_PRICE = 123  # so that the first price is Stripe's own example, `price_123`
NOBODY: Mapping[str, str | None] = {"id": None, "idempotency_key": None}

Object = dict[str, Any]
AfterDunning = Literal["canceled", "unpaid", "past_due"]

# The id prefix and, where Stripe's messages do not use the object's name, the noun of each type.
PREFIXES = {
    "billing_portal.configuration": "bpc_",
    "billing_portal.session": "bps_",
    "checkout.session": "cs_test_",
    "customer": "cus_",
    "event": "evt_",
    "invoice": "in_",
    "item": "li_",
    "line_item": "il_",
    "payment_method": "pm_",
    "price": "price_",
    "product": "prod_",
    "subscription": "sub_",
    "subscription_item": "si_",
    "test_helpers.test_clock": "clock_",
    "webhook_endpoint": "we_",
}
NOUNS = {
    "billing_portal.configuration": "configuration",
    "payment_method": "PaymentMethod",
    "test_helpers.test_clock": "test clock",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a Stripe account chooses in its Dashboard, and what makes a run repeatable.

    Attributes:
        seed: Makes ids and delivery orders repeatable; None makes them differ from run to run.
        draft_seconds: How long a renewal's invoice stays a draft. Stripe waits an hour; 0 shows the outcome at once.
        retry_days: Days from each failed payment of an invoice to the next attempt.
        after_dunning: What becomes of a subscription whose last attempt failed.
        api_key: The only accepted key; None accepts every test key.
    """

    seed: int | None = None
    draft_seconds: int = 0
    retry_days: tuple[int, ...] = (3, 5, 7)
    after_dunning: AfterDunning = "canceled"
    api_key: str | None = None

    def __post_init__(self) -> None:
        if self.after_dunning not in get_args(AfterDunning):
            raise ValueError(f"after_dunning must be one of: {', '.join(get_args(AfterDunning))}")
        if self.draft_seconds < 0 or any(days < 1 for days in self.retry_days):
            raise ValueError("draft_seconds and retry_days must not be negative")


@dataclass(slots=True)
class World:
    """The state of one Stripe account in test mode.

    Attributes:
        due: When something next happens to an object by itself, in epoch seconds.
        settings: The account's choices.
        base_url: Where the hosted pages are reached.
        offset: How many seconds the clock was moved ahead of real time.
        settled: Until when everything that was due has happened.
        moment: The time while the clock is being moved; None while it runs.
        objects: Every object by id; ``tables`` has them by type, oldest first.
        position: By id, a number that grows with every object, for cursors.
        hidden: By object id, what Stripe knows and does not show.
        agenda: A heap of (when, tie-breaker, id); entries whose object has other plans by then are void.
        numbers: Of the types whose ids are numbered, what the next one gets.
        outbox: Events that are not delivered yet.
        request: The API request that causes what happens now.
    """

    due: Callable[["World", Object], int | None]
    settings: Settings = field(default_factory=Settings)
    base_url: str = ""
    offset: int = 0
    settled: int = field(default_factory=lambda: int(time.time()))
    moment: int | None = None
    objects: dict[str, Object] = field(default_factory=dict)
    tables: defaultdict[str, dict[str, Object]] = field(default_factory=lambda: defaultdict(dict))
    position: dict[str, int] = field(default_factory=dict)
    hidden: defaultdict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    agenda: list[tuple[int, int, str]] = field(default_factory=list)
    numbers: Mapping[str, Iterator[int]] = field(default_factory=lambda: {"price": itertools.count(FIRST_PRICE)})
    outbox: list[Object] = field(default_factory=list)
    request: Mapping[str, str | None] = field(default_factory=lambda: NOBODY)
    ticket: Iterator[int] = field(default_factory=itertools.count)
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.settings.seed)  # noqa: S311 - ids of a simulator, not secrets

    # --- Time ---------------------------------------------------------------------------------------------------------

    def now(self, subject: Object | None = None) -> int:
        """Return the time in whole seconds since the epoch: that of the subject's test clock, if it has one."""
        clock = subject and self.clock_of(subject)
        if clock:
            return int(self.objects[clock]["frozen_time"])
        return self.moment if self.moment is not None else int(time.time()) + self.offset

    def clock_of(self, subject: Object) -> str | None:
        """Return the id of the test clock that an object lives on."""
        if subject["object"] == "test_helpers.test_clock":
            return str(subject["id"])
        clock: str | None = subject.get("test_clock")
        return clock if clock in self.objects else None

    # --- Objects ------------------------------------------------------------------------------------------------------

    def new_id(self, object_name: str) -> str:
        """Return an unused id of an object type, like ``sub_1Q2w3E…``; prices are counted, for people type them."""
        numbers = self.numbers.get(object_name)
        return PREFIXES[object_name] + (str(next(numbers)) if numbers else self.token(24))

    def token(self, length: int) -> str:
        """Return random letters and digits."""
        return "".join(self.random.choices(ALPHABET, k=length))

    def add(self, subject: Object) -> Object:
        """Keep a new object and put what will happen to it on the agenda."""
        self.position.setdefault(subject["id"], len(self.position))
        self.objects[subject["id"]] = self.tables[subject["object"]][subject["id"]] = subject
        self.schedule(subject)
        return subject

    def forget(self, subject: Object) -> None:
        """Drop an object without a trace."""
        self.objects.pop(subject["id"], None)
        self.tables[subject["object"]].pop(subject["id"], None)

    def change(self, subject: Object, event_type: str | None = None, **changes: Any) -> Object:  # noqa: ANN401 - JSON
        """Change fields of an object and, if any really changed, emit the event with their previous values."""
        previous = _differences(subject, changes)
        subject.update(changes)
        if previous:
            self.schedule(subject)
            if event_type:
                self.emit(event_type, subject, previous)
        return subject

    def all(self, object_name: str) -> Iterator[Object]:
        """Yield the objects of a type that still exist, newest first."""
        return (subject for subject in reversed(self.tables[object_name].values()) if not subject.get("deleted"))

    def get(self, object_name: str, identifier: str, param: str | None = None) -> Object:
        """Return the object of a type with an id.

        Args:
            object_name: Stripe's name of the type, such as ``customer``.
            identifier: The id asked for.
            param: The request parameter that named it; None for the id in the path, which answers 404.

        Raises:
            NoSuchObject: There is none, or it was deleted.
        """
        subject = self.objects.get(identifier)
        if subject is None or subject["object"] != object_name or subject.get("deleted"):
            noun = NOUNS.get(object_name, object_name.replace("_", " "))
            raise NoSuchObject(noun, identifier, param=param or "id", status=400 if param else 404)
        return subject

    def schedule(self, subject: Object) -> None:
        """Put what will next happen to an object by itself on the agenda."""
        due = self.due(self, subject)
        if due is not None:
            heappush(self.agenda, (due, next(self.ticket), subject["id"]))

    # --- Events -------------------------------------------------------------------------------------------------------

    def emit(self, event_type: str, subject: Object, previous: Mapping[str, Any] | None = None) -> None:
        """Record an event with a snapshot of the object and hand it to whoever delivers.

        Raises:
            ShapeViolation: The object is none that Stripe could have sent.
        """
        data: Object = {"object": deepcopy(subject)}
        if previous:
            data["previous_attributes"] = dict(previous)
        event = {
            "id": self.new_id("event"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(subject),
            "data": data,
            "livemode": False,
            "pending_webhooks": sum(wants(endpoint, event_type) for endpoint in self.all("webhook_endpoint")),
            "request": dict(self.request),
            "type": event_type,
        }
        check_object(event)
        check_object(data["object"])
        self.outbox.append(self.add(event))

    @contextmanager
    def requested_by(self, request_id: str, idempotency_key: str | None) -> Iterator[None]:
        """Name an API request as the cause of the events emitted inside."""
        self.request = {"id": request_id, "idempotency_key": idempotency_key}
        try:
            yield
        finally:
            self.request = NOBODY


def wants(endpoint: Object, event_type: str) -> bool:
    """Say whether a webhook endpoint is to get events of a type."""
    return endpoint["status"] == "enabled" and not {"*", event_type}.isdisjoint(endpoint["enabled_events"])


def _differences(subject: Object, changes: Mapping[str, Any]) -> Object:
    """Return the previous values of what changes, of nested objects only the changed fields, as Stripe shows them."""
    previous: Object = {}
    for name, value in changes.items():
        before = subject.get(name)
        if before == value:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            changed = [key for key in before | value if before.get(key) != value.get(key)]
            previous[name] = {key: deepcopy(before.get(key)) for key in changed}
        else:
            previous[name] = deepcopy(before)
    return previous
