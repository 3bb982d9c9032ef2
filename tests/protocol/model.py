"""Sample Stripe objects, and a Stripe whose objects change at random and emit events."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from billing.domain.plans import Catalog, Plan, Price
from billing.stripe_events.objects import identity_metadata
from tests.samples import DEPLOYMENT

START = 1_780_000_000
CLOCK_SKEW_SECONDS = 2
"""Greatest error of the clock of one of Stripe's servers.

Two clocks differ by at most 4 seconds. A timestamp drops up to 1 second more.
"""

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
    """Current objects, and all events so far."""

    choice: random.Random
    time: float = START
    objects: dict[str, Json] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)

    def put(self, source: Json, event_type: str) -> None:
        """Store an object, and emit an event with the timestamp of a random server."""
        self.objects[source["id"]] = source
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
        """Return the current second of a random server."""
        return int(self.time + self.choice.uniform(-CLOCK_SKEW_SECONDS, CLOCK_SKEW_SECONDS))

    def subscribe(self, subscription_id: str, customer_id: str = "cus_1") -> None:
        status = self.choice.choice(["incomplete", "incomplete", "active", "trialing"])
        self.put(subscription(subscription_id, customer_id, status, self.time), "customer.subscription.created")

    def change(self, subscription_id: str) -> None:
        """Change a subscription as Stripe may change it. An ended subscription does not change."""
        current = self.objects[subscription_id]
        statuses = NEXT_STATUSES[current["status"]]
        if not statuses:
            return
        status = self.choice.choice(statuses)
        price = self.choice.choice(["pro_monthly", "team_monthly"])
        changed = current | {"status": status, "items": items(price, self.choice.randrange(1, 4), int(self.time))}
        changed["cancel_at_period_end"] = self.choice.random() < 0.3 and status == "active"
        if status in {"canceled", "incomplete_expired"}:
            changed["ended_at"] = int(self.time)
        deleted = status == "canceled"
        self.put(changed, "customer.subscription.deleted" if deleted else "customer.subscription.updated")
        if status == "past_due":
            self.put(invoice(f"in_{len(self.events)}", changed, self.time), "invoice.payment_failed")

    def wait(self) -> None:
        """Advance the time, mostly by little, so that most changes are within one second or the clock skew."""
        self.time += self.choice.choice([0, 0, 0, 0.4, 1, 3, 6, 20, 700])


def metadata(account_id: str = "acme") -> Json:
    """Return the metadata of an object that the deployment creates. Its customer is not looked up."""
    return identity_metadata(account_id, DEPLOYMENT.id)


def subscription(subscription_id: str, customer_id: str, status: str, now: float) -> Json:
    """Return a subscription in the form of the current API version."""
    return {
        "id": subscription_id,
        "customer": customer_id,
        "status": status,
        "created": int(now),
        "items": items("pro_monthly", 1, int(now)),
        "cancel_at_period_end": False,
        "metadata": metadata(),
    }


def schedule(of: Json, lookup_key: str | None, quantity: int) -> Json:
    """Return the expanded schedule of a subscription, with a change at the end of its period.

    Args:
        of: The subscription.
        lookup_key: Price of the change; None for a schedule without a further phase.
        quantity: Quantity of the change.
    """
    [item] = of["items"]["data"]
    start, end = item["current_period_start"], item["current_period_end"]
    phases = [{"start_date": start, "end_date": end, "items": of["items"]["data"]}]
    if lookup_key:
        following = items(lookup_key, quantity, end)["data"]
        phases.append({"start_date": end, "end_date": end + 2_592_000, "items": following})
    current = {"start_date": start, "end_date": end}
    names = {"customer": of["customer"], "subscription": of["id"], "metadata": of["metadata"]}
    return {"id": "schedule_1", "status": "active", "current_phase": current, "phases": phases} | names


def items(lookup_key: str, quantity: int, start: int) -> Json:
    """Return the items of a subscription: one, with its period."""
    price = {"id": f"price_{lookup_key}", "lookup_key": lookup_key}
    period = {"current_period_start": start, "current_period_end": start + 2_592_000}
    return {"data": [{"price": price, "quantity": quantity} | period]}


def invoice(invoice_id: str, of: Json, now: float) -> Json:
    """Return an open invoice of a subscription, whose payment failed."""
    amounts = {"total": 1900, "amount_due": 1900, "amount_paid": 0, "amount_remaining": 1900}
    parent = {"subscription_details": {"subscription": of["id"], "metadata": of["metadata"]}}
    fields = {"status": "open", "currency": "usd", "created": int(now), "attempt_count": 1}
    return {"id": invoice_id, "customer": of["customer"], "parent": parent} | fields | amounts


def moment(seconds: float) -> datetime:
    """Return a time of the model as a datetime."""
    return datetime.fromtimestamp(seconds, UTC)
