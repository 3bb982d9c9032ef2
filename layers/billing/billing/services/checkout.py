"""From a tier to a page to pay on: one Stripe customer an account, and one open Checkout Session at a time.

Two open sessions could both be paid. So the account remembers the one that is open: the same order gets the same page
again, another order closes it first. Simultaneous requests read the same version of the account, derive the same
idempotency keys from it, and so get the same customer and the same session from Stripe.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from billing.adapters.repository import Repository, VersionConflict
from billing.adapters.stripe_gateway import CheckoutOrder, CheckoutSession, StripeGateway
from billing.domain.accounts import Account, OpenCheckout, Profile
from billing.domain.errors import RequestInvalid, StoreUnavailable, StripeRefused, SubscriptionExists
from billing.domain.plans import Catalog, Plan, Price

ATTEMPTS_MAX = 10


@dataclass(frozen=True, slots=True)
class CheckoutParams:
    """What the caller wants: a tier of the catalog or one of its Stripe prices, and seats.

    The URLs say where the browser goes afterwards; they are absolute and on an allowed origin.
    """

    tier: str | None
    price_id: str | None
    quantity: int
    success_url: str
    cancel_url: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What is sold: a plan at one of its prices."""

    plan: Plan
    price: Price


@dataclass(frozen=True, slots=True)
class Checkout:
    """Opens checkout pages. `grace` is how long `past_due` still grants."""

    repository: Repository
    gateway: StripeGateway
    catalog: Catalog
    grace: timedelta
    allow_promotion_codes: bool

    def open(self, account_id: str, request: CheckoutParams, now: datetime) -> str:
        """The URL of the page to pay on.

        Raises RequestInvalid for a tier or quantity that is not for sale, SubscriptionExists where one already grants
        or was just paid, and what Stripe and the store raise.
        """
        offer = self._offer(request)
        for _ in range(ATTEMPTS_MAX):
            account = self.repository.load_account(account_id)
            account.refuse_second_subscription(now, self.grace)
            try:
                if account.profile.version == 0:
                    self.repository.create_account(account.profile)
                    continue
                profile = self._with_customer(account.profile)
                return self._session_url(replace(account, profile=profile), offer, request)
            except VersionConflict:
                continue
        raise StoreUnavailable

    def _offer(self, request: CheckoutParams) -> Offer:
        offer = (
            self._offer_of_price(request.price_id) if request.price_id else offer_of_tier(self.catalog, request.tier)
        )
        if request.quantity > 1 and not offer.price.per_seat:
            raise RequestInvalid.at("quantity", f"must be 1: {offer.plan.name} is not priced per seat")
        return offer

    def _offer_of_price(self, price_id: str) -> Offer:
        """The plan of a Stripe price or of its lookup key. Raises RequestInvalid for one that is not of the catalog."""
        offer = self._offer_known_as(price_id) or self._offer_known_as(self.gateway.lookup_key_of(price_id))
        if offer is None:
            raise RequestInvalid.at("price_id", "is not a price of the catalog")
        return offer

    def _offer_known_as(self, name: str | None) -> Offer | None:
        offers = [Offer(plan, price) for plan in self.catalog.plans for price in plan.prices]
        return next((each for each in offers if name and name in (each.price.lookup_key, each.price.id)), None)

    def _with_customer(self, profile: Profile) -> Profile:
        if profile.customer_id is not None:
            return profile
        key = f"customer-{profile.nonce}-{profile.version}"
        customer_id = self.gateway.create_customer(profile.account_id, profile.email, idempotency_key=_digest(key))
        return self.repository.save_profile(replace(profile, customer_id=customer_id), new_customer_id=customer_id)

    def _session_url(self, account: Account, offer: Offer, request: CheckoutParams) -> str:
        order = self._order(account.profile, offer, request)
        fingerprint = _digest(json.dumps(asdict(order), sort_keys=True))
        reusable = self._resolve_open_checkout(account, fingerprint)
        if reusable:
            return _url(reusable)
        profile = account.profile
        key = _digest(f"checkout-{profile.version}-{fingerprint}")
        try:
            session = self.gateway.create_checkout_session(order, idempotency_key=key)
        except StripeRefused:
            self._let_go_of_gone_customer(profile, order.customer_id)
            raise
        try:
            self.repository.save_profile(replace(profile, open_checkout=OpenCheckout(session.id, fingerprint)))
        except VersionConflict:
            self._close_unless_kept(profile.account_id, session)
            raise
        return _url(session)

    def _let_go_of_gone_customer(self, profile: Profile, customer_id: str) -> None:
        """Raises VersionConflict if there was one: the account is another by now, and gets its next customer.

        The event that told of it was lost, or came before a late one that linked the customer.
        """
        if self.gateway.is_customer_gone(customer_id):
            self.repository.save_profile(replace(profile, customer_id=None))
            raise VersionConflict

    def _close_unless_kept(self, account_id: str, session: CheckoutSession) -> None:
        """A page that nobody was sent to must not stay open, unless a simultaneous request for the same was faster."""
        kept = self.repository.load_account(account_id).profile.open_checkout
        if kept is None or kept.session_id != session.id:
            self.gateway.close_checkout_session(session.id)

    def _order(self, profile: Profile, offer: Offer, request: CheckoutParams) -> CheckoutOrder:
        if profile.customer_id is None:
            raise StripeRefused
        price = offer.price
        return CheckoutOrder(
            account_id=profile.account_id,
            customer_id=profile.customer_id,
            price_id=price.id or self.gateway.price_id(price.lookup_key),
            quantity=request.quantity,
            success_url=request.success_url,
            cancel_url=request.cancel_url,
            trial_days=0 if profile.trial_used else offer.plan.trial_days,
            allow_promotion_codes=self.allow_promotion_codes,
        )

    def _resolve_open_checkout(self, account: Account, fingerprint: str) -> CheckoutSession | None:
        """The session open for the same order; any other is closed.

        Raises SubscriptionExists if it was just paid, and StripeRefused if another order's stays open.
        """
        checkout = account.profile.open_checkout
        if checkout is None:
            return None
        is_same_order = checkout.fingerprint == fingerprint
        find = self.gateway.find_checkout_session if is_same_order else self.gateway.close_checkout_session
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
    """A tier at its first price. Raises RequestInvalid that says what is for sale, or whom to ask."""
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
