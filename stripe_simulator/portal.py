"""Actions of the Customer Portal's page, as its configuration allows them."""

from stripe_simulator import cards, schedules, subscriptions
from stripe_simulator.dunning import ENDED_STATUSES, SUBSCRIPTION_UPDATED, cancel_immediately
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.items import ItemSpec, current_period
from stripe_simulator.objects import new_schedule_phase
from stripe_simulator.periods import add_interval
from stripe_simulator.state import Object, SimulatorState
from stripe_simulator.subscription_changes import apply_change, payment_error, preview_change


def features_of(state: SimulatorState, session: Object) -> Object:
    """Return the features of a session's configuration."""
    features: Object = state.objects[session["configuration"]]["features"]
    return features


def subscriptions_of(state: SimulatorState, session: Object) -> list[Object]:
    """Return the customer's subscriptions that have not ended, newest first."""
    return [
        subscription
        for subscription in state.all("subscription")
        if subscription["customer"] == session["customer"] and subscription["status"] not in ENDED_STATUSES
    ]


def offered_prices(state: SimulatorState, session: Object) -> list[Object]:
    """Return the active prices that the customer may select."""
    products = features_of(state, session)["subscription_update"]["products"] or []
    prices = [state.objects[price] for product in products for price in product["prices"] if price in state.objects]
    return [price for price in prices if price["active"]]


def adjustable_quantity(state: SimulatorState, session: Object, product_id: str) -> Object | None:
    """Return the ``minimum`` and ``maximum`` quantity of a product. Return None if the customer cannot change it."""
    update = features_of(state, session)["subscription_update"]
    for product in update["products"] if "quantity" in update["default_allowed_updates"] else []:
        if product["product"] == product_id and product["adjustable_quantity"]["enabled"]:
            limits: Object = product["adjustable_quantity"]
            return limits
    return None


def change_plan(
    state: SimulatorState, session: Object, subscription_id: str, price_id: str, quantity: int | None = None
) -> None:
    """Change a subscription's price or quantity.

    The page sends a quantity with every plan. If the quantity of the plan's product is not adjustable, the subscription
    keeps its present quantity. Stripe does not document this case; a lower quantity would hide a multiplied price.

    Raises:
        InvalidRequest: The configuration does not allow the change.
        CardError: The change is invoiced immediately, and the payment fails.
    """
    update = _enabled_feature(state, session, "subscription_update")
    subscription = _customer_subscription(state, session, subscription_id)
    price = next((price for price in offered_prices(state, session) if price["id"] == price_id), None)
    if price is None:
        raise InvalidRequest("This plan is not available.", param="price")
    if price["currency"] != subscription["currency"]:
        raise InvalidRequest("This plan is not available in the subscription's currency.", param="price")
    item = subscription["items"]["data"][0]
    limits = adjustable_quantity(state, session, price["product"])
    if quantity is None or limits is None:
        quantity = item["quantity"]
    elif not _is_allowed_quantity(limits, quantity):
        raise InvalidRequest("This quantity is not available.", param="quantity")
    spec = ItemSpec(price, quantity, item["metadata"], item)
    keep_current_plan(state, session, subscription_id)
    if _is_scheduled(update, item, spec):
        _schedule_change(state, subscription, spec)
    else:
        _change_now(state, subscription, spec, update)


def _change_now(state: SimulatorState, subscription: Object, spec: ItemSpec, update: Object) -> None:
    change = preview_change(
        state,
        subscription,
        [spec],
        proration_behavior=update["proration_behavior"],
        reset_anchor=update["billing_cycle_anchor"] == "now",
    )
    error = payment_error(state, subscription, change)
    if error:
        raise error
    apply_change(state, subscription, change, {})
    if subscription["status"] == "trialing" and update["trial_update_behavior"] == "end_trial":
        subscriptions.end_trial(state, subscription)


def pending_change(state: SimulatorState, subscription: Object) -> Object | None:
    """Return the phase that a subscription's schedule enters next, or None."""
    schedule = state.objects.get(subscription["schedule"] or "")
    return schedules.next_phase(schedule) if schedule else None


def keep_current_plan(state: SimulatorState, session: Object, subscription_id: str) -> None:
    """Withdraw a change that is scheduled for the end of the period, if there is one."""
    subscription = _customer_subscription(state, session, subscription_id)
    if subscription["schedule"]:
        schedules.release(state, state.objects[subscription["schedule"]])


