"""New Stripe objects, complete with every field that Stripe's current API version shows."""

from collections.abc import Iterable, Mapping
from typing import Any

from local.stripe_simulator.world import API_VERSION, Object, World

NO_TAX = {"disabled_reason": None, "enabled": False, "liability": None}
NO_SESSION_TAX = {"enabled": False, "liability": None, "provider": None, "status": None}
NO_ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
CHECKOUT_HOURS = 24

Period = tuple[int, int]


def list_of(data: Iterable[Object], url: str, *, has_more: bool = False) -> Object:
    """Return a list object."""
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def _new(world: World, object_name: str, created: int, fields: Mapping[str, Any]) -> Object:
    identity = {"id": world.new_id(object_name), "object": object_name, "created": created, "livemode": False}
    return {**identity, **fields}


def new_customer(world: World, fields: Mapping[str, Any], test_clock: str | None) -> Object:
    """Return a customer without a means of payment."""
    blank = {
        "address": None,
        "balance": 0,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": world.token(8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": test_clock,
    }
    created = world.objects[test_clock]["frozen_time"] if test_clock else world.now()
    return _new(world, "customer", created, {**blank, **fields})


def new_payment_method(world: World, customer: Object, last4: str) -> Object:
    """Return a card on file of a customer."""
    card = {
        "brand": "visa",
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": "visa",
        "exp_month": 12,
        "exp_year": 2040,
        "fingerprint": world.token(16),
        "funding": "credit",
        "generated_from": None,
        "last4": last4,
        "networks": {"available": ["visa"], "preferred": None},
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
    owner = {"email": customer["email"], "name": customer["name"], "phone": customer["phone"]}
    fields = {
        "allow_redisplay": "limited",
        "billing_details": {"address": NO_ADDRESS, "tax_id": None, **owner},
        "card": card,
        "customer": customer["id"],
        "customer_account": None,
        "metadata": {},
        "type": "card",
    }
    return _new(world, "payment_method", world.now(customer), fields)


def new_product(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an active service."""
    blank = {
        "active": True,
        "default_price": None,
        "description": None,
        "images": [],
        "marketing_features": [],
        "metadata": {},
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": world.now(),
        "url": None,
    }
    return _new(world, "product", world.now(), {**blank, **fields})


def new_price(world: World, fields: Mapping[str, Any]) -> Object:
    """Return a price per unit of a product."""
    blank = {
        "active": True,
        "billing_scheme": "per_unit",
        "custom_unit_amount": None,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "recurring": None,
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if fields.get("recurring") else "one_time",
        "unit_amount_decimal": str(fields["unit_amount"]),
    }
    return _new(world, "price", world.now(), {**blank, **fields})


def plan_of(price: Object) -> Object:
    """Return the legacy plan that Stripe still shows beside a recurring price."""
    recurring = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"],
    }


def new_subscription_item(
    world: World, subscription: Object, price: Object, quantity: int, period: Period, metadata: Mapping[str, str]
) -> Object:
    """Return an item that bills a price for a period (start and end in epoch seconds)."""
    return {
        "id": world.new_id("subscription_item"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": world.now(subscription),
        "current_period_end": period[1],
        "current_period_start": period[0],
        "discounts": [],
        "metadata": dict(metadata),
        "plan": plan_of(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription["id"],
        "tax_rates": [],
    }


def new_subscription(world: World, customer: Object, currency: str, fields: Mapping[str, Any]) -> Object:
    """Return a subscription that is still incomplete and has no items."""
    now = world.now(customer)
    identity = _new(world, "subscription", now, {})
    blank = {
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": NO_TAX,
        "billing_cycle_anchor": now,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "currency": currency,
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": list_of([], f"/v1/subscription_items?subscription={identity['id']}"),
        "latest_invoice": None,
        "metadata": {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "status": "incomplete",
        "test_clock": customer["test_clock"],
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
    }
    return {**identity, **blank, **fields}


def new_invoice_line(world: World, item: Object, amount: int, period: Period, *, proration: bool) -> Object:
    """Return what an item costs for a period, or what it costs less or more for the rest of one."""
    price = item["price"]
    product = world.objects[price["product"]]
    what = "Remaining time on" if amount >= 0 else "Unused time on"
    return {
        "id": world.new_id("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": f"{what if proration else str(item['quantity']) + ' x'} {product['name']}",
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": item["metadata"],
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "proration_details": {"credited_items": None},
                "subscription": item["subscription"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": item["quantity"],
        "subtotal": amount,
        "taxes": [],
    }


def new_invoice(world: World, subscription: Object, customer: Object, reason: str, lines: list[Object]) -> Object:
    """Return a draft invoice over lines; amounts are integers in the currency's smallest unit."""
    now = world.now(subscription)
    total = sum(line["amount"] for line in lines)
    amount_due = max(0, total + customer["balance"])
    identity = _new(world, "invoice", now, {})
    parent = {
        "quote_details": None,
        "subscription_details": {"metadata": subscription["metadata"], "subscription": subscription["id"]},
        "type": "subscription_details",
    }
    for line in lines:
        line["invoice"] = identity["id"]
    return {
        **identity,
        "account_country": "US",
        "account_name": "Stripe simulator",
        "account_tax_ids": None,
        "amount_due": amount_due,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": amount_due,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {**NO_SESSION_TAX, "disabled_reason": None},
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": subscription["collection_method"],
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": list_of(lines, f"/v1/invoices/{identity['id']}/lines"),
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": parent,
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": now,
        "period_start": now,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": customer["balance"],
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": subscription["test_clock"],
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }


def new_checkout_session(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an open checkout session in subscription mode, with its page's address."""
    identity = _new(world, "checkout.session", world.now(), {})
    blank = {
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "automatic_tax": NO_SESSION_TAX,
        "billing_address_collection": None,
        "cancel_url": None,
        "client_reference_id": None,
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": None,
        "customer_account": None,
        "customer_creation": None,
        "customer_details": None,
        "customer_email": None,
        "discounts": [],
        "expires_at": identity["created"] + CHECKOUT_HOURS * 3600,
        "invoice": None,
        "invoice_creation": None,
        "locale": None,
        "metadata": {},
        "mode": "subscription",
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "always",
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": None,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{world.base_url}/c/pay/{identity['id']}",
        "wallet_options": None,
    }
    return {**identity, **blank, **fields}


def new_checkout_line(world: World, price: Object, quantity: int) -> Object:
    """Return one line of a checkout session."""
    amount = price["unit_amount"] * quantity
    return {
        "id": world.new_id("item"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": world.objects[price["product"]]["name"],
        "metadata": {},
        "price": price,
        "quantity": quantity,
    }


def new_webhook_endpoint(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an enabled webhook endpoint."""
    blank = {"api_version": API_VERSION, "application": None, "description": None, "metadata": {}, "status": "enabled"}
    return _new(world, "webhook_endpoint", world.now(), {**blank, **fields})


def new_portal_configuration(world: World, fields: Mapping[str, Any]) -> Object:
    """Return an active portal configuration."""
    blank = {
        "active": True,
        "application": None,
        "default_return_url": None,
        "is_default": False,
        "metadata": {},
        "name": None,
        "updated": world.now(),
    }
    return _new(world, "billing_portal.configuration", world.now(), {**blank, **fields})


def new_portal_session(world: World, fields: Mapping[str, Any]) -> Object:
    """Return a portal session with its page's address."""
    identity = _new(world, "billing_portal.session", world.now(), {})
    blank = {
        "customer_account": None,
        "flow": None,
        "locale": None,
        "on_behalf_of": None,
        "return_url": None,
        "url": f"{world.base_url}/p/session/{identity['id']}",
    }
    return {**identity, **blank, **fields}


def new_test_clock(world: World, frozen_time: int, name: str | None) -> Object:
    """Return a clock that stands still until it is advanced."""
    fields = {
        "deletes_after": world.now() + 30 * 86_400,
        "frozen_time": frozen_time,
        "name": name,
        "status": "ready",
        "status_details": {},
    }
    return _new(world, "test_helpers.test_clock", world.now(), fields)
