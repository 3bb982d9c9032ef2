"""Subscriptions, and the three questions that are asked about them everywhere: `granting`, `live` and `ours`.

docs/explanation/subscriptions-and-plans.md lists the answers for each status.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
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


type DisplayOrder = tuple[int, bool, bool, bool, datetime, datetime, str]


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Parameters of the deployment that decide whether a status grants access.

    Attributes:
        past_due_grace: Time for which a `past_due` subscription still grants access.
        pause_collection_grants: True if a subscription grants access while its payment collection is paused.
    """

    past_due_grace: timedelta
    pause_collection_grants: bool = True


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change of plan, price or quantity that a subscription schedule will make.

    Attributes:
        plan: Plan after the change; None if the catalog does not contain the price.
        price_id: Stripe price after the change.
        quantity: Quantity after the change.
        effective_at: Time at which the change takes effect.
        is_per_seat: True if the price is for each seat.
    """

    plan: str | None
    price_id: str | None
    quantity: int | None
    effective_at: datetime
    is_per_seat: bool = False


UNKNOWN_CHANGE = PendingChange(None, None, None, datetime.min.replace(tzinfo=UTC))
"""Placeholder in a snapshot that names a schedule without its phases. It is never stored."""


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
        is_per_seat: True if the price is for each seat, by the catalog.
        schedule_id: Subscription schedule that manages the subscription. None if there is none, or it has ended.
        pending_change: Next change that the schedule will make.
        past_due_since: Time from which an event or a fetch first showed the subscription as `past_due`. Stripe does not
            state it.
        pause_collection: Behavior of invoices while payment collection is paused, for example "void"; None if it is
            not paused. The status stays as it is.
        pause_resumes_at: Time at which payment collection resumes by itself.
        unit_amount: Amount of the price in the currency's minor unit; None for tiered prices, and if the price has
            another currency than the subscription.
        currency: Currency in which the subscription is billed.
        interval: Billing interval of the price in Stripe, for example "month".
        interval_count: Number of intervals between two invoices.
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
    is_per_seat: bool = False
    schedule_id: str | None = None
    pending_change: PendingChange | None = None
    past_due_since: datetime | None = None
    pause_collection: str | None = None
    pause_resumes_at: datetime | None = None
    unit_amount: int | None = None
    currency: str | None = None
    interval: str | None = None
    interval_count: int | None = None
    conflicting_account_id: str | None = None

    @property
    def live(self) -> bool:
        """True if Stripe can still collect payments for the subscription, or revive it."""
        return not self.has_ended

    def ours(self, catalog: Catalog) -> bool:
        """Return True if the subscription is for a plan other than the free one, or was when its price was last known.

        Others (free prices, other products, add-ons) are stored. They are not shown, grant nothing and do not prevent
        a checkout.
        """
        return self.plan is not None and self.plan != catalog.free.id

    def granting(self, catalog: Catalog, now: datetime, policy: AccessPolicy) -> bool:
        """Return True if the account may use the subscription's plan at `now`.

        A `past_due` subscription grants access for the grace period from `past_due_since` on. A plan that is no longer
        in the catalog grants nothing, nor does a subscription that may belong to another account.
        """
        is_in_catalog = self.ours(catalog) and catalog.plan(self.plan or "") is not None
        return is_in_catalog and self.conflicting_account_id is None and self._status_grants(now, policy)

    def _status_grants(self, now: datetime, policy: AccessPolicy) -> bool:
        if self.pause_collection is not None and not policy.pause_collection_grants:
            return False
        access = ACCESS_OF_STATUS.get(self.status, Access.NONE)
        if access is Access.GRACE:
            end = self.grace_period_end(policy)
            return end is None or now < end
        return access is Access.GRANTED

    def grace_period_end(self, policy: AccessPolicy) -> datetime | None:
        """Return the time until which a `past_due` subscription grants access; None for another status."""
        is_past_due = ACCESS_OF_STATUS.get(self.status) is Access.GRACE
        return self.past_due_since + policy.past_due_grace if is_past_due and self.past_due_since else None

    def granted_plan(self, catalog: Catalog, now: datetime, policy: AccessPolicy) -> str | None:
        """Return the plan that the subscription grants at `now`; None if it grants none."""
        return self.plan if self.granting(catalog, now, policy) else None

    def display_order(self, catalog: Catalog, now: datetime, policy: AccessPolicy) -> "DisplayOrder":
        """Return a sort key. Of an account's subscriptions of ours, the greatest is shown.

        The first criterion that differs decides:

        1. the higher granted plan
        2. live, before ended
        3. in good standing (`active`, `trialing`), before others
        4. not cancelling, before cancelling
        5. the later end: of a live subscription the set end or that of its period
        6. the later creation
        """
        return (
            catalog.rank(self.granted_plan(catalog, now, policy)),
            self.live,
            self.in_good_standing,
            not (self.live and self.is_cancelling),
            self.lasts_until,
            self.created,
            self.id,
        )

    @property
    def lasts_until(self) -> datetime:
        """End of the subscription; while none is set, the end of its period."""
        end = self.ended_at or self.canceled_at if self.has_ended else self.cancel_at or self.current_period_end
        return end or self.created

    @property
    def in_good_standing(self) -> bool:
        """True if no payment is overdue."""
        return ACCESS_OF_STATUS.get(self.status) is Access.GRANTED

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

    @property
    def multiplies_flat_price(self) -> bool:
        """True if a price that is not per seat is charged more than once, now or after the pending change.

        Stripe keeps the quantity if a subscription changes from a per-seat price to a flat one.
        """
        if not self.live:
            return False
        change = self.pending_change
        now = self.price_is_mapped and not self.is_per_seat and (self.quantity or 0) > 1
        later = change is not None and change.plan is not None and not change.is_per_seat and (change.quantity or 0) > 1
        return now or later

    def has_same_schedule(self, other: "Subscription") -> bool:
        """Return True if both have the same schedule, and no phase of it began or ended in between.

        A phase begins with another price, quantity or period.
        """
        fields = ("schedule_id", "price_id", "quantity", "current_period_start")
        return all(getattr(self, field) == getattr(other, field) for field in fields)

    def as_canceled(self, at: datetime) -> "Subscription":
        """Return the subscription as it is after it was canceled at `at`."""
        ended = replace(self, status="canceled", canceled_at=self.canceled_at or at, ended_at=at)
        return replace(ended, past_due_since=None, schedule_id=None, pending_change=None, conflicting_account_id=None)
