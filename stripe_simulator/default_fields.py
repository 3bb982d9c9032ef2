"""Default field values of new objects, by type, in the current API version."""

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]

NO_TAX: Fields = {"disabled_reason": None, "enabled": False, "liability": None}
NO_AUTOMATIC_TAX: Fields = {"enabled": False, "liability": None, "provider": None, "status": None}
NO_ADDRESS: Fields = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}

CUSTOMER: Fields = {
    "address": None,
    "balance": 0,
    "currency": None,
    "customer_account": None,
    "default_source": None,
    "delinquent": False,
    "description": None,
    "discount": None,
    "email": None,
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
}

CARD: Fields = {
    "brand": "visa",
    "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
    "country": "US",
    "display_brand": "visa",
    "exp_month": 12,
    "exp_year": 2040,
    "funding": "credit",
    "generated_from": None,
    "networks": {"available": ["visa"], "preferred": None},
    "three_d_secure_usage": {"supported": True},
    "wallet": None,
}

PAYMENT_METHOD: Fields = {"allow_redisplay": "limited", "customer_account": None, "metadata": {}, "type": "card"}

PRODUCT: Fields = {
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
    "url": None,
}

PRICE: Fields = {
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
}

PLAN: Fields = {
    "billing_scheme": "per_unit",
    "livemode": False,
    "object": "plan",
    "tiers_mode": None,
    "transform_usage": None,
}

SUBSCRIPTION_ITEM: Fields = {"billing_thresholds": None, "discounts": [], "tax_rates": []}

SUBSCRIPTION: Fields = {
    "application": None,
    "application_fee_percent": None,
    "automatic_tax": NO_TAX,
    "billing_cycle_anchor_config": None,
    "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
    "billing_schedules": [],
    "billing_thresholds": None,
    "cancel_at": None,
    "cancel_at_period_end": False,
    "canceled_at": None,
    "cancellation_details": {"comment": None, "feedback": None, "reason": None},
    "collection_method": "charge_automatically",
    "customer_account": None,
    "days_until_due": None,
    "default_payment_method": None,
    "default_source": None,
    "default_tax_rates": [],
    "description": None,
    "discounts": [],
    "ended_at": None,
    "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
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
    "status": "incomplete",
    "transfer_data": None,
    "trial_end": None,
    "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    "trial_start": None,
}

SUBSCRIPTION_SCHEDULE: Fields = {
    "application": None,
    "canceled_at": None,
    "completed_at": None,
    "customer_account": None,
    "default_settings": {
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": "automatic",
        "billing_thresholds": None,
        "collection_method": "charge_automatically",
        "default_payment_method": None,
        "description": None,
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "days_until_due": None,
            "description": None,
            "footer": None,
            "issuer": {"type": "self"},
        },
        "on_behalf_of": None,
        "transfer_data": None,
    },
    "end_behavior": "release",
    "metadata": {},
    "pause_schedules": [],
    "released_at": None,
    "released_subscription": None,
}

SCHEDULE_ITEM: Fields = {"billing_thresholds": None, "discounts": [], "metadata": {}, "tax_rates": []}

SCHEDULE_PHASE: Fields = {
    "add_invoice_items": [],
    "application_fee_percent": None,
    "billing_cycle_anchor": None,
    "billing_thresholds": None,
    "collection_method": None,
    "default_payment_method": None,
    "default_tax_rates": [],
    "description": None,
    "discounts": [],
    "invoice_settings": None,
    "metadata": {},
    "on_behalf_of": None,
    "transfer_data": None,
    "trial_end": None,
}

INVOICE_LINE: Fields = {
    "discount_amounts": [],
    "discounts": [],
    "invoice": None,
    "livemode": False,
    "object": "line_item",
    "pretax_credit_amounts": [],
    "taxes": [],
}

INVOICE: Fields = {
    "account_country": "US",
    "account_name": "Stripe simulator",
    "account_tax_ids": None,
    "amount_overpaid": 0,
    "amount_paid": 0,
    "amount_paid_off_stripe": 0,
    "amount_shipping": 0,
    "application": None,
    "attempt_count": 0,
    "attempted": False,
    "auto_advance": True,
    "automatic_tax": {**NO_AUTOMATIC_TAX, "disabled_reason": None},
    "automatically_finalizes_at": None,
    "custom_fields": None,
    "customer_account": None,
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
    "metadata": {},
    "next_payment_attempt": None,
    "number": None,
    "on_behalf_of": None,
    "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
    "post_payment_credit_notes_amount": 0,
    "pre_payment_credit_notes_amount": 0,
    "receipt_number": None,
    "rendering": None,
    "shipping_cost": None,
    "shipping_details": None,
    "statement_descriptor": None,
    "status": "draft",
    "status_transitions": {
        "finalized_at": None,
        "marked_uncollectible_at": None,
        "paid_at": None,
        "voided_at": None,
    },
    "total_discount_amounts": [],
    "total_pretax_credit_amounts": [],
    "total_taxes": [],
    "webhooks_delivered_at": None,
}

CHECKOUT_SESSION: Fields = {
    "adaptive_pricing": {"enabled": False},
    "after_expiration": None,
    "allow_promotion_codes": None,
    "automatic_tax": NO_AUTOMATIC_TAX,
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
    "wallet_options": None,
}

CHECKOUT_LINE: Fields = {
    "adjustable_quantity": None,
    "amount_discount": 0,
    "amount_tax": 0,
    "metadata": {},
    "object": "item",
}

WEBHOOK_ENDPOINT: Fields = {"application": None, "description": None, "metadata": {}, "status": "enabled"}

PORTAL_CONFIGURATION: Fields = {
    "active": True,
    "application": None,
    "default_return_url": None,
    "is_default": False,
    "metadata": {},
    "name": None,
}

PORTAL_SESSION: Fields = {
    "customer_account": None,
    "flow": None,
    "locale": None,
    "on_behalf_of": None,
    "return_url": None,
}
