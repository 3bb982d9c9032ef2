"""Stripe's JSON read into our values, whatever API version wrote it. Raises EventUnprocessable naming the field.

Since API 2025-03-31 a subscription's period is on its items and an invoice's subscription under `parent`; before, both
were on top. https://docs.stripe.com/changelog/basil/2025-03-31/deprecate-subscription-current-period-start-and-end
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Never

from billing.domain.errors import EventUnprocessable
from billing.domain.identifiers import is_id
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription

type Json = Mapping[str, Any]

TEXT_LENGTH_MAX = 4096
# Control characters and halves of surrogate pairs, which DynamoDB cannot hold.
CONTROL_CHARACTERS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
TIMESTAMP_MAX = 253402300799  # the last second of the year 9999
INTEGER_MAX = 2**63 - 1


def read_subscription(source: Json, catalog: Catalog) -> Subscription:
    """A subscription object, with the plan of the item that grants the most."""
    item, price = _plan_item(source, catalog)
    price_id, lookup_key = text(price, "id"), text(price, "lookup_key")
    plan = catalog.plan_of_price(lookup_key, price_id)
    return Subscription(
        id=required_id(source, "id"),
        customer_id=required_reference(source, "customer"),
        status=required_text(source, "status"),
        created=required_time(source, "created"),
        plan=plan.id if plan else None,
        price_is_mapped=plan is not None,
        price_id=price_id,
        price_lookup_key=lookup_key,
        quantity=integer(item, "quantity"),
        current_period_start=time(item, "current_period_start") or time(source, "current_period_start"),
        current_period_end=time(item, "current_period_end") or time(source, "current_period_end"),
        cancel_at_period_end=boolean(source, "cancel_at_period_end"),
        cancel_at=time(source, "cancel_at"),
        canceled_at=time(source, "canceled_at"),
        ended_at=time(source, "ended_at"),
        trial_end=time(source, "trial_end"),
    )


def read_invoice(source: Json) -> Invoice:
    """An invoice object."""
    return Invoice(
        id=required_id(source, "id"),
        customer_id=required_reference(source, "customer"),
        subscription_id=invoice_subscription_id(source),
        status=required_text(source, "status"),
        number=text(source, "number"),
        created=required_time(source, "created"),
        currency=required_text(source, "currency"),
        total=required_integer(source, "total"),
        amount_due=required_integer(source, "amount_due"),
        amount_paid=required_integer(source, "amount_paid"),
        amount_remaining=required_integer(source, "amount_remaining"),
        attempt_count=integer(source, "attempt_count") or 0,
        period_start=time(source, "period_start"),
        period_end=time(source, "period_end"),
        hosted_invoice_url=text(source, "hosted_invoice_url"),
        invoice_pdf=text(source, "invoice_pdf"),
    )


def invoice_subscription_id(invoice: Json) -> str | None:
    """The subscription an invoice bills, in either shape; None for a one-off invoice."""
    return reference(_invoice_parent(invoice), "subscription") or reference(invoice, "subscription")


def account_id_of(source: Json) -> str | None:
    """The account that our own objects carry: `metadata.account_id`, an invoice's is its subscription's.

    What could not be an account of ours is another product's, and counts as none.
    """
    parents = (source, _invoice_parent(source), mapping(source, "subscription_details"))
    found = (mapping(parent, "metadata").get("account_id") for parent in parents)
    return next((account_id for account_id in found if isinstance(account_id, str) and is_id(account_id)), None)


def _invoice_parent(invoice: Json) -> Json:
    return mapping(mapping(invoice, "parent"), "subscription_details")


def _plan_item(subscription: Json, catalog: Catalog) -> tuple[Json, Json]:
    data = mapping(subscription, "items").get("data")
    if not isinstance(data, list):
        raise EventUnprocessable("items.data is not a list")
    pairs = [(item, mapping(item, "price")) for item in data if isinstance(item, Mapping)]
    if len(pairs) != len(data):
        raise EventUnprocessable("items.data holds something that is no object")

    def rank(pair: tuple[Json, Json]) -> int:
        plan = catalog.plan_of_price(text(pair[1], "lookup_key"), text(pair[1], "id"))
        return catalog.rank(plan.id if plan else None)

    return max(pairs, key=rank, default=({}, {}))


def mapping(source: Json, key: str) -> Json:
    """An object, empty if absent."""
    value = source.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise EventUnprocessable(f"{key} is not an object")
    return value


def text(source: Json, key: str) -> str | None:
    """A string, None if absent."""
    value = source.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise EventUnprocessable(f"{key} is not a string")
    if len(value) > TEXT_LENGTH_MAX or CONTROL_CHARACTERS.search(value):
        raise EventUnprocessable(f"{key} is not a string of at most {TEXT_LENGTH_MAX} characters without controls")
    return value


def required_text(source: Json, key: str) -> str:
    """A string that must not be empty."""
    return text(source, key) or _missing(key)


def required_id(source: Json, key: str) -> str:
    """An id as Stripe makes them: it becomes part of a DynamoDB key."""
    value = required_text(source, key)
    if not is_id(value):
        raise EventUnprocessable(f"{key} is not an id")
    return value


def reference(source: Json, key: str) -> str | None:
    """An id, or the id of the expanded object that stands in its place."""
    value = source.get(key)
    if value is None:
        return None
    return required_id(value if isinstance(value, Mapping) else source, "id" if isinstance(value, Mapping) else key)


def required_reference(source: Json, key: str) -> str:
    """An id or expanded object that must be there."""
    return reference(source, key) or _missing(key)


def integer(source: Json, key: str) -> int | None:
    """A whole number, None if absent."""
    value = source.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > INTEGER_MAX:
        raise EventUnprocessable(f"{key} is not an integer")
    return value


def required_integer(source: Json, key: str) -> int:
    """A whole number that must be there."""
    value = integer(source, key)
    return _missing(key) if value is None else value


def boolean(source: Json, key: str) -> bool:
    """True or false, false if absent."""
    value = source.get(key)
    if value is not None and not isinstance(value, bool):
        raise EventUnprocessable(f"{key} is not a boolean")
    return bool(value)


def time(source: Json, key: str) -> datetime | None:
    """A Unix time in seconds, None if absent."""
    value = integer(source, key)
    if value is None:
        return None
    if not 0 <= value <= TIMESTAMP_MAX:
        raise EventUnprocessable(f"{key} is not a time")
    return datetime.fromtimestamp(value, UTC)


def required_time(source: Json, key: str) -> datetime:
    """A Unix time that must be there."""
    return time(source, key) or _missing(key)


def required_iso_time(source: Json, key: str) -> datetime:
    """A time as API v2 writes it, RFC 3339, to the whole second; it must be there."""
    try:
        value = datetime.fromisoformat(required_text(source, key)).replace(microsecond=0)
        return value.astimezone(UTC) if value.tzinfo else _not_a_time(key)
    except (ValueError, OverflowError):
        _not_a_time(key)


def _not_a_time(key: str) -> Never:
    raise EventUnprocessable(f"{key} is not a time")


def _missing(key: str) -> Never:
    raise EventUnprocessable(f"{key} is missing")
