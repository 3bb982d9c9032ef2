"""Objects that a stack needs in its Stripe account. Each is looked up first, then created or updated.

Products and prices belong to the catalog and are shared by all deployments on one Stripe account. Each deployment has
its own portal configurations and webhook endpoint, with its id in their metadata.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import batched
from typing import Any

import stripe

from billing.domain.plans import Catalog, Downgrades, Plan, Price
from billing.domain.portal import PortalVariant, default_variant, variants
from cli.errors import CommandFailed
from cli.own_metadata import OwnMetadata
from cli.price_warnings import (
    PLAN_METADATA_KEY,
    find_archived_price,
    find_lost_plans,
    find_moved_price,
    find_unlisted_prices,
    marked_plan,
    product_id_of,
)
from cli.setup_report import SetupChange, SetupOutcome, includes
from cli.stripe_connection import NOT_FOUND

PORTAL_METADATA_KEY = "billing_portal"
"""Metadata key with the name of a portal configuration's variant."""
DOWNGRADE_CONDITIONS = [{"type": "decreasing_item_amount"}, {"type": "shortening_interval"}]
LOOKUP_KEYS_MAX = 10
"""In one request: https://docs.stripe.com/api/prices/list."""
DIFFERENT_TERMS = (
    "has other terms in Stripe than in catalog.toml. Correct catalog.toml: a Stripe price cannot be changed."
)


# --- Products and prices ----------------------------------------------------------------------------------------------


def sync_catalog(
    client: stripe.StripeClient, own: OwnMetadata, catalog: Catalog
) -> tuple[list[SetupChange], dict[str, stripe.Price]]:
    """Create or update a product and prices for each plan that is for sale.

    Returns:
        The changes, with a further entry for each price whose plan left the catalog; and the prices by lookup key.
    """
    found = dict(_find_prices(client, catalog))
    changes: list[SetupChange] = []
    prices: dict[str, stripe.Price] = {}
    product_ids: set[str] = set()
    for plan in catalog.for_sale:
        held = [found[price.lookup_key] for price in plan.prices if price.lookup_key in found]
        product_id = product_id_of(held[0]) if held else own_product_id(plan)
        product = _sync_product(client, plan, product_id)
        product_ids |= {product_id, *map(product_id_of, held)}
        synced = [
            _sync_price(client, own, plan, price, product_id, found.get(price.lookup_key)) for price in plan.prices
        ]
        prices |= {price.lookup_key: at_stripe for price, (_, at_stripe) in zip(plan.prices, synced, strict=True)}
        unlisted = find_unlisted_prices(client, own, catalog, plan, product_id)
        changes += [replace(product, warning=unlisted), *(change for change, _ in synced)]
    return [*changes, *find_lost_plans(client, own, catalog, product_ids)], prices


def own_product_id(plan: Plan) -> str:
    """Return the id of the product that setup creates for a plan."""
    return f"billing_plan_{plan.id}"


def price_terms(price: Price) -> dict[str, Any]:
    """Return the terms of the catalog's price. They cannot be changed in a price that exists."""
    return {
        "unit_amount": price.unit_amount,
        "currency": price.currency,
        "recurring": {"interval": price.interval, "interval_count": 1},
    }


def _find_prices(client: stripe.StripeClient, catalog: Catalog) -> Iterator[tuple[str, stripe.Price]]:
    """Yield the catalog's prices in Stripe with their lookup keys. A price with an id is found by its id."""
    wanted = [price for plan in catalog.for_sale for price in plan.prices]
    for keys in batched((price.lookup_key for price in wanted if not price.id), LOOKUP_KEYS_MAX, strict=False):
        for found in client.v1.prices.list({"lookup_keys": list(keys), "limit": 100}).auto_paging_iter():
            if found.lookup_key:
                yield found.lookup_key, found
    for price in wanted:
        if price.id:
            yield price.lookup_key, _retrieve_price(client, price.id)


def _retrieve_price(client: stripe.StripeClient, price_id: str) -> stripe.Price:
    try:
        return client.v1.prices.retrieve(price_id)
    except stripe.InvalidRequestError as error:
        if error.http_status != NOT_FOUND:
            raise
        raise CommandFailed(
            "price_not_found",
            f"The Stripe account has no price {price_id}, which catalog.toml names: "
            "correct the id, or use the key of the right Stripe account.",
        ) from error


