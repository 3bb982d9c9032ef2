"""The sample events under events/, made acceptable to one running world: its key, its secret, the present time.

A file holds either what API Gateway or a queue hands to a function, or a Stripe Event object, which is sent as Stripe
would.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from local.stack import ROOT

WEBHOOK_DELIVERY = ROOT / "events/stripe_webhook.json"


def read_sample(path: Path, *, secret_key: str, webhook_secret: str, now: datetime) -> dict[str, Any]:
    """The event of a sample file, `{secret_key}` filled in and Stripe's events signed."""
    sample: dict[str, Any] = json.loads(path.read_text().replace("{secret_key}", secret_key))
    if sample.get("object") == "event":
        return _delivery(json.loads(WEBHOOK_DELIVERY.read_text()), sample, webhook_secret, now)
    if "stripe-signature" in sample.get("headers", ()):
        return _delivery(sample, json.loads(sample["body"]), webhook_secret, now)
    return sample


def _delivery(request: dict[str, Any], stripe_event: Mapping[str, Any], secret: str, now: datetime) -> dict[str, Any]:
    """A request that delivers the event as one that happens now: under an old id or signature it would be refused."""
    timestamp = int(now.timestamp())
    body = json.dumps({**stripe_event, "id": f"evt_{secrets.token_hex(12)}", "created": timestamp})
    signature = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    headers = {**request["headers"], "stripe-signature": f"t={timestamp},v1={signature}"}
    return {**request, "headers": headers, "body": body, "isBase64Encoded": False}
