"""Parsing of Stripe's JSON into our values, for every supported API version.

Since API 2025-03-31 a subscription's period is on its items, and an invoice's subscription is under `parent`. Before,
both were top-level fields.
https://docs.stripe.com/changelog/basil/2025-03-31/deprecate-subscription-current-period-start-and-end

Every function raises EventUnprocessable if a field is missing or has an impossible value. The message names the field.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Never

from billing.domain.errors import EventUnprocessable
from billing.domain.identifiers import is_id
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog, Plan
from billing.domain.subscriptions import ENDED_STATUSES, UNKNOWN_CHANGE, PendingChange, Subscription

type Json = Mapping[str, Any]

TEXT_LENGTH_MAX = 4096
# Control characters, and halves of surrogate pairs, which DynamoDB cannot store.
CONTROL_CHARACTERS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
TIMESTAMP_MAX = 253402300799  # the last second of the year 9999
INTEGER_MAX = 2**63 - 1
ENDED_SCHEDULE_STATUSES = frozenset({"canceled", "completed", "released"})

ACCOUNT_KEY = "account_id"
"""Metadata key with the id of the account."""
DEPLOYMENT_KEY = "billing_deployment"
"""Metadata key with the id of the deployment that created an object."""


# --- Objects ----------------------------------------------------------------------------------------------------------


def parse_subscription(source: Json, catalog: Catalog) -> Subscription:
    """Parse a subscription. Plan, price, quantity and period are those of the item with the highest plan.

    If the schedule is not expanded, the pending change is UNKNOWN_CHANGE.
    """
    items = _list_of_objects(mapping(source, "items"), "data", "items.data")
    item, price = _plan_item([(item, mapping(item, "price")) for item in items], catalog)
    price_id, quantity = text(price, "id"), integer(item, "quantity")
    plan = plan_of_price(price, catalog)
    unit_amount, currency = _amount_and_currency(source, price)
    pause, recurring = mapping(source, "pause_collection"), mapping(price, "recurring")
    status = required_text(source, "status")
    schedule_id = None if status in ENDED_STATUSES else reference(source, "schedule")
    return Subscription(
        id=required_id(source, "id"),
        customer_id=required_reference(source, "customer"),
        status=status,
        created=required_time(source, "created"),
        plan=plan.id if plan else None,
        price_is_mapped=plan is not None,
        price_id=price_id,
        is_per_seat=catalog.is_per_seat(plan, text(price, "lookup_key"), price_id),
        quantity=quantity,
        schedule_id=schedule_id,
        pending_change=_pending_change(source["schedule"], catalog, (price_id, quantity)) if schedule_id else None,
        current_period_start=time(item, "current_period_start") or time(source, "current_period_start"),
        current_period_end=time(item, "current_period_end") or time(source, "current_period_end"),
        cancel_at_period_end=boolean(source, "cancel_at_period_end"),
        cancel_at=time(source, "cancel_at"),
        canceled_at=time(source, "canceled_at"),
        ended_at=time(source, "ended_at"),
        trial_end=time(source, "trial_end"),
        pause_collection=text(pause, "behavior"),
        pause_resumes_at=time(pause, "resumes_at"),
        unit_amount=unit_amount,
        currency=currency,
        interval=text(recurring, "interval"),
        interval_count=integer(recurring, "interval_count"),
    )


def _amount_and_currency(subscription: Json, price: Json) -> tuple[int | None, str | None]:
    """Return the amount of a subscription's price and the currency in which it is billed.

    A price with `currency_options` has an amount in each of them, and shows only that in its own currency.
    """
    amount, own_currency = integer(price, "unit_amount"), text(price, "currency")
    currency = text(subscription, "currency") or own_currency
    return (amount if currency == own_currency else None), currency


def plan_of_price(price: Json, catalog: Catalog) -> Plan | None:
    """Return the plan of a price. `metadata.plan` of another product, of any type, is no error."""
    metadata_plan = mapping(price, "metadata").get("plan")
    return catalog.plan_of_price(
        text(price, "lookup_key"), text(price, "id"), metadata_plan if isinstance(metadata_plan, str) else None
    )


def _list_of_objects(source: Json, key: str, name: str) -> list[Json]:
    found = source.get(key)
    if not isinstance(found, list):
        raise EventUnprocessable(f"{name} is not a list")
    if not all(isinstance(each, Mapping) for each in found):
        raise EventUnprocessable(f"{name} contains a value that is not an object")
    return found


def _plan_item(pairs: list[tuple[Json, Json]], catalog: Catalog) -> tuple[Json, Json]:
    """Return the item with the highest plan, and its price; both are empty if there is no item."""

    def rank(pair: tuple[Json, Json]) -> int:
        plan = plan_of_price(pair[1], catalog)
        return catalog.rank(plan.id if plan else None)

    return max(pairs, key=rank, default=({}, {}))


def _pending_change(schedule: object, catalog: Catalog, current: tuple[str | None, int | None]) -> PendingChange | None:
    """Return the next change of price or quantity that a schedule will make.

    Args:
        schedule: The expanded schedule, or its id.
        catalog: Plans and prices.
        current: Present price and quantity.

    Returns:
        The change, or None if there is none. UNKNOWN_CHANGE if the schedule is not expanded, or if its prices are not
        and the next phase has several items.
    """
    if not isinstance(schedule, Mapping):
        return UNKNOWN_CHANGE
    for phase in _following_phases(schedule):
        items = _list_of_objects(phase, "items", "schedule.phases.items")
        pairs = [(item, mapping(item, "price") if isinstance(item.get("price"), Mapping) else {}) for item in items]
        if len(pairs) > 1 and not all(price for _, price in pairs):
            return UNKNOWN_CHANGE
        item, price = _plan_item(pairs, catalog)
        price_id, quantity = reference(item, "price"), integer(item, "quantity")
        if (price_id, quantity) != current:
            return _change_to(price, price_id, quantity, required_time(phase, "start_date"), catalog)
    return None


def _following_phases(schedule: Json) -> list[Json]:
    """Return the phases after the current one, in their order."""
    if text(schedule, "status") in ENDED_SCHEDULE_STATUSES:
        return []
    end = time(mapping(schedule, "current_phase"), "end_date")
    phases = _list_of_objects(schedule, "phases", "schedule.phases")
    starts = [(required_time(phase, "start_date"), phase) for phase in phases]
    return [phase for start, phase in sorted(starts, key=lambda each: each[0]) if end is None or start >= end]


def _change_to(
    price: Json, price_id: str | None, quantity: int | None, effective_at: datetime, catalog: Catalog
) -> PendingChange:
    plan = plan_of_price(price or {"id": price_id}, catalog)
    is_per_seat = catalog.is_per_seat(plan, text(price, "lookup_key"), price_id)
    return PendingChange(plan.id if plan else None, price_id, quantity, effective_at, is_per_seat)


def parse_invoice(source: Json) -> Invoice:
    """Parse an invoice."""
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


def schedule_subscription_id(schedule: Json) -> str | None:
    """Return the subscription that a schedule manages, or managed until it was released; None if it has none yet."""
    return reference(schedule, "subscription") or reference(schedule, "released_subscription")


def invoice_subscription_id(invoice: Json) -> str | None:
    """Return the subscription that an invoice bills; None for a one-off invoice."""
    return reference(_invoice_parent(invoice), "subscription") or reference(invoice, "subscription")


def _invoice_parent(invoice: Json) -> Json:
    return mapping(mapping(invoice, "parent"), "subscription_details")


def account_id_of(source: Json) -> str | None:
    """Return the account in an object's `metadata.account_id`.

    An invoice has it in the metadata of its subscription, in either form.

    Returns:
        The account id. None if there is none, or if another product wrote a value that cannot be an account id.
    """
    found = _metadata_values(source, ACCOUNT_KEY)
    return next((account_id for account_id in found if is_id(account_id)), None)


def deployment_id_of(source: Json) -> str | None:
    """Return the deployment in an object's `metadata.billing_deployment`, or in that of an invoice's subscription."""
    return next(_metadata_values(source, DEPLOYMENT_KEY), None)


def identity_metadata(account_id: str, deployment_id: str) -> dict[str, str]:
    """Return the metadata of an object that is created for an account."""
    return {ACCOUNT_KEY: account_id, DEPLOYMENT_KEY: deployment_id}


def missing_identity_keys(source: Json) -> tuple[str, ...]:
    """Return the keys of `identity_metadata` for which an object's own metadata has no value."""
    metadata = mapping(source, "metadata")
    return tuple(key for key in (ACCOUNT_KEY, DEPLOYMENT_KEY) if not metadata.get(key))


