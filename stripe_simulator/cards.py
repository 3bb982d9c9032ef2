"""Test cards and the result of charging them."""

from collections.abc import Mapping
from dataclasses import dataclass

from stripe_simulator.errors import CardError, InvalidRequest
from stripe_simulator.objects import new_payment_method
from stripe_simulator.state import Object, SimulatorState


@dataclass(frozen=True, slots=True)
class Card:
    """A test card.

    Attributes:
        last4: The last four digits.
        error: Code and message of an off-session payment's error. None if the payment succeeds.
    """

    last4: str
    error: tuple[str, str] | None = None


DECLINED = ("card_declined", "Your card was declined.")
AUTHENTICATION_REQUIRED = (
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)
CARDS: Mapping[str, Card] = {
    "success": Card("4242"),
    "declined": Card("0341", DECLINED),
    "requires_action": Card("3184", AUTHENTICATION_REQUIRED),
}
TEST_TOKENS = {
    "pm_card_visa": "success",
    "pm_card_mastercard": "success",
    "pm_card_chargeCustomerFail": "declined",
    "pm_card_authenticationRequired": "requires_action",
}


def attach(state: SimulatorState, customer: Object, card: str) -> Object:
    """Attach a card to a customer and return the payment method."""
    method = state.add(new_payment_method(state, customer, CARDS[card].last4))
    state.private[method["id"]]["card"] = card
    state.emit("payment_method.attached", method)
    return method


def attach_token(state: SimulatorState, customer: Object, identifier: str, param: str) -> Object:
    """Return a customer's payment method by id, or attach the card of one of Stripe's test tokens.

    Raises:
        NoSuchObject: The id is neither a payment method nor a test token.
        InvalidRequest: The payment method belongs to another customer.
    """
    if identifier in TEST_TOKENS:
        return attach(state, customer, TEST_TOKENS[identifier])
    method = state.get("payment_method", identifier, param)
    if method["customer"] != customer["id"]:
        raise InvalidRequest(
            f"The customer does not have a payment method with the ID {identifier}. The payment method must be "
            "attached to the customer.",
            code="resource_missing",
            param=param,
        )
    return method


def set_default(state: SimulatorState, customer: Object, method_id: str | None) -> None:
    """Set the customer's default payment method for invoices."""
    settings = {**customer["invoice_settings"], "default_payment_method": method_id}
    state.update(customer, "customer.updated", invoice_settings=settings)


def set_outcome(state: SimulatorState, customer: Object, card: str) -> None:
    """Set the result of all further charges to the customer's cards. The payment method objects do not change.

    A customer without a card gets one as the default payment method.
    """
    methods = [method for method in state.all("payment_method") if method["customer"] == customer["id"]]
    if not methods:
        methods = [attach(state, customer, card)]
        set_default(state, customer, methods[0]["id"])
    for method in methods:
        state.private[method["id"]]["card"] = card


def payment_method_of(state: SimulatorState, subscription: Object) -> str | None:
    """Return the id of the payment method for a subscription's invoices, or None."""
    customer = state.objects[subscription["customer"]]
    method: str | None = (
        subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    )
    return method


def decline_error(state: SimulatorState, method_id: str | None) -> CardError | None:
    """Return the error of an off-session charge to a payment method, or None if the charge succeeds."""
    if method_id is None:
        return CardError("There is no payment method to charge.", code="payment_intent_payment_attempt_failed")
    error = CARDS[state.private[method_id]["card"]].error
    if error is None:
        return None
    code, message = error
    return CardError(message, code=code, details={"decline_code": "generic_decline"} if error is DECLINED else {})
