"""Objects that a stack needs in its Stripe account. Each is looked up first, then created or updated.

Products and prices belong to the catalog and are shared by all deployments on one Stripe account. Each deployment has
its own portal configuration and webhook endpoint, with its id in their metadata.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import batched
from typing import Any

import stripe

from billing.domain.plans import Catalog, Plan, Price
from billing.stripe_events.objects import DEPLOYMENT_KEY
from cli.errors import CommandFailed
from cli.setup_report import SetupChange, includes
from cli.stripe_connection import NOT_FOUND

FORMER_METADATA_KEY = "serverless_billing"
"""Metadata key with the stack's name, which setup wrote before version 0.3.0."""
LOOKUP_KEYS_MAX = 10
"""In one request: https://docs.stripe.com/api/prices/list."""
DIFFERENT_TERMS = (
    "has other terms in Stripe than in catalog.toml. Correct catalog.toml: a Stripe price cannot be changed."
)


@dataclass(frozen=True, slots=True)
class OwnMetadata:
    """Metadata of a deployment's portal configuration and webhook endpoint.

    Attributes:
        deployment_id: Id of the deployment.
        stack_name: Name of its stack, which identifies objects of earlier versions.
    """

    deployment_id: str
    stack_name: str

    @property
    def wanted(self) -> dict[str, str]:
        """Metadata that setup writes."""
        return {DEPLOYMENT_KEY: self.deployment_id}

    @property
    def update(self) -> dict[str, str]:
        """Metadata of an update, which also removes the key of earlier versions."""
        return {**self.wanted, FORMER_METADATA_KEY: ""}

    def matches(self, metadata: Any) -> bool:  # noqa: ANN401 - the SDK's own type for metadata differs
        """Return True if an object with this metadata belongs to the deployment."""
        stored = metadata.to_dict() if metadata is not None else {}
        if DEPLOYMENT_KEY in stored:
            return includes(stored, self.wanted)
        return includes(stored, {FORMER_METADATA_KEY: self.stack_name})


# --- Products and prices ----------------------------------------------------------------------------------------------


def sync_catalog(client: stripe.StripeClient, catalog: Catalog) -> tuple[list[SetupChange], dict[str, stripe.Price]]:
    """Create or update a product and prices for each plan that is for sale. Also returns the prices by lookup key."""
    found = dict(_find_prices(client, catalog))
    changes: list[SetupChange] = []
    prices: dict[str, stripe.Price] = {}
    for plan in catalog.for_sale:
        held = [found[price.lookup_key] for price in plan.prices if price.lookup_key in found]
        product_id = _product_id(held[0]) if held else own_product_id(plan)
        product = _sync_product(client, plan, product_id)
        synced = [_sync_price(client, plan, price, product_id, found.get(price.lookup_key)) for price in plan.prices]
        prices |= {price.lookup_key: at_stripe for price, (_, at_stripe) in zip(plan.prices, synced, strict=True)}
        unlisted = _unlisted_prices(client, catalog, plan, product_id)
        changes += [replace(product, warning=unlisted), *(change for change, _ in synced)]
    return changes, prices


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
    client: stripe.StripeClient, plan: Plan, price: Price, product_id: str, found: stripe.Price | None
) -> tuple[SetupChange, stripe.Price]:
    terms: Any = price_terms(price)
    if found and price.id:
        warning = None if includes(found.to_dict(), terms) else f"{price.id} {DIFFERENT_TERMS}"
        return SetupChange("price", price.lookup_key, found.id, "unchanged", warning), found
    if found and includes(found.to_dict(), terms | {"active": True}):
        return SetupChange("price", price.lookup_key, found.id, "unchanged"), found
    identity = {"product": product_id, "lookup_key": price.lookup_key, "metadata": {"plan": plan.id}}
    created = client.v1.prices.create(terms | identity | {"transfer_lookup_key": found is not None})
    return SetupChange("price", price.lookup_key, created.id, "replaced" if found else "created"), created


