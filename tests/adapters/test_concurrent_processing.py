"""Concurrent writers and event processors on a real DynamoDB engine over HTTP."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from billing.adapters.repository import Repository, VersionConflict
from billing.domain.accounts import Profile
from billing.domain.errors import StripeUnavailable
from billing.domain.subscriptions import Subscription
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef, Snapshot
from billing.stripe_events.objects import parse_invoice, parse_subscription
from tests.adapters.table_support import WRITERS, recorded_calls, run_concurrently, stored_items
from tests.protocol import model
from tests.samples import DEPLOYMENT

pytestmark = pytest.mark.engine

PROCESSORS = 4

# --- Writers ----------------------------------------------------------------------------------------------------------


def succeeds(write: Callable[[], object]) -> bool:
    """Return True if a conditional write is not rejected."""
    try:
        write()
    except VersionConflict:
        return False
    return True


def test_one_of_several_concurrent_profile_writes_succeeds(repository: Repository, acme: Profile) -> None:
    succeeded = run_concurrently(
        lambda number: succeeds(lambda: repository.save_profile(replace(acme, email=f"{number}@acme.test")))
    )
    assert succeeded.count(True) == 1
    profile = repository.load_account("acme").profile
    assert (profile.email, profile.version) == (f"{succeeded.index(True)}@acme.test", 2)


def test_one_of_several_concurrent_account_creations_succeeds(repository: Repository) -> None:
    succeeded = run_concurrently(
        lambda number: succeeds(lambda: repository.create_account(Profile("acme", email=f"{number}@a.test")))
    )
    assert succeeded.count(True) == 1
    assert repository.load_account("acme").profile.email == f"{succeeded.index(True)}@a.test"


# --- Event processors -------------------------------------------------------------------------------------------------


@dataclass
class Deliveries:
    """Stripe events for concurrent processors, while Stripe's objects change."""

    repository: Repository
    stripe: model.Stripe
    lock: threading.Condition = field(default_factory=threading.Condition)
    queue: list[model.Json] = field(default_factory=list)
    is_closed: bool = False

    def processor(self) -> EventProcessor:
        """Return a processor on the clock of the model."""
        now: Callable[[], datetime] = lambda: model.moment(self.stripe.time)  # noqa: E731
        return EventProcessor(self.repository, model.CATALOG, self.fetch, DEPLOYMENT, now=now)

    def fetch(self, target: ObjectRef) -> FetchedObject:
        """Fetch an object. It may have changed when the response arrives: the lock is released in between."""
        with self.lock:
            requested, source = self.stripe.time, self.stripe.objects[target.id]
        with self.lock:
            responded = model.moment(self.stripe.stamp())
            duration = timedelta(seconds=self.stripe.time - requested)
        return FetchedObject(parse(source), responded - duration, responded)

    def put(self, events: Sequence[model.Json]) -> None:
        """Queue events, which are processed in random order."""
        with self.lock:
            self.queue += events
            self.lock.notify_all()

    def close(self) -> None:
        """Let the processors end once the queue is empty."""
        with self.lock:
            self.is_closed = True
            self.lock.notify_all()

    def wait_for_processors(self) -> None:
        """Wait until the queue is short, so that Stripe's objects change between two events."""
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.queue) < PROCESSORS, timeout=60)

    def take(self) -> model.Json | None:
        """Return a random event of the queue; None if it is empty and closed."""
        with self.lock:
            self.lock.wait_for(lambda: self.queue or self.is_closed)
            self.lock.notify_all()
            return self.queue.pop(self.stripe.choice.randrange(len(self.queue))) if self.queue else None

    def work(self) -> None:
        """Process events until the queue is closed. A failed event is queued again."""
        while (event := self.take()) is not None:
            try:
                self.processor().process(event)
            except StripeUnavailable:
                self.put([event])


def parse(source: model.Json) -> Snapshot:
    """Parse an object of the model as the product does."""
    return parse_invoice(source) if source["id"].startswith("in_") else parse_subscription(source, model.CATALOG)


