"""Identifiers that may become part of a key or of a URL."""

import pytest

from billing.domain.identifiers import is_id, is_stripe_id


@pytest.mark.parametrize("value", ["a", "cus_1", "user@example.com", "a/b", ".a", "...", "~" * 255])
def test_id_of_visible_characters_is_accepted(value: str) -> None:
    assert is_id(value)


@pytest.mark.parametrize("value", ["", ".", "..", "a b", "a#b", "a\n", "\r\n", "\x00", "é", "a" * 256])
def test_id_that_changes_a_key_or_a_url_is_rejected(value: str) -> None:
    assert not is_id(value)
    assert not is_stripe_id(value)


@pytest.mark.parametrize("value", ["price_1ABC", "cus_a-b", "gold.v2", ".a", "a" * 255])
def test_stripe_id_is_accepted(value: str) -> None:
    assert is_stripe_id(value)


@pytest.mark.parametrize("value", ["...", "a/b", "a?b", "a%2e", "user@example.com", "a;b", "a\\b"])
def test_stripe_id_with_another_character_is_rejected(value: str) -> None:
    assert not is_stripe_id(value)


@pytest.mark.parametrize("value", ["search", "upcoming"])
def test_stripe_id_that_is_a_word_of_stripes_routes_is_rejected(value: str) -> None:
    """GET /v1/prices/search is another operation than the retrieval of a price."""
    assert not is_stripe_id(value)
    assert is_id(value)
