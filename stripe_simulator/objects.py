"""New Stripe objects, with every field of the current API version."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from stripe_simulator import default_fields
from stripe_simulator.state import API_VERSION, DAY, Object, SimulatorState

Period = tuple[int, int]


def list_object(data: Iterable[Object], url: str, *, has_more: bool = False) -> Object:
    """Return a list object."""
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def _with_defaults(state: SimulatorState, object_name: str, created: int, defaults: Mapping[str, Any]) -> Object:
    identity = {"id": state.new_id(object_name), "object": object_name, "created": created, "livemode": False}
    return {**identity, **deepcopy(dict(defaults))}


def new_customer(state: SimulatorState, fields: Mapping[str, Any], test_clock: str | None) -> Object:
    """Return a customer without a payment method."""
    created = state.objects[test_clock]["frozen_time"] if test_clock else state.now()
    computed = {"invoice_prefix": state.random_string(8).upper(), "test_clock": test_clock}
    return {**_with_defaults(state, "customer", created, default_fields.CUSTOMER), **computed, **fields}


def new_payment_method(state: SimulatorState, customer: Object, last4: str) -> Object:
    """Return a card payment method of a customer."""
    owner = {"email": customer["email"], "name": customer["name"], "phone": customer["phone"]}
    computed = {
        "billing_details": {"address": dict(default_fields.NO_ADDRESS), "tax_id": None, **owner},
        "card": {**deepcopy(dict(default_fields.CARD)), "fingerprint": state.random_string(16), "last4": last4},
        "customer": customer["id"],
    }
    return {**_with_defaults(state, "payment_method", state.now(customer), default_fields.PAYMENT_METHOD), **computed}


def new_product(state: SimulatorState, fields: Mapping[str, Any]) -> Object:
    """Return an active product."""
    return {**_with_defaults(state, "product", state.now(), default_fields.PRODUCT), "updated": state.now(), **fields}


def new_price(state: SimulatorState, fields: Mapping[str, Any]) -> Object:
    """Return a per-unit price of a product."""
    computed = {
        "type": "recurring" if fields.get("recurring") else "one_time",
        "unit_amount_decimal": str(fields["unit_amount"]),
    }
    return {**_with_defaults(state, "price", state.now(), default_fields.PRICE), **computed, **fields}


def legacy_plan(price: Object) -> Object:
    """Return the legacy plan object of a recurring price, which Stripe includes in subscription items."""
    shared = ("id", "active", "created", "currency", "metadata", "nickname", "product")
    return {
        **default_fields.PLAN,
        **{name: price[name] for name in shared},
        **price["recurring"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
    }


def new_subscription_item(
    state: SimulatorState,
    subscription: Object,
    price: Object,
    quantity: int,
    period: Period,
    metadata: Mapping[str, str],
) -> Object:
    """Return an item for a price and a period (start and end in epoch seconds)."""
    return {
        "id": state.new_id("subscription_item"),
        "object": "subscription_item",
        **deepcopy(dict(default_fields.SUBSCRIPTION_ITEM)),
        "created": state.now(subscription),
        "current_period_end": period[1],
        "current_period_start": period[0],
        "metadata": dict(metadata),
        "plan": legacy_plan(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription["id"],
    }


def new_subscription(state: SimulatorState, customer: Object, currency: str, fields: Mapping[str, Any]) -> Object:
    """Return an incomplete subscription without items."""
    now = state.now(customer)
    subscription = _with_defaults(state, "subscription", now, default_fields.SUBSCRIPTION)
    computed = {
        "billing_cycle_anchor": now,
        "currency": currency,
        "customer": customer["id"],
        "items": list_object([], f"/v1/subscription_items?subscription={subscription['id']}"),
        "start_date": now,
        "test_clock": customer["test_clock"],
    }
    return {**subscription, **computed, **fields}


def new_invoice_line(state: SimulatorState, item: Object, amount: int, period: Period, *, proration: bool) -> Object:
    """Return an invoice line of an item: the amount for a period, or a proration for its remainder."""
    price = item["price"]
    product = state.objects[price["product"]]["name"]
    proration_prefix = "Remaining time on" if amount >= 0 else "Unused time on"
    details = {
        "invoice_item": None,
        "proration": proration,
        "proration_details": {"credited_items": None},
        "subscription": item["subscription"],
        "subscription_item": item["id"],
    }
    return {
        "id": state.new_id("line_item"),
        **deepcopy(dict(default_fields.INVOICE_LINE)),
        "amount": amount,
        "currency": price["currency"],
        "description": f"{proration_prefix} {product}" if proration else f"{item['quantity']} x {product}",
        "discountable": not proration,
        "metadata": item["metadata"],
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": details,
            "type": "subscription_item_details",
        },
        "period": {"start": period[0], "end": period[1]},
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": item["quantity"],
        "subtotal": amount,
    }


def new_invoice(
    state: SimulatorState, subscription: Object, customer: Object, reason: str, lines: list[Object]
) -> Object:
    """Return a draft invoice with these lines. Amounts are in the currency's smallest unit."""
    now = state.now(subscription)
    invoice = _with_defaults(state, "invoice", now, default_fields.INVOICE)
    total = sum(line["amount"] for line in lines)
    amount_due = max(0, total + customer["balance"])
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    for line in lines:
        line["invoice"] = invoice["id"]
    customer_fields = {
        f"customer_{name}": customer[name] for name in ("address", "email", "name", "phone", "shipping", "tax_exempt")
    }
    return {
        **invoice,
        **customer_fields,
        "amount_due": amount_due,
        "amount_remaining": amount_due,
        "billing_reason": reason,
        "collection_method": subscription["collection_method"],
        "currency": subscription["currency"],
        "customer": customer["id"],
        "lines": list_object(lines, f"/v1/invoices/{invoice['id']}/lines"),
        "parent": {"quote_details": None, "subscription_details": details, "type": "subscription_details"},
        "period_end": now,
        "period_start": now,
        "starting_balance": customer["balance"],
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": subscription["test_clock"],
        "total": total,
        "total_excluding_tax": total,
    }


