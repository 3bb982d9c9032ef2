"""What a customer does on the portal's page, within what its configuration allows."""

from stripe_simulator import cards, subscriptions
from stripe_simulator.changes import apply_change, plan_change, refusal_of
from stripe_simulator.collection import OVER, UPDATED, end
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.items import Line, current_period
from stripe_simulator.world import Object, World


def features_of(world: World, session: Object) -> Object:
    """Return the features of the session's configuration."""
    features: Object = world.objects[session["configuration"]]["features"]
    return features


def subscriptions_of(world: World, session: Object) -> list[Object]:
    """Return the customer's subscriptions that are not over, newest first."""
    return [
        subscription
        for subscription in world.all("subscription")
        if subscription["customer"] == session["customer"] and subscription["status"] not in OVER
    ]


def offers(world: World, session: Object) -> list[Object]:
    """Return the active prices that a customer may change to."""
    products = features_of(world, session)["subscription_update"]["products"] or []
    prices = [world.objects[price] for product in products for price in product["prices"] if price in world.objects]
    return [price for price in prices if price["active"]]


def adjustable_quantity(world: World, session: Object, product_id: str) -> Object | None:
    """Return the least and the most (None: any number) of a product that a customer may choose; None if no choice."""
    update = features_of(world, session)["subscription_update"]
    for product in update["products"] if "quantity" in update["default_allowed_updates"] else []:
        if product["product"] == product_id and product["adjustable_quantity"]["enabled"]:
            limits: Object = product["adjustable_quantity"]
            return limits
    return None


def change_plan(
    world: World, session: Object, subscription_id: str, price_id: str, quantity: int | None = None
) -> None:
    """Move a subscription to another of the configured prices, or to another quantity of one.

    Raises:
        InvalidRequest: The configuration does not allow it.
        CardError: The difference is invoiced at once, and the card does not pay.
    """
    update = _allowed(world, session, "subscription_update")
    subscription = _owned(world, session, subscription_id)
    price = next((price for price in offers(world, session) if price["id"] == price_id), None)
    if price is None:
        raise InvalidRequest("This plan is not on offer.", param="price")
    item = subscription["items"]["data"][0]
    if quantity is None:
        quantity = item["quantity"]
    elif not _may_choose(adjustable_quantity(world, session, price["product"]), quantity):
        raise InvalidRequest("This quantity is not on offer.", param="quantity")
    change = plan_change(
        world,
        subscription,
        [Line(price, quantity, item["metadata"], item)],
        proration_behavior=update["proration_behavior"],
        restart=update["billing_cycle_anchor"] == "now",
    )
    refused = refusal_of(world, subscription, change)
    if refused:
        raise refused
    apply_change(world, subscription, change, {})
    if subscription["status"] == "trialing" and update["trial_update_behavior"] == "end_trial":
        subscriptions.end_trial(world, subscription)


def _may_choose(limits: Object | None, quantity: int) -> bool:
    return limits is not None and limits["minimum"] <= quantity <= (limits["maximum"] or quantity)


def cancel(world: World, session: Object, subscription_id: str, feedback: str | None = None) -> None:
    """Cancel a subscription, now or at its period's end, as configured.

    In flexible billing mode Stripe's portal sets ``cancel_at`` and leaves ``cancel_at_period_end`` false.

    Raises:
        InvalidRequest: The configuration does not allow it.
    """
    settings = _allowed(world, session, "subscription_cancel")
    subscription = _owned(world, session, subscription_id)
    details = {"feedback": feedback or None}
    if settings["mode"] == "immediately":
        end(world, subscription, reason="cancellation_requested", details=details)
        return
    changes = subscriptions.cancellation_changes(
        world,
        subscription,
        cancel_at=current_period(subscription)[1],
        cancel_at_period_end=subscription["billing_mode"]["type"] == "classic",
        cancellation_details=details,
    )
    world.change(subscription, UPDATED, **changes)


def resume(world: World, session: Object, subscription_id: str) -> None:
    """Take back a scheduled cancellation.

    Raises:
        InvalidRequest: None is scheduled.
    """
    subscription = _owned(world, session, subscription_id)
    if not (subscription["cancel_at"] or subscription["cancel_at_period_end"]):
        raise InvalidRequest("This subscription is not going to be canceled.")
    details = {"comment": None, "feedback": None}
    changes = subscriptions.cancellation_changes(
        world, subscription, cancel_at=None, cancel_at_period_end=False, cancellation_details=details
    )
    world.change(subscription, UPDATED, **changes)


def replace_card(world: World, session: Object, card: str) -> None:
    """Put another card on file and use it for all of the customer's subscriptions.

    Raises:
        InvalidRequest: The configuration does not allow it.
    """
    _allowed(world, session, "payment_method_update")
    customer = world.get("customer", session["customer"])
    method = cards.attach(world, customer, card)
    cards.set_default(world, customer, method["id"])
    for subscription in subscriptions_of(world, session):
        world.change(subscription, UPDATED, default_payment_method=method["id"])


def _allowed(world: World, session: Object, feature: str) -> Object:
    settings: Object = features_of(world, session)[feature]
    if not settings["enabled"]:
        raise InvalidRequest(f"The portal's configuration does not enable {feature}.")
    return settings


def _owned(world: World, session: Object, subscription_id: str) -> Object:
    for subscription in subscriptions_of(world, session):
        if subscription["id"] == subscription_id:
            return subscription
    raise InvalidRequest(f"No such subscription: '{subscription_id}'", param="subscription")
