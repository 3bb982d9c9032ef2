"""Checkout: one Stripe customer for an account, and at most one open Checkout Session.

Two open sessions could both be paid. The account therefore stores the open session: the same order gets the same page
again, and another order expires it first. Concurrent requests read the same version of the account and derive the same
idempotency keys from it, so Stripe returns the same customer and the same session to both. After an error of Stripe,
the next attempt derives other keys (`idempotency_keys`).
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime

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
from billing.domain.identifiers import is_stripe_id
from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import AccessPolicy
from billing.services.event_processor import EventProcessor
from billing.services.idempotency_keys import next_key_after_error
from billing.stripe_events.event_types import EventOutcome

ATTEMPTS_MAX = 10
OPEN_INVOICES_MAX = 100


@dataclass(frozen=True, slots=True)
class CheckoutParams:
    """Parameters of a checkout.

    Attributes:
        tier: Plan of the catalog. Required without `price_id`.
        price_id: Id or lookup key of a price of the catalog.
        quantity: Number of seats.
        success_url: Absolute URL on an allowed origin, opened after payment.
        cancel_url: Absolute URL on an allowed origin, opened if the user cancels.
        interval: Billing interval of the price; None for that of the plan's first price.
        currency: Currency of the price; None for that of the plan's first price.
    """

    tier: str | None
    price_id: str | None
    quantity: int
    success_url: str
    cancel_url: str
    interval: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """Plan at one of its prices."""

    plan: Plan
    price: Price


@dataclass(frozen=True, slots=True)
class Checkout:
    """Creates Checkout Sessions.

    Attributes:
        processor: Applies the deletion of a customer or the completion of a session whose event was lost.
        policy: Statuses that grant access.
    """

    repository: Repository
    gateway: StripeGateway
    catalog: Catalog
    deployment: Deployment
    processor: EventProcessor
    policy: AccessPolicy
    allow_promotion_codes: bool

    def open(self, account_id: str, params: CheckoutParams, now: datetime) -> str:
        """Return the URL of a Checkout Session's page.

        Raises:
            RequestInvalid: The catalog does not sell the plan, price or quantity.
            SubscriptionExists: A live subscription of ours exists, or the open session was just paid.
            StripeUnavailable: Stripe is unavailable.
            StripeRefused: Stripe rejected a request.
            StoreUnavailable: DynamoDB is unavailable, or other writers conflict too often.
        """
        offer = self._find_offer(params)
        for _ in range(ATTEMPTS_MAX):
            account = self.repository.load_account(account_id)
            try:
                self._refuse_second_subscription(account, now)
                if account.profile.version == 0:
                    self.repository.create_account(account.profile)
                    continue
                profile = self._with_customer(account.profile)
                return self._session_url(
                    replace(account, profile=profile), _in_billing_currency(account, offer, params), params
                )
            except SubscriptionExists:
                if not self._end_deleted_customers(account):
                    raise
            except VersionConflict:
                continue
        raise StoreUnavailable

    def _refuse_second_subscription(self, account: Account, now: datetime) -> None:
        """Raise SubscriptionExists if the account has a live subscription of ours.

        A subscription that is not in good standing is paid at the hosted page of its newest open invoice.
        """
        blocking = account.blocking_subscription(self.catalog, now, self.policy)
        if blocking is None:
            return
        if blocking.in_good_standing:
            raise SubscriptionExists
        page = self.repository.list_invoices(account.profile.account_id, OPEN_INVOICES_MAX, status="open")
        urls = [each.hosted_invoice_url for each in page.invoices if each.subscription_id == blocking.id]
        raise SubscriptionExists(blocking.status, next((url for url in urls if url), None))

    def _end_deleted_customers(self, account: Account) -> bool:
        """End the subscriptions of deleted customers. Returns True if there were any.

        The event of the deletion was lost. The portal of such a customer cannot be opened, so its subscriptions must
        not prevent a checkout. If Stripe fails, the checkout is refused as if every customer existed.

        Raises:
            SubscriptionWithoutCustomer: Stripe returns 404 for a customer, which does not prove that it was deleted.
        """
        live = (each for each in account.subscriptions if each.live and each.ours(self.catalog))
        customers = {account.profile.customer_id, *(each.customer_id for each in live)}
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
        offer = self._offer_of_price(params.price_id) if params.price_id else offer_of_tier(self.catalog, params)
        if params.quantity > 1 and not offer.price.per_seat:
            raise RequestInvalid.at("quantity", f"must be 1: {offer.plan.name} is not priced per seat")
        return offer

    def _offer_of_price(self, price_id: str) -> Offer:
        """Return the offer of a Stripe price or of a lookup key. Raises RequestInvalid."""
        offers = [Offer(plan, price) for plan in self.catalog.plans for price in plan.prices]

        def find(name: str | None) -> Offer | None:
            return next((each for each in offers if name and name in (each.price.lookup_key, each.price.id)), None)

        offer = find(price_id)
        if offer is None and is_stripe_id(price_id):
            offer = find(self.gateway.find_lookup_key(price_id))
        if offer is None:
            raise RequestInvalid.at("price_id", "is not a price of the catalog")
        return offer

    def _with_customer(self, profile: Profile) -> Profile:
        """Return the profile with a Stripe customer, created if it has none."""
        if profile.customer_id is not None:
            return profile
        key = f"customer-{profile.nonce}-{profile.version}"
        with next_key_after_error(self.repository, profile):
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
        with next_key_after_error(self.repository, profile):
            session = self._create_session(profile, offer, order, key)
        try:
            self.repository.save_profile(replace(profile, open_checkout=OpenCheckout(session.id, fingerprint)))
        except VersionConflict:
            self._expire_unless_stored(profile.account_id, session)
            raise
        return _url(session)

    def _create_session(self, profile: Profile, offer: Offer, order: CheckoutOrder, key: str) -> CheckoutSession:
        """Create a session. If Stripe refuses the price or the customer of the order, they are looked up again.

        If a lookup fails, the refusal stands: Stripe stored it for the key, so the next attempt needs another one.

        Raises:
            VersionConflict: The order was corrected. The next attempt uses the new price or another customer.
        """
        try:
            return self.gateway.create_checkout_session(order, idempotency_key=key)
        except StripeRefused:
            with suppress(StripeFailed):
                self._refresh_price(offer.price, order.price_id)
            with suppress(StripeFailed):
                self._remove_deleted_customer(profile, order.customer_id)
            raise

    def _refresh_price(self, price: Price, price_id: str) -> None:
        """Look up a price again that may have been archived and replaced since its id was stored in memory.

        Raises:
            VersionConflict: The lookup key belongs to another price now. The next attempt uses it.
        """
        if price.id is None and self.gateway.find_price_id(price.lookup_key, refresh=True) != price_id:
            raise VersionConflict

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
            SubscriptionExists: The session was paid.
            VersionConflict: The session was paid, and its subscription was stored.
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
            self._process_completed(account, session)
            return None
        if not is_same_order:
            raise StripeRefused
        return session

    def _process_completed(self, account: Account, session: CheckoutSession) -> None:
        """Store the subscription of a completed session whose events were lost or are late.

        | session | result |
        |---|---|
        | of a customer that is not the account's, such as an unlinked one | it is ignored |
        | its subscription is stored and has ended | it is ignored |
        | its subscription is stored and live, or cannot be read | SubscriptionExists |
        | its subscription is not stored | it is stored now: VersionConflict, so that the account is read again |
        """
        account_id, customer_id, subscription_id = (
            account.profile.account_id,
            session.customer_id,
            session.subscription_id,
        )
        stored = next((each for each in account.subscriptions if each.id == subscription_id), None)
        if stored is not None and not stored.live:
            return
        if stored is not None or customer_id is None or subscription_id is None:
            raise SubscriptionExists
        if self.repository.find_owners([customer_id]).get(customer_id) != account_id:
            return
        outcome = self.processor.complete_checkout(account_id, customer_id, session.id, subscription_id)
        if outcome in {EventOutcome.MISSING, EventOutcome.FAILED}:
            raise SubscriptionExists
        raise VersionConflict


def offer_of_tier(catalog: Catalog, params: CheckoutParams) -> Offer:
    """Return a plan at its first price with the requested interval and currency.

    Raises:
        RequestInvalid: The plan is not for sale, or not in this interval or currency. The message lists what is for
            sale, or names the contact for this plan.
    """
    plan = catalog.plan(params.tier or "")
    if plan is not None and not plan.prices and plan.contact:
        raise RequestInvalid.at("tier", f"{plan.name} is sold by agreement: write to {plan.contact}")
    if plan is None or not plan.prices:
        raise RequestInvalid.at("tier", _one_of(each.id for each in catalog.for_sale))
    of_interval = [price for price in plan.prices if params.interval in {None, price.interval}]
    if not of_interval:
        raise RequestInvalid.at("interval", f"{_one_of(price.interval for price in plan.prices)} for {plan.name}")
    found = next((price for price in of_interval if params.currency in {None, price.currency}), None)
    if found is None:
        scope = f" for {plan.name}" + (f" by the {params.interval}" if params.interval else "")
        raise RequestInvalid.at("currency", _one_of(price.currency for price in of_interval) + scope)
    return Offer(plan, found)


def _in_billing_currency(account: Account, offer: Offer, params: CheckoutParams) -> Offer:
    """Return the offer, or the same plan in the currency in which the account's customer is billed.

    Raises:
        RequestInvalid: The request names a price or currency in which Stripe cannot bill the customer.
    """
    currency = account.billing_currency
    if currency in {None, offer.price.currency}:
        return offer
    is_default = params.price_id is None and params.currency is None
    prices = [each for each in offer.plan.prices if params.interval in {None, each.interval}] if is_default else []
    found = next((each for each in prices if each.currency == currency), None)
    if found is None:
        field = "price_id" if params.price_id else "currency"
        raise RequestInvalid.at(field, f"must be in {currency}: the customer has a live subscription in this currency")
    return Offer(offer.plan, found)


def _one_of(values: Iterable[str]) -> str:
    return f"must be one of: {', '.join(dict.fromkeys(values))}"


def _url(session: CheckoutSession) -> str:
    if session.url is None:
        raise StripeRefused
    return session.url


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
