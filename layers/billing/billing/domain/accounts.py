"""Accounts: a profile, its subscriptions and gauges, and the plan that follows from them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
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
        confirmed_customers: Customers that an operator assigned to the account although metadata names another one.
        unlinked_customers: Customers that an operator took from the account. Metadata does not link them again.
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
    confirmed_customers: tuple[str, ...] = ()
    unlinked_customers: tuple[str, ...] = ()

    @property
    def superfluous_checkout(self) -> OpenCheckout | None:
        """The open Checkout Session, if the account has a live subscription already. It has to be expired."""
        return self.open_checkout if self.live_subscription_ids else None

    def with_customer(self, customer_id: str, *, confirmed: bool) -> "Profile":
        """Return the profile with a customer that an operator links.

        Args:
            customer_id: Customer that checkout and portal use from now on.
            confirmed: True if the customer is the account's own whatever its metadata says.
        """
        added = (customer_id,) if confirmed and customer_id not in self.confirmed_customers else ()
        return replace(
            self,
            customer_id=customer_id,
            confirmed_customers=(*self.confirmed_customers, *added),
            unlinked_customers=_without(self.unlinked_customers, customer_id),
        )

    def without_customer(self, customer_id: str, subscription_ids: Collection[str] = ()) -> "Profile":
        """Return the profile after an operator unlinked a customer, with its open Checkout Session.

        Args:
            customer_id: Customer of the account.
            subscription_ids: Subscriptions of the customer that are stored for the account.
        """
        is_current = self.customer_id == customer_id
        return replace(
            self,
            customer_id=None if is_current else self.customer_id,
            open_checkout=None if is_current else self.open_checkout,
            live_subscription_ids=tuple(each for each in self.live_subscription_ids if each not in subscription_ids),
            confirmed_customers=_without(self.confirmed_customers, customer_id),
            unlinked_customers=(*_without(self.unlinked_customers, customer_id), customer_id),
        )


def _without(values: tuple[str, ...], removed: str) -> tuple[str, ...]:
    return tuple(value for value in values if value != removed)


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """Plan and subscription status of an account. All optional fields are None if it has no subscription of ours."""

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

    def customers_with_history(self) -> tuple[str, ...]:
        """Return the Stripe customers whose billing history the portal can show, the preferred one first.

        These are the profile's customer, then the earlier customers: those with a subscription that has not ended, then
        those of the newest subscriptions.

        Raises:
            NeverSubscribed: No subscription of the account is stored.
        """
        if not self.subscriptions:
            raise NeverSubscribed
        current = (self.profile.customer_id,) if self.profile.customer_id else ()
        newest_first = sorted(self.subscriptions, key=lambda each: (each.has_ended, -each.created.timestamp()))
        return tuple(dict.fromkeys((*current, *(each.customer_id for each in newest_first))))
