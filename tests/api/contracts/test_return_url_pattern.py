"""Pattern of return URLs in OpenAPI documents, compared with the function that checks return URLs."""

import re

from hypothesis import given
from hypothesis import strategies as st

from billing.api.openapi import return_url_pattern
from billing.domain.errors import RequestInvalid
from billing.domain.return_urls import resolve_return_url
from tests.api.contracts.openapi_support import ORIGINS


def is_accepted(url: str) -> bool:
    """Return True if the function accepts the URL."""
    try:
        resolve_return_url("return_url", url, "/", ORIGINS)
    except RequestInvalid:
        return False
    return True


@given(
    st.one_of(
        st.from_regex(return_url_pattern(ORIGINS).replace("$", r"\Z"), fullmatch=True),
        st.text(alphabet="/:?#.@\\a1[% é", min_size=1, max_size=8),
        st.builds(
            str.__add__,
            st.sampled_from(["//", "///", "a:", "1:", "http:", "https://app.example.com", "https://app-example.com"]),
            st.text(alphabet="/:?#.@\\a1[% ", max_size=4),
        ),
    )
)
def test_return_url_pattern_matches_exactly_the_accepted_urls(url: str) -> None:
    """Origins in upper case are the exception: only the function accepts them."""
    assert bool(re.search(return_url_pattern(ORIGINS), url)) == is_accepted(url)
