"""A small Stripe, a small table and a scheduler that interleaves workers at every call between them.

The code under test is the real EventProcessor. A worker is a greenlet that stops before each call to the store or to
Stripe; the scheduler decides who goes on, when Stripe's own state changes, who crashes and what is delivered again.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from greenlet import getcurrent, greenlet

from billing.domain.accounts import Profile
from billing.domain.errors import StripeUnavailable
from billing.domain.outbound_events import OutboundEvent
from billing.domain.plans import Catalog, Plan, Price
from billing.domain.sightings import Sighting
from billing.domain.stripe_events import Outcome, Snapshot, Target
from billing.domain.stripe_objects import read_invoice, read_subscription
from billing.event_processor import EventProcessor, Fetched
from billing.store import Commit, EventAlreadyProcessed, EventContext, VersionConflict

START = 1_780_000_000
CLOCK_SKEW_SECONDS = 2
"""Each of Stripe's servers is at most so far from the true time: two differ by 4, a timestamp drops up to 1 more."""

CATALOG = Catalog(
    (
        Plan("free", "Free"),
        Plan("pro", "Pro", (Price("pro_monthly", 1900, "usd", "month"),)),
        Plan("team", "Team", (Price("team_monthly", 4900, "usd", "month"),)),
    )
)

NEXT_STATUSES = {
    "incomplete": ("active", "trialing", "incomplete_expired"),
    "trialing": ("active", "past_due", "paused", "canceled"),
    "active": ("active", "past_due", "canceled"),
    "past_due": ("active", "unpaid", "canceled"),
    "unpaid": ("active", "canceled"),
    "paused": ("active", "canceled"),
    "incomplete_expired": (),
    "canceled": (),
}

type Json = dict[str, Any]


@dataclass
class Stripe:
    """Objects with a history, and the events that their changes made."""

    choice: random.Random
    time: float = START
    objects: dict[str, Json] = field(default_factory=dict)
    histories: dict[str, list[Json]] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)

    def put(self, source: Json, event_type: str) -> None:
        """Change an object, and make the event that tells it, with a server's own idea of the time."""
        self.objects[source["id"]] = source
        self.histories.setdefault(source["id"], []).append(source)
        self.emit(event_type, source)

    def emit(self, event_type: str, source: Json) -> None:
        self.events.append(
            {
                "id": f"evt_{len(self.events)}",
                "type": event_type,
                "created": self.stamp(),
                "livemode": False,
                "data": {"object": source},
            }
        )

    def stamp(self) -> int:
        """The present second, on one of Stripe's servers."""
        return int(self.time + self.choice.uniform(-CLOCK_SKEW_SECONDS, CLOCK_SKEW_SECONDS))

    def subscribe(self, subscription_id: str, customer_id: str = "cus_1") -> None:
        status = self.choice.choice(["incomplete", "incomplete", "active", "trialing"])
        self.put(subscription(subscription_id, customer_id, status, self.time), "customer.subscription.created")

    def change(self, subscription_id: str) -> None:
        """One legal change of a subscription; none if it has ended."""
        now = self.objects[subscription_id]
        statuses = NEXT_STATUSES[now["status"]]
        if not statuses:
            return
        status = self.choice.choice(statuses)
        price = self.choice.choice(["pro_monthly", "team_monthly"])
        changed = now | {"status": status, "items": items(price, self.choice.randrange(1, 4), int(self.time))}
        changed["cancel_at_period_end"] = self.choice.random() < 0.3 and status == "active"
        if status in {"canceled", "incomplete_expired"}:
            changed["ended_at"] = int(self.time)
        deleted = status == "canceled"
        self.put(changed, "customer.subscription.deleted" if deleted else "customer.subscription.updated")
        if status == "past_due":
            self.put(invoice(f"in_{len(self.events)}", changed, self.time), "invoice.payment_failed")

    def wait(self) -> None:
        """Let some time pass: mostly none or little, so that most changes share a second or the skew."""
        self.time += self.choice.choice([0, 0, 0, 0.4, 1, 3, 6, 20, 700])


def subscription(subscription_id: str, customer_id: str, status: str, now: float) -> Json:
    """A subscription object, in the shape of today's API."""
    return {
        "id": subscription_id,
        "customer": customer_id,
        "status": status,
        "created": int(now),
        "items": items("pro_monthly", 1, int(now)),
        "cancel_at_period_end": False,
        "metadata": {"account_id": "acme"},
    }


def items(lookup_key: str, quantity: int, start: int) -> Json:
    """One item with its period."""
    price = {"id": f"price_{lookup_key}", "lookup_key": lookup_key}
    period = {"current_period_start": start, "current_period_end": start + 2_592_000}
    return {"data": [{"price": price, "quantity": quantity} | period]}


