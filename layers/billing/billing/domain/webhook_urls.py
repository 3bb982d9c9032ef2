"""URLs and addresses of webhook endpoints, restricted to public https servers.

Endpoint URLs come from customers. Without these rules they could reach services inside the deployment's network.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from billing.domain.errors import WebhookUrlRefused

type IpAddress = IPv4Address | IPv6Address
type IpNetwork = IPv4Network | IPv6Network

URL_LENGTH_MAX = 2048
HOST_LENGTH_MAX = 253
"""RFC 1035, section 2.3.4, without the length bytes."""

PORT_MAX = 65_535
UNPRIVILEGED_PORT_MIN = 1024
DEFAULT_PORTS: Mapping[str, int] = {"https": 443, "http": 80}
LOCALHOST = "localhost"

PRIVATE_DOMAINS = frozenset({LOCALHOST, "localdomain", "local", "internal", "home.arpa"})
"""Domains that no public DNS server resolves (RFC 6761, 6762, 8375, and ICANN's reservation of `internal`)."""


class UrlRefusal(StrEnum):
    """Reason why a URL is refused, as a predicate of the URL."""

    TOO_LONG = "is longer than 2048 characters"
    INVALID_CHARACTER = "contains a character that has to be percent-encoded"
    INVALID_PERCENT_ENCODING = "contains an invalid percent encoding"
    NOT_ABSOLUTE = "must be absolute, for example https://example.com/webhooks"
    NOT_HTTPS = "must use https"
    USER_INFORMATION = "must not contain a user name or password"
    FRAGMENT = "must not contain a fragment"
    HOST_MISSING = "has no host"
    INVALID_HOST = "has an invalid host name"
    INVALID_IPV4 = "must write an IPv4 address as four decimal numbers"
    ZONE_ID = "must not contain an IPv6 zone id"
    PRIVATE_NAME = "has a host name that is not public"
    INVALID_PORT = "has an invalid port"
    FORBIDDEN_PORT = "must use port 443 or a port from 1024 to 65535"


class AddressRefusal(StrEnum):
    """Reason why an address is refused, as a predicate of the URL whose host has it."""

    METADATA = "has the address of an instance metadata service"
    UNSPECIFIED = "has an unspecified address"
    LOOPBACK = "has a loopback address"
    PRIVATE = "has a private address"
    SHARED = "has an address of a carrier's shared address space"
    LINK_LOCAL = "has a link-local address"
    SITE_LOCAL = "has a site-local address"
    MULTICAST = "has a multicast address"
    BROADCAST = "has a broadcast address"
    DOCUMENTATION = "has an address that is reserved for documentation"
    BENCHMARKING = "has an address that is reserved for benchmarks"
    IPV4_MAPPED = "has an IPv4-mapped IPv6 address"
    IPV4_COMPATIBLE = "has an IPv4-compatible IPv6 address"
    SIX_TO_FOUR = "has a 6to4 address"
    TEREDO = "has a Teredo address"
    LOCAL_NAT64 = "has an address of a local NAT64 prefix"
    ZONE = "has an address with a zone id"
    RESERVED = "has a reserved address"


# The first network that contains an address decides, so a part of a network stands before the network.
# https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry
_REFUSED: tuple[tuple[AddressRefusal, tuple[str, ...]], ...] = (
    (
        AddressRefusal.METADATA,  # EC2, ECS, and EKS Pod Identity
        ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"),
    ),
    (AddressRefusal.UNSPECIFIED, ("0.0.0.0", "::")),  # noqa: S104 - nothing binds to it
    (AddressRefusal.LOOPBACK, ("127.0.0.0/8", "::1")),
    (AddressRefusal.PRIVATE, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),
    (AddressRefusal.SHARED, ("100.64.0.0/10",)),
    (AddressRefusal.LINK_LOCAL, ("169.254.0.0/16", "fe80::/10")),
    (AddressRefusal.SITE_LOCAL, ("fec0::/10",)),
    (AddressRefusal.MULTICAST, ("224.0.0.0/4", "ff00::/8")),
    (AddressRefusal.BROADCAST, ("255.255.255.255",)),
    (
        AddressRefusal.DOCUMENTATION,
        ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    ),
    (AddressRefusal.BENCHMARKING, ("198.18.0.0/15", "2001:2::/48")),
    (AddressRefusal.IPV4_MAPPED, ("::ffff:0:0/96",)),
    (AddressRefusal.IPV4_COMPATIBLE, ("::/96",)),
    (AddressRefusal.SIX_TO_FOUR, ("2002::/16",)),
    (AddressRefusal.TEREDO, ("2001::/32",)),
    (AddressRefusal.LOCAL_NAT64, ("64:ff9b:1::/48",)),
    (AddressRefusal.RESERVED, ("0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4", "2001::/23")),
)
_REFUSED_NETWORKS: Mapping[IpNetwork, AddressRefusal] = {
    ip_network(text): refusal for refusal, texts in _REFUSED for text in texts
}
_GLOBAL_UNICAST: IpNetwork = ip_network("2000::/3")
_NAT64: IpNetwork = ip_network("64:ff9b::/96")
_IPV4_BITS = 0xFFFF_FFFF

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>.*)")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>.*))?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A host whose last label is numeric is an IPv4 address (https://url.spec.whatwg.org/#ends-in-a-number-checker)."""

