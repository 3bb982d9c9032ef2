"""Identifiers that become part of a DynamoDB key."""

import re

# Stripe's ids have at most 255 characters: https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backward-compatible
# `#` separates the parts of a key.
IDENTIFIER = re.compile(r"[!-\"$-~]{1,255}")


def is_id(value: str) -> bool:
    """Return True if `value` may be part of a DynamoDB key: 1 to 255 visible ASCII characters other than `#`."""
    return IDENTIFIER.fullmatch(value) is not None
