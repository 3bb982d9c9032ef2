"""Cursors: positions of a list as opaque, URL-safe text."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.cursors import decode_cursor, encode_cursor
from billing.domain.errors import RequestInvalid

FORM = re.compile(r"[a-z~?>ÿ]+")


@given(st.from_regex(FORM, fullmatch=True))
def test_cursor_is_decoded_to_its_position_and_needs_no_url_encoding(position: str) -> None:
    cursor = encode_cursor(position)
    assert decode_cursor(cursor, FORM) == position
    assert quote(cursor, safe="") == cursor


@given(st.text())
def test_any_other_text_is_rejected(text: str) -> None:
    try:
        position = decode_cursor(text, FORM)
    except RequestInvalid:
        return
    assert encode_cursor(position) == text


def test_rejected_cursor_is_named_in_the_error() -> None:
    with pytest.raises(RequestInvalid, match=r"^cursor: must be the next_cursor of an earlier response$"):
        decode_cursor("YQ=", FORM)


@pytest.mark.parametrize("position", ["", "A", "a\n", "a b", "a#b"])
def test_cursor_of_a_position_of_another_form_is_rejected(position: str) -> None:
    with pytest.raises(RequestInvalid):
        decode_cursor(encode_cursor(position), FORM)
