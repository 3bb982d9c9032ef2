"""Cards and what the bank says about them."""

from collections.abc import Mapping
from dataclasses import dataclass

from stripe_simulator.errors import CardError, InvalidRequest
from stripe_simulator.objects import new_payment_method
from stripe_simulator.world import Object, World


@dataclass(frozen=True, slots=True)
class Card:
    """A test card: its last digits, and the error of a payment without its owner present (None: it is paid)."""

    last4: str
    refusal: tuple[str, str] | None = None


DECLINED = ("card_declined", "Your card was declined.")
UNAUTHENTICATED = (
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)
CARDS: Mapping[str, Card] = {
    "success": Card("4242"),
    "declined": Card("0341", DECLINED),
    "requires_action": Card("3184", UNAUTHENTICATED),
}
TEST_TOKENS = {
    "pm_card_visa": "success",
    "pm_card_mastercard": "success",
    "pm_card_chargeCustomerFail": "declined",
    "pm_card_authenticationRequired": "requires_action",
}


def attach(world: World, customer: Object, card: str) -> Object:
    """Put a card on file for a customer and return the payment method."""
    method = world.add(new_payment_method(world, customer, CARDS[card].last4))
    world.hidden[method["id"]]["card"] = card
    world.emit("payment_method.attached", method)
    return method


def attach_token(world: World, customer: Object, identifier: str, param: str) -> Object:
    """Return the customer's payment method with this id, or attach what one of Stripe's test tokens stands for.

    Raises:
        NoSuchObject: Neither a payment method nor a test token.
        InvalidRequest: It belongs to another customer.
    """
    if identifier in TEST_TOKENS:
        return attach(world, customer, TEST_TOKENS[identifier])
    method = world.get("payment_method", identifier, param)
    if method["customer"] != customer["id"]:
        raise InvalidRequest(
            f"The customer does not have a payment method with the ID {identifier}. The payment method must be "
            "attached to the customer.",
            code="resource_missing",
            param=param,
        )
    return method


def set_default(world: World, customer: Object, method_id: str | None) -> None:
    """Make a payment method the one that the customer's invoices are charged to."""
    settings = {**customer["invoice_settings"], "default_payment_method": method_id}
    world.change(customer, "customer.updated", invoice_settings=settings)


def behave(world: World, customer: Object, card: str) -> None:
    """Let the customer's card behave as another from now on: the bank changes its mind, Stripe's objects do not.

    A customer without a card gets one.
    """
    methods = [method for method in world.all("payment_method") if method["customer"] == customer["id"]]
    if not methods:
        methods = [attach(world, customer, card)]
        set_default(world, customer, methods[0]["id"])
    for method in methods:
        world.hidden[method["id"]]["card"] = card


def payment_method_of(world: World, subscription: Object) -> str | None:
    """Return the id of the payment method that a subscription's invoices are charged to."""
    customer = world.objects[subscription["customer"]]
    method: str | None = (
        subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    )
    return method


def refusal(world: World, method_id: str | None) -> CardError | None:
    """Return what the bank answers to a charge without the owner present, None where it pays."""
    if method_id is None:
        return CardError("There is no payment method to charge.", code="payment_intent_payment_attempt_failed")
    refused = CARDS[world.hidden[method_id]["card"]].refusal
    if refused is None:
        return None
    code, message = refused
    return CardError(message, code=code, details={"decline_code": "generic_decline"} if refused is DECLINED else {})
