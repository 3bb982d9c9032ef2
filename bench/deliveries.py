"""Lambda events of API Gateway: Stripe's deliveries of the common path, and requests of API clients."""

import base64
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

from billing.domain.deployment import Deployment
from billing.stripe_events.webhook_signature import sign
from local.stack import ROOT

WEBHOOK_SECRET = "whsec_bench"  # noqa: S105 - used with the local emulator only
SESSION_SECRET = "signs session tokens of the bench"  # noqa: S105 - the same
SESSION_ISSUER = "https://id.example.com"
DEPLOYMENT = Deployment("bench", livemode=False)

type LambdaEvent = dict[str, Any]

_EVENTS = ROOT / "events"
_REQUEST: LambdaEvent = json.loads((_EVENTS / "stripe_webhook.json").read_text())
_STRIPE_EVENT: str = (_EVENTS / "stripe/customer.subscription.updated.json").read_text()
_SECONDS_APART = 10
_EVENTS_OF_A_SUBSCRIPTION = 30
# With this start, no event of a subscription is in the future, and none is too old during a measurement of 5 minutes.
_STARTED = int(time.time()) - 300


def subscription_updated(account_id: str, number: int) -> LambdaEvent:
    """Return a customer.subscription.updated delivery, signed now.

    Thirty consecutive numbers belong to one subscription. Each event changes it, and is so much later than the previous
    one that its snapshot is applied. From number 1 on, the account has a customer: the common path.
    """
    subscription, change = divmod(number, _EVENTS_OF_A_SUBSCRIPTION)
    event = json.loads(_STRIPE_EVENT)
    event |= {"id": f"evt_{account_id}_{number}", "created": _STARTED + change * _SECONDS_APART}
    event["data"]["object"] |= {
        "id": f"sub_{subscription}{account_id}",
        "customer": f"cus_{account_id}",
        "metadata": {"account_id": account_id, "billing_deployment": DEPLOYMENT.id},
        "cancel_at_period_end": number % 2 == 1,
    }
    body = json.dumps(event)
    signature = sign(body.encode(), WEBHOOK_SECRET, datetime.now(UTC))
    return _REQUEST | {"headers": _REQUEST["headers"] | {"stripe-signature": signature}, "body": body}


def status_request(credential: str) -> LambdaEvent:
    """Return GET /v1/billing with a secret key or a session token."""
    return _request("subscription", credential)


def consume_request(secret_key: str, number: int) -> LambdaEvent:
    """Return POST /v1/billing/usage that consumes one API call. `number` is part of the measurement's id."""
    request = _request("record_usage", secret_key)
    body = json.loads(request["body"])
    body["measurements"][0]["id"] = f"bench-{number}"
    return request | {"body": json.dumps(body)}


def _request(sample: str, credential: str) -> LambdaEvent:
    request: LambdaEvent = json.loads((_EVENTS / f"{sample}.json").read_text().replace("{secret_key}", credential))
    return request


def session_token(account_id: str) -> str:
    """Return a session token (HS256) of a user of the account, valid for a day."""
    claims = {"iss": SESSION_ISSUER, "sub": "user_1", "account_id": account_id, "exp": int(time.time()) + 86_400}
    message = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    return f"{message}.{_encoded(hmac.digest(SESSION_SECRET.encode(), message.encode(), 'sha256'))}"


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
