"""Cursors: positions in a list as opaque, URL-safe text."""

import base64
import binascii
import re

from billing.domain.errors import RequestInvalid


def encode_cursor(position: str) -> str:
    """Return a position as the opaque, URL-safe cursor of a response."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, form: re.Pattern[str]) -> str:
    """Return the position that a cursor represents.

    Args:
        cursor: Cursor of a request.
        form: Form of a position in the list.

    Raises:
        RequestInvalid: The cursor is not a result of `encode_cursor` for a position of this form.
    """
    try:
        position = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        position = ""
    if not form.fullmatch(position) or encode_cursor(position) != cursor:
        raise RequestInvalid.at("cursor", "must be the next_cursor of an earlier response")
    return position
