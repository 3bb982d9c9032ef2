"""Sample events of events/, prepared for one environment: with its secret key, a valid signature and a current time.

A file contains a Lambda event or a Stripe Event object. A Stripe Event object is turned into a webhook delivery.

| file | function |
|---|---|
| `events/<operation>.json` | the operation's |
| `events/<operation>.<source>.json` | the same, invoked by another source |
| `events/stripe/<type>.json` | `stripe_webhook` |
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

EVENTS = ROOT / "events"
WEBHOOK_DELIVERY = EVENTS / "stripe_webhook.json"


def operation_of(path: Path) -> str:
    """Return the operation whose function gets the event of a sample file: its folder in functions/."""
    return path.name.partition(".")[0] if path.parent == EVENTS else "stripe_webhook"


def read_sample(path: Path, *, secret_key: str, webhook_secret: str, now: datetime) -> dict[str, Any]:
    """Return the Lambda event of a sample file, with `{secret_key}` replaced and Stripe events signed."""
    sample: dict[str, Any] = json.loads(path.read_text().replace("{secret_key}", secret_key))
    if sample.get("object") == "event":
        return _signed_delivery(json.loads(WEBHOOK_DELIVERY.read_text()), sample, webhook_secret, now)
    if "stripe-signature" in sample.get("headers", ()):
        return _signed_delivery(sample, json.loads(sample["body"]), webhook_secret, now)
    return sample


def _signed_delivery(
    request: dict[str, Any], stripe_event: Mapping[str, Any], secret: str, now: datetime
) -> dict[str, Any]:
    """Return a webhook request with a new event id, the current time and a valid signature.

    A known id would be a duplicate, and an old signature would be rejected.
    """
    timestamp = int(now.timestamp())
    body = json.dumps({**stripe_event, "id": f"evt_{secrets.token_hex(12)}", "created": timestamp})
    signature = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    headers = {**request["headers"], "stripe-signature": f"t={timestamp},v1={signature}"}
    return {**request, "headers": headers, "body": body, "isBase64Encoded": False}
