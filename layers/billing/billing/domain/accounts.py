"""An account: who pays, what it subscribed to, and what it is on now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from billing.domain.errors import NeverSubscribed, SubscriptionExists
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription

if TYPE_CHECKING:
    from billing.domain.usage import Quota

END_OF_TIME = datetime.max.replace(tzinfo=UTC)

TEAM_MEMBERS = "team_members"
GAUGES_AT_FIRST: Mapping[str, int] = {TEAM_MEMBERS: 1}
"""What gauges say that were never set, where that is not 0."""


@dataclass(frozen=True, slots=True)
class OpenCheckout:
    """The one Checkout Session an account may have open; `fingerprint` tells whether another request asks the same."""

    session_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Profile:
    """The account itself. `version` counts its writes; 0 is an account that only a credential has named so far.

    `nonce` is random and made with the stored account: what is derived from it is of this account in this table alone.
    """

    account_id: str
    version: int = 0
    nonce: str | None = None
    customer_id: str | None = None
    email: str | None = None
    trial_used: bool = False
    open_checkout: OpenCheckout | None = None
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """What the account is on. The nulls are those of an account that never subscribed."""

    plan: str
    status: str | None = None
    current_period_end: datetime | None = None
    cancel_at_period_end: bool | None = None
    member_count: int = 1


@dataclass(frozen=True, slots=True)
class Account:
    """A profile with every subscription that Stripe ever told us of, and what its gauges say, by metric."""

    profile: Profile
    subscriptions: tuple[Subscription, ...] = ()
    gauges: Mapping[str, int] = field(default_factory=lambda: GAUGES_AT_FIRST)

    @property
    def member_count(self) -> int:
        """How many people are in the account's team."""
        return self.gauges[TEAM_MEMBERS]

    def subscription_shown(self, catalog: Catalog, now: datetime, grace: timedelta) -> Subscription | None:
        """The subscription that grants the most; if none grants, the one that ended last; None if there never was one.

        One that has not ended counts as ending later than all that have.
        """

        def weight(subscription: Subscription) -> tuple[int, datetime, datetime]:
            granted = subscription.granted_plan(catalog, now, grace)
            ends = (subscription.ended_at or subscription.canceled_at) if subscription.has_ended else None
            return catalog.rank(granted), ends or END_OF_TIME, subscription.created

        return max(self.subscriptions, key=weight, default=None)

    def status(self, catalog: Catalog, now: datetime, grace: timedelta) -> AccountStatus:
        """The plan and what there is to say of the subscription that gives it."""
        shown = self.subscription_shown(catalog, now, grace)
        if shown is None:
            return AccountStatus(plan=catalog.free.id, member_count=self.member_count)
        return AccountStatus(
            plan=shown.granted_plan(catalog, now, grace) or catalog.free.id,
            status=shown.status,
            current_period_end=shown.current_period_end,
            cancel_at_period_end=shown.is_cancelling,
            member_count=self.member_count,
        )

    def quota(self, catalog: Catalog, now: datetime, grace: timedelta) -> "Quota":
        """The limits of the plan that the account is on, for the period that it pays for, or else for the month."""
        from billing.domain.usage import Period, Quota, month_of  # noqa: PLC0415 - a status does without

        shown = self.subscription_shown(catalog, now, grace)
        plan = catalog.plan(shown.granted_plan(catalog, now, grace) or "") if shown else None
        if shown is None or plan is None:
            return Quota(catalog.free, month_of(now))
        if shown.current_period_start is None or shown.current_period_end is None:
            return Quota(plan, month_of(now))
        return Quota(plan, Period(shown.current_period_start, shown.current_period_end))

    def refuse_second_subscription(self, now: datetime, grace: timedelta) -> None:
        """Raises SubscriptionExists while any subscription grants access, whichever plan it is for."""
        if any(subscription.grants_access(now, grace) for subscription in self.subscriptions):
            raise SubscriptionExists

    def customer_with_history(self) -> str:
        """The Stripe customer whose billing history the portal can show. Raises NeverSubscribed."""
        if self.profile.customer_id is None or not self.subscriptions:
            raise NeverSubscribed
        return self.profile.customer_id
