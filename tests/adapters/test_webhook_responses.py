"""TLS, time limits and hostile responses of deliveries to real sockets."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.adapters import webhook_sender
from billing.adapters.webhook_sender import WebhookSender
from billing.domain.webhook_deliveries import AttemptResult, DeliveryError
from billing.domain.webhook_urls import IpAddress
from local.ports import free_port
from tests.adapters.webhook_receiver import (
    Behaviour,
    Receiver,
    client_context,
    http,
    open_receiver,
    responding,
    server_context,
)
from tests.adapters.webhook_support import HOST, LOOPBACK, deliver, error_of, send, sender

SECONDS = 0.3
"""Time limit of a delivery to a slow receiver."""

SECONDS_MAX = 3.0
"""Time within which such a delivery ends on a busy machine. A delivery without a time limit takes longer."""

# --- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_uses_the_name_for_sni_certificate_and_host_header() -> None:
    with open_receiver(responding(http()), server_context(HOST)) as receiver:
        assert send(receiver.url(HOST, "https")).status_code == 200
    assert receiver.server_names == [HOST]
    assert f"\r\nHost: {HOST}:{receiver.port}\r\n".encode() in receiver.requests[0]


def test_host_header_has_no_default_port(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, destinations = socket.create_connection, []

    def connect_to_receiver(destination: tuple[str, int], timeout: float) -> socket.socket:
        destinations.append(destination)
        return connect(("127.0.0.1", receiver.port), timeout)

    monkeypatch.setattr("billing.adapters.webhook_sender.socket.create_connection", connect_to_receiver)
    with open_receiver(responding(http()), server_context(HOST)) as receiver:
        assert send(f"https://{HOST}/", by=sender([ip_address("8.8.8.8")], allows_loopback=False)).status_code == 200
    assert f"\r\nHost: {HOST}\r\n".encode() in receiver.requests[0]
    assert destinations == [("8.8.8.8", 443)]


def test_tls_endpoint_with_a_literal_address_needs_a_certificate_for_the_address() -> None:
    with open_receiver(responding(http()), server_context("127.0.0.1")) as receiver:
        assert send(receiver.url("127.0.0.1", "https")).status_code == 200
    assert receiver.server_names == [None]


@pytest.mark.parametrize(
    ("certificate", "host", "message"),
    [
        (server_context("other.example.com"), HOST, "Hostname mismatch"),
        (server_context("127.0.0.1"), HOST, "Hostname mismatch"),
        (server_context(HOST), "127.0.0.1", "IP address mismatch"),
        (server_context(HOST, days=-1), HOST, "certificate has expired"),
    ],
)
def test_invalid_certificate_is_a_tls_error_and_nothing_is_sent(
    certificate: ssl.SSLContext, host: str, message: str
) -> None:
    with open_receiver(responding(http()), certificate) as receiver:
        response = send(receiver.url(host, "https"))
    assert error_of(response) is DeliveryError.TLS_ERROR
    assert message in str(response.error_message)
    assert receiver.requests == []


def test_certificate_of_an_unknown_authority_is_a_tls_error_by_default() -> None:
    with open_receiver(responding(http()), server_context(HOST)) as receiver:
        response = send(receiver.url(HOST, "https"), by=sender(ssl_context=None))
    assert error_of(response) is DeliveryError.TLS_ERROR
    assert "unable to get local issuer certificate" in str(response.error_message)


@pytest.mark.parametrize("changed", [{"check_hostname": False}, {"check_hostname": False, "verify_mode": 0}])
def test_context_without_certificate_checks_raises_value_error(changed: Mapping[str, Any]) -> None:
    context = client_context()
    for name, value in changed.items():
        setattr(context, name, value)
    with pytest.raises(ValueError, match="check certificates"):
        sender(ssl_context=context)


def test_receiver_without_tls_is_a_tls_error() -> None:
    with open_receiver(lambda _receiver, connection: connection.sendall(http())) as receiver:
        assert error_of(send(receiver.url(HOST, "https"))) is DeliveryError.TLS_ERROR


# --- Time limits ------------------------------------------------------------------------------------------------------


def is_in_time(call: Callable[[], AttemptResult]) -> AttemptResult:
    """Check that a delivery with the limit SECONDS ends in time."""
    began = time.monotonic()
    response = call()
    assert time.monotonic() - began < SECONDS_MAX
    assert 1000 * SECONDS <= response.latency_ms < 1000 * SECONDS_MAX
    return response


def silent(receiver: Receiver, _connection: socket.socket) -> None:
    """Receive and send nothing."""
    receiver.stopped.wait()


def slow(prefix: bytes, repeated: bytes) -> Behaviour:
    """Return a receiver that sends a prefix at once, then up to 200 bytes in ten seconds."""

    def behave(receiver: Receiver, connection: socket.socket) -> None:
        connection.sendall(prefix)
        receiver.send_slowly(connection, (repeated * 200)[:200])

    return behave


@pytest.mark.parametrize(
    "behaviour",
    [
        silent,
        slow(b"", b"HTTP/1.1 200 OK"),
        slow(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        slow(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silent", "slow status", "slow headers", "interim responses"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_slow_response_is_a_timeout(behaviour: Behaviour, scheme: str) -> None:
    tls = server_context("127.0.0.1") if scheme == "https" else None
    with open_receiver(behaviour, tls) as receiver:
        response = is_in_time(lambda: send(receiver.url(scheme=scheme), seconds=SECONDS))
    assert error_of(response) is DeliveryError.TIMEOUT


@pytest.mark.parametrize("behaviour", [silent, slow(b"\x16\x03\x03\x01\x00", b"\x02")], ids=["silent", "slow"])
def test_slow_tls_handshake_is_a_timeout(behaviour: Behaviour) -> None:
    with open_receiver(behaviour) as receiver:
        response = is_in_time(lambda: send(receiver.url(HOST, "https"), seconds=SECONDS))
    assert error_of(response) is DeliveryError.TIMEOUT


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_receiver_that_reads_slowly_is_a_timeout(scheme: str) -> None:
    """The buffers of the two sockets are smaller than the request."""

    def read_slowly(receiver: Receiver, connection: socket.socket) -> None:
        while not receiver.stopped.wait(0.05):
            connection.recv(3072)

    tls = server_context("127.0.0.1") if scheme == "https" else None
    with open_receiver(read_slowly, tls, small=True) as receiver:
        response = is_in_time(lambda: send(receiver.url(scheme=scheme), seconds=SECONDS, body=b" " * 256 * 1024))
    assert error_of(response) is DeliveryError.TIMEOUT


def test_request_is_not_sent_further_after_the_time_limit() -> None:
    now, received = [0.0], [b""]

    def read_all(_receiver: Receiver, connection: socket.socket) -> None:
        received.append(connection.recv(1000))
        now[0] = 20.0
        while part := connection.recv(65_536):
            received.append(part)

    with open_receiver(read_all, small=True) as receiver:
        response = send(receiver.url(), by=sender(clock=lambda: now[0]), body=b" " * 256 * 1024)
    assert error_of(response) is DeliveryError.TIMEOUT
    assert 0 < len(b"".join(received)) < 256 * 1024


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Event that ends the waiting resolver of a test."""
    event = threading.Event()
    yield event
    event.set()