_TARGET = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_INVALID_PERCENT_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """Checked URL of a webhook endpoint.

    Attributes:
        scheme: "https", or "http" for a loopback host.
        host: Name in lower-case ASCII, or an IP address without brackets.
        port: Port, also if it is the scheme's default.
        target: Path and query for the request line.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> IpAddress | None:
        """Address that the host is; None if the host is a name."""
        return _parse_address(self.host)

    @property
    def authority(self) -> str:
        """Value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Normalized URL."""
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_webhook_url(text: str, *, allows_loopback: bool) -> WebhookUrl:
    """Parse the URL of a webhook endpoint.

    Args:
        text: URL as the customer wrote it.
        allows_loopback: Accept loopback hosts, also with http and a port from 1024. Only for development.

    Raises:
        WebhookUrlRefused: The URL is malformed or not public. The reason is a UrlRefusal or an AddressRefusal.
    """
    if len(text) > URL_LENGTH_MAX:
        raise WebhookUrlRefused(UrlRefusal.TOO_LONG)
    if not text.isprintable() or " " in text or "\\" in text:
        raise WebhookUrlRefused(UrlRefusal.INVALID_CHARACTER)
    parts = _URL.fullmatch(text)
    if parts is None:
        raise WebhookUrlRefused(UrlRefusal.NOT_ABSOLUTE)
    scheme = parts["scheme"].lower()
    if scheme != "https" and not (scheme == "http" and allows_loopback):
        raise WebhookUrlRefused(UrlRefusal.NOT_HTTPS)
    host, port = _parse_authority(parts["authority"])
    _require_public(host, allows_loopback=allows_loopback)
    if scheme == "http" and not _is_loopback(host):
        raise WebhookUrlRefused(UrlRefusal.NOT_HTTPS)
    return WebhookUrl(scheme, host, _checked_port(scheme, port), _parse_target(parts["target"]))


def refusal_of_address(address: IpAddress, *, allows_loopback: bool) -> AddressRefusal | None:
    """Return the reason why an address is not public; None if webhooks may be sent to it.

    A NAT64 address is public if the IPv4 address in it is.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return AddressRefusal.ZONE
    for network, refusal in _REFUSED_NETWORKS.items():
        if address in network:
            return None if refusal is AddressRefusal.LOOPBACK and allows_loopback else refusal
    if address in _NAT64:
        return refusal_of_address(IPv4Address(int(address) & _IPV4_BITS), allows_loopback=False)
    is_unicast = address.version == 4 or address in _GLOBAL_UNICAST
    return None if is_unicast and address.is_global else AddressRefusal.RESERVED


def _parse_authority(authority: str) -> tuple[str, str | None]:
    if "@" in authority:
        raise WebhookUrlRefused(UrlRefusal.USER_INFORMATION)
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise WebhookUrlRefused(UrlRefusal.INVALID_HOST)
    if not parts["host"]:
        raise WebhookUrlRefused(UrlRefusal.HOST_MISSING)
    return _parse_host(parts["host"]), parts["port"]


def _parse_host(text: str) -> str:
    if text.startswith("["):
        return _parse_ipv6(text[1:-1])
    host = _to_ascii(text)
    labels = host.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        if _parse_address(host) is None:
            raise WebhookUrlRefused(UrlRefusal.INVALID_IPV4)
    elif len(host) > HOST_LENGTH_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise WebhookUrlRefused(UrlRefusal.INVALID_HOST)
    return host


def _parse_ipv6(text: str) -> str:
    if "%" in text:
        raise WebhookUrlRefused(UrlRefusal.ZONE_ID)
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise WebhookUrlRefused(UrlRefusal.INVALID_HOST) from None


def _to_ascii(host: str) -> str:
    """Return a host in lower-case ASCII. An internationalized name is encoded (RFC 3490).

    Encoders differ for names that the encoding itself changes, for example "①.①.①.①" or "faß.de". Such names are
    refused.
    """
    lower = host.lower()
    if lower.isascii():
        return lower
    try:
        encoded = lower.encode("idna")
        is_unchanged = encoded.decode("idna") == lower
    except UnicodeError:
        raise WebhookUrlRefused(UrlRefusal.INVALID_HOST) from None
    if not is_unchanged:
        raise WebhookUrlRefused(UrlRefusal.INVALID_HOST)
    return encoded.decode("ascii")


def _require_public(host: str, *, allows_loopback: bool) -> None:
    address = _parse_address(host)
    if address is not None:
        refusal = refusal_of_address(address, allows_loopback=allows_loopback)
        if refusal is not None:
            raise WebhookUrlRefused(refusal)
    elif not (host == LOCALHOST and allows_loopback) and _is_private_name(host):
        raise WebhookUrlRefused(UrlRefusal.PRIVATE_NAME)


def _is_private_name(host: str) -> bool:
    is_below_private_domain = any(host == domain or host.endswith(f".{domain}") for domain in PRIVATE_DOMAINS)
    return "." not in host or is_below_private_domain


def _is_loopback(host: str) -> bool:
    address = _parse_address(host)
    return host == LOCALHOST if address is None else address.is_loopback


def _checked_port(scheme: str, text: str | None) -> int:
    if text is None:
        port = DEFAULT_PORTS[scheme]
    elif _PORT.fullmatch(text) and int(text) <= PORT_MAX:
        port = int(text)
    else:
        raise WebhookUrlRefused(UrlRefusal.INVALID_PORT)
    if port < UNPRIVILEGED_PORT_MIN and (scheme, port) != ("https", DEFAULT_PORTS["https"]):
        raise WebhookUrlRefused(UrlRefusal.FORBIDDEN_PORT)
    return port


def _parse_target(text: str) -> str:
    if "#" in text:
        raise WebhookUrlRefused(UrlRefusal.FRAGMENT)
    if not _TARGET.fullmatch(text):
        raise WebhookUrlRefused(UrlRefusal.INVALID_CHARACTER)
    if _INVALID_PERCENT_ENCODING.search(text):
        raise WebhookUrlRefused(UrlRefusal.INVALID_PERCENT_ENCODING)
    return text if text.startswith("/") else f"/{text}"


def _parse_address(host: str) -> IpAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