def _is_scheduled(update: Object, item: Object, spec: ItemSpec) -> bool:
    """Return True if a condition of ``schedule_at_period_end`` applies to a change."""
    before, after = item["price"], spec.price
    applies = {
        "decreasing_item_amount": after["unit_amount"] * spec.quantity < before["unit_amount"] * item["quantity"],
        "shortening_interval": _length(after["recurring"]) < _length(before["recurring"]),
    }
    return any(applies[condition["type"]] for condition in update["schedule_at_period_end"]["conditions"])


def _length(recurring: Object) -> int:
    days = {"day": 1, "week": 7, "month": 30, "year": 365}
    return int(recurring["interval_count"]) * days[recurring["interval"]]


def _schedule_change(state: SimulatorState, subscription: Object, spec: ItemSpec) -> None:
    schedule = schedules.create_from_subscription(state, subscription)
    current = schedule["phases"][0]
    end = add_interval(current["end_date"], spec.price["recurring"], 1)
    items = [(spec.price["id"], spec.quantity)]
    following = new_schedule_phase(subscription["currency"], items, current["end_date"], end, "none")
    schedules.set_phases(state, schedule, [current, following])


def _is_allowed_quantity(limits: Object, quantity: int) -> bool:
    return bool(limits["minimum"] <= quantity <= (limits["maximum"] or quantity))


def cancel(state: SimulatorState, session: Object, subscription_id: str, feedback: str | None = None) -> None:
    """Cancel a subscription immediately or at the period's end, as configured.

    In flexible billing mode, Stripe's portal sets ``cancel_at`` and leaves ``cancel_at_period_end`` false.

    Raises:
        InvalidRequest: The configuration does not allow cancellation.
    """
    settings = _enabled_feature(state, session, "subscription_cancel")
    subscription = _customer_subscription(state, session, subscription_id)
    keep_current_plan(state, session, subscription_id)
    details = {"feedback": feedback or None}
    if settings["mode"] == "immediately":
        cancel_immediately(state, subscription, reason="cancellation_requested", details=details)
        return
    changes = subscriptions.cancellation_fields(
        state,
        subscription,
        cancel_at=current_period(subscription)[1],
        cancel_at_period_end=subscription["billing_mode"]["type"] == "classic",
        cancellation_details=details,
    )
    state.update(subscription, SUBSCRIPTION_UPDATED, **changes)


def resume(state: SimulatorState, session: Object, subscription_id: str) -> None:
    """Undo a scheduled cancellation.

    Raises:
        InvalidRequest: No cancellation is scheduled.
    """
    subscription = _customer_subscription(state, session, subscription_id)
    if not (subscription["cancel_at"] or subscription["cancel_at_period_end"]):
        raise InvalidRequest("This subscription has no scheduled cancellation.")
    details = {"comment": None, "feedback": None}
    changes = subscriptions.cancellation_fields(
        state, subscription, cancel_at=None, cancel_at_period_end=False, cancellation_details=details
    )
    state.update(subscription, SUBSCRIPTION_UPDATED, **changes)


def replace_card(state: SimulatorState, session: Object, card: str) -> None:
    """Attach a card and make it the default of the customer and of all current subscriptions.

    Raises:
        InvalidRequest: The configuration does not allow payment method updates.
    """
    _enabled_feature(state, session, "payment_method_update")
    customer = state.get("customer", session["customer"])
    method = cards.attach(state, customer, card)
    cards.set_default(state, customer, method["id"])
    for subscription in subscriptions_of(state, session):
        state.update(subscription, SUBSCRIPTION_UPDATED, default_payment_method=method["id"])


def _enabled_feature(state: SimulatorState, session: Object, feature: str) -> Object:
    settings: Object = features_of(state, session)[feature]
    if not settings["enabled"]:
        raise InvalidRequest(f"The portal configuration does not enable {feature}.")
    return settings


def _customer_subscription(state: SimulatorState, session: Object, subscription_id: str) -> Object:
    for subscription in subscriptions_of(state, session):
        if subscription["id"] == subscription_id:
            return subscription
    raise InvalidRequest(f"No such subscription: '{subscription_id}'", param="subscription")