def _metadata_values(source: Json, key: str) -> Iterator[str]:
    """Yield the text values of a metadata key: of the object, then of an invoice's subscription, in either form."""
    parents = (source, _invoice_parent(source), mapping(source, "subscription_details"))
    values = (mapping(parent, "metadata").get(key) for parent in parents)
    return (value for value in values if isinstance(value, str) and value)


# --- Fields -----------------------------------------------------------------------------------------------------------


def mapping(source: Json, key: str) -> Json:
    """Return an object; an empty one if it is absent."""
    value = source.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise EventUnprocessable(f"{key} is not an object")
    return value


def text(source: Json, key: str) -> str | None:
    """Return a string; None if it is absent."""
    value = source.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise EventUnprocessable(f"{key} is not a string")
    if len(value) > TEXT_LENGTH_MAX:
        raise EventUnprocessable(f"{key} has more than {TEXT_LENGTH_MAX} characters")
    if CONTROL_CHARACTERS.search(value):
        raise EventUnprocessable(f"{key} contains control characters")
    return value


def required_text(source: Json, key: str) -> str:
    """Return a string that is neither absent nor empty."""
    return text(source, key) or _missing(key)


def required_id(source: Json, key: str) -> str:
    """Return an id, which becomes part of a DynamoDB key."""
    value = required_text(source, key)
    if not is_id(value):
        raise EventUnprocessable(f"{key} is not an id")
    return value


