"""Checkout: one Stripe customer for an account, and at most one open Checkout Session.

Two open sessions could both be paid. The account therefore stores the open session: the same order gets the same page
again, and another order expires it first. Concurrent requests read the same version of the account and derive the same
idempotency keys from it, so Stripe returns the same customer and the same session to both.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from billing.adapters.repository import Repository, VersionConflict
from billing.adapters.stripe_gateway import CheckoutOrder, CheckoutSession, StripeGateway
from billing.domain.accounts import Account, OpenCheckout, Profile
from billing.domain.deployment import Deployment
from billing.domain.errors import (
    RequestInvalid,
    StoreUnavailable,
    StripeFailed,
    StripeRefused,
    SubscriptionExists,
    SubscriptionWithoutCustomer,
)
from billing.domain.plans import Catalog, Plan, Price
from billing.services.event_processor import EventProcessor

ATTEMPTS_MAX = 10


@dataclass(frozen=True, slots=True)
class CheckoutParams:
    """Parameters of a checkout.

    Attributes:
        tier: Plan of the catalog. Required without `price_id`.
        price_id: Id or lookup key of a price of the catalog.
        quantity: Number of seats.
        success_url: Absolute URL on an allowed origin, opened after payment.
        cancel_url: Absolute URL on an allowed origin, opened if the user cancels.
    """

    tier: str | None
    price_id: str | None
    quantity: int
    success_url: str
    cancel_url: str


@dataclass(frozen=True, slots=True)
class Offer:
    """Plan at one of its prices."""

    plan: Plan
    price: Price


@dataclass(frozen=True, slots=True)
class Checkout:
    """Creates Checkout Sessions.

    Attributes:
        processor: Applies the deletion of a customer whose event was lost.
        grace: Time for which `past_due` still grants access.
    """

    repository: Repository
    gateway: StripeGateway
    catalog: Catalog
    deployment: Deployment
    processor: EventProcessor
    grace: timedelta
    allow_promotion_codes: bool

    def open(self, account_id: str, params: CheckoutParams, now: datetime) -> str:
        """Return the URL of a Checkout Session's page.

        Raises:
            RequestInvalid: The catalog does not sell the plan, price or quantity.
            SubscriptionExists: A subscription grants access, or the open session was just paid.
            StripeUnavailable: Stripe is unavailable.
            StripeRefused: Stripe rejected a request.
            StoreUnavailable: DynamoDB is unavailable, or other writers conflict too often.
        """
        offer = self._find_offer(params)
        for _ in range(ATTEMPTS_MAX):
            account = self.repository.load_account(account_id)
            try:
                account.refuse_second_subscription(now, self.grace)
                if account.profile.version == 0:
                    self.repository.create_account(account.profile)
                    continue
                profile = self._with_customer(account.profile)
                return self._session_url(replace(account, profile=profile), offer, params)
            except SubscriptionExists:
                if not self._end_deleted_customers(account):
                    raise
            except VersionConflict:
                continue
        raise StoreUnavailable

    def _end_deleted_customers(self, account: Account) -> bool:
        """End the subscriptions of deleted customers. Returns True if there were any.

        The event of the deletion was lost. The portal of such a customer cannot be opened, so its subscriptions must
        not prevent a checkout. If Stripe fails, the checkout is refused as if every customer existed.

        Raises:
            SubscriptionWithoutCustomer: Stripe returns 404 for a customer, which does not prove that it was deleted.
        """
        customers: set[str | None] = {each.customer_id for each in account.subscriptions if not each.has_ended}
        customers.add(account.profile.customer_id)
        try:
            found = {each: self.gateway.find_customer(each) for each in customers if each}
        except StripeFailed:
            return False
        deleted = [customer_id for customer_id, customer in found.items() if customer and customer.is_deleted]
        for customer_id in deleted:
            self.processor.end_customer(account.profile, customer_id)
        if not deleted and None in found.values():
            raise SubscriptionWithoutCustomer
        return bool(deleted)

    def _find_offer(self, params: CheckoutParams) -> Offer:
        offer = self._offer_of_price(params.price_id) if params.price_id else offer_of_tier(self.catalog, params.tier)
        if params.quantity > 1 and not offer.price.per_seat:
            raise RequestInvalid.at("quantity", f"must be 1: {offer.plan.name} is not priced per seat")
        return offer

    def _offer_of_price(self, price_id: str) -> Offer:
        """Return the offer of a Stripe price or of a lookup key. Raises RequestInvalid."""
        offers = [Offer(plan, price) for plan in self.catalog.plans for price in plan.prices]

        def find(name: str | None) -> Offer | None:
            return next((each for each in offers if name and name in (each.price.lookup_key, each.price.id)), None)

        offer = find(price_id) or find(self.gateway.find_lookup_key(price_id))
        if offer is None:
            raise RequestInvalid.at("price_id", "is not a price of the catalog")
        return offer

    def _with_customer(self, profile: Profile) -> Profile:
        """Return the profile with a Stripe customer, created if it has none."""
        if profile.customer_id is not None:
            return profile
        key = f"customer-{profile.nonce}-{profile.version}"
        customer_id = self.gateway.create_customer(
            profile.account_id, profile.email, deployment_id=self.deployment.id, idempotency_key=_digest(key)
        )
        return self.repository.save_profile(replace(profile, customer_id=customer_id), new_customer_id=customer_id)

    def _session_url(self, account: Account, offer: Offer, params: CheckoutParams) -> str:
        order = self._order(account.profile, offer, params)
        fingerprint = _digest(json.dumps(asdict(order), sort_keys=True))
        reusable = self._resolve_open_checkout(account, fingerprint)
        if reusable:
            return _url(reusable)
        profile = account.profile
        key = _digest(f"checkout-{profile.version}-{fingerprint}")
        try:
            session = self.gateway.create_checkout_session(order, idempotency_key=key)
        except StripeRefused:
            self._remove_deleted_customer(profile, order.customer_id)
            raise
        try:
            self.repository.save_profile(replace(profile, open_checkout=OpenCheckout(session.id, fingerprint)))
        except VersionConflict:
            self._expire_unless_stored(profile.account_id, session)
            raise
        return _url(session)

    def _remove_deleted_customer(self, profile: Profile, customer_id: str) -> None:
        """Remove a deleted customer from the profile, so that the next attempt creates one.

        The `customer.deleted` event was lost, or an older event assigned the customer after it was processed.

        Raises:
            VersionConflict: The customer was removed.
        """
        if self.gateway.is_customer_deleted(customer_id):
            self.repository.save_profile(replace(profile, customer_id=None))
            raise VersionConflict

    def _expire_unless_stored(self, account_id: str, session: CheckoutSession) -> None:
        """Expire a session that was not stored, unless a concurrent request for the same order stored it."""
        stored = self.repository.load_account(account_id).profile.open_checkout
        if stored is None or stored.session_id != session.id:
            self.gateway.expire_checkout_session(session.id)

    def _order(self, profile: Profile, offer: Offer, params: CheckoutParams) -> CheckoutOrder:
        if profile.customer_id is None:
            raise StripeRefused
        price = offer.price
        return CheckoutOrder(
            account_id=profile.account_id,
            deployment_id=self.deployment.id,
            customer_id=profile.customer_id,
            price_id=price.id or self.gateway.find_price_id(price.lookup_key),
            quantity=params.quantity,
            success_url=params.success_url,
            cancel_url=params.cancel_url,
            trial_days=0 if profile.trial_used else offer.plan.trial_days,
            allow_promotion_codes=self.allow_promotion_codes,
        )

    def _resolve_open_checkout(self, account: Account, fingerprint: str) -> CheckoutSession | None:
        """Return the open session of the same order. The session of another order is expired.

        Raises:
            SubscriptionExists: The session was just paid.
            StripeRefused: The session of another order stays open.
        """
        checkout = account.profile.open_checkout
        if checkout is None:
            return None
        is_same_order = checkout.fingerprint == fingerprint
        find = self.gateway.find_checkout_session if is_same_order else self.gateway.expire_checkout_session
        session = find(checkout.session_id)
        if session is None or session.status == "expired":
            return None
        if session.status == "complete":
            ended = {each.id for each in account.subscriptions if each.has_ended}
            if session.subscription_id not in ended:
                raise SubscriptionExists
            return None
        if not is_same_order:
            raise StripeRefused
        return session


def offer_of_tier(catalog: Catalog, tier: str | None) -> Offer:
    """Return a plan at its first price.

    Raises:
        RequestInvalid: The plan is not for sale. The message names the plans that are, or the contact for this one.
    """
    plan = catalog.plan(tier or "")
    if plan is not None and not plan.prices and plan.contact:
        raise RequestInvalid.at("tier", f"{plan.name} is sold by agreement: write to {plan.contact}")
    if plan is None or not plan.prices:
        raise RequestInvalid.at("tier", f"must be one of: {', '.join(each.id for each in catalog.for_sale)}")
    return Offer(plan, plan.prices[0])


def _url(session: CheckoutSession) -> str:
    if session.url is None:
        raise StripeRefused
    return session.url


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