def _sync_product(client: stripe.StripeClient, plan: Plan, product_id: str) -> SetupChange:
    """Create or update a plan's product. A product that setup did not create keeps its name, which customers know."""
    wanted: Any = {"active": True}
    if product_id == own_product_id(plan):
        wanted |= {"name": plan.name, "metadata": {"plan": plan.id}}
    found = _find_product(client, product_id)
    if found is None:
        client.v1.products.create(wanted | {"id": product_id})
        return SetupChange("product", plan.name, product_id, "created")
    if includes(found.to_dict(), wanted):
        return SetupChange("product", plan.name, product_id, "unchanged")
    client.v1.products.update(product_id, wanted)
    return SetupChange("product", plan.name, product_id, "updated")


def _find_product(client: stripe.StripeClient, product_id: str) -> stripe.Product | None:
    try:
        return client.v1.products.retrieve(product_id)
    except stripe.InvalidRequestError as error:
        if error.http_status == NOT_FOUND:
            return None
        raise


def _sync_price(
    client: stripe.StripeClient, own: OwnMetadata, plan: Plan, price: Price, product_id: str, found: stripe.Price | None
) -> tuple[SetupChange, stripe.Price]:
    terms: Any = price_terms(price)
    identity = {"product": product_id, "lookup_key": price.lookup_key, "metadata": {PLAN_METADATA_KEY: plan.id}}
    if found is None:
        created = client.v1.prices.create(terms | identity)
        return SetupChange("price", price.lookup_key, created.id, "created"), created
    has_terms = includes(found.to_dict(), terms)
    is_replaced = not price.id and not (has_terms and found.active)
    warnings = [find_moved_price(client, own, plan, price, found, is_replaced=is_replaced)]
    is_marked = _mark_plan(client, plan, found, overwrites=is_replaced)
    if not is_replaced:
        warnings += [None if has_terms else f"{found.id} {DIFFERENT_TERMS}", find_archived_price(plan, price, found)]
        outcome: SetupOutcome = "updated" if is_marked else "unchanged"
        return SetupChange("price", price.lookup_key, found.id, outcome, _joined(warnings)), found
    created = client.v1.prices.create(terms | identity | {"transfer_lookup_key": True})
    reason = "has another amount, currency or interval than catalog.toml" if found.active else "was archived in Stripe"
    warnings.append(
        f"{found.id} {reason}: its lookup key {price.lookup_key} moved to the new price {created.id}. "
        f"Subscriptions to {found.id} renew at its amount."
    )
    return SetupChange("price", price.lookup_key, created.id, "replaced", _joined(warnings)), created


def _joined(warnings: Sequence[str | None]) -> str | None:
    return " ".join(warning for warning in warnings if warning) or None


def _mark_plan(client: stripe.StripeClient, plan: Plan, price: stripe.Price, *, overwrites: bool) -> bool:
    """Store the plan in a price's metadata, from which it follows after the price has lost its lookup key.

    Args:
        client: Client of the Stripe account.
        plan: Plan of the price in the catalog.
        price: Price in Stripe.
        overwrites: True for a price that loses its lookup key now. Its subscribers keep the plan that they have. Else a
            price whose metadata names any plan already is left alone.

    Returns:
        True if the metadata was written.
    """
    marked = marked_plan(price)
    if marked == plan.id or (marked is not None and not overwrites):
        return False
    client.v1.prices.update(price.id, {"metadata": {PLAN_METADATA_KEY: plan.id}})
    return True


# --- The billing portal -----------------------------------------------------------------------------------------------


def sync_portals(
    client: stripe.StripeClient, own: OwnMetadata, catalog: Catalog, prices: Mapping[str, stripe.Price]
) -> dict[str, SetupChange]:
    """Create or update the portal configurations. Returns the changes by variant, the default one first."""
    # Stripe returns the products only if they are expanded.
    listed = client.v1.billing_portal.configurations.list(
        {"active": True, "limit": 100, "expand": ["data.features.subscription_update.products"]}
    )
    default = default_variant(catalog).name
    found = {
        each.metadata.to_dict().get(PORTAL_METADATA_KEY, default): each
        for each in listed.auto_paging_iter()
        if each.metadata is not None and own.matches(each.metadata)
    }
    changes = {
        variant.name: _sync_portal(client, own, catalog, prices, variant, found.get(variant.name))
        for variant in variants(catalog)
    }
    return changes | {default: replace(changes[default], warning=_describe_left_out(catalog, prices))}