def reference(source: Json, key: str) -> str | None:
    """Return the id of a referenced object, expanded or not; None if it is absent."""
    value = source.get(key)
    if value is None:
        return None
    return required_id(value, "id") if isinstance(value, Mapping) else required_id(source, key)


def required_reference(source: Json, key: str) -> str:
    """Return the id of a referenced object, expanded or not."""
    return reference(source, key) or _missing(key)


def integer(source: Json, key: str) -> int | None:
    """Return an integer; None if it is absent."""
    value = source.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > INTEGER_MAX:
        raise EventUnprocessable(f"{key} is not an integer")
    return value


def required_integer(source: Json, key: str) -> int:
    """Return an integer."""
    value = integer(source, key)
    return _missing(key) if value is None else value


def boolean(source: Json, key: str) -> bool:
    """Return a boolean; False if it is absent."""
    value = source.get(key)
    if value is not None and not isinstance(value, bool):
        raise EventUnprocessable(f"{key} is not a boolean")
    return bool(value)


def time(source: Json, key: str) -> datetime | None:
    """Return a Unix time in seconds; None if it is absent."""
    value = integer(source, key)
    if value is None:
        return None
    if not 0 <= value <= TIMESTAMP_MAX:
        raise EventUnprocessable(f"{key} is not a time")
    return datetime.fromtimestamp(value, UTC)


def required_time(source: Json, key: str) -> datetime:
    """Return a Unix time in seconds."""
    return time(source, key) or _missing(key)


def required_iso_time(source: Json, key: str) -> datetime:
    """Return an RFC 3339 time, as in API v2, without its fraction of a second."""
    try:
        value = datetime.fromisoformat(required_text(source, key)).replace(microsecond=0)
        return value.astimezone(UTC) if value.tzinfo else _not_a_time(key)
    except (ValueError, OverflowError):
        _not_a_time(key)


def _not_a_time(key: str) -> Never:
    raise EventUnprocessable(f"{key} is not a time")


def _missing(key: str) -> Never:
    raise EventUnprocessable(f"{key} is missing")
