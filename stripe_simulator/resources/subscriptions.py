"""Subscriptions and subscription items."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stripe import params

from stripe_simulator import cards, schedules, subscriptions
from stripe_simulator.dunning import ENDED_STATUSES, SUBSCRIPTION_UPDATED, cancel_immediately
from stripe_simulator.errors import InvalidRequest, NoSuchObject, NotSimulated
from stripe_simulator.items import ItemSpec, current_period
from stripe_simulator.routing import ResourceRoute, matches_range, merge_metadata, provided, require_simulated
from stripe_simulator.state import DAY, Object, SimulatorState
from stripe_simulator.subscription_changes import apply_change, payment_error, preview_change

Metadata = Mapping[str, str] | str | None
NOT_PROVIDED = "not provided"
RangeFilter = int | Mapping[str, int] | None


# --- Parameters -----------------------------------------------------------------------------------------------


def read_items(state: SimulatorState, entries: Sequence[Mapping[str, Any]], path: str) -> list[ItemSpec]:
    """Read the items of a new subscription: active recurring prices with the same interval and currency.

    Raises:
        InvalidRequest: An item is invalid, or the items cannot be in the same subscription.
    """
    specs = []
    for index, entry in enumerate(entries):
        require_simulated(entry, f"{path}[{index}]", "metadata", "price", "quantity")
        specs.append(_read_item(state, entry, f"{path}[{index}]"))
    _check_compatible(specs)
    return specs


def _read_item(state: SimulatorState, entry: Mapping[str, Any], path: str, item: Object | None = None) -> ItemSpec:
    if "price" not in entry and item is None:
        raise InvalidRequest(
            f"Missing required param: {path}[price].", code="parameter_missing", param=f"{path}[price]"
        )
    price = state.get("price", entry["price"], f"{path}[price]") if "price" in entry else (item or {})["price"]
    if not price["active"] and "price" in entry:
        raise InvalidRequest("The price specified is inactive. This field only accepts active prices.", param=path)
    _require_active_product(state, price, new="price" in entry)
    if price["recurring"] is None:
        raise InvalidRequest(
            f"The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`: "
            f"{price['id']}",
            param=f"{path}[price]",
        )
    quantity = entry.get("quantity", item["quantity"] if item else 1)
    if quantity < 0:
        raise InvalidRequest("This value must be greater than or equal to 0.", param=f"{path}[quantity]")
    metadata = merge_metadata(item["metadata"] if item else {}, entry.get("metadata"))
    return ItemSpec(price, quantity, metadata, item)


def _require_active_product(state: SimulatorState, price: Object, *, new: bool) -> None:
    if new and not state.objects[price["product"]]["active"]:
        raise InvalidRequest(
            f"The product {price['product']} is marked as inactive, and thus no new subscriptions can be created to "
            "any plans of this product."
        )


def _check_compatible(specs: Sequence[ItemSpec]) -> None:
    if not specs:
        raise InvalidRequest("Missing required param: items.", code="parameter_missing", param="items")
    if len({spec.price["id"] for spec in specs}) < len(specs):
        raise InvalidRequest("Cannot add multiple subscription items with the same price.", param="items")
    if len({spec.price["currency"] for spec in specs}) > 1:
        raise InvalidRequest("All prices on a subscription must have the same currency.")
    intervals = {(spec.price["recurring"]["interval"], spec.price["recurring"]["interval_count"]) for spec in specs}
    if len(intervals) > 1:
        raise NotSimulated("items with different billing intervals")


def read_billing_mode(mode: Mapping[str, Any]) -> Object:
    """Return the ``billing_mode`` of a subscription with this parameter."""
    require_simulated(mode, "billing_mode", "type")
    if mode["type"] == "classic":
        return {"type": "classic"}
    return {"flexible": {"proration_discounts": "included"}, "type": "flexible"}


def _trial_end(state: SimulatorState, customer: Object, trial_end: int | str | None, days: int | None) -> int | None:
    now = state.now(customer)
    if days:
        return now + days * DAY
    if trial_end is None or trial_end == "now":
        return None
    if int(trial_end) <= now:
        raise InvalidRequest("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    return int(trial_end)


# --- Operations -------------------------------------------------------------------------------------------------------


def create(
    state: SimulatorState,
    *,
    customer: str | None = None,
    items: list[Mapping[str, Any]] | None = None,
    billing_mode: Mapping[str, Any] | None = None,
    cancel_at: int | str | None = None,
    cancel_at_period_end: bool = False,
    default_payment_method: str | None = None,
    description: str | None = None,
    metadata: Metadata = None,
    payment_behavior: str = "allow_incomplete",
    trial_end: int | str | None = None,
    trial_period_days: int | None = None,
    trial_settings: Mapping[str, Any] | None = None,
) -> Object:
    if customer is None:
        raise InvalidRequest("Missing required param: customer.", code="parameter_missing", param="customer")
    owner = state.get("customer", customer, "customer")
    specs = read_items(state, items or [], "items")
    subscriptions.require_currency(state, owner, specs[0].price["currency"])
    method = default_payment_method
    if method:
        method = cards.attach_token(state, owner, method, "default_payment_method")["id"]
    fields = provided(description=description, trial_settings=trial_settings)
    fields["billing_mode"] = read_billing_mode(billing_mode or {"type": "flexible"})
    fields["default_payment_method"] = method
    fields["metadata"] = merge_metadata({}, metadata)
    fields["trial_end"] = _trial_end(state, owner, trial_end, trial_period_days)
    free = fields["trial_end"] or not sum(spec.price["unit_amount"] * spec.quantity for spec in specs)
    if not free:
        _check_payable(state, owner, method, payment_behavior)
    pay = payment_behavior != "default_incomplete"
    subscription = subscriptions.start(state, owner, specs, pay=pay, fields=fields)
    schedule = provided(cancel_at=cancel_at, cancel_at_period_end=cancel_at_period_end or None)
    state.update(subscription, SUBSCRIPTION_UPDATED, **_cancellation_fields(state, subscription, **schedule))
    return subscription


def _check_payable(state: SimulatorState, customer: Object, method: str | None, behavior: str) -> None:
    if behavior == "default_incomplete":
        return
    payment_method = method or customer["invoice_settings"]["default_payment_method"]
    if payment_method is None:
        raise InvalidRequest(
            "This customer has no attached payment source or default payment method. Please consider adding a default "
            "payment method. For more information, visit "
            "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
            code="resource_missing",
        )
    error = cards.decline_error(state, payment_method)
    if error and behavior == "error_if_incomplete":
        raise error


def retrieve(state: SimulatorState, identifier: str) -> Object:
    return state.get("subscription", identifier)


def update(
    state: SimulatorState,
    identifier: str,
    *,
    billing_cycle_anchor: Mapping[str, str] | None = None,
    cancel_at: int | str | None = None,
    cancel_at_period_end: bool | None = None,
    cancellation_details: Mapping[str, str] | None = None,
    default_payment_method: str | None = None,
    description: str | None = None,
    items: list[Mapping[str, Any]] | None = None,
    metadata: Metadata = None,
    pause_collection: Mapping[str, Any] | str | None = None,
    payment_behavior: str = "allow_incomplete",
    proration_behavior: str = "create_prorations",
    trial_end: int | str | None = None,
    trial_settings: Mapping[str, Any] | None = None,
) -> Object:
    subscription = state.get("subscription", identifier)
    changes = provided(description=description, pause_collection=pause_collection, trial_settings=trial_settings)
    schedule = provided(cancel_at=cancel_at, cancel_at_period_end=cancel_at_period_end)
    _check_not_ended(subscription, changes | schedule | provided(items=items, trial_end=trial_end))
    _check_not_managed(subscription, schedule)
    if changes.get("pause_collection"):
        changes["pause_collection"] = {"resumes_at": None, **changes["pause_collection"]}
    if default_payment_method:
        owner = state.objects[subscription["customer"]]
        method = cards.attach_token(state, owner, default_payment_method, "default_payment_method")
        changes["default_payment_method"] = method["id"]
    changes["metadata"] = merge_metadata(subscription["metadata"], metadata)
    changes |= _cancellation_fields(state, subscription, **schedule, details=cancellation_details)
    reset_anchor = (billing_cycle_anchor or {}).get("type") == "now"
    if items or reset_anchor:
        _update_items(
            state, subscription, items or [], changes, proration_behavior, payment_behavior, reset_anchor=reset_anchor
        )
    else:
        state.update(subscription, SUBSCRIPTION_UPDATED, **changes)
    _update_trial(state, subscription, trial_end)
    return subscription


def _update_items(
    state: SimulatorState,
    subscription: Object,
    entries: Sequence[Mapping[str, Any]],
    other_fields: Object,
    proration_behavior: str,
    payment_behavior: str,
    *,
    reset_anchor: bool,
) -> None:
    specs = _updated_items(state, subscription, entries)
    change = preview_change(
        state, subscription, specs, proration_behavior=proration_behavior, reset_anchor=reset_anchor
    )
    error = payment_error(state, subscription, change)
    if error and payment_behavior == "error_if_incomplete":
        raise error
    if payment_behavior in {"pending_if_incomplete", "default_incomplete"}:
        raise NotSimulated(f"payment_behavior={payment_behavior}")
    apply_change(state, subscription, change, other_fields)
    schedules.update_current_items(state, subscription)


def _check_not_ended(subscription: Object, changes: Object) -> None:
    if subscription["status"] in ENDED_STATUSES and changes:
        raise InvalidRequest(
            "A canceled subscription can only update its cancellation_details and metadata.",
            code="invalid_canceled_subscription_fields",
        )


def _check_not_managed(subscription: Object, cancellation: Object) -> None:
    if subscription["schedule"] and cancellation:
        raise InvalidRequest(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and updating any "
            "cancelation behavior directly is not allowed. Please update the schedule instead."
        )


def _updated_items(state: SimulatorState, subscription: Object, entries: Sequence[Mapping[str, Any]]) -> list[ItemSpec]:
    current = {item["id"]: item for item in subscription["items"]["data"]}
    specs = {
        identifier: ItemSpec(item["price"], item["quantity"], item["metadata"], item)
        for identifier, item in current.items()
    }
    for index, entry in enumerate(entries):
        path = f"items[{index}]"
        require_simulated(entry, path, "deleted", "id", "metadata", "price", "quantity")
        identifier = entry.get("id", path)
        if "id" in entry and identifier not in current:
            raise NoSuchObject("subscription item", identifier, param=f"{path}[id]", status=400)
        if entry.get("deleted"):
            specs.pop(identifier)
        else:
            specs[identifier] = _read_item(state, entry, path, current.get(identifier))
    updated = list(specs.values())
    _check_compatible(updated)
    require_subscription_currency(subscription, updated)
    return updated


def require_subscription_currency(subscription: Object, specs: Sequence[ItemSpec]) -> None:
    """Require that items have the subscription's currency.

    Raises:
        InvalidRequest: An item has another currency.
    """
    for spec in specs:
        if spec.price["currency"] != subscription["currency"]:
            raise InvalidRequest(
                f"The price specified only supports `{spec.price['currency']}`. This doesn't match the expected "
                f"currency: `{subscription['currency']}`."
            )


def _cancellation_fields(
    state: SimulatorState,
    subscription: Object,
    *,
    cancel_at: int | str | None = NOT_PROVIDED,
    cancel_at_period_end: bool | None = None,
    details: Mapping[str, str] | None = None,
) -> Object:
    """Return the fields that change with a new, moved or undone cancellation."""
    if cancel_at_period_end and cancel_at not in {NOT_PROVIDED, None}:
        raise InvalidRequest("You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
    period_end = current_period(subscription)[1]
    changes: Object = {}
    if cancel_at_period_end is not None:
        changes = {
            "cancel_at": period_end if cancel_at_period_end else None,
            "cancel_at_period_end": cancel_at_period_end,
        }
    elif cancel_at != NOT_PROVIDED:
        at = period_end if cancel_at in {"min_period_end", "max_period_end"} else cancel_at
        changes = {"cancel_at": at, "cancel_at_period_end": False}
    if details:
        changes["cancellation_details"] = provided(**details)
    return subscriptions.cancellation_fields(state, subscription, **changes) if changes else {}


def _update_trial(state: SimulatorState, subscription: Object, trial_end: int | str | None) -> None:
    if trial_end == "now" and subscription["status"] == "trialing":
        subscriptions.end_trial(state, subscription)
    elif trial_end not in {None, "now"}:
        until = _trial_end(state, state.objects[subscription["customer"]], trial_end, None)
        subscriptions.extend_trial(state, subscription, until or 0)


def cancel(
    state: SimulatorState,
    identifier: str,
    *,
    cancellation_details: Mapping[str, str] | None = None,
    invoice_now: bool = False,
    prorate: bool = False,
) -> Object:
    subscription = state.get("subscription", identifier)
    if subscription["status"] in ENDED_STATUSES:
        raise NoSuchObject("subscription", identifier, param="id")
    for name, value in (("invoice_now", invoice_now), ("prorate", prorate)):
        if value:
            raise NotSimulated(name)
    cancel_immediately(
        state, subscription, reason="cancellation_requested", details=provided(**(cancellation_details or {}))
    )
    return subscription


def resume(state: SimulatorState, identifier: str) -> Object:
    subscription = state.get("subscription", identifier)
    subscriptions.resume(state, subscription)
    return subscription


def list_all(
    state: SimulatorState,
    *,
    collection_method: str | None = None,
    created: RangeFilter = None,
    current_period_end: RangeFilter = None,
    current_period_start: RangeFilter = None,
    customer: str | None = None,
    price: str | None = None,
    status: str | None = None,
    test_clock: str | None = None,
) -> Iterator[Object]:
    filters = provided(customer=customer, collection_method=collection_method)
    for subscription in state.all("subscription"):
        start, end = current_period(subscription)
        if (
            filters.items() <= subscription.items()
            and _has_status(subscription, status)
            and (price is None or any(item["price"]["id"] == price for item in subscription["items"]["data"]))
            and (customer is not None or subscription["test_clock"] == test_clock)
            and matches_range(subscription["created"], created)
            and matches_range(start, current_period_start)
            and matches_range(end, current_period_end)
        ):
            yield subscription


def _has_status(subscription: Object, status_filter: str | None) -> bool:
    status: str = subscription["status"]
    if status_filter is None:
        return status != "canceled"
    return status_filter == "all" or status in (ENDED_STATUSES if status_filter == "ended" else {status_filter})


def list_items(state: SimulatorState, *, subscription: str) -> list[Object]:
    subscription_items: list[Object] = state.get("subscription", subscription, "subscription")["items"]["data"]
    return subscription_items


def retrieve_item(state: SimulatorState, identifier: str) -> Object:
    return state.get("subscription_item", identifier)


ROUTES = (
    ResourceRoute("POST", "/v1/subscriptions", params.SubscriptionCreateParams, create),
    ResourceRoute("GET", "/v1/subscriptions", params.SubscriptionListParams, list_all),
    ResourceRoute("GET", "/v1/subscriptions/{}", params.SubscriptionRetrieveParams, retrieve),
    ResourceRoute("POST", "/v1/subscriptions/{}", params.SubscriptionUpdateParams, update),
    ResourceRoute("DELETE", "/v1/subscriptions/{}", params.SubscriptionCancelParams, cancel),
    ResourceRoute("POST", "/v1/subscriptions/{}/resume", params.SubscriptionResumeParams, resume),
    ResourceRoute("GET", "/v1/subscription_items", params.SubscriptionItemListParams, list_items),
    ResourceRoute("GET", "/v1/subscription_items/{}", params.SubscriptionItemRetrieveParams, retrieve_item),
)