def _unlisted_prices(client: stripe.StripeClient, catalog: Catalog, plan: Plan, product_id: str) -> str | None:
    """Return what to do about prices that the catalog does not have, such as one that lost its lookup key."""
    prices = client.v1.prices.list({"product": product_id, "active": True, "type": "recurring", "limit": 100})
    unlisted = [each for each in prices.auto_paging_iter() if not catalog.plan_of_price(each.lookup_key, each.id)]
    if not unlisted:
        return None
    return (
        f"Subscriptions to {', '.join(each.id for each in unlisted)} map to no plan. If there are any, add "
        f"{', '.join(map(partial(_catalog_entry, plan), unlisted))} after the first price of plan {plan.id} in "
        "catalog.toml and deploy. If there are none, archive the price in Stripe."
    )


def _catalog_entry(plan: Plan, price: stripe.Price) -> str:
    """Return the entry of catalog.toml that maps a price to the plan."""
    interval = price.recurring.interval if price.recurring else ""
    name, amount = price.lookup_key or f"{plan.id}_{interval}_{price.unit_amount}", price.unit_amount or 0
    terms = f'unit_amount = {amount}, currency = "{price.currency}", interval = "{interval}"'
    return f'{{ lookup_key = "{name}", id = "{price.id}", {terms} }}'


def _product_id(price: stripe.Price) -> str:
    return price.product if isinstance(price.product, str) else price.product.id


# --- The customer portal ----------------------------------------------------------------------------------------------


def sync_portal(
    client: stripe.StripeClient, own: OwnMetadata, catalog: Catalog, prices: Mapping[str, stripe.Price]
) -> SetupChange:
    """Create or update the deployment's portal configuration."""
    features: Any = portal_features(portal_products(catalog, prices))
    # Stripe returns the products only if they are expanded.
    configurations = client.v1.billing_portal.configurations.list(
        {"active": True, "limit": 100, "expand": ["data.features.subscription_update.products"]}
    )
    found = next((each for each in configurations.auto_paging_iter() if own.matches(each.metadata)), None)
    if found is None:
        created = client.v1.billing_portal.configurations.create({"features": features, "metadata": own.wanted})
        return SetupChange("portal configuration", own.stack_name, created.id, "created")
    if includes(found.to_dict(), {"features": features, "metadata": own.wanted}):
        return SetupChange("portal configuration", own.stack_name, found.id, "unchanged")
    client.v1.billing_portal.configurations.update(found.id, {"features": features, "metadata": own.update})
    return SetupChange("portal configuration", own.stack_name, found.id, "updated")


def portal_features(products: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what customers can do in the portal."""
    seats = any(product["adjustable_quantity"]["enabled"] for product in products)
    update = {
        "enabled": True,
        "default_allowed_updates": ["price", "quantity"] if seats else ["price"],
        # An upgrade grants its plan immediately, so it is billed immediately.
        "proration_behavior": "always_invoice",
        "products": list(products),
    }
    return {
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
        "subscription_update": update if products else {"enabled": False},
    }


def portal_products(catalog: Catalog, prices: Mapping[str, stripe.Price]) -> list[dict[str, Any]]:
    """Return the prices that a customer can switch to.

    Stripe accepts one price per product and interval: the first one of the catalog.
    """
    offers: dict[str, dict[str, str]] = {}
    per_seat: set[str] = set()
    for plan in catalog.for_sale:
        for price in plan.prices:
            product_id = _product_id(prices[price.lookup_key])
            offers.setdefault(product_id, {}).setdefault(price.interval, prices[price.lookup_key].id)
            per_seat |= {product_id} if price.per_seat else set()
    return [
        {
            "product": product_id,
            "prices": list(by_interval.values()),
            "adjustable_quantity": {"enabled": True, "minimum": 1} if product_id in per_seat else {"enabled": False},
        }
        for product_id, by_interval in offers.items()
    ]
