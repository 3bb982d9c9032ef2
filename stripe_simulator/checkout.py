"""Checkout Sessions in subscription mode and the actions of their hosted page."""

from collections.abc import Mapping
from typing import Any, Literal

from stripe_simulator import cards, subscriptions
from stripe_simulator.default_fields import NO_ADDRESS
from stripe_simulator.errors import CardError, InvalidRequest
from stripe_simulator.items import ItemSpec
from stripe_simulator.objects import list_object, new_checkout_line, new_checkout_session, new_customer
from stripe_simulator.scheduler import expire_session
from stripe_simulator.state import DAY, Object, SimulatorState

CardName = Literal["success", "declined", "requires_action"]
DEFAULT_EMAIL = "customer@example.com"
# Card that the customer enters, by outcome of the page; None if the customer leaves.
CARD_BY_OUTCOME: Mapping[str, CardName | None] = {
    "pay": "success",
    "decline": "declined",
    "requires_action": "requires_action",
    "abandon": None,
}


def open_session(state: SimulatorState, specs: list[ItemSpec], data: Mapping[str, Any], fields: Object) -> Object:
    """Create a session for a new subscription.

    Args:
        state: The simulator's state.
        specs: Items of the subscription.
        data: Fields of the subscription. With ``trial_period_days`` or ``trial_end`` it starts as a trial.
        fields: Fields of the session.
    """
    line_items = [new_checkout_line(state, spec.price, spec.quantity) for spec in specs]
    total = sum(item["amount_total"] for item in line_items)
    due = 0 if data.get("trial_period_days") or data.get("trial_end") else total
    amounts = {"amount_subtotal": due, "amount_total": due, "currency": specs[0].price["currency"]}
    session = new_checkout_session(state, {**amounts, **fields})
    state.private[session["id"]].update(specs=specs, line_items=line_items, subscription_data=dict(data))
    return state.add(session)


def list_line_items(state: SimulatorState, session: Object) -> Object:
    """Return a list object with a session's line items."""
    return list_object(state.private[session["id"]]["line_items"], f"/v1/checkout/sessions/{session['id']}/line_items")


def success_url(session: Object) -> str:
    """Return the URL to redirect the customer to after the payment."""
    template: str = session["success_url"]
    return template.replace("{CHECKOUT_SESSION_ID}", session["id"])


def expire(state: SimulatorState, session: Object) -> Object:
    """Expire an open session.

    Raises:
        InvalidRequest: The session is complete or expired.
    """
    if session["status"] != "open":
        raise InvalidRequest(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"`{session['status']}`."
        )
    expire_session(state, session)
    return session


def pay(
    state: SimulatorState, session: Object, card: CardName, *, authenticated: bool = False, email: str | None = None
) -> None:
    """Complete a session with a card, as the customer does on the page.

    Args:
        state: The simulator's state.
        session: An open session.
        card: The card that the customer enters.
        authenticated: True if the customer has completed 3-D Secure.
        email: The e-mail address that the customer enters, if neither the session nor the customer has one.

    Raises:
        CardError: The card is declined or requires 3-D Secure. Nothing changes, and the customer can try again.
        InvalidRequest: The session is not open, or the customer has a current subscription in another currency.
    """
    if session["status"] != "open":
        raise InvalidRequest(f"This Checkout Session is {session['status']}.")
    if session["customer"]:
        subscriptions.require_currency(
            state, state.get("customer", session["customer"], "customer"), session["currency"]
        )
    error = cards.CARDS[card].error
    if error and not authenticated:
        raise CardError(error[1], code=error[0])
    customer = _get_or_create_customer(state, session, email)
    method = cards.attach(state, customer, "success" if authenticated else card)
    private = state.private[session["id"]]
    fields = _subscription_fields(state, customer, private["subscription_data"])
    fields["default_payment_method"] = method["id"]
    subscription = subscriptions.start(state, customer, private["specs"], pay=True, fields=fields)
    _complete(state, session, customer, subscription)


def _get_or_create_customer(state: SimulatorState, session: Object, email: str | None) -> Object:
    if session["customer"]:
        customer = state.get("customer", session["customer"], "customer")
        if email and not customer["email"]:
            state.update(customer, "customer.updated", email=email)
        return customer
    fields = {"email": session["customer_email"] or email or DEFAULT_EMAIL}
    customer = state.add(new_customer(state, fields, None))
    state.emit("customer.created", customer)
    return customer


def _subscription_fields(state: SimulatorState, customer: Object, data: Mapping[str, Any]) -> Object:
    fields = dict(data)
    days = fields.pop("trial_period_days", None)
    if days:
        fields["trial_end"] = state.now(customer) + days * DAY
    return fields


def _complete(state: SimulatorState, session: Object, customer: Object, subscription: Object) -> None:
    details = {
        "address": dict(NO_ADDRESS),
        "business_name": None,
        "email": customer["email"],
        "individual_name": None,
        "name": customer["name"],
        "phone": customer["phone"],
        "tax_exempt": customer["tax_exempt"],
        "tax_ids": [],
    }
    state.update(
        session,
        customer=customer["id"],
        customer_details=details,
        invoice=subscription["latest_invoice"],
        payment_status="paid" if session["amount_total"] else "no_payment_required",
        status="complete",
        subscription=subscription["id"],
        url=None,
    )
    state.emit("checkout.session.completed", session)