def _describe_left_out(catalog: Catalog, prices: Mapping[str, stripe.Price]) -> str | None:
    """Return which plans no portal configuration offers in which currencies; None if there are none.

    A price beside another one of the same currency and interval only maps old subscriptions to the plan.
    """
    offers = _offered_prices(catalog, prices, default_variant(catalog))
    left_out = dict.fromkeys(
        f"{plan.name} in {price.currency}"
        for plan in catalog.for_sale
        for price in plan.prices
        if prices[price.lookup_key].active
        and offers[product_id_of(prices[price.lookup_key])][price.interval].currency != price.currency
    )
    if not left_out:
        return None
    return (
        f"The portal does not offer {', '.join(left_out)}: a portal configuration has one price for each interval of a "
        "product. Subscribers in these currencies cannot change to these plans there. Change their plan in Stripe's "
        "Dashboard."
    )


def _sync_portal(
    client: stripe.StripeClient,
    own: OwnMetadata,
    catalog: Catalog,
    prices: Mapping[str, stripe.Price],
    variant: PortalVariant,
    found: stripe.billing_portal.Configuration | None,
) -> SetupChange:
    features: Any = portal_features(catalog, variant, portal_products(catalog, prices, variant))
    wanted = {**own.wanted, PORTAL_METADATA_KEY: variant.name}
    if found is None:
        created = client.v1.billing_portal.configurations.create(
            {"features": _as_parameter(features), "metadata": wanted}
        )
        return SetupChange("portal configuration", variant.name, created.id, "created")
    if includes(found.to_dict(), {"features": features, "metadata": wanted}):
        return SetupChange("portal configuration", variant.name, found.id, "unchanged")
    client.v1.billing_portal.configurations.update(
        found.id, {"features": _as_parameter(features), "metadata": {**own.update, **wanted}}
    )
    return SetupChange("portal configuration", variant.name, found.id, "updated")


def _as_parameter(features: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the features with "" for an empty list, which removes its entries. The SDK does not send empty lists."""
    if isinstance(features, Mapping):
        return {name: _as_parameter(value) for name, value in features.items()}
    return features if features != [] else ""


def portal_features(catalog: Catalog, variant: PortalVariant, products: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what customers can do in the portal."""
    seats = any(product["adjustable_quantity"]["enabled"] for product in products)
    at_period_end = catalog.downgrades is Downgrades.AT_PERIOD_END
    update = {
        "enabled": True,
        "default_allowed_updates": ["price", "quantity"] if seats else ["price"],
        "proration_behavior": variant.proration.value,
        "schedule_at_period_end": {"conditions": DOWNGRADE_CONDITIONS if at_period_end else []},
        # By default, Stripe ends a trial with the first change, and charges the customer.
        "trial_update_behavior": "continue_trial",
        "products": list(products),
    }
    return {
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
        "subscription_update": update if products else {"enabled": False},
    }


def portal_products(
    catalog: Catalog, prices: Mapping[str, stripe.Price], variant: PortalVariant
) -> list[dict[str, Any]]:
    """Return the prices that a customer can switch to.

    The quantity of a product is adjustable if all its prices are per seat.
    """
    return [
        {
            "product": product_id,
            "prices": [prices[price.lookup_key].id for price in by_interval.values()],
            "adjustable_quantity": {"enabled": True, "minimum": 1}
            if all(price.per_seat for price in by_interval.values())
            else {"enabled": False},
        }
        for product_id, by_interval in _offered_prices(catalog, prices, variant).items()
    ]


def _offered_prices(
    catalog: Catalog, prices: Mapping[str, stripe.Price], variant: PortalVariant
) -> dict[str, dict[str, Price]]:
    """Return the prices of a portal configuration by product and interval.

    Stripe accepts one price per product and interval: the first active one of the catalog.
    """
    offers: dict[str, dict[str, Price]] = {}
    for price in (price for plan in catalog.for_sale for price in plan.prices):
        at_stripe = prices[price.lookup_key]
        if at_stripe.active and variant.offers(price):
            offers.setdefault(product_id_of(at_stripe), {}).setdefault(price.interval, price)
    return offers
