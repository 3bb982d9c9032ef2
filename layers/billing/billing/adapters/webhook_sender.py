"""HTTP client for deliveries to webhook endpoints. The endpoints belong to customers and are not trusted.

It uses http.client, because the time limits of urllib3 apply to each read or write, not to the delivery.
http.client follows no redirect, uses no proxy, and sends no cookie or stored password.
"""

import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import ip_address
from threading import Thread
from typing import TYPE_CHECKING, cast

from billing.domain.errors import WebhookUrlRefused
from billing.domain.webhook_deliveries import RETRY_AFTER_MAX, AttemptResult, DeliveryError
from billing.domain.webhook_urls import IpAddress, WebhookUrl, parse_webhook_url, refusal_of_address

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

REQUEST_BYTES_MAX = 256 * 1024
RESPONSE_BODY_BYTES_MAX = 4096
RESPONSE_BYTES_MAX = 64 * 1024
"""Size limit of status line, headers and the part of the body that is read."""

CHECK_SECONDS_MAX = 5
CONNECTION_ATTEMPTS_MAX = 4
FINAL_STATUS_MIN = 200

SENDER_HEADERS = frozenset({"accept-encoding", "connection", "content-length", "expect", "host", "transfer-encoding"})
"""Headers that only the sender sets."""

_DELTA_SECONDS = re.compile(r"[0-9]{1,18}")


def resolve_name(host: str, port: int) -> Sequence[IpAddress]:
    """Return the addresses of a name in the order of preference. Raises OSError if it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(each[4][0]) for each in found]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class WebhookSender:
    """Sender of webhook deliveries.

    Every address of the endpoint's host must be public. The connection goes to a checked address, and the name is not
    resolved again. The `Host` header and the certificate check use the name.

    Attributes:
        allows_loopback: Accept loopback endpoints, also with http. Only for development.
        resolve: Returns the addresses of a name. Raises OSError if the name does not resolve.
        clock: Monotonic clock in seconds.
        now: Current time, for a `Retry-After` header with a date.
        ssl_context: TLS settings; by default certificates are checked against the system's certificate store.
    """

    allows_loopback: bool
    resolve: Callable[[str, int], Sequence[IpAddress]] = resolve_name
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=_utc_now)
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        context = self.ssl_context
        if context is not None and not (context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED):
            raise ValueError("ssl_context must check certificates and host names")

    def check(self, url: str) -> str | None:
        """Check the URL of an endpoint before it is stored.

        Returns:
            A warning if the host name does not resolve at the moment, else None.

        Raises:
            WebhookUrlRefused: The URL is malformed or not public.
        """
        try:
            self._addresses(self._parse(url), _Deadline(self.clock() + CHECK_SECONDS_MAX, self.clock))
        except OSError:
            return "The host name does not resolve at the moment"
        return None

    def send(self, url: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float = 15) -> AttemptResult:
        """Send a POST request once.

        The endpoint has responded once the response headers are complete, even if the body ends early.

        Args:
            url: URL of the endpoint.
            body: Body of at most 256 KB.
            headers: Headers of the request, without those that the sender sets.
            timeout_seconds: Time limit of the delivery, from the name resolution to the last byte that is read.

        Raises:
            ValueError: The body is too large, or a header is invalid or set by the sender.
        """
        if len(body) > REQUEST_BYTES_MAX:
            raise ValueError(f"The body has more than {REQUEST_BYTES_MAX} bytes")
        if reserved := SENDER_HEADERS & {name.lower() for name in headers}:
            raise ValueError(f"Only the sender sets {', '.join(sorted(reserved))}")
        started = self.clock()
        try:
            response = self._post(url, body, headers, _Deadline(started + timeout_seconds, self.clock))
        except WebhookUrlRefused as refused:
            response = _failed(DeliveryError.ADDRESS_REFUSED, str(refused))
        except (OSError, HTTPException) as failure:
            response = _failed(*_describe(failure))
        return replace(response, latency_ms=round((self.clock() - started) * 1000))

    def _post(self, url: str, body: bytes, headers: Mapping[str, str], deadline: "_Deadline") -> AttemptResult:
        endpoint = self._parse(url)
        addresses = self._addresses(endpoint, deadline)
        with (
            _connect(addresses, endpoint.port, deadline) as plain,
            self._secure(plain, endpoint, deadline) as connected,
            closing(HTTPConnection(endpoint.host, endpoint.port)) as connection,
        ):
            connection.sock = cast(socket.socket, _DeadlineSocket(connected, deadline))
            # A receiver may respond and close the connection before it has read the whole body.
            with suppress(ConnectionError):
                connection.request(
                    "POST", endpoint.target, body, {**headers, "Host": endpoint.authority, "Connection": "close"}
                )
            with connection.getresponse() as response:
                if response.status < FINAL_STATUS_MIN:
                    raise HTTPException("not a final response")
                retry_after = _parse_retry_after(response.headers.get("Retry-After", "").strip(), self.now())
                return AttemptResult(response.status, 0, body=_read_body(response), retry_after=retry_after)

    def _parse(self, url: str) -> WebhookUrl:
        return parse_webhook_url(url, allows_loopback=self.allows_loopback)

    def _addresses(self, endpoint: WebhookUrl, deadline: "_Deadline") -> Sequence[IpAddress]:
        """Return the checked addresses of the host. A name is resolved once, a literal address is not resolved."""
        literal = endpoint.address
        addresses = [literal] if literal else self._resolve_until(endpoint.host, endpoint.port, deadline)
        for address in addresses:
            refusal = refusal_of_address(address, allows_loopback=self.allows_loopback)
            if refusal is not None:
                raise WebhookUrlRefused(refusal)
        return addresses

    def _resolve_until(self, host: str, port: int, deadline: "_Deadline") -> Sequence[IpAddress]:
        """Resolve a name in a thread of its own, because getaddrinfo has no time limit."""
        resolved: Future[Sequence[IpAddress]] = Future()

        def run() -> None:
            try:
                resolved.set_result(self.resolve(host, port))
            except (OSError, ValueError):
                resolved.set_exception(_NameNotResolved())

        Thread(target=run, daemon=True).start()
        addresses = resolved.result(deadline.remaining())
        if not addresses:
            raise _NameNotResolved
        return addresses

    def _secure(self, plain: socket.socket, endpoint: WebhookUrl, deadline: "_Deadline") -> socket.socket:
        if endpoint.scheme == "http":
            return plain
        # The time limit of a socket applies to the whole handshake.
        plain.settimeout(deadline.remaining())
        return (self.ssl_context or _default_ssl_context()).wrap_socket(plain, server_hostname=endpoint.host)


class _NameNotResolved(OSError):
    """The host name has no address."""


class _ResponseTooLarge(HTTPException):
    """The response exceeds RESPONSE_BYTES_MAX."""


@dataclass(frozen=True, slots=True)
class _Deadline:
    """End of a delivery, in seconds of a monotonic clock."""

    at: float
    clock: Callable[[], float]

    def remaining(self) -> float:
        """Return the remaining seconds. Raises TimeoutError if there are none."""
        seconds = self.at - self.clock()
        if seconds <= 0:
            raise TimeoutError
        return seconds


@dataclass(frozen=True, slots=True)
class _DeadlineSocket:
    """Connected socket whose reads and writes end at a deadline. It has the methods that http.client calls."""

    connected: socket.socket
    deadline: _Deadline

    def sendall(self, data: "ReadableBuffer") -> None:
        """Send all bytes."""
        unsent = memoryview(data)
        while unsent:
            self.connected.settimeout(self.deadline.remaining())
            unsent = unsent[self.connected.send(unsent) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a reader of the response."""
        return io.BufferedReader(_DeadlineReader(self.connected, self.deadline))

    def close(self) -> None:
        """Do nothing. The sender closes the connected socket after the response is read."""


