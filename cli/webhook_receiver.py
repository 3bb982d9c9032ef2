"""HTTP server on this machine that receives webhook deliveries, for `billing webhooks listen`."""

import http.client
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from standardwebhooks import Webhook, WebhookVerificationError

from billing.adapters.webhook_sender import REQUEST_BYTES_MAX, SENDER_HEADERS, WebhookSender
from billing.domain.webhook_deliveries import AttemptResult

LOOPBACK = "127.0.0.1"
SERVER_NAME = "billing-webhooks-listen"
"""`Server` header, by which another receiver recognizes this one."""
FORWARD_SECONDS_MAX = 12
"""Shorter than the time that an endpoint has to respond (15 seconds)."""
PROBE_SECONDS_MAX = 2
STATUSES_WITHOUT_BODY = frozenset({204, 304})

type ShowDelivery = Callable[[Mapping[str, Any], AttemptResult | None], None]
"""Function that shows an event, and the response to the forwarded request if there was one."""
type ShowRejection = Callable[[str], None]
"""Function that shows why a request was rejected."""


class WebhookReceiver(ThreadingTCPServer):
    """Receiver of the deliveries to one endpoint. It listens on a free port once it is created.

    Attributes:
        url: URL of the endpoint, with a path that cannot be guessed.
    """

    daemon_threads = True
    # The delivery function sends ten requests at the same time.
    request_queue_size = 64

    def __init__(self, show_delivery: ShowDelivery, show_rejection: ShowRejection, forward_to: str | None) -> None:
        super().__init__((LOOPBACK, 0), _DeliveryHandler)
        self.path = f"/{secrets.token_urlsafe(16)}"
        self.url = f"http://{LOOPBACK}:{self.server_address[1]}{self.path}"
        self.show_rejection = show_rejection
        self._show_delivery = show_delivery
        self._forward_to = forward_to
        self._secret: str | None = None

    @contextmanager
    def serving(self, secret: str) -> Iterator[None]:
        """Accept deliveries that are signed with a secret. Earlier connections wait until then."""
        self._secret = secret
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        try:
            yield
        finally:
            self.shutdown()

    def verify(self, body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the event of a delivery.

        Raises:
            WebhookVerificationError: The signature is invalid or the timestamp is more than five minutes off.
        """
        try:
            event = Webhook(self._secret or "").verify(body, dict(headers))
        except ValueError as error:
            raise WebhookVerificationError("Malformed headers or body") from error
        if not isinstance(event, dict):
            raise WebhookVerificationError("The body is not a JSON object")
        return event

    def accept(self, event: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> AttemptResult | None:
        """Forward a delivery, if the receiver forwards, and show it. Returns the response."""
        result = None
        if self._forward_to is not None:
            forwarded = {name: value for name, value in headers.items() if name.lower() not in SENDER_HEADERS}
            sender = WebhookSender(allows_loopback=True)
            result = sender.send(self._forward_to, body, forwarded, timeout_seconds=FORWARD_SECONDS_MAX)
        self._show_delivery(event, result)
        return result

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's own types
        """Report the error, unless the client closed the connection."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _DeliveryHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = SERVER_NAME
    sys_version = ""
    timeout = FORWARD_SECONDS_MAX
    disable_nagle_algorithm = True
    server: WebhookReceiver

    def do_GET(self) -> None:
        """Respond that the receiver of this path runs."""
        self._respond(204 if self.path == self.server.path else 404)

    def do_POST(self) -> None:
        """Verify and accept a delivery. The response is that of the forwarded request, if there is one."""
        length = self.headers.get("Content-Length", "")
        if self.path != self.server.path or not length.isdecimal() or int(length) > REQUEST_BYTES_MAX:
            self.close_connection = True
            self._respond(404 if self.path != self.server.path else 413)
            return
        body = self.rfile.read(int(length))
        headers = dict(self.headers.items())
        try:
            event = self.server.verify(body, headers)
        except WebhookVerificationError as error:
            self.server.show_rejection(str(error))
            self._respond(400, str(error))
            return
        result = self.server.accept(event, body, headers)
        if result is None:
            self._respond(204)
        elif result.status_code is None:
            self._respond(502, result.error_message or "")
        else:
            wait = result.retry_after
            self._respond(result.status_code, result.body, int(wait.total_seconds()) if wait is not None else None)

    def _respond(self, status: int, body: str = "", retry_after: int | None = None) -> None:
        content = b"" if status in STATUSES_WITHOUT_BODY else body.encode()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        if status not in STATUSES_WITHOUT_BODY:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Write no access log."""


def is_receiving(url: str) -> bool:
    """Return False if the receiver of a URL on this machine has ended. Without a response in time, it may still run."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PROBE_SECONDS_MAX)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response.status == 204 and (response.headers["Server"] or "").startswith(SERVER_NAME)
    except TimeoutError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