def new_checkout_session(state: SimulatorState, fields: Mapping[str, Any]) -> Object:
    """Return an open Checkout Session in subscription mode, with the URL of its page."""
    session = _with_defaults(state, "checkout.session", state.now(), default_fields.CHECKOUT_SESSION)
    computed = {"expires_at": session["created"] + DAY, "url": f"{state.base_url}/c/pay/{session['id']}"}
    return {**session, **computed, **fields}


def new_checkout_line(state: SimulatorState, price: Object, quantity: int) -> Object:
    """Return a line item of a Checkout Session."""
    amount = price["unit_amount"] * quantity
    return {
        "id": state.new_id("item"),
        **deepcopy(dict(default_fields.CHECKOUT_LINE)),
        "amount_subtotal": amount,
        "amount_total": amount,
        "currency": price["currency"],
        "description": state.objects[price["product"]]["name"],
        "price": price,
        "quantity": quantity,
    }


def new_schedule(state: SimulatorState, subscription: Object, phases: list[Object]) -> Object:
    """Return an active schedule of a subscription. Its first phase is the current one."""
    schedule = _with_defaults(
        state, "subscription_schedule", state.now(subscription), default_fields.SUBSCRIPTION_SCHEDULE
    )
    computed = {
        "billing_mode": subscription["billing_mode"],
        "current_phase": {"end_date": phases[0]["end_date"], "start_date": phases[0]["start_date"]},
        "customer": subscription["customer"],
        "phases": phases,
        "status": "active",
        "subscription": subscription["id"],
        "test_clock": subscription["test_clock"],
    }
    return {**schedule, **computed}


def new_schedule_phase(
    currency: str, items: Iterable[tuple[str, int]], start: int, end: int, proration_behavior: str
) -> Object:
    """Return a phase of a schedule.

    Args:
        currency: The subscription's currency.
        items: Price id and quantity of each item.
        start: Start of the phase, in epoch seconds.
        end: End of the phase, in epoch seconds.
        proration_behavior: ``create_prorations``, ``always_invoice`` or ``none``.
    """
    phase_items = [
        {**deepcopy(dict(default_fields.SCHEDULE_ITEM)), "plan": price, "price": price, "quantity": quantity}
        for price, quantity in items
    ]
    return {
        **deepcopy(dict(default_fields.SCHEDULE_PHASE)),
        "currency": currency,
        "end_date": end,
        "items": phase_items,
        "proration_behavior": proration_behavior,
        "start_date": start,
    }


def new_webhook_endpoint(state: SimulatorState, fields: Mapping[str, Any]) -> Object:
    """Return an enabled webhook endpoint."""
    endpoint = _with_defaults(state, "webhook_endpoint", state.now(), default_fields.WEBHOOK_ENDPOINT)
    return {**endpoint, "api_version": API_VERSION, **fields}


def new_portal_configuration(state: SimulatorState, fields: Mapping[str, Any]) -> Object:
    """Return an active portal configuration."""
    configuration = _with_defaults(
        state, "billing_portal.configuration", state.now(), default_fields.PORTAL_CONFIGURATION
    )
    return {**configuration, "updated": state.now(), **fields}


def new_portal_session(state: SimulatorState, fields: Mapping[str, Any]) -> Object:
    """Return a portal session with the URL of its page."""
    session = _with_defaults(state, "billing_portal.session", state.now(), default_fields.PORTAL_SESSION)
    return {**session, "url": f"{state.base_url}/p/session/{session['id']}", **fields}


def new_test_clock(state: SimulatorState, frozen_time: int, name: str | None) -> Object:
    """Return a test clock. Its time changes only when it is advanced."""
    now = state.now()
    computed: Object = {"frozen_time": frozen_time, "name": name, "status": "ready", "status_details": {}}
    return {**_with_defaults(state, "test_helpers.test_clock", now, {}), "deletes_after": now + 30 * DAY, **computed}
