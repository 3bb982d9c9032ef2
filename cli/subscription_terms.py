"""Terms of a subscription, as `billing accounts show` and `billing events show` print them."""

from collections.abc import Mapping
from typing import Any

from billing.domain.subscriptions import Subscription
from billing.domain.timestamps import iso


def subscription_terms(subscription: Subscription) -> Mapping[str, Any]:
    """Return price, quantity, trial, end and pause of a subscription."""
    return {
        "price_id": subscription.price_id,
        "unit_amount": subscription.unit_amount,
        "currency": subscription.currency,
        "interval": subscription.interval,
        "interval_count": subscription.interval_count,
        "quantity": subscription.quantity,
        "trial_end": iso(subscription.trial_end),
        "cancel_at": iso(subscription.cancel_at),
        "pause_collection": subscription.pause_collection,
        "pause_resumes_at": iso(subscription.pause_resumes_at),
    }
