"""A server at the other end of a real HTTP client: it records what was sent and answers what it was told."""

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
    """What was sent. Header names are in lower case; `form` holds the parameters of the query or of a form body."""

    method: str
    path: str
    form: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What comes back. `cut` ends the connection instead; `silent` says nothing for 3 s before that."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=lambda: {"date": "Sat, 21 Nov 2026 12:00:00 GMT"})
    cut: bool = False
    silent: bool = False


@dataclass
class Wire:
    """The server's side: `answers` are given in turn, the last one again and again."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """Begin anew."""
        self.hung_up = threading.Event()
        self.answer(Answer())

    def hang_up(self) -> None:
        """End the connections that were kept waiting."""
        self.hung_up.set()

    def answer(self, *answers: Answer) -> None:
        """From now on these, and forget what was recorded."""
        self.answers[:] = answers
        self.requests.clear()

    @property
    def only(self) -> Request:
        """The one request that was made."""
        [request] = self.requests
        return request

    def take(self, request: Request) -> Answer:
        """Record a request and choose its answer."""
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def open_wire() -> Iterator[Wire]:
    """A server on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        """One connection, kept alive as Stripe and DynamoDB do."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, or the client waits 40 ms for the second

        def _serve(self) -> None:
            answer = wire.take(_received(self))
            if answer.silent:
                wire.hung_up.wait(SILENCE_SECONDS)
            if answer.cut or answer.silent:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in ({"content-length": str(len(answer.body))} | dict(answer.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    wire = Wire(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield wire
    finally:
        wire.hang_up()
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
