"""What a deployment needs in a Stripe account: looked for first, then created or brought up to date.

Products and prices belong to the catalog, and are shared by the stacks that use one Stripe account; the portal
configuration and the webhook endpoint are each stack's own, and carry its name in their metadata.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import batched
from textwrap import shorten
from typing import Any
from urllib.parse import urlsplit

import stripe
from requests import RequestException

from billing.domain.plans import Catalog, Plan, Price
from cli.changes import Change, includes
from cli.failures import CommandFailed, refuse

STACK = "serverless_billing"  # the metadata key that holds the stack's name
LOOKUP_KEYS_MAX = 10  # in one request: https://docs.stripe.com/api/prices/list
NOT_FOUND = 404
SAID_MAX = 300  # characters: what is no Stripe may answer a whole page
QUERY = re.compile(r"\?[^'\s]*")

# Most specific first; the last one is for whatever Stripe adds.
FAILURES: tuple[tuple[type[stripe.StripeError], str, str], ...] = (
    (stripe.AuthenticationError, "stripe_key", "Stripe does not know this API key: check STRIPE_API_KEY."),
    (stripe.PermissionError, "stripe_permission", "This API key lacks a permission that is needed: {said}"),
    (stripe.RateLimitError, "stripe_throttled", "Stripe is limiting the rate of calls: try again in a minute."),
    (
        stripe.APIConnectionError,
        "stripe_unreachable",
        "Stripe cannot be reached: check the network and STRIPE_API_BASE. ({said})",
    ),
    (stripe.InvalidRequestError, "stripe_refused", "Stripe refused a request: {said}"),
    (stripe.StripeError, "stripe_failed", "Stripe failed; running the command again continues it: {said}"),
)


@contextmanager
def explained() -> Iterator[None]:
    """Raises CommandFailed for every error of the SDK."""
    try:
        yield
    except stripe.StripeError as error:
        raise explain(error) from error


def explain(error: stripe.StripeError) -> CommandFailed:
    """An error of the SDK, in the operator's words."""
    code, message = next((code, message) for kind, code, message in FAILURES if isinstance(error, kind))
    said = _network_reason(error) if isinstance(error, stripe.APIConnectionError) else error.user_message or error
    return CommandFailed(code, message.format(said=shorten(str(said), SAID_MAX, placeholder="…")))


def _network_reason(error: stripe.APIConnectionError) -> str:
    """Which host, and what went wrong on the way; the SDK's own words tell the whole query and where its support is."""
    if not isinstance(error.__cause__, RequestException):
        return str(error.user_message or error)
    [told, *_] = (*error.__cause__.args, "")
    reason = QUERY.sub("", str(getattr(told, "reason", told)).rpartition("): ")[2])
    request = error.__cause__.request
    return f"{urlsplit(str(request.url)).netloc}: {reason}" if request else reason


# --- Products and prices ----------------------------------------------------------------------------------------------


def sync_catalog(client: stripe.StripeClient, catalog: Catalog) -> tuple[list[Change], dict[str, stripe.Price]]:
    """A product for each plan that is for sale, with its prices. Also returns the prices by their lookup keys."""
    found = dict(_find_prices(client, catalog))
    changes: list[Change] = []
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
    """The id of the product that setup makes for a plan."""
    return f"billing_plan_{plan.id}"


def price_terms(price: Price) -> dict[str, Any]:
    """What a Stripe price has to say to be the catalog's. None of it can be changed in a price that exists."""
    return {
        "unit_amount": price.unit_amount,
        "currency": price.currency,
        "recurring": {"interval": price.interval, "interval_count": 1},
    }


def _find_prices(client: stripe.StripeClient, catalog: Catalog) -> Iterator[tuple[str, stripe.Price]]:
    """The catalog's prices that Stripe has, by lookup key; those with an id of their own, by that."""
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
        refuse("price_not_found", f"catalog.toml names the price {price_id}, which this Stripe account does not have.")


def _sync_product(client: stripe.StripeClient, plan: Plan, product_id: str) -> Change:
    """The plan's product. One that somebody else made keeps its name: customers know it by that."""
    wanted: Any = {"active": True}
    if product_id == own_product_id(plan):
        wanted |= {"name": plan.name, "metadata": {"plan": plan.id}}
    found = _find_product(client, product_id)
    if found is None:
        client.v1.products.create(wanted | {"id": product_id})
        return Change("product", plan.name, product_id, "created")
    if includes(found.to_dict(), wanted):
        return Change("product", plan.name, product_id, "unchanged")
    client.v1.products.update(product_id, wanted)
    return Change("product", plan.name, product_id, "updated")


