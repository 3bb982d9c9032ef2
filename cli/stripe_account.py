"""Objects that a stack needs in its Stripe account. Each is looked up first, then created or updated.

Products and prices belong to the catalog and are shared by all deployments on one Stripe account. Each deployment has
its own portal configurations and webhook endpoint, with its id in their metadata.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import batched, islice
from typing import Any

import stripe

from billing.domain.plans import Catalog, Downgrades, Plan, Price
from billing.domain.portal import PortalVariant, default_variant, variants
from billing.domain.subscriptions import ENDED_STATUSES
from billing.stripe_events.objects import DEPLOYMENT_KEY
from cli.errors import CommandFailed
from cli.setup_report import SetupChange, includes
from cli.stripe_connection import NOT_FOUND

PLAN_METADATA_KEY = "plan"
"""Metadata key of a price with its plan."""
PRICES_MAX = 100
"""Active and archived prices of a product that are checked, one page each."""
SUBSCRIPTIONS_MAX = 300
"""Subscriptions to an archived price that are counted, in up to three pages."""
PORTAL_METADATA_KEY = "billing_portal"
"""Metadata key with the name of a portal configuration's variant."""
DOWNGRADE_CONDITIONS = [{"type": "decreasing_item_amount"}, {"type": "shortening_interval"}]
FORMER_METADATA_KEY = "serverless_billing"
"""Metadata key with the stack's name, which setup wrote before version 0.3.0."""
LOOKUP_KEYS_MAX = 10
"""In one request: https://docs.stripe.com/api/prices/list."""
DIFFERENT_TERMS = (
    "has other terms in Stripe than in catalog.toml. Correct catalog.toml: a Stripe price cannot be changed."
)


@dataclass(frozen=True, slots=True)
class OwnMetadata:
    """Metadata of a deployment's portal configurations and webhook endpoint.

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

    def excludes(self, metadata: Any) -> bool:  # noqa: ANN401 - the SDK's own type for metadata differs
        """Return True if an object's metadata names another deployment."""
        stored = metadata.to_dict() if metadata is not None else {}
        return (stored.get(DEPLOYMENT_KEY) or self.deployment_id) != self.deployment_id


# --- Products and prices ----------------------------------------------------------------------------------------------


def sync_catalog(
    client: stripe.StripeClient, own: OwnMetadata, catalog: Catalog
) -> tuple[list[SetupChange], dict[str, stripe.Price]]:
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
        unlisted = _unlisted_prices(client, own, catalog, plan, product_id)
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
    identity = {"product": product_id, "lookup_key": price.lookup_key, "metadata": {PLAN_METADATA_KEY: plan.id}}
    if found is None:
        created = client.v1.prices.create(terms | identity)
        return SetupChange("price", price.lookup_key, created.id, "created"), created
    is_marked = _mark_plan(client, plan, found)
    if price.id or includes(found.to_dict(), terms | {"active": True}):
        has_terms = includes(found.to_dict(), terms)
        warning = None if has_terms else f"{found.id} {DIFFERENT_TERMS}"
        return SetupChange("price", price.lookup_key, found.id, "updated" if is_marked else "unchanged", warning), found
    created = client.v1.prices.create(terms | identity | {"transfer_lookup_key": True})
    reason = "has another amount, currency or interval than catalog.toml" if found.active else "was archived in Stripe"
    moved = (
        f"{found.id} {reason}: its lookup key {price.lookup_key} moved to the new price {created.id}. "
        f"Subscriptions to {found.id} renew at its amount."
    )
    return SetupChange("price", price.lookup_key, created.id, "replaced", moved), created


def _mark_plan(client: stripe.StripeClient, plan: Plan, price: stripe.Price) -> bool:
    """Store the plan in a price's metadata, from which it follows after the price has lost its lookup key.

    Returns:
        True if the metadata was written. A price whose metadata names any plan already is left alone.
    """
    if _marked_plan(price) is not None:
        return False
    client.v1.prices.update(price.id, {"metadata": {PLAN_METADATA_KEY: plan.id}})
    return True


