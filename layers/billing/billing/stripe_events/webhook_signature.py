"""Stripe webhook signatures, verified on the raw bytes (https://docs.stripe.com/webhooks#verify-manually)."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

from billing.domain.errors import ConfigurationMissing, SignatureInvalid

TOLERANCE_SECONDS = 300
HEADER_LENGTH_MAX = 4096
TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)


def sign(body: bytes, secret: str, at: datetime) -> str:
    """Return the `Stripe-Signature` header that Stripe would send with `body`."""
    timestamp = str(int(at.timestamp()))
    return f"t={timestamp},v1={_signature(body, secret, timestamp)}"


def verify(body: bytes, header: str | None, secrets: Sequence[str], now: datetime) -> None:
    """Verify the signature of a webhook delivery.

    One valid `v1` signature is enough. The timestamp may differ from `now` by 300 seconds in either direction.

    Args:
        body: Raw body of the request.
        header: `Stripe-Signature` header.
        secrets: Signing secrets, of which any may have signed the body.
        now: Current time.

    Raises:
        SignatureInvalid: The header is missing or malformed, or has no valid signature.
        ConfigurationMissing: No signing secret is configured.
    """
    if not secrets or not all(secrets):
        raise ConfigurationMissing("No webhook secret is configured: run `billing setup`")
    if not header or len(header) > HEADER_LENGTH_MAX:
        raise SignatureInvalid("The Stripe-Signature header is missing or too long")
    parts = [part.strip().partition("=") for part in header.split(",")]
    timestamps = [value for key, _, value in parts if key == "t"]
    signatures = [value.encode(errors="replace") for key, _, value in parts if key == "v1"]
    if len(timestamps) != 1 or not TIMESTAMP.fullmatch(timestamps[0]) or not signatures:
        raise SignatureInvalid("The Stripe-Signature header has no timestamp or no v1 signature")
    if abs(now.timestamp() - int(timestamps[0])) > TOLERANCE_SECONDS:
        raise SignatureInvalid("The timestamp of the Stripe-Signature header is too far from the current time")
    expected = [_signature(body, secret, timestamps[0]).encode() for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in expected for other in signatures):
        raise SignatureInvalid("The Stripe-Signature header does not match the body")


def _signature(body: bytes, secret: str, timestamp: str) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
