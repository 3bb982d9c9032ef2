"""HTTP server with the API, the hosted pages and the control surface on one port."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stripe_simulator import scheduler
from stripe_simulator.api import ROUTES, SimulatedApi, SimulatedRequest, StoredFailure, encode_body
from stripe_simulator.control import control_routes
from stripe_simulator.faults import Fault, take_matching_fault
from stripe_simulator.idempotency import SimulatedResponse
from stripe_simulator.pages import page_routes
from stripe_simulator.response_validation import InvalidObject
from stripe_simulator.state import SimulatorSettings, SimulatorState
from stripe_simulator.webhooks import ATTEMPT_TIMEOUT_SECONDS, Deliveries

LOGGER = logging.getLogger("stripe_simulator")
TICK_SECONDS = 1.0
START_DEADLINE_SECONDS = 10.0
METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]


class Server:
    """One simulated Stripe account: state, API, webhook deliveries, injected faults and number of API calls."""

    def __init__(self, settings: SimulatorSettings, base_url: str) -> None:
        self._base_url = base_url
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.deliveries: Deliveries
        self._create_state(settings)

    def _create_state(self, settings: SimulatorSettings) -> None:
        self.state = SimulatorState(scheduler.next_due, settings, self._base_url)
        self.api = SimulatedApi(self.state)
        self.faults.clear()
        self.calls.clear()

    async def reset(self, settings: SimulatorSettings) -> None:
        """Delete all data and start with an empty account."""
        await self.deliveries.close()
        self._create_state(settings)
        self.deliveries = Deliveries(self.state, self.deliveries.client)

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
        async with httpx.AsyncClient(timeout=ATTEMPT_TIMEOUT_SECONDS, trust_env=False) as client:
            self.deliveries = Deliveries(self.state, client)
            ticker = asyncio.get_running_loop().create_task(self._tick())
            yield
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
            await self.deliveries.close()

    async def _tick(self) -> None:
        """Run due timers every second, even if no request arrives."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self._run_due()
            except InvalidObject:
                LOGGER.exception("Simulator bug: a due timer failed")

    def _run_due(self) -> None:
        scheduler.run_due(self.state, self.state.now())
        self.deliveries.dispatch()

    async def _serve_api(self, request: Request) -> Response:
        self._run_due()
        api_request = SimulatedRequest(
            request.method, request.url.path, request.url.query, await request.body(), request.headers
        )
        self.calls[_operation_name(api_request)] += 1
        fault = take_matching_fault(self.faults, api_request.method, api_request.path)
        if fault is None:
            return self._response(await self.api.handle(api_request))
        if fault.kind.startswith("slow"):
            return self._response(await self.api.handle(api_request, delay_seconds=fault.argument))
        if fault.kind.startswith("date"):
            date = formatdate(self.state.now() + fault.argument, usegmt=True)
            response = await self.api.handle(api_request)
            return self._response(replace(response, headers={**response.headers, "Date": date}))
        if fault.stored:
            failure = StoredFailure(_error_response(fault), executes=fault.when == "after")
            return self._response(await self.api.handle(api_request, failure=failure))
        if fault.when == "after":
            await self.api.handle(api_request)
            self.deliveries.dispatch()
        return _fault_response(fault, request, self.api.common_headers())

    def _response(self, response: SimulatedResponse) -> Response:
        self.deliveries.dispatch()
        return Response(encode_body(response), response.status, dict(response.headers), "application/json")


def _operation_name(api_request: SimulatedRequest) -> str:
    """Return the method and path of an operation, with ``{}`` for each id: ``GET /v1/subscriptions/{}``."""
    for route in ROUTES:
        if route.method == api_request.method and route.pattern.fullmatch(api_request.path):
            return f"{route.method} {route.path}"
    return "unknown"


def _fault_response(fault: Fault, request: Request, headers: dict[str, str]) -> Response:
    if fault.kind == "nonsense":
        return Response("<html>Bad gateway?</html>", 200, headers, "text/html")
    if fault.kind in {"timeout", "reset"}:
        return _NoResponse(request.scope["abort"] if fault.kind == "reset" else None)
    response = _error_response(fault)
    return Response(encode_body(response), response.status, headers, "application/json")


def _error_response(fault: Fault) -> SimulatedResponse:
    status = int(fault.argument)
    error = {"type": "api_error", "message": "Sorry! There was an error while talking to one of our backends."}
    if status == 429:
        error = {
            "type": "invalid_request_error",
            "code": "rate_limit",
            "message": "Too many requests in too short a time.",
        }
    if fault.code:
        error |= {"type": "invalid_request_error", "code": fault.code}
    return SimulatedResponse(status, {"error": error}, {})


class _NoResponse(Response):
    """No response: reset the connection, or keep it open until the client closes it."""

    def __init__(self, abort: Callable[[], None] | None) -> None:
        super().__init__()
        self._abort = abort

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        if self._abort:
            self._abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def _with_abort(app: ASGIApp) -> ASGIApp:
    """Add ``abort`` to the scope: a function that resets the connection.

    ASGI has no such function. In uvicorn, ``send`` is a method of the request cycle, which has the transport.
    """

    async def wrapped(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["abort"] = send.__self__.transport.abort  # type: ignore[attr-defined]
        await app(scope, receive, send)

    return wrapped


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    The socket is bound before the server starts. A port in use fails here, and port 0 gets its number here.

    Raises:
        OSError: The address or port is not available.
    """
    # asyncio disables Nagle's algorithm only if the socket sets its protocol. Its delay is 40 ms a request.
    server_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server_socket.bind((host, port))
    except OSError:
        server_socket.close()
        raise
    server_socket.listen(256)
    return server_socket


def uvicorn_server(server: Server) -> uvicorn.Server:
    """Return the HTTP server. Its own ``Date`` header is off, because it does not follow the simulator's clock."""
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
    """A running simulator.

    Attributes:
        url: The base URL.
        server: The server, for code in the same process.
    """

    url: str
    server: Server


@contextmanager
def running_simulator(
    port: int = 0, host: str = "127.0.0.1", settings: SimulatorSettings | None = None
) -> Iterator[Simulator]:
    """Run a simulator in a thread of this process.

    Args:
        port: The port to listen on; 0 selects a free port.
        host: The address to listen on.
        settings: The account's settings.

    Yields:
        The simulator, ready for requests.

    Raises:
        OSError: The port is in use.
        TimeoutError: The server did not start within 10 seconds.
    """
    server_socket = bound_socket(host, port)
    url = f"http://{host}:{server_socket.getsockname()[1]}"
    server = Server(settings or SimulatorSettings(), url)
    http = uvicorn_server(server)
    thread = threading.Thread(
        target=http.run, kwargs={"sockets": [server_socket]}, name="stripe-simulator", daemon=True
    )
    thread.start()
    try:
        _wait_until_started(http)
        yield Simulator(url, server)
    finally:
        http.should_exit = True
        thread.join(START_DEADLINE_SECONDS)
        server_socket.close()


def _wait_until_started(http: uvicorn.Server) -> None:
    waiting = threading.Event()
    for _ in range(int(START_DEADLINE_SECONDS * 100)):
        if http.started:
            return
        waiting.wait(0.01)
    raise TimeoutError(f"the Stripe simulator did not start within {START_DEADLINE_SECONDS:.0f} s")
