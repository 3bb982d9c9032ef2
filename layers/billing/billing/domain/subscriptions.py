"""Subscriptions, and the access that each status grants."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from billing.domain.plans import Catalog


class Access(Enum):
    """Access that a subscription status grants."""

    GRANTED = "granted"
    GRACE = "granted for the grace period"
    NONE = "none"


# https://docs.stripe.com/billing/subscriptions/overview#subscription-statuses
# A status that is not listed grants no access. If Stripe adds one, decide here which access it grants.
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

NOT_STARTED_STATUSES = frozenset({"incomplete", "incomplete_expired"})
ENDED_STATUSES = frozenset({"canceled", "incomplete_expired"})
# No subscription returns to `incomplete` or leaves an ended status. Every other status has rank 1.
LIFECYCLE_RANK_OF_STATUS = {"incomplete": 0, "incomplete_expired": 2, "canceled": 2}


@dataclass(frozen=True, slots=True)
class Subscription:
    """A Stripe subscription, reduced to the fields that are used. Times are UTC.

    Attributes:
        id: Id in Stripe.
        customer_id: Stripe customer.
        status: Status in Stripe.
        created: Creation in Stripe.
        plan: Plan of the catalog; None if no price of the subscription was ever in the catalog.
        price_id: Stripe price of the item that determines the plan.
        quantity: Quantity of that item.
        current_period_start: Start of that item's billing period.
        current_period_end: End of that item's billing period.
        cancel_at_period_end: True if the subscription ends with the billing period.
        cancel_at: Time at which the subscription will end.
        canceled_at: Time of the cancellation request.
        ended_at: Time at which the subscription ended.
        trial_end: End of the trial.
        price_is_mapped: True if the catalog contains the price. Otherwise `plan` is the last one that was stored.
        past_due_since: Time from which an event or a fetch first showed the subscription as `past_due`. Stripe does not
            state it.
        conflicting_account_id: Another account that the subscription's own metadata names, if that account exists and
            had no customer. The plan is not granted until an operator decides.
    """

    id: str
    customer_id: str
    status: str
    created: datetime
    plan: str | None
    price_id: str | None
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
    conflicting_account_id: str | None = None

    @property
    def has_started(self) -> bool:
        """True if the subscription was activated: its first payment succeeded or was not required."""
        return self.status not in NOT_STARTED_STATUSES

    @property
    def has_ended(self) -> bool:
        """True if the status is one that Stripe calls terminal."""
        return self.status in ENDED_STATUSES

    @property
    def is_cancelling(self) -> bool:
        """True if the subscription will end at the end of its period or at a set time."""
        return self.cancel_at_period_end or (self.cancel_at is not None and not self.has_ended)

    @property
    def lifecycle_rank(self) -> int:
        """Position in the lifecycle, which never decreases: see `LIFECYCLE_RANK_OF_STATUS`."""
        return LIFECYCLE_RANK_OF_STATUS.get(self.status, 1)

    def as_canceled(self, at: datetime) -> "Subscription":
        """Return the subscription as it is after it was canceled at `at`."""
        return replace(
            self,
            status="canceled",
            canceled_at=self.canceled_at or at,
            ended_at=at,
            past_due_since=None,
            conflicting_account_id=None,
        )

    def grants_access(self, now: datetime, grace: timedelta) -> bool:
        """Return True if the account may use the subscription's plan at `now`.

        A `past_due` subscription grants access for the time `grace` from `past_due_since` on.
        """
        access = ACCESS_OF_STATUS.get(self.status, Access.NONE)
        if access is Access.GRACE:
            return self.past_due_since is None or now < self.past_due_since + grace
        return access is Access.GRANTED

    def granted_plan(self, catalog: Catalog, now: datetime, grace: timedelta) -> str | None:
        """Return the plan that the subscription grants at `now`; None if it grants none."""
        is_granted = self.grants_access(now, grace) and self.conflicting_account_id is None
        return self.plan if catalog.rank(self.plan) > 0 and is_granted else None
