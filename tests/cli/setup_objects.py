"""Objects that `billing setup` creates, as Stripe lists them."""

import stripe

from billing.catalog import load_catalog

PRO = load_catalog().for_sale[0]
PRO_PRICE = PRO.prices[0]


def price_of(client: stripe.StripeClient, lookup_key: str) -> stripe.Price:
    """Return the price with the lookup key."""
    [price] = client.v1.prices.list({"lookup_keys": [lookup_key]}).data
    return price


def portals_of(client: stripe.StripeClient) -> dict[str, stripe.billing_portal.Configuration]:
    """Return the portal configurations by variant, with their products."""
    expand = ["data.features.subscription_update.products"]
    listed = client.v1.billing_portal.configurations.list({"expand": expand}).data
    return {each.metadata["billing_portal"]: each for each in listed if each.metadata}


def portal_of(client: stripe.StripeClient) -> stripe.billing_portal.Configuration:
    """Return the default portal configuration."""
    return portals_of(client)["always_invoice"]
