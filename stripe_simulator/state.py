"""State of the simulated Stripe account: objects, clock, events and settings.

The module uses no HTTP and no threads. Objects are stored by id, as the JSON that the API returns. Data that Stripe
stores but does not return is in ``private``: the result of a card's charges, an endpoint's signing secret, the items
of a Checkout Session.
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
from stripe_simulator.response_validation import check_object

API_VERSION = "2026-10-28.endive"
DAY = 86_400
ALPHABET = string.ascii_letters + string.digits
FIRST_PRICE_NUMBER = 123  # the first id is `price_123`, as in Stripe's examples
NO_REQUEST: Mapping[str, str | None] = {"id": None, "idempotency_key": None}

Object = dict[str, Any]
AfterDunning = Literal["canceled", "unpaid", "past_due"]

# Id prefix by object type.
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
    "subscription_schedule": "sub_sched_",
    "test_helpers.test_clock": "clock_",
    "webhook_endpoint": "we_",
}
# Noun of an object type in Stripe's error messages, if it differs from the type's name.
NOUNS = {
    "billing_portal.configuration": "configuration",
    "payment_method": "PaymentMethod",
    "test_helpers.test_clock": "test clock",
}


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Account settings (Dashboard settings in Stripe) and the random seed.

    Attributes:
        seed: Seed for ids and delivery order. None gives different values in each run.
        draft_seconds: Time that a renewal invoice stays a draft. Stripe uses an hour; 0 finalizes it immediately.
        retry_days: Days from each failed payment of an invoice to the next attempt.
        after_dunning: Status of a subscription after its last failed payment attempt.
        api_key: The only accepted API key. None accepts every test key.
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
            raise ValueError("draft_seconds must be at least 0, and each of retry_days at least 1")


@dataclass(slots=True)
class SimulatorState:
    """The state of one Stripe account in test mode.

    Attributes:
        next_due: Returns the time of an object's next timer in epoch seconds, or None.
        settings: Account settings.
        base_url: URL of the server, for links to hosted pages.
        offset: Seconds that the clock is ahead of real time.
        processed_until: Time up to which all due timers have run, in epoch seconds.
        step_time: Time of the timer that is running, in epoch seconds; None if none is.
        objects: Objects by id.
        objects_by_type: Objects by type and id, oldest first.
        creation_order: Increasing number by object id, for pagination cursors.
        private: Data that Stripe does not return, by object id.
        timer_heap: Heap of (due time, sequence number, object id). An entry is stale if ``next_due`` has changed.
        id_counters: Next number of the id, for types with numbered ids.
        outbox: Events that have not been dispatched.
        request: Value of ``request`` in new events: the API request that is running.
        timer_sequence: Sequence numbers for ``timer_heap``: timers with equal due times run first in, first out.
        random: Source of ids and shuffled orders.
    """

    next_due: Callable[["SimulatorState", Object], int | None]
    settings: SimulatorSettings = field(default_factory=SimulatorSettings)
    base_url: str = ""
    offset: int = 0
    processed_until: int = field(default_factory=lambda: int(time.time()))
    step_time: int | None = None
    objects: dict[str, Object] = field(default_factory=dict)
    objects_by_type: defaultdict[str, dict[str, Object]] = field(default_factory=lambda: defaultdict(dict))
    creation_order: dict[str, int] = field(default_factory=dict)
    private: defaultdict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    timer_heap: list[tuple[int, int, str]] = field(default_factory=list)
    id_counters: Mapping[str, Iterator[int]] = field(
        default_factory=lambda: {"price": itertools.count(FIRST_PRICE_NUMBER)}
    )
    outbox: list[Object] = field(default_factory=list)
    request: Mapping[str, str | None] = field(default_factory=lambda: NO_REQUEST)
    timer_sequence: Iterator[int] = field(default_factory=itertools.count)
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.settings.seed)  # noqa: S311 - ids of a simulator, not secrets

    # --- Time ---------------------------------------------------------------------------------------------------------

    def now(self, obj: Object | None = None) -> int:
        """Return the current time in epoch seconds: that of the object's test clock, if it has one."""
        clock = obj and self.test_clock_of(obj)
        if clock:
            return int(self.objects[clock]["frozen_time"])
        return self.step_time if self.step_time is not None else int(time.time()) + self.offset

    def test_clock_of(self, obj: Object) -> str | None:
        """Return the id of an object's test clock, or None."""
        if obj["object"] == "test_helpers.test_clock":
            return str(obj["id"])
        clock: str | None = obj.get("test_clock")
        return clock if clock in self.objects else None

    # --- Objects ------------------------------------------------------------------------------------------------------

    def new_id(self, object_name: str) -> str:
        """Return an unused id, such as ``sub_1Q2w3E…``. Price ids are numbered, because users type them."""
        counter = self.id_counters.get(object_name)
        return PREFIXES[object_name] + (str(next(counter)) if counter else self.random_string(24))

    def random_string(self, length: int) -> str:
        """Return random letters and digits."""
        return "".join(self.random.choices(ALPHABET, k=length))

    def add(self, obj: Object) -> Object:
        """Store a new object and schedule its next timer."""
        self.creation_order.setdefault(obj["id"], len(self.creation_order))
        self.objects[obj["id"]] = self.objects_by_type[obj["object"]][obj["id"]] = obj
        self.schedule(obj)
        return obj

    def remove(self, obj: Object) -> None:
        """Delete an object without an event."""
        self.objects.pop(obj["id"], None)
        self.objects_by_type[obj["object"]].pop(obj["id"], None)

    def update(self, obj: Object, event_type: str | None = None, **changes: Any) -> Object:  # noqa: ANN401 - JSON
        """Set fields of an object. If a value changes, emit the event with the previous values."""
        previous = _previous_values(obj, changes)
        obj.update(changes)
        if previous:
            self.schedule(obj)
            if event_type:
                self.emit(event_type, obj, previous)
        return obj

    def all(self, object_name: str) -> Iterator[Object]:
        """Yield the objects of a type that are not deleted, newest first."""
        return (obj for obj in reversed(self.objects_by_type[object_name].values()) if not obj.get("deleted"))

    def get(self, object_name: str, identifier: str, param: str | None = None) -> Object:
        """Return the object of a type with an id.

        Args:
            object_name: Stripe's name of the type, such as ``customer``.
            identifier: The object's id.
            param: The request parameter that contains the id, or None if the id is in the path.

        Raises:
            NoSuchObject: The object does not exist or is deleted. The status is 404 for an id in the path, else 400.
        """
        obj = self.objects.get(identifier)
        if obj is None or obj["object"] != object_name or obj.get("deleted"):
            noun = NOUNS.get(object_name, object_name.replace("_", " "))
            raise NoSuchObject(noun, identifier, param=param or "id", status=400 if param else 404)
        return obj

    def schedule(self, obj: Object) -> None:
        """Add the object's next timer to the heap."""
        due = self.next_due(self, obj)
        if due is not None:
            heappush(self.timer_heap, (due, next(self.timer_sequence), obj["id"]))

    # --- Events -------------------------------------------------------------------------------------------------------

    def emit(self, event_type: str, obj: Object, previous: Mapping[str, Any] | None = None) -> None:
        """Store an event with a snapshot of the object and add it to the outbox.

        Raises:
            InvalidObject: The object does not match the SDK's resource class.
        """
        data: Object = {"object": deepcopy(obj)}
        if previous:
            data["previous_attributes"] = dict(previous)
        event = {
            "id": self.new_id("event"),
            "object": "event",
            "api_version": API_VERSION,
            # Wall-clock time, also for objects on a test clock.
            "created": self.now(),
            "data": data,
            "livemode": False,
            "pending_webhooks": sum(is_subscribed(endpoint, event_type) for endpoint in self.all("webhook_endpoint")),
            "request": dict(self.request),
            "type": event_type,
        }
        check_object(event)
        check_object(data["object"])
        self.outbox.append(self.add(event))

    @contextmanager
    def caused_by_request(self, request_id: str, idempotency_key: str | None) -> Iterator[None]:
        """Set the API request of the events that are emitted within the context."""
        self.request = {"id": request_id, "idempotency_key": idempotency_key}
        try:
            yield
        finally:
            self.request = NO_REQUEST


def is_subscribed(endpoint: Object, event_type: str) -> bool:
    """Return True if a webhook endpoint is enabled and receives events of a type."""
    return endpoint["status"] == "enabled" and not {"*", event_type}.isdisjoint(endpoint["enabled_events"])


def _previous_values(obj: Object, changes: Mapping[str, Any]) -> Object:
    """Return the previous values of the fields that change. Of a nested object, return the changed fields only."""
    previous: Object = {}
    for name, value in changes.items():
        before = obj.get(name)
        if before == value:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            changed = [key for key in before | value if before.get(key) != value.get(key)]
            previous[name] = {key: deepcopy(before.get(key)) for key in changed}
        else:
            previous[name] = deepcopy(before)
    return previous
