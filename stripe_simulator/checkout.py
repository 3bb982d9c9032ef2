"""Checkout sessions in subscription mode, and what their page does."""

from collections.abc import Mapping
from typing import Any, Literal

from stripe_simulator import cards, subscriptions
from stripe_simulator.agenda import expire_session
from stripe_simulator.blanks import NO_ADDRESS
from stripe_simulator.errors import CardError, InvalidRequest
from stripe_simulator.items import Line
from stripe_simulator.objects import list_of, new_checkout_line, new_checkout_session, new_customer
from stripe_simulator.world import DAY, Object, World

Payment = Literal["success", "declined", "requires_action"]
DEFAULT_EMAIL = "customer@example.com"
# What a customer may do on the page, and the card given for it; abandoning gives none.
OUTCOMES: Mapping[str, Payment | None] = {
    "pay": "success",
    "decline": "declined",
    "requires_action": "requires_action",
    "abandon": None,
}


def open_session(world: World, lines: list[Line], data: Mapping[str, Any], fields: Object) -> Object:
    """Open a session for a new subscription.

    Args:
        world: The state.
        lines: What it will bill.
        data: Fields of the subscription; ``trial_period_days`` or ``trial_end`` make it a trial.
        fields: Fields of the session.
    """
    items = [new_checkout_line(world, line.price, line.quantity) for line in lines]
    total = sum(item["amount_total"] for item in items)
    due = 0 if data.get("trial_period_days") or data.get("trial_end") else total
    amounts = {"amount_subtotal": due, "amount_total": due, "currency": lines[0].price["currency"]}
    session = new_checkout_session(world, {**amounts, **fields})
    world.hidden[session["id"]].update(lines=lines, items=items, subscription_data=dict(data))
    return world.add(session)


def line_items(world: World, session: Object) -> Object:
    """Return the list of a session's lines."""
    return list_of(world.hidden[session["id"]]["items"], f"/v1/checkout/sessions/{session['id']}/line_items")


def success_url(session: Object) -> str:
    """Return where the page sends a customer who has paid."""
    template: str = session["success_url"]
    return template.replace("{CHECKOUT_SESSION_ID}", session["id"])


def expire(world: World, session: Object) -> Object:
    """Close an open session.

    Raises:
        InvalidRequest: It is complete or expired already.
    """
    if session["status"] != "open":
        raise InvalidRequest(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"`{session['status']}`."
        )
    expire_session(world, session)
    return session


def pay(world: World, session: Object, card: Payment, *, authenticated: bool = False, email: str | None = None) -> None:
    """Do what the page does when the customer confirms with a card.

    Args:
        world: The state.
        session: An open session.
        card: The card given.
        authenticated: The customer has completed 3-D Secure.
        email: What the customer typed, where the session does not know it.

    Raises:
        CardError: The card was declined, or asks for 3-D Secure first; nothing is changed, the page can try again.
        InvalidRequest: The session is not open.
    """
    if session["status"] != "open":
        raise InvalidRequest(f"This Checkout Session is {session['status']}.")
    refused = cards.CARDS[card].refusal
    if refused and not authenticated:
        raise CardError(refused[1], code=refused[0])
    customer = _customer_of(world, session, email)
    method = cards.attach(world, customer, "success" if authenticated else card)
    hidden = world.hidden[session["id"]]
    fields = _subscription_fields(world, customer, hidden["subscription_data"])
    fields["default_payment_method"] = method["id"]
    subscription = subscriptions.start(world, customer, hidden["lines"], pay=True, fields=fields)
    _complete(world, session, customer, subscription)


def _customer_of(world: World, session: Object, email: str | None) -> Object:
    if session["customer"]:
        customer = world.get("customer", session["customer"], "customer")
        if email and not customer["email"]:
            world.change(customer, "customer.updated", email=email)
        return customer
    fields = {"email": session["customer_email"] or email or DEFAULT_EMAIL}
    customer = world.add(new_customer(world, fields, None))
    world.emit("customer.created", customer)
    return customer


def _subscription_fields(world: World, customer: Object, data: Mapping[str, Any]) -> Object:
    fields = dict(data)
    days = fields.pop("trial_period_days", None)
    if days:
        fields["trial_end"] = world.now(customer) + days * DAY
    return fields


def _complete(world: World, session: Object, customer: Object, subscription: Object) -> None:
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
    world.change(
        session,
        customer=customer["id"],
        customer_details=details,
        invoice=subscription["latest_invoice"],
        payment_status="paid" if session["amount_total"] else "no_payment_required",
        status="complete",
        subscription=subscription["id"],
        url=None,
    )
    world.emit("checkout.session.completed", session)