def _marked_plan(price: stripe.Price) -> str | None:
    metadata = price.metadata.to_dict() if price.metadata else {}
    return metadata.get(PLAN_METADATA_KEY)


# --- Prices that the catalog does not have ----------------------------------------------------------------------------


def _unlisted_prices(
    client: stripe.StripeClient, own: OwnMetadata, catalog: Catalog, plan: Plan, product_id: str
) -> str | None:
    """Return what to do about prices of a product that the catalog does not have: active and archived ones."""
    active, _ = _list_unlisted(client, catalog, product_id, active=True)
    archived, has_more = _list_unlisted(client, catalog, product_id, active=False)
    subscribers = {each.id: _count_live(client, own, each) for each in archived}
    subscribed = [each for each in archived if subscribers[each.id]]
    unmapped = [each for each in active if not _is_mapped(catalog, each)]
    unmapped += [each for each in subscribed if not _is_mapped(catalog, each)]
    notes = [_unmapped_note(plan, unmapped)] if unmapped else []
    if subscribed:
        counts = ", ".join(f"{each.id} ({_subscriptions(subscribers[each.id])})" for each in subscribed)
        notes.append(
            f"Archived prices of plan {plan.id} have live subscriptions: {counts}. They renew at these prices. To end "
            "that, change the price of each subscription in Stripe, or cancel it."
        )
    if has_more:
        notes.append(f"Only the newest {PRICES_MAX} archived prices of product {product_id} were checked.")
    return " ".join(notes) or None


def _list_unlisted(
    client: stripe.StripeClient, catalog: Catalog, product_id: str, *, active: bool
) -> tuple[list[stripe.Price], bool]:
    """Return a page of a product's recurring prices that the catalog does not have, and True if there are more."""
    page = client.v1.prices.list({"product": product_id, "active": active, "type": "recurring", "limit": PRICES_MAX})
    return [each for each in page.data if not catalog.plan_of_price(each.lookup_key, each.id)], page.has_more


def _is_mapped(catalog: Catalog, price: stripe.Price) -> bool:
    """Return True if the price's metadata names a plan of the catalog."""
    return catalog.plan(_marked_plan(price) or "") is not None


def _count_live(client: stripe.StripeClient, own: OwnMetadata, price: stripe.Price) -> int:
    """Return the number of subscriptions to a price that have not ended; at most SUBSCRIPTIONS_MAX.

    Subscriptions of other deployments are left out.
    """
    listed = client.v1.subscriptions.list({"price": price.id, "limit": 100}).auto_paging_iter()
    checked = islice(listed, SUBSCRIPTIONS_MAX)
    return sum(each.status not in ENDED_STATUSES and not own.excludes(each.metadata) for each in checked)


def _subscriptions(count: int) -> str:
    number = f"{count} or more" if count == SUBSCRIPTIONS_MAX else str(count)
    return f"{number} {'subscription' if count == 1 else 'subscriptions'}"


def _unmapped_note(plan: Plan, unmapped: Sequence[stripe.Price]) -> str:
    return (
        f"Subscriptions to {', '.join(each.id for each in unmapped)} map to no plan. If there are any, add "
        f"{', '.join(map(partial(_catalog_entry, plan), unmapped))} after the first price of plan {plan.id} in "
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
    return {
        variant.name: _sync_portal(client, own, catalog, prices, variant, found.get(variant.name))
        for variant in variants(catalog)
    }


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

    Stripe accepts one price per product and interval: the first active one of the catalog. The quantity of a product is
    adjustable if all its prices are per seat.
    """
    offers: dict[str, dict[str, Price]] = {}
    for price in (price for plan in catalog.for_sale for price in plan.prices):
        at_stripe = prices[price.lookup_key]
        if at_stripe.active and variant.offers(price):
            offers.setdefault(_product_id(at_stripe), {}).setdefault(price.interval, price)
    return [
        {
            "product": product_id,
            "prices": [prices[price.lookup_key].id for price in by_interval.values()],
            "adjustable_quantity": {"enabled": True, "minimum": 1}
            if all(price.per_seat for price in by_interval.values())
            else {"enabled": False},
        }
        for product_id, by_interval in offers.items()
    ]