class _DeadlineReader(io.RawIOBase):
    """Reader of a response until a deadline and up to RESPONSE_BYTES_MAX."""

    def __init__(self, connected: socket.socket, deadline: _Deadline) -> None:
        super().__init__()
        self._connected = connected
        self._deadline = deadline
        self._received = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read the bytes that are available; wait for the first one."""
        self._connected.settimeout(self._deadline.remaining())
        count = self._connected.recv_into(buffer)
        self._received += count
        if self._received > RESPONSE_BYTES_MAX:
            raise _ResponseTooLarge
        return count


@cache
def _default_ssl_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connect(addresses: Sequence[IpAddress], port: int, deadline: _Deadline) -> socket.socket:
    """Connect to the first address that accepts. Each attempt gets an equal share of the remaining time."""
    *others, last = addresses[:CONNECTION_ATTEMPTS_MAX]
    for index, address in enumerate(others):
        with suppress(OSError):
            return _open(address, port, deadline.remaining() / (len(others) - index + 1))
    return _open(last, port, deadline.remaining())


def _open(address: IpAddress, port: int, timeout_seconds: float) -> socket.socket:
    connected = socket.create_connection((str(address), port), timeout_seconds)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _read_body(response: HTTPResponse) -> str:
    """Return the beginning of the body, up to the first error."""
    body = b""
    with suppress(OSError, HTTPException):
        while len(body) < RESPONSE_BODY_BYTES_MAX and (part := response.read1(RESPONSE_BODY_BYTES_MAX - len(body))):
            body += part
    return body[:RESPONSE_BODY_BYTES_MAX].decode(errors="replace")


def _parse_retry_after(value: str, now: datetime) -> timedelta | None:
    """Return the time of a `Retry-After` header (RFC 9110, section 10.2.3); None if it is invalid."""
    if _DELTA_SECONDS.fullmatch(value):
        return timedelta(seconds=min(int(value), RETRY_AFTER_MAX.total_seconds()))
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return min(max(date.replace(tzinfo=date.tzinfo or UTC) - now, timedelta(0)), RETRY_AFTER_MAX)


def _failed(error: DeliveryError, message: str) -> AttemptResult:
    return AttemptResult(None, latency_ms=0, error=error, error_message=message)


def _describe(failure: OSError | HTTPException) -> tuple[DeliveryError, str]:
    match failure:
        case _NameNotResolved():
            return DeliveryError.NAME_NOT_RESOLVED, "The host name does not resolve"
        case TimeoutError():
            return DeliveryError.TIMEOUT, "The endpoint did not respond within the time limit"
        case ssl.SSLCertVerificationError():
            return DeliveryError.TLS_ERROR, f"The certificate is not valid: {failure.verify_message}"
        case ssl.SSLError():
            return DeliveryError.TLS_ERROR, "The TLS connection failed"
        case ConnectionRefusedError():
            return DeliveryError.CONNECTION_REFUSED, "The endpoint refused the connection"
        case ConnectionError():
            return DeliveryError.CONNECTION_CLOSED, "The endpoint closed the connection before its response"
        case OSError():
            return DeliveryError.CONNECTION_FAILED, "The endpoint cannot be reached"
        case _ResponseTooLarge():
            return DeliveryError.RESPONSE_TOO_LARGE, f"The response headers exceed {RESPONSE_BYTES_MAX // 1024} KB"
        case _:
            return DeliveryError.INVALID_RESPONSE, "The response is not a valid HTTP/1.1 response"
