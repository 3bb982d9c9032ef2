"""Local HTTP server for tests of HTTP clients: it records the requests and sends prepared answers."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SILENCE_SECONDS = 3.0


@dataclass(frozen=True)
class Request:
    """Recorded request.

    Attributes:
        method: The HTTP method.
        path: The path without the query.
        form: The parameters of a POST body, or else of the query.
        headers: The headers by name in lower case.
        body: The body.
    """

    method: str
    path: str
    form: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """Prepared answer.

    Attributes:
        status: The HTTP status.
        body: The body.
        headers: The headers, which may replace `content-length`.
        cut: Close the connection instead of answering.
        silent: Wait SILENCE_SECONDS and close the connection instead of answering.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=lambda: {"date": "Sat, 21 Nov 2026 12:00:00 GMT"})
    cut: bool = False
    silent: bool = False


@dataclass
class Wire:
    """The server's answers and recorded requests. The answers are sent in order; the last one repeats."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    _released: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """Discard the requests, and send the default answer from now on."""
        self._released = threading.Event()
        self.answer(Answer())

    def release_silent_connections(self) -> None:
        """Close the connections of silent answers without waiting any longer."""
        self._released.set()

    def wait_in_silence(self) -> None:
        """Wait SILENCE_SECONDS, or until the silent connections are released."""
        self._released.wait(SILENCE_SECONDS)

    def answer(self, *answers: Answer) -> None:
        """Send these answers from now on, and discard the recorded requests."""
        self.answers[:] = answers
        self.requests.clear()

    @property
    def only(self) -> Request:
        """The only recorded request."""
        [request] = self.requests
        return request

    def receive(self, request: Request) -> Answer:
        """Record a request and return its answer."""
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def open_wire() -> Iterator[Wire]:
    """Run a server on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        """One connection, kept alive as by Stripe and DynamoDB."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1  # sends head and body in one packet; a second packet would take 40 ms

        def _serve(self) -> None:
            answer = wire.receive(_received(self))
            if answer.silent:
                wire.wait_in_silence()
            if answer.cut or answer.silent:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in ({"content-length": str(len(answer.body))} | dict(answer.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - names that http.server requires

        def log_message(self, *_args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    wire = Wire(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield wire
    finally:
        wire.release_silent_connections()
        server.shutdown()
        server.server_close()
        thread.join()


def _received(handler: BaseHTTPRequestHandler) -> Request:
    parts = urlsplit(handler.path)
    body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
    sent = body.decode(errors="replace") if handler.command == "POST" else parts.query
    return Request(
        method=handler.command,
        path=parts.path,
        form={name: ",".join(values) for name, values in parse_qs(sent, keep_blank_values=True).items()},
        headers={name.lower(): value for name, value in handler.headers.items()},
        body=body,
    )
