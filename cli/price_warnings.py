"""Warnings of `billing setup` about prices: not in the catalog, archived, or moved to another plan."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import stripe

from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import ENDED_STATUSES
from cli.own_metadata import OwnMetadata
from cli.setup_report import SetupChange

PLAN_METADATA_KEY = "plan"
"""Metadata key of a price with its plan."""
PRICES_MAX = 100
"""Active and archived prices of a product that are checked, one page each."""
ACCOUNT_PRICES_MAX = 1000
"""Recurring prices of the Stripe account that are checked for a plan that left the catalog, in up to ten pages."""
SUBSCRIPTIONS_MAX = 300
"""Subscriptions to a price that are counted, in up to three pages."""


def marked_plan(price: stripe.Price) -> str | None:
    """Return the plan in the metadata of a price; None if it has none."""
    metadata = price.metadata.to_dict() if price.metadata else {}
    return metadata.get(PLAN_METADATA_KEY)


# --- Prices of the catalog --------------------------------------------------------------------------------------------


def find_archived_price(plan: Plan, price: Price, found: stripe.Price) -> str | None:
    """Return what to do about an archived price that the catalog names by its id. None if checkout does not sell it.

    A later price of the same interval and currency only maps old subscriptions to the plan.
    """
    sold = next(each for each in plan.prices if (each.interval, each.currency) == (price.interval, price.currency))
    if found.active or sold is not price:
        return None
    return (
        f"{found.id} is archived in Stripe, so checkout cannot sell {plan.name} by the {price.interval} in "
        f"{price.currency}. Activate the price in Stripe, or replace its entry in catalog.toml."
    )


def find_moved_price(
    client: stripe.StripeClient, own: OwnMetadata, plan: Plan, price: Price, found: stripe.Price, *, is_replaced: bool
) -> str | None:
    """Return what to do about a price that moved to another plan of the catalog; None if it has no subscribers.

    Args:
        client: Client of the Stripe account.
        own: Metadata of the deployment. Subscriptions of other deployments are not counted.
        plan: Plan of the price in the catalog.
        price: Price of the catalog.
        found: The price in Stripe. Its metadata names the plan that it had.
        is_replaced: True if it loses its lookup key now, and its metadata gets the plan of the catalog.
    """
    former = marked_plan(found)
    if former is None or former == plan.id:
        return None
    count = _count_live(client, own, found)
    if not count:
        return None
    moved = (
        f"{found.id} ({price.lookup_key}) has {_subscriptions(count)} and moves from plan {former} to plan {plan.id}."
    )
    if is_replaced:
        return f"{moved} Its metadata.plan is now {plan.id}. If that is wrong, set it to {former} in Stripe."
    return (
        f"{moved} If that is right, set its metadata.plan to {plan.id} in Stripe. If not, move its entry back in "
        "catalog.toml."
    )


# --- Prices that the catalog does not have ----------------------------------------------------------------------------


def find_lost_plans(
    client: stripe.StripeClient, own: OwnMetadata, catalog: Catalog, product_ids: set[str]
) -> Iterator[SetupChange]:
    """Yield the prices with subscribers whose plan left the catalog. The prices of its products are left out.

    Args:
        client: Client of the Stripe account.
        own: Metadata of the deployment. Subscriptions of other deployments are not counted.
        catalog: Plans and prices.
        product_ids: Products of the catalog, about whose prices `find_unlisted_prices` says more.
    """
    listed = client.v1.prices.list({"type": "recurring", "limit": 100}).auto_paging_iter()
    for price in islice(listed, ACCOUNT_PRICES_MAX):
        former = marked_plan(price)
        is_lost = former is not None and catalog.plan_of_price(price.lookup_key, price.id, former) is None
        count = _count_live(client, own, price) if is_lost and product_id_of(price) not in product_ids else 0
        if count:
            name = price.lookup_key or price.id
            warning = (
                f"{price.id} ({name}) has {_subscriptions(count)} and loses its plan {former}, which catalog.toml does "
                "not have. Add the plan or the price to catalog.toml, or change the price of each subscription."
            )
            yield SetupChange("price", name, price.id, "unchanged", warning)


def find_unlisted_prices(
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
    return catalog.plan(marked_plan(price) or "") is not None


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


def product_id_of(price: stripe.Price) -> str:
    """Return the product of a price, expanded or not."""
    return price.product if isinstance(price.product, str) else price.product.id
