"""New Stripe objects, complete with every field that Stripe's current API version shows."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from stripe_simulator import blanks
from stripe_simulator.world import API_VERSION, DAY, Object, World

Period = tuple[int, int]


def list_of(data: Iterable[Object], url: str, *, has_more: bool = False) -> Object:
    """Return a list object."""
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def _new(world: World, object_name: str, created: int, blank: Mapping[str, Any]) -> Object:
    identity = {"id": world.new_id(object_name), "object": object_name, "created": created, "livemode": False}
    return {**identity, **deepcopy(dict(blank))}


def new_customer(world: World, fields: Mapping[str, Any], test_clock: str | None) -> Object:
    """Return a customer without a means of payment."""
    created = world.objects[test_clock]["frozen_time"] if test_clock else world.now()
    own = {"invoice_prefix": world.token(8).upper(), "test_clock": test_clock}
    return {**_new(world, "customer", created, blanks.CUSTOMER), **own, **fields}


def new_payment_method(world: World, customer: Object, last4: str) -> Object:
    """Return a card on file of a customer."""
    owner = {"email": customer["email"], "name": customer["name"], "phone": customer["phone"]}
    own = {
        "billing_details": {"address": dict(blanks.NO_ADDRESS), "tax_id": None, **owner},
        "card": {**deepcopy(dict(blanks.CARD)), "fingerprint": world.token(16), "last4": last4},
        "customer": customer["id"],
    }
    return {**_new(world, "payment_method", world.now(customer), blanks.PAYMENT_METHOD), **own}


def new_product(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an active service."""
    return {**_new(world, "product", world.now(), blanks.PRODUCT), "updated": world.now(), **fields}


def new_price(world: World, fields: Mapping[str, Any]) -> Object:
    """Return a price per unit of a product."""
    own = {
        "type": "recurring" if fields.get("recurring") else "one_time",
        "unit_amount_decimal": str(fields["unit_amount"]),
    }
    return {**_new(world, "price", world.now(), blanks.PRICE), **own, **fields}


def plan_of(price: Object) -> Object:
    """Return the legacy plan that Stripe still shows beside a recurring price."""
    shared = ("id", "active", "created", "currency", "metadata", "nickname", "product")
    return {
        **blanks.PLAN,
        **{name: price[name] for name in shared},
        **price["recurring"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
    }


def new_subscription_item(
    world: World, subscription: Object, price: Object, quantity: int, period: Period, metadata: Mapping[str, str]
) -> Object:
    """Return an item that bills a price for a period (start and end in epoch seconds)."""
    return {
        "id": world.new_id("subscription_item"),
        "object": "subscription_item",
        **deepcopy(dict(blanks.SUBSCRIPTION_ITEM)),
        "created": world.now(subscription),
        "current_period_end": period[1],
        "current_period_start": period[0],
        "metadata": dict(metadata),
        "plan": plan_of(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription["id"],
    }


def new_subscription(world: World, customer: Object, currency: str, fields: Mapping[str, Any]) -> Object:
    """Return a subscription that is still incomplete and has no items."""
    now = world.now(customer)
    subscription = _new(world, "subscription", now, blanks.SUBSCRIPTION)
    own = {
        "billing_cycle_anchor": now,
        "currency": currency,
        "customer": customer["id"],
        "items": list_of([], f"/v1/subscription_items?subscription={subscription['id']}"),
        "start_date": now,
        "test_clock": customer["test_clock"],
    }
    return {**subscription, **own, **fields}


def new_invoice_line(world: World, item: Object, amount: int, period: Period, *, proration: bool) -> Object:
    """Return what an item costs for a period, or what it costs less or more for the rest of one."""
    price = item["price"]
    product = world.objects[price["product"]]["name"]
    remainder = "Remaining time on" if amount >= 0 else "Unused time on"
    details = {
        "invoice_item": None,
        "proration": proration,
        "proration_details": {"credited_items": None},
        "subscription": item["subscription"],
        "subscription_item": item["id"],
    }
    return {
        "id": world.new_id("line_item"),
        **deepcopy(dict(blanks.INVOICE_LINE)),
        "amount": amount,
        "currency": price["currency"],
        "description": f"{remainder} {product}" if proration else f"{item['quantity']} x {product}",
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


def new_invoice(world: World, subscription: Object, customer: Object, reason: str, lines: list[Object]) -> Object:
    """Return a draft invoice over lines; amounts are integers in the currency's smallest unit."""
    now = world.now(subscription)
    invoice = _new(world, "invoice", now, blanks.INVOICE)
    total = sum(line["amount"] for line in lines)
    amount_due = max(0, total + customer["balance"])
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    for line in lines:
        line["invoice"] = invoice["id"]
    copied = {
        f"customer_{name}": customer[name] for name in ("address", "email", "name", "phone", "shipping", "tax_exempt")
    }
    return {
        **invoice,
        **copied,
        "amount_due": amount_due,
        "amount_remaining": amount_due,
        "billing_reason": reason,
        "collection_method": subscription["collection_method"],
        "currency": subscription["currency"],
        "customer": customer["id"],
        "lines": list_of(lines, f"/v1/invoices/{invoice['id']}/lines"),
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


def new_checkout_session(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an open checkout session in subscription mode, with its page's address."""
    session = _new(world, "checkout.session", world.now(), blanks.CHECKOUT_SESSION)
    own = {"expires_at": session["created"] + DAY, "url": f"{world.base_url}/c/pay/{session['id']}"}
    return {**session, **own, **fields}


def new_checkout_line(world: World, price: Object, quantity: int) -> Object:
    """Return one line of a checkout session."""
    amount = price["unit_amount"] * quantity
    return {
        "id": world.new_id("item"),
        **deepcopy(dict(blanks.CHECKOUT_LINE)),
        "amount_subtotal": amount,
        "amount_total": amount,
        "currency": price["currency"],
        "description": world.objects[price["product"]]["name"],
        "price": price,
        "quantity": quantity,
    }


def new_webhook_endpoint(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an enabled webhook endpoint."""
    endpoint = _new(world, "webhook_endpoint", world.now(), blanks.WEBHOOK_ENDPOINT)
    return {**endpoint, "api_version": API_VERSION, **fields}


def new_portal_configuration(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an active portal configuration."""
    configuration = _new(world, "billing_portal.configuration", world.now(), blanks.PORTAL_CONFIGURATION)
    return {**configuration, "updated": world.now(), **fields}


def new_portal_session(world: World, fields: Mapping[str, Any]) -> Object:
    """Return a portal session with its page's address."""
    session = _new(world, "billing_portal.session", world.now(), blanks.PORTAL_SESSION)
    return {**session, "url": f"{world.base_url}/p/session/{session['id']}", **fields}


def new_test_clock(world: World, frozen_time: int, name: str | None) -> Object:
    """Return a clock that stands still until it is advanced."""
    now = world.now()
    own: Object = {"frozen_time": frozen_time, "name": name, "status": "ready", "status_details": {}}
    return {**_new(world, "test_helpers.test_clock", now, {}), "deletes_after": now + 30 * DAY, **own}
