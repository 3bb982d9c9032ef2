"""What events cost in the streams in which Stripe really sends them: calls of Stripe, and DynamoDB's units.

The simulator lives the lives, its clock moved from one thing that happens to the next. What it tells is processed at
once, as by the functions and by the simulator's clock. Only events that a deployment subscribes to count.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bench.alone import run_alone
from bench.capacity import Meter, Units
from bench.engine import TABLE_NAME, Deployment
from bench.report import Extent, Row
from billing.adapters.aws import client
from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.domain.invoices import Invoice
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EVENT_PARSERS, FetchedObject, ObjectRef
from billing.stripe_events.objects import parse_invoice, parse_subscription
from stripe_simulator import Settings, cards, checkout, scheduler
from stripe_simulator.resources import catalog, customers
from stripe_simulator.resources import checkout as checkout_sessions
from stripe_simulator.state import DAY, Object, SimulatorState

STREAMS = ("checkout", "renewal", "dunning")
SWAPPED = 0.2
"""The share of events that change places with the one before them."""
APART = 60
"""Seconds from one account's checkout to the next."""
DRAFT_SECONDS = 3600
"""For which Stripe leaves a renewal's invoice open to changes."""
RENEWALS = 3
MONTH = 31 * DAY
SECOND_ATTEMPT = 3 * DAY
SEED = 5


@dataclass(frozen=True, slots=True)
class Stream:
    """How many events there were, and what they brought about."""

    events: int
    stripe_calls: int
    told: Units
    computed: Units

    def after(self, earlier: "Stream") -> "Stream":
        """What came to it since it was as `earlier`."""
        return Stream(
            self.events - earlier.events,
            self.stripe_calls - earlier.stripe_calls,
            self.told - earlier.told,
            self.computed - earlier.computed,
        )


def rows(deployment: Deployment, extent: Extent) -> Iterator[Row]:
    """Every stream, in the order in which Stripe made the events, and somewhat out of it."""
    for order, swapped in (("in order", 0.0), (f"{SWAPPED:.0%} swapped", SWAPPED)):
        measured = run_alone(deployment.environment, measure, extent.accounts, swapped)
        for name, stream in zip(STREAMS, measured, strict=True):
            told, computed = stream.told.per(stream.events), stream.computed.per(stream.events)
            calls = f"{1000 * stream.stripe_calls / stream.events:.0f} ({stream.stripe_calls} of {stream.events})"
            yield Row(f"{name}, {order}: Stripe calls per 1,000 events", calls)
            yield Row(f"{name}, {order}: units an event, by AWS's rules; as the engine tells", f"{computed}; {told}")


def measure(accounts: int, swapped: float) -> Sequence[Stream]:
    """The streams of accounts that subscribe, then renew, then cannot pay."""
    scene = _Scene(swapped)
    owners = [f"stream{round(100 * swapped)}a{number}" for number in range(accounts)]
    lives: Sequence[Callable[[], None]] = (lambda: scene.subscribe(owners), scene.renew, scene.fall_behind)
    streams = []
    for live in lives:
        before = scene.seen()
        live()
        streams.append(scene.seen().after(before))
    return streams


class _Scene:
    """A simulated Stripe, and a processor that takes what it tells into the deployment's table."""

    def __init__(self, swapped: float) -> None:
        dynamodb = client("dynamodb")
        self._store = Repository(Table(dynamodb, TABLE_NAME))
        self._meter = Meter(dynamodb)
        self._processor = EventProcessor(self._store, load_catalog(), self._fetch, livemode=False, now=self._now)
        self._chance = random.Random(SEED)  # noqa: S311 - the same in every run
        self._swapped = swapped
        self._events = self._stripe_calls = 0
        # Another seed makes other ids: one table takes what all scenes tell.
        settings = Settings(seed=SEED + round(100 * swapped), draft_seconds=DRAFT_SECONDS)
        self._world = SimulatorState(scheduler.next_due, settings)
        self._price = _create_price(self._world)

    def seen(self) -> Stream:
        """All that has happened up to now."""
        return Stream(self._events, self._stripe_calls, self._meter.told, self._meter.computed)

    def subscribe(self, account_ids: Sequence[str]) -> None:
        """Each by a Checkout Session of its own that is paid."""
        for account_id in account_ids:
            self._move_to(self._world.processed_until + APART)
            metadata = {"account_id": account_id}
            customer = customers.create(self._world, metadata=metadata)
            self._store.create_account(Profile(account_id, customer_id=customer["id"]))
            opened = checkout_sessions.create(
                self._world,
                mode="subscription",
                line_items=[{"price": self._price["id"], "quantity": 1}],
                success_url="http://localhost:3000",
                customer=customer["id"],
                metadata=metadata,
                subscription_data={"metadata": metadata},
            )
            checkout.pay(self._world, opened, "success")
            self._deliver()

    def renew(self) -> None:
        """All of them, a few times."""
        self._live_on(RENEWALS * MONTH)

    def fall_behind(self) -> None:
        """All fail to pay a renewal; every other one's card works again after the second attempt, the rest end."""
        everybody = list(self._world.all("customer"))
        for customer in everybody:
            cards.set_outcome(self._world, customer, "declined")
        self._live_on(MONTH + SECOND_ATTEMPT)
        for customer in everybody[::2]:
            cards.set_outcome(self._world, customer, "success")
        self._live_on(MONTH - SECOND_ATTEMPT - 2 * DAY)

    def _live_on(self, seconds: int) -> None:
        until = self._world.processed_until + seconds
        while self._world.timer_heap and self._world.timer_heap[0][0] <= until:
            self._move_to(self._world.timer_heap[0][0])
            self._deliver()
        self._move_to(until)

    def _move_to(self, moment: int) -> None:
        self._world.offset = moment - int(time.time())
        scheduler.run_due(self._world, moment)

    def _deliver(self) -> None:
        events = [event for event in self._world.outbox if event["type"] in EVENT_PARSERS]
        self._world.outbox.clear()
        for place in range(1, len(events)):
            if self._chance.random() < self._swapped:
                events[place - 1 : place + 1] = reversed(events[place - 1 : place + 1])
        for event in events:
            self._processor.process(event)
        self._events += len(events)

    def _fetch(self, target: ObjectRef) -> FetchedObject:
        self._stripe_calls += 1
        source = self._world.objects[target.id]
        content = parse_invoice(source) if target.kind is Invoice else parse_subscription(source, load_catalog())
        return FetchedObject(content, self._now(), self._now())

    def _now(self) -> datetime:
        """A second after what happened last."""
        return datetime.fromtimestamp(self._world.processed_until + 1, UTC)


def _create_price(world: SimulatorState) -> Object:
    product = catalog.create_product(world, name="Pro")
    recurring: Any = {"interval": "month"}
    return catalog.create_price(
        world, product=product["id"], lookup_key="pro_monthly", currency="usd", unit_amount=1900, recurring=recurring
    )
