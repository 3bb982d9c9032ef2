"""Accounts: a profile, its subscriptions and gauges, and the plan that follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from billing.domain.errors import NeverSubscribed
from billing.domain.plans import Catalog
from billing.domain.subscriptions import AccessPolicy, Subscription

TEAM_MEMBERS = "team_members"
GAUGE_DEFAULTS: Mapping[str, int] = {TEAM_MEMBERS: 1}
"""Values of gauges that were never set. The default of every other gauge is 0."""


@dataclass(frozen=True, slots=True)
class OpenCheckout:
    """The one Checkout Session that an account may have open.

    Attributes:
        session_id: Id of the session in Stripe.
        fingerprint: Hash of the order. A request with the same fingerprint reuses the session.
    """

    session_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Profile:
    """The account itself, without its subscriptions and gauges.

    Attributes:
        account_id: Id of the account in the product that uses this service.
        version: Number of writes; 0 if the account is not stored yet.
        nonce: Random value, created with the stored account. Stripe idempotency keys are derived from it, so another
            table with the same account id derives other keys.
        customer_id: Stripe customer.
        email: E-mail address of the customer.
        trial_used: True once a subscription of the account had a trial.
        open_checkout: Checkout Session that may still be paid.
        created: Time at which the account was stored.
        live_subscription_ids: Ids of the account's live subscriptions of ours, sorted. A commit that changes the set of
            them writes the profile, so it conflicts with a concurrent checkout.
    """

    account_id: str
    version: int = 0
    nonce: str | None = None
    customer_id: str | None = None
    email: str | None = None
    trial_used: bool = False
    open_checkout: OpenCheckout | None = None
    created: datetime | None = None
    live_subscription_ids: tuple[str, ...] = ()

    @property
    def superfluous_checkout(self) -> OpenCheckout | None:
        """The open Checkout Session, if the account has a live subscription already. It has to be expired."""
        return self.open_checkout if self.live_subscription_ids else None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """Plan and subscription status of an account. All optional fields are None if it never had a subscription."""

    plan: str
    status: str | None = None
    current_period_end: datetime | None = None
    cancel_at_period_end: bool | None = None
    member_count: int = 1


@dataclass(frozen=True, slots=True)
class Account:
    """A profile with all stored subscriptions, ended ones included, and the values of its gauges by metric."""

    profile: Profile
    subscriptions: tuple[Subscription, ...] = ()
    gauges: Mapping[str, int] = field(default_factory=lambda: GAUGE_DEFAULTS)

    @property
    def member_count(self) -> int:
        """Number of people in the account's team."""
        return self.gauges[TEAM_MEMBERS]

    def shown_subscription(self, catalog: Catalog, now: datetime, policy: AccessPolicy) -> Subscription | None:
        """Return the subscription whose plan, status and period represent the account.

        `Subscription.display_order` selects it.

        Args:
            catalog: Plans in ascending order.
            now: Current time.
            policy: Statuses that grant access.

        Returns:
            The subscription, or None if the account never had one of ours.
        """
        ours = (each for each in self.subscriptions if each.ours(catalog))
        return max(ours, key=lambda each: each.display_order(catalog, now, policy), default=None)

    def status(self, catalog: Catalog, now: datetime, policy: AccessPolicy) -> AccountStatus:
        """Return the account's plan, and status and period of the subscription that is shown for it."""
        shown = self.shown_subscription(catalog, now, policy)
        if shown is None:
            return AccountStatus(plan=catalog.free.id, member_count=self.member_count)
        return AccountStatus(
            plan=shown.granted_plan(catalog, now, policy) or catalog.free.id,
            status=shown.status,
            current_period_end=shown.current_period_end,
            cancel_at_period_end=shown.is_cancelling,
            member_count=self.member_count,
        )

    def blocking_subscription(self, catalog: Catalog, now: datetime, policy: AccessPolicy) -> Subscription | None:
        """Return the live subscription of ours because of which checkout is refused; of several the shown one."""
        live = (each for each in self.subscriptions if each.live and each.ours(catalog))
        return max(live, key=lambda each: each.display_order(catalog, now, policy), default=None)

    @property
    def billing_currency(self) -> str | None:
        """Currency that a new subscription must have; None for any.

        Stripe bills a customer in one currency at a time: that of a live subscription, of another product too.
        """
        live = (each for each in self.subscriptions if each.live and each.customer_id == self.profile.customer_id)
        return next((each.currency for each in live if each.currency), None)

    def customer_with_history(self) -> str:
        """Return the Stripe customer whose billing history the portal shows.

        Raises:
            NeverSubscribed: The account has no customer, or never had a subscription.
        """
        if self.profile.customer_id is None or not self.subscriptions:
            raise NeverSubscribed
        return self.profile.customer_id