def without_past_due_since(content: Snapshot) -> Snapshot:
    """Return the content without the field that Stripe does not have."""
    return replace(content, past_due_since=None) if isinstance(content, Subscription) else content


@pytest.fixture
def deliveries(repository: Repository, acme: Profile) -> Deliveries:
    """Deliveries for a stored account."""
    del acme
    choice = random.Random(0)
    return Deliveries(repository, model.Stripe(choice))


def test_event_takes_two_calls_and_account_one(deliveries: Deliveries, dynamodb: Any) -> None:
    deliveries.stripe.put(model.subscription("sub_1", "cus_1", "active", model.START), "customer.subscription.created")
    with recorded_calls(dynamodb) as calls:
        deliveries.processor().process(deliveries.stripe.events[0])
    assert calls == ["BatchGetItem", "TransactWriteItems"]
    with recorded_calls(dynamodb) as calls:
        deliveries.repository.load_account("acme")
    assert calls == ["Query"]


def test_event_delivered_concurrently_is_applied_once(deliveries: Deliveries, dynamodb: Any, table_name: str) -> None:
    deliveries.stripe.put(model.subscription("sub_1", "cus_1", "active", model.START), "customer.subscription.created")
    [event] = deliveries.stripe.events
    outcomes = Counter(run_concurrently(lambda _number: deliveries.processor().process(event)))
    assert outcomes == {EventOutcome.APPLIED: 1, EventOutcome.DUPLICATE: WRITERS - 1}
    assert deliveries.repository.load_subscription_rows("acme")["sub_1"].version == 1
    assert sum(sk.startswith("OUT#") for _, sk in stored_items(dynamodb, table_name)) == 1


def test_events_of_one_subscription_processed_concurrently_converge(deliveries: Deliveries) -> None:
    """All changes happen within one second."""
    stripe = deliveries.stripe
    stripe.put(model.subscription("sub_1", "cus_1", "active", model.START), "customer.subscription.created")
    for quantity in range(2, WRITERS + 1):
        changed = stripe.objects["sub_1"] | {"items": model.items("team_monthly", quantity, model.START)}
        stripe.put(changed, "customer.subscription.updated")
    outcomes = run_concurrently(lambda number: deliveries.processor().process(stripe.events[number]))
    assert EventOutcome.DUPLICATE not in outcomes
    [row] = deliveries.repository.load_subscription_rows("acme").values()
    assert row.content == parse(stripe.objects["sub_1"])


@pytest.mark.parametrize("seed", range(36))
def test_random_changes_processed_concurrently_converge(seed: int, deliveries: Deliveries) -> None:
    """Four processors receive every event twice and in random order, while the objects change."""
    stripe = deliveries.stripe
    stripe.choice.seed(seed)
    with ThreadPoolExecutor(PROCESSORS) as pool:
        workers = [pool.submit(deliveries.work) for _ in range(PROCESSORS)]
        try:
            change_and_deliver(deliveries)
        finally:
            deliveries.close()
    for worker in workers:
        worker.result()
    rows = deliveries.repository.load_subscription_rows("acme")
    subscriptions = {key: source for key, source in stripe.objects.items() if key.startswith("sub_")}
    assert {key: without_past_due_since(row.content) for key, row in rows.items()} == {
        key: parse(source) for key, source in subscriptions.items()
    }


def change_and_deliver(deliveries: Deliveries) -> None:
    """Change two subscriptions twelve times. Deliver each event at once, and all events a second time."""
    stripe = deliveries.stripe
    for subscription_id in ("sub_1", "sub_2"):
        with deliveries.lock:
            stripe.subscribe(subscription_id)
    delivered = 0
    for _ in range(12):
        with deliveries.lock:
            stripe.wait()
            stripe.change(stripe.choice.choice(["sub_1", "sub_2"]))
        deliveries.put(stripe.events[delivered:])
        delivered = len(stripe.events)
        deliveries.wait_for_processors()
    deliveries.put(stripe.events)
