"""Identifiers that become part of a DynamoDB key or of a Stripe URL."""

import re

# Stripe's ids have at most 255 characters: https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backward-compatible
# `#` separates the parts of a key. HTTP clients remove the path segments `.` and `..` from a URL.
IDENTIFIER = re.compile(r"(?!\.{1,2}\Z)[!-\"$-~]{1,255}")
STRIPE_ID = re.compile(r"(?!\.+\Z)[A-Za-z0-9_.-]{1,255}")
STRIPE_ROUTE_WORDS = frozenset({"search", "upcoming"})
"""Last segments of Stripe's routes in the place of an id, such as GET /v1/prices/search."""


def is_id(value: str) -> bool:
    """Return True if `value` may be part of a DynamoDB key: 1 to 255 visible ASCII characters other than `#`.

    `.` and `..` are no ids.
    """
    return IDENTIFIER.fullmatch(value) is not None


def is_stripe_id(value: str) -> bool:
    """Return True if `value` has the form of a Stripe id: 1 to 255 letters, digits, `_`, `-` and `.`.

    A word of Stripe's own routes is no id.
    """
    return STRIPE_ID.fullmatch(value) is not None and value not in STRIPE_ROUTE_WORDS
