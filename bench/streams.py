"""Cost of events in realistic streams: Stripe calls and DynamoDB units.

The simulator generates the events, and its clock moves from one action to the next. Each event is processed
immediately, at the simulator's time. Only events that a deployment subscribes to are included.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bench.capacity import CapacityMeter, Units
from bench.deliveries import DEPLOYMENT
from bench.engine import TABLE_NAME, Deployment
from bench.isolated_process import run_isolated
from bench.report import Row, SampleSizes
from billing.adapters.aws import client
from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.domain.invoices import Invoice
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EVENT_PARSERS, FetchedObject, ObjectRef
from billing.stripe_events.objects import parse_invoice, parse_subscription
from stripe_simulator import SimulatorSettings, cards, checkout, scheduler
from stripe_simulator.resources import catalog, customers
from stripe_simulator.resources import checkout as checkout_sessions
from stripe_simulator.state import DAY, Object, SimulatorState

STREAMS = ("checkout", "renewal", "dunning")
SWAPPED = 0.2
"""Share of events that are swapped with the previous event."""
CHECKOUT_INTERVAL = 60
"""Seconds from one account's checkout to the next."""
DRAFT_SECONDS = 3600
"""Time that a renewal's invoice stays a draft in Stripe."""
RENEWALS = 3
MONTH = 31 * DAY
SECOND_ATTEMPT = 3 * DAY
SEED = 5


@dataclass(frozen=True, slots=True)
class Stream:
    """Number of events, and their Stripe calls and units."""

    events: int
    stripe_calls: int
    reported: Units
    calculated: Units

    def since(self, earlier: "Stream") -> "Stream":
        """Return the difference to earlier totals."""
        return Stream(
            self.events - earlier.events,
            self.stripe_calls - earlier.stripe_calls,
            self.reported - earlier.reported,
            self.calculated - earlier.calculated,
        )


def rows(deployment: Deployment, sizes: SampleSizes) -> Iterator[Row]:
    """Return the cost of every stream, in order and with swapped events."""
    for order, swapped in (("in order", 0.0), (f"{SWAPPED:.0%} swapped", SWAPPED)):
        measured = run_isolated(deployment.environment, measure, sizes.accounts, swapped)
        for name, stream in zip(STREAMS, measured, strict=True):
            reported, calculated = stream.reported.per(stream.events), stream.calculated.per(stream.events)
            calls = f"{1000 * stream.stripe_calls / stream.events:.0f} ({stream.stripe_calls} of {stream.events})"
            yield Row(f"{name}, {order}: Stripe calls per 1,000 events", calls)
            title = f"{name}, {order}: units per event, calculated by AWS's rules; reported by the engine"
            yield Row(title, f"{calculated}; {reported}")


def measure(accounts: int, swapped: float) -> Sequence[Stream]:
    """Measure the streams of accounts that subscribe, renew, and then fail to pay."""
    simulation = _StreamSimulation(swapped)
    owners = [f"stream{round(100 * swapped)}a{number}" for number in range(accounts)]
    stages: Sequence[Callable[[], None]] = (
        lambda: simulation.subscribe(owners),
        simulation.renew,
        simulation.stop_paying,
    )
    streams = []
    for stage in stages:
        before = simulation.totals()
        stage()
        streams.append(simulation.totals().since(before))
    return streams


class _StreamSimulation:
    """A Stripe simulator, and an event processor that writes its events to the table."""

    def __init__(self, swapped: float) -> None:
        dynamodb = client("dynamodb")
        self._repository = Repository(Table(dynamodb, TABLE_NAME))
        self._meter = CapacityMeter(dynamodb)
        self._processor = EventProcessor(self._repository, load_catalog(), self._fetch, DEPLOYMENT, now=self._now)
        self._random = random.Random(SEED)  # noqa: S311 - the same in every run
        self._swapped = swapped
        self._events = self._stripe_calls = 0
        # A different seed gives different ids, so that all simulations can share one table.
        settings = SimulatorSettings(seed=SEED + round(100 * swapped), draft_seconds=DRAFT_SECONDS)
        self._state = SimulatorState(scheduler.next_due, settings)
        self._price = _create_price(self._state)

    def totals(self) -> Stream:
        """Return the totals since the start."""
        return Stream(self._events, self._stripe_calls, self._meter.reported, self._meter.calculated)

    def subscribe(self, account_ids: Sequence[str]) -> None:
        """Subscribe every account with a paid Checkout Session."""
        for account_id in account_ids:
            self._move_to(self._state.processed_until + CHECKOUT_INTERVAL)
            metadata = {"account_id": account_id}
            customer = customers.create(self._state, metadata=metadata)
            self._repository.create_account(Profile(account_id, customer_id=customer["id"]))
            opened = checkout_sessions.create(
                self._state,
                mode="subscription",
                line_items=[{"price": self._price["id"], "quantity": 1}],
                success_url="http://localhost:3000",
                customer=customer["id"],
                metadata=metadata,
                subscription_data={"metadata": metadata},
            )
            checkout.pay(self._state, opened, "success")
            self._deliver()

    def renew(self) -> None:
        """Renew all subscriptions several times."""
        self._advance(RENEWALS * MONTH)

    def stop_paying(self) -> None:
        """Let all payments of a renewal fail. Every second card works after two attempts; other subscriptions end."""
        all_customers = list(self._state.all("customer"))
        for customer in all_customers:
            cards.set_outcome(self._state, customer, "declined")
        self._advance(MONTH + SECOND_ATTEMPT)
        for customer in all_customers[::2]:
            cards.set_outcome(self._state, customer, "success")
        self._advance(MONTH - SECOND_ATTEMPT - 2 * DAY)

    def _advance(self, seconds: int) -> None:
        until = self._state.processed_until + seconds
        while self._state.timer_heap and self._state.timer_heap[0][0] <= until:
            self._move_to(self._state.timer_heap[0][0])
            self._deliver()
        self._move_to(until)

    def _move_to(self, moment: int) -> None:
        self._state.offset = moment - int(time.time())
        scheduler.run_due(self._state, moment)

    def _deliver(self) -> None:
        events = [event for event in self._state.outbox if event["type"] in EVENT_PARSERS]
        self._state.outbox.clear()
        for index in range(1, len(events)):
            if self._random.random() < self._swapped:
                events[index - 1 : index + 1] = reversed(events[index - 1 : index + 1])
        for event in events:
            self._processor.process(event)
        self._events += len(events)

    def _fetch(self, target: ObjectRef) -> FetchedObject:
        self._stripe_calls += 1
        source = self._state.objects[target.id]
        content = parse_invoice(source) if target.kind is Invoice else parse_subscription(source, load_catalog())
        return FetchedObject(content, self._now(), self._now())

    def _now(self) -> datetime:
        """Return a time one second after the last action."""
        return datetime.fromtimestamp(self._state.processed_until + 1, UTC)


def _create_price(state: SimulatorState) -> Object:
    product = catalog.create_product(state, name="Pro")
    recurring: Any = {"interval": "month"}
    return catalog.create_price(
        state, product=product["id"], lookup_key="pro_monthly", currency="usd", unit_amount=1900, recurring=recurring
    )
