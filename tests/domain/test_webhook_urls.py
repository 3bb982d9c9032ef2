"""URLs of webhook endpoints are public https URLs."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from billing.domain.errors import RequestRefused, WebhookUrlRefused
from billing.domain.webhook_urls import (
    AddressRefusal,
    IpAddress,
    UrlRefusal,
    WebhookUrl,
    parse_webhook_url,
    refusal_of_address,
)
from tests.hostile_webhook_urls import (
    ACCEPTED_ADDRESSES,
    ACCEPTED_IN_DEVELOPMENT,
    ACCEPTED_URLS,
    REFUSED_ADDRESSES,
    REFUSED_IN_DEVELOPMENT,
    REFUSED_URLS,
)

# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "reason"), REFUSED_URLS.items(), ids=map(ascii, REFUSED_URLS))
def test_hostile_url_is_refused_with_its_reason(url: str, reason: UrlRefusal | AddressRefusal) -> None:
    with pytest.raises(WebhookUrlRefused) as refused:
        parse_webhook_url(url, allows_loopback=False)
    assert refused.value.reason is reason
    assert str(refused.value) == f"The URL {reason}"
    assert isinstance(refused.value, RequestRefused)


@pytest.mark.parametrize(("url", "reason"), REFUSED_IN_DEVELOPMENT.items(), ids=REFUSED_IN_DEVELOPMENT)
def test_url_outside_loopback_is_refused_in_development(url: str, reason: UrlRefusal | AddressRefusal) -> None:
    with pytest.raises(WebhookUrlRefused) as refused:
        parse_webhook_url(url, allows_loopback=True)
    assert refused.value.reason is reason


@pytest.mark.parametrize(("url", "normalized"), ACCEPTED_URLS.items(), ids=map(ascii, ACCEPTED_URLS))
def test_public_url_is_normalized(url: str, normalized: str) -> None:
    parsed = parse_webhook_url(url, allows_loopback=False)
    assert parsed.url == normalized
    assert parse_webhook_url(normalized, allows_loopback=False) == parsed


@pytest.mark.parametrize("url", ACCEPTED_IN_DEVELOPMENT)
def test_loopback_url_is_accepted_in_development(url: str) -> None:
    assert parse_webhook_url(url, allows_loopback=True).url == url


@pytest.mark.parametrize(
    ("url", "parsed", "authority", "address"),
    [
        ("https://A.example", WebhookUrl("https", "a.example", 443, "/"), "a.example", None),
        ("https://a.example:8443/b?c", WebhookUrl("https", "a.example", 8443, "/b?c"), "a.example:8443", None),
        ("https://8.8.8.8/", WebhookUrl("https", "8.8.8.8", 443, "/"), "8.8.8.8", "8.8.8.8"),
        ("http://[::1]:8080", WebhookUrl("http", "::1", 8080, "/"), "[::1]:8080", "::1"),
        ("https://[::1]", WebhookUrl("https", "::1", 443, "/"), "[::1]", "::1"),
    ],
)
def test_url_is_split_into_its_parts(url: str, parsed: WebhookUrl, authority: str, address: str | None) -> None:
    assert parse_webhook_url(url, allows_loopback=True) == parsed
    assert parsed.authority == authority
    assert parsed.address == (ip_address(address) if address else None)


@given(st.text(alphabet="htps:/\\@.#?%[]0x127ab-_ \tü①", max_size=40).map("https://".__add__))
@example("https://a.ab/%ab?#")
def test_any_text_is_refused_or_has_the_same_host_for_other_parsers(text: str) -> None:
    try:
        parsed = parse_webhook_url(text, allows_loopback=False)
    except WebhookUrlRefused:
        return
    parts = urlsplit(parsed.url)
    assert (parts.scheme, parts.hostname, parts.port or 443) == (parsed.scheme, parsed.host, parsed.port)
    assert (parts.username, parts.password, parts.fragment) == (None, None, "")
    assert parsed.url.isascii()
    assert parse_webhook_url(parsed.url, allows_loopback=False) == parsed


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "reason"), REFUSED_ADDRESSES.items(), ids=REFUSED_ADDRESSES)
def test_address_that_is_not_public_is_refused_with_its_reason(address: str, reason: AddressRefusal) -> None:
    assert refusal_of_address(ip_address(address), allows_loopback=False) is reason


@pytest.mark.parametrize("address", ACCEPTED_ADDRESSES)
def test_public_address_is_accepted(address: str) -> None:
    assert refusal_of_address(ip_address(address), allows_loopback=False) is None


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_only_loopback_addresses_are_accepted_in_development(address: str) -> None:
    refusal = refusal_of_address(ip_address(address), allows_loopback=True)
    is_loopback = address == "::1" or address.startswith("127.")
    assert refusal is (None if is_loopback else REFUSED_ADDRESSES[address])


# Written without Python's `is_global`, which is true for several special networks.
SPECIAL_IPV4 = [
    ip_network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    )
]
SPECIAL_IPV6 = [
    ip_network(each)
    for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "::/3", "4000::/2", "8000::/1")
]
GLOBAL_IPV6, NAT64 = ip_network("2000::/3"), ip_network("64:ff9b::/96")


def is_global_unicast(address: IpAddress) -> bool:
    """Return True if an address is public by the registries of IANA. A NAT64 address is public if its IPv4 part is."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_IPV4)
    if address in NAT64:
        return is_global_unicast(IPv4Address(address.packed[-4:]))
    return address in GLOBAL_IPV6 and not any(address in network for network in SPECIAL_IPV6)


ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.one_of([st.ip_addresses(network=network) for network in (*SPECIAL_IPV4, *SPECIAL_IPV6, NAT64)]),
)


@given(ADDRESSES)
def test_address_is_accepted_only_if_it_is_global_unicast(address: IpAddress) -> None:
    assert (refusal_of_address(address, allows_loopback=False) is None) == is_global_unicast(address)


@given(ADDRESSES)
def test_url_of_an_address_is_refused_for_the_same_reason_as_the_address(address: IpAddress) -> None:
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    reason = None
    try:
        parse_webhook_url(f"https://{host}/", allows_loopback=False)
    except WebhookUrlRefused as refused:
        reason = refused.reason
    assert reason == refusal_of_address(address, allows_loopback=False)
