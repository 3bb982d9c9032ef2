"""Tests of the receiver of `billing webhooks listen`, over real sockets."""

import base64
import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from standardwebhooks import Webhook

from billing.adapters.webhook_sender import REQUEST_BYTES_MAX, WebhookSender
from billing.domain.webhook_deliveries import AttemptResult
from cli.webhook_receiver import WebhookReceiver, is_receiving
from local.ports import free_port
from tests.wire import Answer, Wire

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
EVENT = {"id": "msg_1", "type": "invoice.paid", "account_id": "acme", "sequence": 1}


@dataclass
class Shown:
    """Everything that a receiver showed."""

    deliveries: list[tuple[Mapping[str, Any], AttemptResult | None]] = field(default_factory=list)
    rejections: list[str] = field(default_factory=list)


@dataclass
class Running:
    """A receiver that runs."""

    url: str
    shown: Shown

    def post(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request to the receiver."""
        return httpx.post(self.url, content=body, headers=dict(headers), trust_env=False)


@contextmanager
def running(forward_to: str | None = None) -> Iterator[Running]:
    """Run a receiver."""
    shown = Shown()
    receiver = WebhookReceiver(
        lambda event, forwarded: shown.deliveries.append((event, forwarded)), shown.rejections.append, forward_to
    )
    with receiver, receiver.serving(SECRET):
        yield Running(receiver.url, shown)


@pytest.fixture
def receiver() -> Iterator[Running]:
    """Receiver that forwards nothing."""
    with running() as started:
        yield started


def signed(body: bytes, *, at: datetime | None = None, secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a signed delivery."""
    now = at or datetime.now(UTC)
    return {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body.decode()),
    }


BODY = json.dumps(EVENT).encode()


# --- Verification -----------------------------------------------------------------------------------------------------


def test_signed_delivery_is_shown_and_accepted(receiver: Running) -> None:
    assert receiver.post(BODY, signed(BODY)).status_code == 204
    assert receiver.shown == Shown([(EVENT, None)])


def test_delivery_with_one_valid_signature_of_two_is_accepted(receiver: Running) -> None:
    """As during a rotation of the secret."""
    other = f"whsec_{base64.b64encode(b'x' * 32).decode()}"
    headers = signed(BODY)
    headers["webhook-signature"] = f"{signed(BODY, secret=other)['webhook-signature']} {headers['webhook-signature']}"
    assert receiver.post(BODY, headers).status_code == 204


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,not base64"},
        {"webhook-signature": "v1,a,b"},
        {"webhook-signature": ""},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "1e400"},
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
    ],
    ids=str,
)
def test_delivery_with_wrong_headers_is_rejected(receiver: Running, change: dict[str, str]) -> None:
    assert receiver.post(BODY, signed(BODY) | change).status_code == 400
    assert receiver.shown.deliveries == []
    assert len(receiver.shown.rejections) == 1


@pytest.mark.parametrize("minutes", [-6, 6])
def test_delivery_with_timestamp_more_than_five_minutes_off_is_rejected(receiver: Running, minutes: int) -> None:
    headers = signed(BODY, at=datetime.now(UTC) + timedelta(minutes=minutes))
    assert receiver.post(BODY, headers).status_code == 400
    assert receiver.shown.deliveries == []


def test_delivery_with_changed_body_is_rejected(receiver: Running) -> None:
    assert receiver.post(BODY.replace(b"acme", b"evil"), signed(BODY)).status_code == 400
    assert receiver.shown.deliveries == []


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'"text"'])
def test_signed_body_that_is_no_json_object_is_rejected(receiver: Running, body: bytes) -> None:
    assert receiver.post(body, signed(body)).status_code == 400
    assert receiver.shown.deliveries == []


def test_body_that_is_not_utf_8_is_rejected(receiver: Running) -> None:
    assert receiver.post(b"\xff\xfe", signed(BODY)).status_code == 400


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_other_path_returns_404(receiver: Running) -> None:
    """The path cannot be guessed, so another program on this machine cannot fill the terminal."""
    other = receiver.url.rpartition("/")[0] + "/hooks"
    assert httpx.post(other, content=BODY, headers=signed(BODY), trust_env=False).status_code == 404
    assert httpx.get(other, trust_env=False).status_code == 404
    assert receiver.shown == Shown()


