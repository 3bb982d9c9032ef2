"""What a Stripe subscription is to us, and which access it gives."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from billing.domain.plans import Catalog


class Access(Enum):
    """What a status does for the account."""

    GRANTED = "granted"
    GRACE = "granted for the grace period"
    NONE = "none"


# https://docs.stripe.com/billing/subscriptions/overview#subscription-statuses. A status that Stripe adds later gives
# no access until somebody has decided that it should.
ACCESS_OF_STATUS = {
    "active": Access.GRANTED,
    "trialing": Access.GRANTED,
    "past_due": Access.GRACE,
    "unpaid": Access.NONE,
    "paused": Access.NONE,
    "incomplete": Access.NONE,
    "incomplete_expired": Access.NONE,
    "canceled": Access.NONE,
}

NOT_STARTED = frozenset({"incomplete", "incomplete_expired"})
ENDED = frozenset({"canceled", "incomplete_expired"})


@dataclass(frozen=True, slots=True)
class Subscription:
    """Stripe's facts about one subscription, reduced to what is used. Times are UTC.

    `plan` is the catalog plan of its price, None if the price maps to none; the period and quantity are those of the
    item with that price. `past_due_since` is when an event or a fetch first showed it so (Stripe does not tell).
    """

    id: str
    customer_id: str
    status: str
    created: datetime
    plan: str | None
    price_id: str | None
    price_lookup_key: str | None
    quantity: int | None
    current_period_start: datetime | None
    current_period_end: datetime | None
    cancel_at_period_end: bool
    cancel_at: datetime | None
    canceled_at: datetime | None
    ended_at: datetime | None
    trial_end: datetime | None
    price_is_mapped: bool
    past_due_since: datetime | None = None

    @property
    def has_started(self) -> bool:
        """Whether it ever was more than an attempt to subscribe."""
        return self.status not in NOT_STARTED

    @property
    def has_ended(self) -> bool:
        """Whether it is in a status that Stripe calls terminal."""
        return self.status in ENDED

    @property
    def is_cancelling(self) -> bool:
        """Whether it will end by itself, at the period's end or at a set time."""
        return self.cancel_at_period_end or (self.cancel_at is not None and not self.has_ended)

    @property
    def lifecycle_rank(self) -> int:
        """How far its life has come. It never goes back: nothing returns to `incomplete` or from an ended status."""
        if self.has_ended:
            return 2
        return 0 if self.status == "incomplete" else 1

    def ended(self, at: datetime) -> "Subscription":
        """What it became when it ended at `at`, where nobody can be asked any more."""
        return replace(self, status="canceled", canceled_at=self.canceled_at or at, ended_at=at, past_due_since=None)

    def grants_access(self, now: datetime, grace: timedelta) -> bool:
        """Whether the account has this subscription's plan at `now`; `past_due` does for `grace` after it became so."""
        access = ACCESS_OF_STATUS.get(self.status, Access.NONE)
        if access is Access.GRACE:
            return self.past_due_since is None or now < self.past_due_since + grace
        return access is Access.GRANTED

    def granted_plan(self, catalog: Catalog, now: datetime, grace: timedelta) -> str | None:
        """The plan this subscription gives at `now`; None if it gives none."""
        return self.plan if catalog.rank(self.plan) > 0 and self.grants_access(now, grace) else None