def _find_product(client: stripe.StripeClient, product_id: str) -> stripe.Product | None:
    try:
        return client.v1.products.retrieve(product_id)
    except stripe.InvalidRequestError as error:
        if error.http_status == NOT_FOUND:
            return None
        raise


def _sync_price(
    client: stripe.StripeClient, plan: Plan, price: Price, product_id: str, found: stripe.Price | None
) -> tuple[Change, stripe.Price]:
    terms: Any = price_terms(price)
    if found and price.id:
        warning = None if includes(found.to_dict(), terms) else f"{price.id} has other terms than catalog.toml says."
        return Change("price", price.lookup_key, found.id, "unchanged", warning), found
    if found and includes(found.to_dict(), terms | {"active": True}):
        return Change("price", price.lookup_key, found.id, "unchanged"), found
    identity = {"product": product_id, "lookup_key": price.lookup_key, "metadata": {"plan": plan.id}}
    created = client.v1.prices.create(terms | identity | {"transfer_lookup_key": found is not None})
    return Change("price", price.lookup_key, created.id, "replaced" if found else "created"), created


def _unlisted_prices(client: stripe.StripeClient, catalog: Catalog, plan: Plan, product_id: str) -> str | None:
    """What to do about prices of the product that the catalog does not know, such as one that lost its lookup key."""
    prices = client.v1.prices.list({"product": product_id, "active": True, "type": "recurring", "limit": 100})
    unlisted = [each for each in prices.auto_paging_iter() if not catalog.plan_of_price(each.lookup_key, each.id)]
    if not unlisted:
        return None
    return (
        f"Subscriptions to {', '.join(each.id for each in unlisted)} map to no plan. If there are any, add "
        f"{', '.join(map(partial(_catalog_entry, plan), unlisted))} after the first price of plan {plan.id} in "
        "catalog.toml and deploy; if there are none, archive the price in Stripe."
    )


def _catalog_entry(plan: Plan, price: stripe.Price) -> str:
    """The line of catalog.toml that maps a price to the plan."""
    interval = price.recurring.interval if price.recurring else ""
    name, amount = price.lookup_key or f"{plan.id}_{interval}_{price.unit_amount}", price.unit_amount or 0
    terms = f'unit_amount = {amount}, currency = "{price.currency}", interval = "{interval}"'
    return f'{{ lookup_key = "{name}", id = "{price.id}", {terms} }}'


def _product_id(price: stripe.Price) -> str:
    return price.product if isinstance(price.product, str) else price.product.id


def is_of_stack(metadata: Any, stack_name: str) -> bool:  # noqa: ANN401 - the SDK's own type for metadata differs
    """Whether an object of Stripe's carries the name of the stack."""
    return metadata is not None and includes(metadata.to_dict(), {STACK: stack_name})


# --- The customer portal ----------------------------------------------------------------------------------------------


def sync_portal(
    client: stripe.StripeClient, stack_name: str, catalog: Catalog, prices: Mapping[str, stripe.Price]
) -> Change:
    """The stack's portal configuration: change plan, cancel at the period's end, invoices, payment methods."""
    features: Any = portal_features(portal_products(catalog, prices))
    # Stripe leaves the products out unless they are asked for.
    configurations = client.v1.billing_portal.configurations.list(
        {"active": True, "limit": 100, "expand": ["data.features.subscription_update.products"]}
    )
    found = next((each for each in configurations.auto_paging_iter() if is_of_stack(each.metadata, stack_name)), None)
    if found is None:
        metadata = {STACK: stack_name}
        created = client.v1.billing_portal.configurations.create({"features": features, "metadata": metadata})
        return Change("portal configuration", stack_name, created.id, "created")
    if includes(found.to_dict()["features"], features):
        return Change("portal configuration", stack_name, found.id, "unchanged")
    client.v1.billing_portal.configurations.update(found.id, {"features": features})
    return Change("portal configuration", stack_name, found.id, "updated")


def portal_features(products: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What customers may do in the portal by themselves."""
    seats = any(product["adjustable_quantity"]["enabled"] for product in products)
    update = {
        "enabled": True,
        "default_allowed_updates": ["price", "quantity"] if seats else ["price"],
        # An upgrade grants its plan at once, so it is paid at once.
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
    """What a customer may change to. Stripe takes one price an interval of each product: the catalog's first."""
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
