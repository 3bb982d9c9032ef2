"""Requests as API Gateway hands them to functions: Stripe's deliveries of the common path, and the status request."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from billing.webhook_signature import sign
from local.stack import ROOT

WEBHOOK_SECRET = "whsec_bench"  # noqa: S105 - signs for this machine's own emulator only

type LambdaEvent = dict[str, Any]

_EVENTS = ROOT / "events"
_REQUEST: LambdaEvent = json.loads((_EVENTS / "stripe_webhook.json").read_text())
_STRIPE_EVENT: str = (_EVENTS / "stripe/customer.subscription.updated.json").read_text()
_SECONDS_APART = 10
_EVENTS_OF_A_SUBSCRIPTION = 60
# So that all events of a subscription are neither old nor of the future while they are measured.
_STARTED = int(time.time()) - 300


def subscription_updated(account_id: str, number: int) -> LambdaEvent:
    """The account's `number`th customer.subscription.updated, signed now; sixty in a row name one subscription.

    Each has news, and is so much later by Stripe's clock than the one before that its snapshot is applied as it is:
    for an account with a customer, `number` > 0, that is the common path.
    """
    subscription, change = divmod(number, _EVENTS_OF_A_SUBSCRIPTION)
    event = json.loads(_STRIPE_EVENT)
    event |= {"id": f"evt_{account_id}_{number}", "created": _STARTED + change * _SECONDS_APART}
    event["data"]["object"] |= {
        "id": f"sub_{subscription}{account_id}",
        "customer": f"cus_{account_id}",
        "metadata": {"account_id": account_id},
        "cancel_at_period_end": number % 2 == 1,
    }
    body = json.dumps(event)
    signature = sign(body.encode(), WEBHOOK_SECRET, datetime.now(UTC))
    return _REQUEST | {"headers": _REQUEST["headers"] | {"stripe-signature": signature}, "body": body}


def status_request(secret_key: str) -> LambdaEvent:
    """GET /v1/billing with a secret key."""
    request: LambdaEvent = json.loads((_EVENTS / "subscription.json").read_text().replace("{secret_key}", secret_key))
    return request
