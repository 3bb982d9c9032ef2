"""Accounts: a profile, its subscriptions and gauges, and the plan that follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from billing.domain.errors import NeverSubscribed, SubscriptionExists
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription

END_OF_TIME = datetime.max.replace(tzinfo=UTC)

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
    confirmed_customers: tuple[str, ...] = ()
    unlinked_customers: tuple[str, ...] = ()

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

    def without_customer(self, customer_id: str) -> "Profile":
        """Return the profile after an operator unlinked a customer, with its open Checkout Session."""
        is_current = self.customer_id == customer_id
        return replace(
            self,
            customer_id=None if is_current else self.customer_id,
            open_checkout=None if is_current else self.open_checkout,
            confirmed_customers=_without(self.confirmed_customers, customer_id),
            unlinked_customers=(*_without(self.unlinked_customers, customer_id), customer_id),
        )


def _without(values: tuple[str, ...], removed: str) -> tuple[str, ...]:
    return tuple(value for value in values if value != removed)


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

    def shown_subscription(self, catalog: Catalog, now: datetime, grace: timedelta) -> Subscription | None:
        """Return the subscription whose plan, status and period represent the account.

        The first criterion that differs decides:

        1. the higher granted plan
        2. a subscription that has not ended, before one that has; of two ended ones the later end
        3. the later creation

        Args:
            catalog: Plans in ascending order.
            now: Current time.
            grace: Time for which a `past_due` subscription grants access.

        Returns:
            The subscription, or None if the account never had one.
        """

        def precedence(subscription: Subscription) -> tuple[int, datetime, datetime]:
            granted = subscription.granted_plan(catalog, now, grace)
            ended_at = (subscription.ended_at or subscription.canceled_at) if subscription.has_ended else None
            return catalog.rank(granted), ended_at or END_OF_TIME, subscription.created

        return max(self.subscriptions, key=precedence, default=None)

    def status(self, catalog: Catalog, now: datetime, grace: timedelta) -> AccountStatus:
        """Return the account's plan, and status and period of the subscription that is shown for it."""
        shown = self.shown_subscription(catalog, now, grace)
        if shown is None:
            return AccountStatus(plan=catalog.free.id, member_count=self.member_count)
        return AccountStatus(
            plan=shown.granted_plan(catalog, now, grace) or catalog.free.id,
            status=shown.status,
            current_period_end=shown.current_period_end,
            cancel_at_period_end=shown.is_cancelling,
            member_count=self.member_count,
        )

    def refuse_second_subscription(self, now: datetime, grace: timedelta) -> None:
        """Raise SubscriptionExists if any subscription grants access, for whichever plan."""
        if any(subscription.grants_access(now, grace) for subscription in self.subscriptions):
            raise SubscriptionExists

    def customers_with_history(self) -> tuple[str, ...]:
        """Return the Stripe customers whose billing history the portal can show, the preferred one first.

        These are the profile's customer, then the earlier customers: those with a subscription that has not ended, then
        those of the newest subscriptions.

        Raises:
            NeverSubscribed: The account never had a subscription.
        """
        if not self.subscriptions:
            raise NeverSubscribed
        current = (self.profile.customer_id,) if self.profile.customer_id else ()
        newest_first = sorted(self.subscriptions, key=lambda each: (each.has_ended, -each.created.timestamp()))
        return tuple(dict.fromkeys((*current, *(each.customer_id for each in newest_first))))
