"""Return URLs stay on the allowed origins."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.errors import RequestInvalid
from billing.domain.return_urls import resolve_return_url

ORIGINS = ("http://localhost:3000", "https://app.example.com")


def resolve(url: str | None) -> str:
    return resolve_return_url("success_url", url, "/done", ORIGINS)


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        (None, "http://localhost:3000/done"),
        ("/pricing?canceled=true", "http://localhost:3000/pricing?canceled=true"),
        ("done", "http://localhost:3000/done"),
        ("https://app.example.com", "https://app.example.com"),
        (
            "https://app.example.com/a?session={CHECKOUT_SESSION_ID}",
            "https://app.example.com/a?session={CHECKOUT_SESSION_ID}",
        ),
        ("HTTPS://APP.example.com/a", "HTTPS://APP.example.com/a"),
    ],
)
def test_url_on_allowed_origin_becomes_absolute(url: str | None, resolved: str) -> None:
    assert resolve(url).lower() == resolved.lower()


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "http://app.example.com/",
        "https://app.example.com:8443/",
        "https://app.example.com.evil.example/",
        "https://app.example.com@evil.example/",
        "https://user@app.example.com/",
        "//evil.example/",
        "//localhost:3000/",
        "///done",
        "http:done",
        "\\\\evil.example",
        "https:/\\evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://[::1",
        "https://app.example.com/ a",
        "https://app.example.com/\n",
        "https://äpp.example.com/",
        "https://app.example.com/" + "a" * 2048,
    ],
)
def test_url_on_other_origin_is_refused_at_its_field(url: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        resolve(url)
    assert [problem.path for problem in refused.value.problems] == ["success_url"]


@given(st.text(alphabet="htps:/\\@.#?ab%[]0{ \t", max_size=30))
def test_any_text_is_url_on_allowed_origin_or_refused(url: str) -> None:
    try:
        parts = urlsplit(resolve(url))
    except RequestInvalid:
        return
    assert f"{parts.scheme}://{parts.netloc}" in ORIGINS
