"""Variants of the billing portal: each has a configuration of its own in Stripe.

Stripe's configuration has one proration behavior for every change, and does not set a quantity when a customer
switches plans. Therefore a customer gets the variant that fits the present subscription.
docs/decisions/0022-portal-configurations.md has the reasons.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from billing.domain.plans import Catalog, Price, Proration
from billing.domain.subscriptions import Subscription


@dataclass(frozen=True, slots=True)
class PortalVariant:
    """Offer and billing of one portal configuration.

    Attributes:
        proration: Billing of changes.
        per_seat_only: True if only per-seat prices are offered.
    """

    proration: Proration
    per_seat_only: bool = False

    @property
    def name(self) -> str:
        """Name in the metadata of the configuration and in the stored secret."""
        return f"{self.proration}_per_seat" if self.per_seat_only else self.proration.value

    def offers(self, price: Price) -> bool:
        """Return True if a customer can switch to the price."""
        return price.per_seat or not self.per_seat_only


def default_variant(catalog: Catalog) -> PortalVariant:
    """Return the variant for an account without a subscription to a plan."""
    return PortalVariant(catalog.free.portal_proration)


def variants(catalog: Catalog) -> tuple[PortalVariant, ...]:
    """Return every variant that the catalog needs, the default one first."""
    has_flat_price = any(not price.per_seat for plan in catalog.for_sale for price in plan.prices)
    found = [default_variant(catalog)]
    for plan in catalog.for_sale:
        found.append(PortalVariant(plan.portal_proration))
        if plan.is_per_seat and has_flat_price:
            found.append(PortalVariant(plan.portal_proration, per_seat_only=True))
    return tuple(dict.fromkeys(found))


def variant_for(subscriptions: Iterable[Subscription], catalog: Catalog) -> PortalVariant:
    """Return the variant for an account with these subscriptions.

    The highest plan of a live subscription decides on the proration. While any of them has several seats, flat prices
    are not offered: Stripe would charge such a price once for each seat. If the catalog has no such variant with this
    proration, the proration of another per-seat plan is used.
    """
    current = [each for each in subscriptions if each.live and each.ours(catalog)]
    highest = max(current, key=lambda each: catalog.rank(each.plan), default=None)
    plan = catalog.plan(highest.plan or "") if highest else None
    usual = PortalVariant(plan.portal_proration) if plan and plan in catalog.for_sale else default_variant(catalog)
    if not any((each.quantity or 0) > 1 for each in current):
        return usual
    restricted = [each for each in variants(catalog) if each.per_seat_only]
    wanted = replace(usual, per_seat_only=True)
    return wanted if wanted in restricted else next(iter(restricted), usual)