def test_slow_name_resolution_is_a_timeout(released: threading.Event) -> None:
    def resolve(_host: str, _port: int) -> Sequence[IpAddress]:
        released.wait(10)
        return [LOOPBACK]

    response = is_in_time(lambda: send(f"https://{HOST}/", by=sender(resolve=resolve), seconds=SECONDS))
    assert error_of(response) is DeliveryError.TIMEOUT


def test_slow_name_resolution_is_a_warning_of_the_check(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(_host: str, _port: int) -> Sequence[IpAddress]:
        released.wait(10)
        return [LOOPBACK]

    monkeypatch.setattr(webhook_sender, "CHECK_SECONDS_MAX", SECONDS)
    began = time.monotonic()
    assert sender(resolve=resolve).check(f"https://{HOST}/") == "The host name does not resolve at the moment"
    assert time.monotonic() - began < SECONDS_MAX


def test_all_phases_share_one_time_limit() -> None:
    """The name takes the whole time, so the receiver gets no connection."""
    now = [0.0]

    def resolve(_host: str, _port: int) -> Sequence[IpAddress]:
        now[0] += 15
        return [LOOPBACK]

    with open_receiver(responding(http())) as receiver:
        response = sender(resolve=resolve, clock=lambda: now[0]).send(receiver.url("localhost"), b"{}", {})
    assert error_of(response) is DeliveryError.TIMEOUT
    assert response.latency_ms == 15_000
    assert receiver.connections == 0


# --- Responses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 301, 302, 304, 307, 308, 400, 410, 429, 500, 503, 599])
def test_every_final_status_is_returned_and_no_redirect_is_followed(status: int) -> None:
    with open_receiver(responding(http(f"{status} Any"))) as receiver:
        location = receiver.url(target="/other")
    with open_receiver(responding(http(f"{status} Any", Location=location))) as receiver:
        response = send(receiver.url())
    assert (response.status_code, response.error) == (status, None)
    assert len(receiver.requests) == 1


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

BODIES: Mapping[str, tuple[bytes, str]] = {
    "none": (http(), ""),
    "until close": (b"HTTP/1.1 200 OK\r\n\r\nok", "ok"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", "ok"),
    "chunked": (CHUNKS + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", "ok"),
    "long": (http(body=b"a" * 5000), "a" * 4096),
    "long chunk": (CHUNKS + b"1388\r\n" + b"a" * 5000, "a" * 4096),
    "small chunks": (CHUNKS + b"1\r\na\r\n" * 5000, "a" * 4096),
    "not UTF-8": (http(body=b"a\xff\x00"), "a\ufffd\x00"),
    "cut character": (http(body=b"a" * 4095 + "ü".encode()), "a" * 4095 + "\ufffd"),
    "gzip": (http(body=b"\x1f\x8b\x08", Content_Encoding="gzip"), "\x1f\ufffd\x08"),
    "shorter than its length": (http(body=b"ok").replace(b"th: 2", b"th: 9"), "ok"),
    "invalid length": (http(body=b"ok").replace(b"th: 2", b"th: x"), "ok"),
    "negative length": (http(body=b"ok").replace(b"th: 2", b"th: -1"), "ok"),
    "invalid chunk": (CHUNKS + b"1\r\no\r\nzz\r\n", "o"),
    "negative chunk": (CHUNKS + b"-5\r\nok", "ok"),
    "long negative chunk": (CHUNKS + b"-5\r\n" + b"a" * 5000, "a" * 4096),
}


@pytest.mark.parametrize(("response", "body"), BODIES.values(), ids=BODIES)
def test_beginning_of_the_body_is_returned(response: bytes, body: str) -> None:
    received = deliver(responding(response))
    assert (received.status_code, received.error, received.body) == (200, None, body)


def endless(receiver: Receiver, connection: socket.socket) -> None:
    """Send a body without end."""
    receiver.read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not receiver.stopped.is_set():
        connection.sendall(b"a" * 65_536)


def paused(receiver: Receiver, connection: socket.socket) -> None:
    """Send the part of a body that is returned, and nothing more."""
    receiver.read_request(connection)
    connection.sendall(CHUNKS + b"1000\r\n" + b"a" * 4096)
    receiver.wait_for_close(connection)


@pytest.mark.parametrize("behaviour", [endless, paused])
def test_delivery_ends_after_the_beginning_of_the_body(behaviour: Behaviour) -> None:
    response = deliver(behaviour)
    assert (response.status_code, response.error, response.body) == (200, None, "a" * 4096)
    assert response.latency_ms < 9_000


@pytest.mark.parametrize(
    "prefix", [b"HTTP/1.1 200 OK\r\n\r\n", http(body=b"a" * 9)[:-9]], ids=["until close", "length"]
)
def test_slow_body_ends_at_the_time_limit_and_the_status_is_returned(prefix: bytes) -> None:
    def behave(receiver: Receiver, connection: socket.socket) -> None:
        receiver.read_request(connection)
        connection.sendall(prefix + b"a")
        silent(receiver, connection)

    with open_receiver(behave) as receiver:
        response = is_in_time(lambda: send(receiver.url(), seconds=SECONDS))
    assert (response.status_code, response.error, response.body) == (200, None, "a")


def reset(_receiver: Receiver, connection: socket.socket) -> None:
    """Reset the connection, because unread bytes remain."""
    connection.recv(1)


INVALID: Mapping[str, tuple[Behaviour, DeliveryError]] = {
    "closed": (responding(b""), DeliveryError.CONNECTION_CLOSED),
    "reset": (reset, DeliveryError.CONNECTION_CLOSED),
    "no HTTP": (responding(b"220 smtp.example.com ESMTP\r\n"), DeliveryError.INVALID_RESPONSE),
    "cut status": (responding(b"HTTP/1.1 20"), DeliveryError.INVALID_RESPONSE),
    "status 0": (responding(b"HTTP/1.1 000 OK\r\n\r\n"), DeliveryError.INVALID_RESPONSE),
    "status 1000": (responding(b"HTTP/1.1 1000 OK\r\n\r\n"), DeliveryError.INVALID_RESPONSE),
    "interim status": (responding(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), DeliveryError.INVALID_RESPONSE),
    "other version": (responding(b"HTTP/3.0 200 OK\r\n\r\n"), DeliveryError.INVALID_RESPONSE),
    "101 headers": (
        responding(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 101 + b"\r\n"),
        DeliveryError.INVALID_RESPONSE,
    ),
    "long header": (
        responding(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n"),
        DeliveryError.RESPONSE_TOO_LARGE,
    ),
    "long status": (responding(b"HTTP/1.1 200 " + b"a" * 70_000 + b"\r\n\r\n"), DeliveryError.RESPONSE_TOO_LARGE),
    "many interim responses": (
        responding(b"HTTP/1.1 100 Continue\r\n\r\n" * 3000),
        DeliveryError.RESPONSE_TOO_LARGE,
    ),
}


@pytest.mark.parametrize(("behaviour", "error"), INVALID.values(), ids=INVALID)
def test_invalid_response_is_an_error(behaviour: Behaviour, error: DeliveryError) -> None:
    assert error_of(deliver(behaviour)) is error


@pytest.mark.parametrize("closes_first", [True, False])
def test_response_before_the_whole_request_is_read_is_returned(closes_first: bool) -> None:  # noqa: FBT001
    def refuse(_receiver: Receiver, connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(http("413 Content Too Large"))
        if closes_first:
            connection.shutdown(socket.SHUT_WR)

    with open_receiver(refuse, small=True) as receiver:
        response = send(receiver.url(), body=b" " * 256 * 1024)
    assert (response.status_code, response.error) == (413, None)


def test_port_without_listener_is_connection_refused() -> None:
    assert error_of(send(f"http://127.0.0.1:{free_port()}/")) is DeliveryError.CONNECTION_REFUSED


def test_unreachable_address_is_connection_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_destination: tuple[str, int], _timeout: float) -> socket.socket:
        raise OSError(113, "No route to host")

    monkeypatch.setattr("billing.adapters.webhook_sender.socket.create_connection", fail)
    assert error_of(send("http://127.0.0.1:8080/")) is DeliveryError.CONNECTION_FAILED


@given(
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                *(b"HTTP/1.1 200 OK", b"HTTP/1.1 103 Early", b"\r\n", b"\n", b" ", b":", b"-1", b"ffffffff", b"\x00"),
                *(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n\r\n", b"Retry-After: ", b"1\r\na\r\n", b"\xff"),
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_any_response_is_a_status_or_an_error(response: bytes) -> None:
    received = deliver(responding(response))
    assert (received.status_code is None) == (received.error is not None) == (received.error_message is not None)


def test_errors_contain_nothing_of_the_request_or_the_response() -> None:
    with open_receiver(responding(b"secret-response")) as receiver:
        response = sender().send(receiver.url(), b"secret-body", {"X-Signature": "secret-header"})
    assert response.error is DeliveryError.INVALID_RESPONSE
    assert "secret" not in repr(response)
    assert "127.0.0.1" not in repr(response)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("  120  ", 120),
        ("0120", 120),
        ("86400", 86_400),
        ("86401", 86_400),
        ("9" * 18, 86_400),
        ("9" * 5000, None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1 2", None),
        ("\xb2", None),
        ("", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 12:02:00 GMT", 120),
        ("Saturday, 21-Nov-26 12:02:00 GMT", 120),
        ("Sat Nov 21 12:02:00 2026", 120),
        ("Sat, 21 Nov 2026 12:02:00", 120),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Sat, 32 Nov 2026 12:02:00 GMT", None),
        ("Sat, 21 Nov 99999999999 12:02:00 GMT", None),
        ("Sat, 21 Nov 2026 99:99:99 +9999", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str, seconds: int | None) -> None:
    response = deliver(responding(http("503 Unavailable", Retry_After=value)))
    assert (response.status_code, response.retry_after) == (
        503,
        None if seconds is None else timedelta(seconds=seconds),
    )


def test_response_without_retry_after_has_none() -> None:
    assert deliver(responding(http("503 Unavailable"))).retry_after is None


def test_default_clocks_measure_seconds_and_utc() -> None:
    by = WebhookSender(allows_loopback=False)
    assert by.clock is time.monotonic
    assert abs(by.now() - datetime.now(UTC)).total_seconds() < 60
