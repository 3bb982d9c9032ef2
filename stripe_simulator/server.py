"""The simulator as an HTTP server: the API, the hosted pages and the control surface on one port."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stripe_simulator import agenda
from stripe_simulator.api import ROUTES, Api, Call, encoded
from stripe_simulator.control import control_routes
from stripe_simulator.faults import Fault, take
from stripe_simulator.idempotency import Answer
from stripe_simulator.pages import page_routes
from stripe_simulator.shapes import ShapeViolation
from stripe_simulator.webhooks import ATTEMPT_TIMEOUT, Deliveries
from stripe_simulator.world import Settings, World

LOGGER = logging.getLogger("stripe_simulator")
TICK_SECONDS = 1.0
START_DEADLINE = 10.0
METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]


class Server:
    """One simulated Stripe: its world, its API and how often that was called, its deliveries and its faults."""

    def __init__(self, settings: Settings, base_url: str) -> None:
        self._base_url = base_url
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.deliveries: Deliveries
        self._begin(settings)

    def _begin(self, settings: Settings) -> None:
        self.world = World(agenda.due, settings, self._base_url)
        self.api = Api(self.world)
        self.faults.clear()
        self.calls.clear()

    async def reset(self, settings: Settings) -> None:
        """Forget everything and begin again as a new account."""
        await self.deliveries.close()
        self._begin(settings)
        self.deliveries = Deliveries(self.world, self.deliveries.client)

    def app(self) -> ASGIApp:
        """Return the ASGI application."""
        routes = [
            *control_routes(self),
            *page_routes(self),
            Route("/{path:path}", self._serve_api, methods=METHODS),
        ]
        return _with_abort(Starlette(routes=routes, lifespan=self._lifespan))

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=ATTEMPT_TIMEOUT, trust_env=False) as client:
            self.deliveries = Deliveries(self.world, client)
            ticking = asyncio.get_running_loop().create_task(self._tick())
            yield
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            await self.deliveries.close()

    async def _tick(self) -> None:
        """Let time do its work while nobody calls."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self._settle()
            except ShapeViolation:
                LOGGER.exception("a mistake of the simulator: what was due has not happened")

    def _settle(self) -> None:
        agenda.settle(self.world, self.world.now())
        self.deliveries.dispatch()

    async def _serve_api(self, request: Request) -> Response:
        self._settle()
        call = Call(request.method, request.url.path, request.url.query, await request.body(), request.headers)
        self.calls[_operation(call)] += 1
        fault = take(self.faults, call.method, call.path)
        if fault is None:
            return self._response(await self.api.answer(call))
        if fault.kind.startswith("slow"):
            return self._response(await self.api.answer(call, hesitation=fault.argument))
        if fault.when == "after":
            await self.api.answer(call)
            self.deliveries.dispatch()
        return _faulty(fault, request, self.api.common_headers())

    def _response(self, answer: Answer) -> Response:
        self.deliveries.dispatch()
        return Response(encoded(answer), answer.status, dict(answer.headers), "application/json")


def _operation(call: Call) -> str:
    """What a call asks for, without the ids in it: `GET /v1/subscriptions/{}`."""
    for route in ROUTES:
        if route.method == call.method and route.pattern.fullmatch(call.path):
            return f"{route.method} {route.path}"
    return "unknown"


def _faulty(fault: Fault, request: Request, headers: dict[str, str]) -> Response:
    if fault.kind == "nonsense":
        return Response("<html>Bad gateway?</html>", 200, headers, "text/html")
    if fault.kind in {"timeout", "reset"}:
        return _NoResponse(request.scope["abort"] if fault.kind == "reset" else None)
    status = int(fault.argument)
    error = {"type": "api_error", "message": "Sorry! There was an error while talking to one of our backends."}
    if status == 429:
        error = {
            "type": "invalid_request_error",
            "code": "rate_limit",
            "message": "Too many requests in too short a time.",
        }
    return Response(encoded(Answer(status, {"error": error}, {})), status, headers, "application/json")


class _NoResponse(Response):
    """Never answers: breaks the connection, or keeps it until the client gives up."""

    def __init__(self, abort: Callable[[], None] | None) -> None:
        super().__init__()
        self._abort = abort

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        if self._abort:
            self._abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def _with_abort(app: ASGIApp) -> ASGIApp:
    """Put a way to break the connection into the scope.

    ASGI has none; uvicorn's ``send`` is a method of the request's cycle, which holds the transport.
    """

    async def wrapped(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["abort"] = send.__self__.transport.abort  # type: ignore[attr-defined]
        await app(scope, receive, send)

    return wrapped


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that a taken port fails here and port 0 is known before anything starts.

    Raises:
        OSError: The address cannot be had.
    """
    # asyncio switches Nagle's delay off only for sockets that name their protocol; it costs 40 ms a request.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.listen(256)
    return listening


def uvicorn_server(server: Server) -> uvicorn.Server:
    """Return the HTTP server; its own Date header would not follow the simulator's clock."""
    config = uvicorn.Config(
        server.app(),
        log_level="warning",
        access_log=False,
        date_header=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator: where it is, and what it consists of for whoever lives in the same process."""

    url: str
    server: Server


@contextmanager
def running_simulator(port: int = 0, host: str = "127.0.0.1", settings: Settings | None = None) -> Iterator[Simulator]:
    """Run a simulator in a thread of this process.

    Args:
        port: 0 takes a free one.
        host: The address to listen on.
        settings: The account's settings.

    Yields:
        The simulator, ready to be called.

    Raises:
        OSError: The port is taken.
        TimeoutError: It did not start.
    """
    listening = bound_socket(host, port)
    url = f"http://{host}:{listening.getsockname()[1]}"
    server = Server(settings or Settings(), url)
    http = uvicorn_server(server)
    thread = threading.Thread(target=http.run, kwargs={"sockets": [listening]}, name="stripe-simulator", daemon=True)
    thread.start()
    try:
        _wait_until_started(http)
        yield Simulator(url, server)
    finally:
        http.should_exit = True
        thread.join(START_DEADLINE)
        listening.close()


def _wait_until_started(http: uvicorn.Server) -> None:
    waiting = threading.Event()
    for _ in range(int(START_DEADLINE * 100)):
        if http.started:
            return
        waiting.wait(0.01)
    raise TimeoutError("the Stripe simulator did not start")
