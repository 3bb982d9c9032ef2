"""Subscriptions and their items."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stripe import params

from stripe_simulator import cards, subscriptions
from stripe_simulator.changes import apply_change, plan_change, refusal_of
from stripe_simulator.collection import OVER, UPDATED, end
from stripe_simulator.errors import InvalidRequest, NoSuchObject, NotSimulated
from stripe_simulator.items import Line, current_period
from stripe_simulator.routing import Route, given, in_range, merged_metadata, only
from stripe_simulator.world import DAY, Object, World

Metadata = Mapping[str, str] | str | None
NOT_GIVEN = "not given"
Range = int | Mapping[str, int] | None


# --- Reading parameters -----------------------------------------------------------------------------------------------


def lines_of(world: World, entries: Sequence[Mapping[str, Any]], path: str) -> list[Line]:
    """Return what new items bill: active recurring prices of one interval and one currency.

    Raises:
        InvalidRequest: They cannot make a subscription together.
    """
    lines = []
    for index, entry in enumerate(entries):
        only(entry, f"{path}[{index}]", "metadata", "price", "quantity")
        lines.append(_line_of(world, entry, f"{path}[{index}]"))
    _check_together(lines)
    return lines


def _line_of(world: World, entry: Mapping[str, Any], path: str, item: Object | None = None) -> Line:
    if "price" not in entry and item is None:
        raise InvalidRequest(
            f"Missing required param: {path}[price].", code="parameter_missing", param=f"{path}[price]"
        )
    price = world.get("price", entry["price"], f"{path}[price]") if "price" in entry else (item or {})["price"]
    if not price["active"] and "price" in entry:
        raise InvalidRequest("The price specified is inactive. This field only accepts active prices.", param=path)
    if price["recurring"] is None:
        raise InvalidRequest(
            f"The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`: "
            f"{price['id']}",
            param=f"{path}[price]",
        )
    quantity = entry.get("quantity", item["quantity"] if item else 1)
    if quantity < 0:
        raise InvalidRequest("This value must be greater than or equal to 0.", param=f"{path}[quantity]")
    metadata = merged_metadata(item["metadata"] if item else {}, entry.get("metadata"))
    return Line(price, quantity, metadata, item)


def _check_together(lines: Sequence[Line]) -> None:
    if not lines:
        raise InvalidRequest("Missing required param: items.", code="parameter_missing", param="items")
    if len({line.price["id"] for line in lines}) < len(lines):
        raise InvalidRequest("Cannot add multiple subscription items with the same price.", param="items")
    if len({line.price["currency"] for line in lines}) > 1:
        raise InvalidRequest("All prices on a subscription must have the same currency.")
    rhythms = {(line.price["recurring"]["interval"], line.price["recurring"]["interval_count"]) for line in lines}
    if len(rhythms) > 1:
        raise NotSimulated("items with different billing intervals")


def read_billing_mode(mode: Mapping[str, Any]) -> Object:
    """Return the billing mode that a subscription shows."""
    only(mode, "billing_mode", "type")
    return (
        {"type": "classic"}
        if mode["type"] == "classic"
        else {
            "flexible": {"proration_discounts": "included"},
            "type": "flexible",
        }
    )


def _trial_end(world: World, customer: Object, trial_end: int | str | None, days: int | None) -> int | None:
    now = world.now(customer)
    if days:
        return now + days * DAY
    if trial_end is None or trial_end == "now":
        return None
    if int(trial_end) <= now:
        raise InvalidRequest("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    return int(trial_end)


# --- Operations -------------------------------------------------------------------------------------------------------


def create(
    world: World,
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
    owner = world.get("customer", customer, "customer")
    lines = lines_of(world, items or [], "items")
    method = default_payment_method
    if method:
        method = cards.attach_token(world, owner, method, "default_payment_method")["id"]
    fields = given(description=description, trial_settings=trial_settings)
    fields["billing_mode"] = read_billing_mode(billing_mode or {"type": "flexible"})
    fields["default_payment_method"] = method
    fields["metadata"] = merged_metadata({}, metadata)
    fields["trial_end"] = _trial_end(world, owner, trial_end, trial_period_days)
    free = fields["trial_end"] or not sum(line.price["unit_amount"] * line.quantity for line in lines)
    if not free:
        _check_payable(world, owner, method, payment_behavior)
    pay = payment_behavior != "default_incomplete"
    subscription = subscriptions.start(world, owner, lines, pay=pay, fields=fields)
    at = given(cancel_at=cancel_at, cancel_at_period_end=cancel_at_period_end or None)
    world.change(subscription, UPDATED, **_cancellation(world, subscription, **at))
    return subscription


def _check_payable(world: World, customer: Object, method: str | None, behavior: str) -> None:
    if behavior == "default_incomplete":
        return
    charged = method or customer["invoice_settings"]["default_payment_method"]
    if charged is None:
        raise InvalidRequest(
            "This customer has no attached payment source or default payment method. Please consider adding a default "
            "payment method. For more information, visit "
            "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
            code="resource_missing",
        )
    refused = cards.refusal(world, charged)
    if refused and behavior == "error_if_incomplete":
        raise refused


def retrieve(world: World, identifier: str) -> Object:
    return world.get("subscription", identifier)


def update(
    world: World,
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
    subscription = world.get("subscription", identifier)
    changes = given(description=description, pause_collection=pause_collection, trial_settings=trial_settings)
    at = given(cancel_at=cancel_at, cancel_at_period_end=cancel_at_period_end)
    _check_open(subscription, changes | at | given(items=items, trial_end=trial_end))
    if changes.get("pause_collection"):
        changes["pause_collection"] = {"resumes_at": None, **changes["pause_collection"]}
    if default_payment_method:
        owner = world.objects[subscription["customer"]]
        method = cards.attach_token(world, owner, default_payment_method, "default_payment_method")
        changes["default_payment_method"] = method["id"]
    changes["metadata"] = merged_metadata(subscription["metadata"], metadata)
    changes |= _cancellation(world, subscription, **at, details=cancellation_details)
    restart = (billing_cycle_anchor or {}).get("type") == "now"
    if items or restart:
        _change_items(world, subscription, items or [], changes, proration_behavior, payment_behavior, restart=restart)
    else:
        world.change(subscription, UPDATED, **changes)
    _change_trial(world, subscription, trial_end)
    return subscription


def _change_items(
    world: World,
    subscription: Object,
    entries: Sequence[Mapping[str, Any]],
    others: Object,
    proration_behavior: str,
    payment_behavior: str,
    *,
    restart: bool,
) -> None:
    lines = _changed_lines(world, subscription, entries)
    change = plan_change(world, subscription, lines, proration_behavior=proration_behavior, restart=restart)
    refused = refusal_of(world, subscription, change)
    if refused and payment_behavior == "error_if_incomplete":
        raise refused
    if payment_behavior in {"pending_if_incomplete", "default_incomplete"}:
        raise NotSimulated(f"payment_behavior={payment_behavior}")
    apply_change(world, subscription, change, others)


def _check_open(subscription: Object, changes: Object) -> None:
    if subscription["status"] in OVER and changes:
        raise InvalidRequest(
            "A canceled subscription can only update its cancellation_details and metadata.",
            code="invalid_canceled_subscription_fields",
        )


def _changed_lines(world: World, subscription: Object, entries: Sequence[Mapping[str, Any]]) -> list[Line]:
    current = {item["id"]: item for item in subscription["items"]["data"]}
    lines = {
        identifier: Line(item["price"], item["quantity"], item["metadata"], item)
        for identifier, item in current.items()
    }
    for index, entry in enumerate(entries):
        path = f"items[{index}]"
        only(entry, path, "deleted", "id", "metadata", "price", "quantity")
        identifier = entry.get("id", path)
        if "id" in entry and identifier not in current:
            raise NoSuchObject("subscription item", identifier, param=f"{path}[id]", status=400)
        if entry.get("deleted"):
            lines.pop(identifier)
        else:
            lines[identifier] = _line_of(world, entry, path, current.get(identifier))
    result = list(lines.values())
    _check_together(result)
    return result


def _cancellation(
    world: World,
    subscription: Object,
    *,
    cancel_at: int | str | None = NOT_GIVEN,
    cancel_at_period_end: bool | None = None,
    details: Mapping[str, str] | None = None,
) -> Object:
    """Return what setting, moving or taking back the end of a subscription changes."""
    if cancel_at_period_end and cancel_at not in {NOT_GIVEN, None}:
        raise InvalidRequest("You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
    period_end = current_period(subscription)[1]
    changes: Object = {}
    if cancel_at_period_end is not None:
        changes = {
            "cancel_at": period_end if cancel_at_period_end else None,
            "cancel_at_period_end": cancel_at_period_end,
        }
    elif cancel_at != NOT_GIVEN:
        at = period_end if cancel_at in {"min_period_end", "max_period_end"} else cancel_at
        changes = {"cancel_at": at, "cancel_at_period_end": False}
    if details:
        changes["cancellation_details"] = given(**details)
    return subscriptions.cancellation_changes(world, subscription, **changes) if changes else {}


def _change_trial(world: World, subscription: Object, trial_end: int | str | None) -> None:
    if trial_end == "now" and subscription["status"] == "trialing":
        subscriptions.end_trial(world, subscription)
    elif trial_end not in {None, "now"}:
        until = _trial_end(world, world.objects[subscription["customer"]], trial_end, None)
        subscriptions.extend_trial(world, subscription, until or 0)


def cancel(
    world: World,
    identifier: str,
    *,
    cancellation_details: Mapping[str, str] | None = None,
    invoice_now: bool = False,
    prorate: bool = False,
) -> Object:
    subscription = world.get("subscription", identifier)
    if subscription["status"] in OVER:
        raise NoSuchObject("subscription", identifier, param="id")
    for name, wanted in (("invoice_now", invoice_now), ("prorate", prorate)):
        if wanted:
            raise NotSimulated(name)
    end(world, subscription, reason="cancellation_requested", details=given(**(cancellation_details or {})))
    return subscription


def resume(world: World, identifier: str) -> Object:
    subscription = world.get("subscription", identifier)
    subscriptions.resume(world, subscription)
    return subscription


def listed(
    world: World,
    *,
    collection_method: str | None = None,
    created: Range = None,
    current_period_end: Range = None,
    current_period_start: Range = None,
    customer: str | None = None,
    price: str | None = None,
    status: str | None = None,
    test_clock: str | None = None,
) -> Iterator[Object]:
    wanted = given(customer=customer, collection_method=collection_method)
    for subscription in world.all("subscription"):
        start, stop = current_period(subscription)
        if (
            wanted.items() <= subscription.items()
            and _has_status(subscription, status)
            and (price is None or any(item["price"]["id"] == price for item in subscription["items"]["data"]))
            and (customer is not None or subscription["test_clock"] == test_clock)
            and in_range(subscription["created"], created)
            and in_range(start, current_period_start)
            and in_range(stop, current_period_end)
        ):
            yield subscription


def _has_status(subscription: Object, wanted: str | None) -> bool:
    status: str = subscription["status"]
    if wanted is None:
        return status != "canceled"
    return wanted == "all" or status in (OVER if wanted == "ended" else {wanted})


def items(world: World, *, subscription: str) -> list[Object]:
    found: list[Object] = world.get("subscription", subscription, "subscription")["items"]["data"]
    return found


def item(world: World, identifier: str) -> Object:
    return world.get("subscription_item", identifier)


ROUTES = (
    Route("POST", "/v1/subscriptions", params.SubscriptionCreateParams, create),
    Route("GET", "/v1/subscriptions", params.SubscriptionListParams, listed),
    Route("GET", "/v1/subscriptions/{}", params.SubscriptionRetrieveParams, retrieve),
    Route("POST", "/v1/subscriptions/{}", params.SubscriptionUpdateParams, update),
    Route("DELETE", "/v1/subscriptions/{}", params.SubscriptionCancelParams, cancel),
    Route("POST", "/v1/subscriptions/{}/resume", params.SubscriptionResumeParams, resume),
    Route("GET", "/v1/subscription_items", params.SubscriptionItemListParams, items),
    Route("GET", "/v1/subscription_items/{}", params.SubscriptionItemRetrieveParams, item),
)