@pytest.mark.parametrize(
    "header", [f"Content-Length: {REQUEST_BYTES_MAX + 1}", "Content-Length: many", "Transfer-Encoding: chunked"]
)
def test_body_without_length_or_beyond_the_limit_returns_413_unread(receiver: Running, header: str) -> None:
    parts = urlsplit(receiver.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as client, client.makefile("rb") as answer:
        client.sendall(f"POST {parts.path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        assert answer.readline().startswith(b"HTTP/1.1 413 ")
    assert receiver.shown == Shown()


def test_ten_deliveries_at_the_same_time_are_all_shown(receiver: Running) -> None:
    """The delivery function sends a batch of ten requests at once."""
    bodies = [json.dumps(EVENT | {"sequence": number}).encode() for number in range(10)]
    send = WebhookSender(allows_loopback=True).send
    with ThreadPoolExecutor(len(bodies)) as pool:
        results = list(pool.map(lambda body: send(receiver.url, body, signed(body)), bodies))
    assert [result.status_code for result in results] == [204] * len(bodies)
    assert sorted(event["sequence"] for event, _ in receiver.shown.deliveries) == list(range(10))


def test_client_that_closes_the_connection_causes_no_traceback(
    receiver: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = urlsplit(receiver.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as client:
        # Closing sends a reset.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(f"POST {parts.path} HTTP/1.1\r\nContent-Length: 99\r\n".encode())
    assert receiver.post(BODY, signed(BODY)).status_code == 204
    assert capsys.readouterr().err == ""


def test_deliveries_wait_until_the_receiver_knows_its_secret() -> None:
    """The endpoint is registered after the port is open, so that no event is refused."""
    shown = Shown()
    receiver = WebhookReceiver(lambda event, _: shown.deliveries.append((event, None)), shown.rejections.append, None)
    with ThreadPoolExecutor(1) as pool, receiver:
        early = pool.submit(WebhookSender(allows_loopback=True).send, receiver.url, BODY, signed(BODY))
        threading.Event().wait(0.2)
        assert not early.done()
        with receiver.serving(SECRET):
            assert early.result(5).status_code == 204
    assert shown == Shown([(EVENT, None)])


# --- Forwarding -------------------------------------------------------------------------------------------------------


def test_forwarded_request_has_the_same_headers_and_body(wire: Wire) -> None:
    wire.answer(Answer(200, b"fine"))
    headers = signed(BODY) | {"user-agent": "serverless-billing-webhooks/1", "x-other": "kept"}
    with running(f"{wire.url}/my/hooks") as receiver:
        result = WebhookSender(allows_loopback=True).send(receiver.url, BODY, headers)
    assert (result.status_code, result.body) == (200, "fine")
    forwarded = wire.only
    assert (forwarded.path, forwarded.body) == ("/my/hooks", BODY)
    assert {name: forwarded.headers[name] for name in headers} == headers
    assert forwarded.headers.keys() - headers.keys() == {"host", "content-length", "accept-encoding", "connection"}
    [(event, response)] = receiver.shown.deliveries
    assert (event, response and response.status_code) == (EVENT, 200)


@pytest.mark.parametrize("status", [204, 302, 400, 410, 429, 500, 503])
def test_response_of_the_forwarded_request_is_the_response(wire: Wire, status: int) -> None:
    wire.answer(Answer(status, b"" if status == 204 else b"answer", {"Retry-After": "7"}))
    with running(wire.url) as receiver:
        response = receiver.post(BODY, signed(BODY))
    assert (response.status_code, response.text) == (status, "" if status == 204 else "answer")
    assert response.headers["retry-after"] == "7"


def test_forward_url_that_refuses_the_connection_returns_502() -> None:
    with running(f"http://127.0.0.1:{free_port()}/hooks") as receiver:
        response = receiver.post(BODY, signed(BODY))
    assert response.status_code == 502
    assert "refused the connection" in response.text
    [(event, result)] = receiver.shown.deliveries
    assert (event, result and result.error) == (EVENT, "connection_refused")


def test_request_without_valid_signature_is_not_forwarded(wire: Wire) -> None:
    wire.answer(Answer())
    with running(wire.url) as receiver:
        assert receiver.post(BODY, {}).status_code == 400
    assert wire.requests == []


# --- Leftovers --------------------------------------------------------------------------------------------------------


def test_is_receiving_while_the_receiver_runs(receiver: Running) -> None:
    assert is_receiving(receiver.url)
    assert not is_receiving(f"{receiver.url}x")


def test_is_not_receiving_after_the_receiver_has_ended() -> None:
    with running() as receiver:
        url = receiver.url
    assert not is_receiving(url)


def test_is_not_receiving_if_another_server_took_the_port(wire: Wire) -> None:
    for answer in (Answer(204, b""), Answer(200), Answer(404), Answer(cut=True)):
        wire.answer(answer)
        assert not is_receiving(f"{wire.url}/path")


def test_is_receiving_without_a_response_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that starts or was suspended must not lose its endpoint."""
    monkeypatch.setattr("cli.webhook_receiver.PROBE_SECONDS_MAX", 0.1)
    with WebhookReceiver(_ignore, _ignore, None) as receiver:
        assert is_receiving(receiver.url)


def _ignore(*_: object) -> None: ...
