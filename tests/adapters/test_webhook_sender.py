"""Deliveries to real sockets: requests, and the addresses that they are sent to."""

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.adapters.webhook_sender import WebhookSender, resolve_name
from billing.domain.errors import WebhookUrlRefused
from billing.domain.webhook_deliveries import DeliveryError
from billing.domain.webhook_urls import AddressRefusal, IpAddress, UrlRefusal, refusal_of_address
from local.ports import free_port
from tests.adapters.webhook_receiver import Receiver, http, open_receiver, responding, server_context
from tests.adapters.webhook_support import HOST, LOOPBACK, Resolver, error_of, send, sender
from tests.hostile_webhook_urls import ACCEPTED_URLS, REFUSED_ADDRESSES, REFUSED_IN_DEVELOPMENT, REFUSED_URLS

CONNECT = "billing.adapters.webhook_sender.socket.create_connection"

# --- Requests ---------------------------------------------------------------------------------------------------------


def test_request_contains_the_body_and_the_headers_of_caller_and_sender() -> None:
    with open_receiver(responding(http("201 Created", b"thanks"))) as receiver:
        response = sender().send(receiver.url(target="/a?b=%20c"), b'{"a": 1}', {"X-Signature": "t=1,v1=ab"})
    [request] = receiver.requests
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert line == "POST /a?b=%20c HTTP/1.1"
    assert sorted(headers) == [
        "Accept-Encoding: identity",
        "Connection: close",
        "Content-Length: 8",
        f"Host: 127.0.0.1:{receiver.port}",
        "X-Signature: t=1,v1=ab",
    ]
    assert body == b'{"a": 1}'
    assert (response.status_code, response.body, response.error, response.error_message) == (201, "thanks", None, None)


@pytest.mark.parametrize("url", ["http://localhost:{port}/", "http://127.0.0.1:{port}/", "https://example.com:{port}/"])
def test_largest_body_is_sent_completely(url: str) -> None:
    body = bytes(range(256)) * 1024
    tls = server_context("example.com") if url.startswith("https") else None
    with open_receiver(responding(http()), tls, small=True) as receiver:
        assert send(url.format(port=receiver.port), body=body).status_code == 200
    assert receiver.requests[0].endswith(b"\r\n\r\n" + body)


def test_body_of_more_than_256_kb_raises_value_error() -> None:
    with pytest.raises(ValueError, match="262144 bytes"):
        send("http://127.0.0.1:9/", body=b" " * (256 * 1024 + 1))


@pytest.mark.parametrize(
    "name", ["Host", "HOST", "content-length", "Transfer-Encoding", "Connection", "Expect", "Accept-Encoding"]
)
def test_header_of_the_sender_raises_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="Only the sender sets"):
        sender().send("http://127.0.0.1:9/", b"{}", {name: "x"})


@pytest.mark.parametrize("header", [("X-A", "b\r\nX-C: d"), ("X-A\r\nX-C", "d"), ("X-A: b", "c"), ("X-A", "\u20ac")])
def test_invalid_header_raises_value_error_and_sends_nothing(header: tuple[str, str]) -> None:
    with open_receiver(lambda receiver, connection: receiver.wait_for_close(connection)) as receiver:
        with pytest.raises(ValueError, match=r"Invalid header|latin-1"):
            sender().send(receiver.url(), b"{}", dict([header]))
        assert receiver.closed.wait(5)
    assert receiver.requests == []


def test_proxies_and_passwords_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with open_receiver(responding(http())) as receiver:
        assert send(receiver.url()).status_code == 200
    assert b"authorization" not in receiver.requests[0].lower()


def test_connection_is_closed_after_each_delivery() -> None:
    """Also if the receiver keeps it open."""

    def keep_open(receiver: Receiver, connection: socket.socket) -> None:
        receiver.read_request(connection)
        connection.sendall(http("200 OK", b"ok", Connection="keep-alive"))
        receiver.wait_for_close(connection)

    with open_receiver(keep_open) as receiver:
        response = send(receiver.url())
        assert receiver.closed.wait(5)
    assert (response.status_code, response.body) == (200, "ok")