def invoice(invoice_id: str, of: Json, now: float) -> Json:
    """An open invoice whose payment failed."""
    amounts = {"total": 1900, "amount_due": 1900, "amount_paid": 0, "amount_remaining": 1900}
    parent = {"subscription_details": {"subscription": of["id"], "metadata": of["metadata"]}}
    facts = {"status": "open", "currency": "usd", "created": int(now), "attempt_count": 1}
    return {"id": invoice_id, "customer": of["customer"], "parent": parent} | facts | amounts


@dataclass
class Table:
    """The store's promises, kept in memory: one atomic, conditional commit; reads of single rows are consistent."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    markers: dict[str, Outcome] = field(default_factory=dict)
    rows: dict[str, Sighting[Snapshot]] = field(default_factory=dict)
    history: list[Sighting[Snapshot]] = field(default_factory=list)
    outbound: list[OutboundEvent] = field(default_factory=list)
    compares_versions: bool = True

    def read_event_context(
        self, event_id: str, customer_id: str, account_id: str | None, targets: Sequence[Target]
    ) -> EventContext:
        yield_to_scheduler()
        rows = {target.id: self.rows[target.id] for target in targets if target.id in self.rows}
        return EventContext(
            self.markers.get(event_id), self.owners.get(customer_id), self.profiles.get(account_id or ""), rows
        )

    def load_subscription_rows(self, account_id: str) -> Mapping[str, Sighting[Snapshot]]:
        yield_to_scheduler()
        assert account_id == "acme"
        return {key: row for key, row in self.rows.items() if key.startswith("sub_")}

    def commit(self, commit: Commit) -> None:
        yield_to_scheduler()
        marker = commit.marker
        if (outcome := self.markers.get(marker.event_id)) is not None and outcome.is_final:
            raise EventAlreadyProcessed
        if self.compares_versions and any(self._is_stale(row) for row in commit.rows):
            raise VersionConflict(refused_first=False)
        if commit.profile and self.profiles[commit.profile.account_id].version != commit.profile.version:
            raise VersionConflict(refused_first=False)
        self.markers[marker.event_id] = marker.outcome
        for row in commit.rows:
            self.rows[row.content.id] = row
        self.history += commit.rows
        self.outbound += commit.outbound
        if commit.profile:
            saved = replace(commit.profile, version=commit.profile.version + 1)
            self.profiles[saved.account_id] = saved
        if commit.new_customer_id and marker.account_id:
            self.owners[commit.new_customer_id] = marker.account_id

    def _is_stale(self, row: Sighting[Snapshot]) -> bool:
        stored = self.rows.get(row.content.id)
        return (stored.version if stored else 0) != row.version - 1


def yield_to_scheduler() -> None:
    """Stop before a call, until the scheduler lets this worker make it."""
    parent = getcurrent().parent
    if parent is not None:
        parent.switch()


@dataclass
class World:
    """Stripe, the table and the workers between them."""

    choice: random.Random
    stripe: Stripe
    table: Table = field(default_factory=Table)
    workers: list[greenlet] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    fetch_failures: float = 0.1

    def processor(self) -> EventProcessor:
        return EventProcessor(
            store=self.table,  # type: ignore[arg-type]
            catalog=CATALOG,
            fetch=self.fetch,
            livemode=False,
            now=lambda: moment(self.stripe.time),
            pause=lambda _seconds: yield_to_scheduler(),
        )

    def fetch(self, target: Target) -> Fetched | None:
        """A call that takes its time: Stripe reads its state somewhere between the request and the answer."""
        self.counts["fetches"] += 1
        started = self.stripe.time
        yield_to_scheduler()
        if self.choice.random() < self.fetch_failures:
            raise StripeUnavailable
        source = self.stripe.objects[target.id]
        yield_to_scheduler()
        answered = moment(self.stripe.stamp())
        content = read_invoice(source) if target.id.startswith("in_") else read_subscription(source, CATALOG)
        return Fetched(content, answered - timedelta(seconds=self.stripe.time - started), answered)

    def deliver(self, event: Json, unacknowledged: list[Json]) -> None:
        """A worker takes an event; what ends in an error is delivered again."""

        def work() -> None:
            try:
                self.processor().process(event)
            except StripeUnavailable:
                unacknowledged.append(event)

        self.workers.append(greenlet(work))
        self.counts["deliveries"] += 1

    def step(self) -> None:
        """Let one worker make its next call."""
        worker = self.choice.choice(self.workers)
        worker.switch()
        if worker.dead:
            self.workers.remove(worker)

    def run_dry(self) -> None:
        """Let every worker finish."""
        while self.workers:
            self.step()


def moment(seconds: float) -> datetime:
    """A time of the model as a datetime."""
    return datetime.fromtimestamp(seconds, UTC)