# --- Refused URLs and addresses ---------------------------------------------------------------------------------------


def refuse_connections(patch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Refuse all connections, so that no test reaches a public address. Returns the list of their destinations."""
    destinations: list[tuple[str, int]] = []

    def refuse(destination: tuple[str, int], _timeout: float) -> socket.socket:
        destinations.append(destination)
        raise ConnectionRefusedError

    patch.setattr(CONNECT, refuse)
    return destinations


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Destinations of all connections, which are refused."""
    return refuse_connections(monkeypatch)


@pytest.mark.parametrize("url", REFUSED_URLS, ids=ascii)
def test_hostile_url_is_neither_accepted_nor_sent_to(url: str, connected: list[tuple[str, int]]) -> None:
    resolver = Resolver([ip_address("8.8.8.8")])
    production = sender(allows_loopback=False, resolve=resolver)
    response = send(url, by=production)
    assert error_of(response) is DeliveryError.ADDRESS_REFUSED
    assert response.error_message == f"The URL {REFUSED_URLS[url]}"
    with pytest.raises(WebhookUrlRefused) as refused:
        production.check(url)
    assert refused.value.reason is REFUSED_URLS[url]
    assert (resolver.questions, connected) == ([], [])


@pytest.mark.parametrize("url", REFUSED_IN_DEVELOPMENT)
def test_hostile_url_is_not_sent_to_in_development(url: str, connected: list[tuple[str, int]]) -> None:
    response = send(url)
    assert response.error_message == f"The URL {REFUSED_IN_DEVELOPMENT[url]}"
    assert connected == []


PUBLIC = ip_address("8.8.8.8")


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_name_with_one_forbidden_address_is_refused(
    address: str, position: int, connected: list[tuple[str, int]]
) -> None:
    addresses: list[IpAddress] = [PUBLIC, PUBLIC]
    addresses.insert(position, ip_address(address))
    production = sender(addresses, allows_loopback=False)
    response = send(f"https://{HOST}/", by=production)
    assert error_of(response) is DeliveryError.ADDRESS_REFUSED
    assert response.error_message == f"The URL {REFUSED_ADDRESSES[address]}"
    with pytest.raises(WebhookUrlRefused) as refused:
        production.check(f"https://{HOST}/")
    assert refused.value.reason is REFUSED_ADDRESSES[address]
    assert connected == []


@pytest.mark.parametrize("url", ACCEPTED_URLS, ids=ascii)
def test_public_url_is_accepted_and_connected_to_by_its_address(url: str, connected: list[tuple[str, int]]) -> None:
    production = sender([PUBLIC], allows_loopback=False)
    assert production.check(url) is None
    assert connected == []
    assert error_of(send(url, by=production)) is DeliveryError.CONNECTION_REFUSED
    [(host, _)] = connected
    assert refusal_of_address(ip_address(host), allows_loopback=False) is None


@given(st.lists(st.lists(st.ip_addresses() | st.just(PUBLIC), max_size=5), min_size=2, max_size=4))
def test_name_is_resolved_once_and_only_checked_addresses_are_connected_to(
    answers: Sequence[Sequence[IpAddress]],
) -> None:
    resolver = Resolver(*answers)
    with pytest.MonkeyPatch.context() as patch:
        destinations = refuse_connections(patch)
        send(f"https://{HOST}:8443/", by=sender(allows_loopback=False, resolve=resolver))
    assert resolver.questions == [(HOST, 8443)]
    is_public = all(refusal_of_address(each, allows_loopback=False) is None for each in answers[0])
    assert destinations == ([(str(each), 8443) for each in answers[0][:4]] if is_public else [])


def test_name_that_resolves_to_a_private_address_the_second_time_is_asked_once() -> None:
    """DNS rebinding: the connection goes to the address that was checked."""
    resolver = Resolver([LOOPBACK], [ip_address("10.0.0.1")])
    with open_receiver(responding(http()), server_context(HOST)) as receiver:
        assert send(receiver.url(HOST, "https"), by=sender(resolve=resolver)).status_code == 200
        assert resolver.questions == [(HOST, receiver.port)]
        assert send(receiver.url(HOST, "https"), by=sender(resolve=resolver)).error is DeliveryError.ADDRESS_REFUSED
    assert receiver.connections == 1


def test_only_the_resolver_of_the_sender_sees_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system resolves nothing but literal addresses."""
    resolve, hosts = socket.getaddrinfo, []

    def record(host: str, *args: Any, **options: Any) -> Any:
        hosts.append(host)
        return resolve(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", record)
    with open_receiver(responding(http()), server_context(HOST)) as receiver:
        assert send(receiver.url(HOST, "https")).status_code == 200
    assert set(hosts) <= {"127.0.0.1"}


def test_literal_address_is_not_resolved() -> None:
    resolver = Resolver(OSError())
    with open_receiver(responding(http())) as receiver:
        assert send(receiver.url("127.0.0.1"), by=sender(resolve=resolver)).status_code == 200
    assert resolver.questions == []


def test_system_resolver_returns_addresses_in_order() -> None:
    assert resolve_name("127.0.0.2", 443) == [ip_address("127.0.0.2")]
    assert resolve_name("::1", 443) == [ip_address("::1")]
    assert LOOPBACK in resolve_name("localhost", 443)
    assert WebhookSender(allows_loopback=False).resolve is resolve_name


@pytest.mark.parametrize("answer", [[], socket.gaierror(socket.EAI_NONAME, "x"), OSError(), TimeoutError()], ids=repr)
def test_name_that_does_not_resolve_is_a_warning_and_a_failed_delivery(answer: Sequence[IpAddress] | OSError) -> None:
    by = sender(answer, allows_loopback=False)
    assert by.check(f"https://{HOST}/") == "The host name does not resolve at the moment"
    assert error_of(send(f"https://{HOST}/", by=by)) is DeliveryError.NAME_NOT_RESOLVED


def test_loopback_endpoint_is_accepted_only_in_development() -> None:
    assert sender().check("http://localhost:8080/") is None
    with pytest.raises(WebhookUrlRefused, match=UrlRefusal.NOT_HTTPS):
        sender(allows_loopback=False).check("http://localhost:8080/")
    with pytest.raises(WebhookUrlRefused, match=AddressRefusal.LOOPBACK):
        sender(allows_loopback=False).check(f"https://{HOST}/")


# --- Several addresses ------------------------------------------------------------------------------------------------


def test_next_address_is_used_if_the_first_refuses_the_connection() -> None:
    with open_receiver(responding(http())) as receiver:
        by = sender([ip_address("127.0.0.9"), ip_address("::1"), LOOPBACK])
        assert send(receiver.url("localhost"), by=by).status_code == 200
    assert receiver.connections == 1


def test_request_is_not_sent_again_after_a_connection() -> None:
    """The first receiver may have processed it."""
    with open_receiver(lambda receiver, connection: receiver.read_request(connection)) as receiver:
        by = sender([LOOPBACK, LOOPBACK])
        assert error_of(send(receiver.url("localhost"), by=by)) is DeliveryError.CONNECTION_CLOSED
    assert receiver.connections == 1


def test_each_attempt_to_connect_gets_an_equal_share_of_the_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, timeouts = [0.0], []

    def time_out(_destination: tuple[str, int], timeout: float) -> socket.socket:
        timeouts.append(timeout)
        now[0] += timeout
        raise TimeoutError

    monkeypatch.setattr(CONNECT, time_out)
    response = send(f"https://{HOST}/", by=sender([PUBLIC] * 9, clock=lambda: now[0]), seconds=12)
    assert error_of(response) is DeliveryError.TIMEOUT
    assert timeouts == [3.0, 3.0, 3.0, 3.0]
    assert response.latency_ms == 12_000
