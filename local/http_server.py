"""HTTP server of the local environment: serves the deployed routes and invokes the deployed functions.

The AWS emulator stores the API and the functions, but does not route requests to functions.
`python -m local.http_server --port 8000 --stack NAME --code DIR` does, with the emulator's URL in AWS_ENDPOINT_URL.
Functions run under AWS's runtime client, and their logs are printed.
"""

import argparse
import asyncio
import os
import sys
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from local import gateway, stack
from local.runtime_api import DeployedFunction, ExecutionEnvironment, InvocationResult, make_runtime_dir

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ENVIRONMENTS_MAX = 8
"""Default maximum of execution environments per function. Further requests wait."""


class EnvironmentPool:
    """Execution environments of one function. Each runs one invocation at a time and is reused."""

    def __init__(self, function: DeployedFunction, runtime_dir: Path, environments_max: int) -> None:
        self._function = function
        self._runtime_dir = runtime_dir
        self._slots = asyncio.Semaphore(environments_max)
        self._idle: list[ExecutionEnvironment] = []
        self._threads = ThreadPoolExecutor(environments_max)

    async def invoke(self, event: dict[str, Any], request_id: str) -> InvocationResult:
        """Invoke the function in an idle environment or a new one."""
        async with self._slots:
            environment = self._idle.pop() if self._idle else self._new()
            result = await asyncio.get_running_loop().run_in_executor(
                self._threads, environment.invoke, event, request_id
            )
            if environment.is_alive:
                self._idle.append(environment)
        return result

    def _new(self) -> ExecutionEnvironment:
        return ExecutionEnvironment(self._function, self._runtime_dir, log=sys.stdout.fileno())


class HttpServer:
    """ASGI application of a deployed API. `functions` maps function names to their environments."""

    def __init__(self, api: gateway.DeployedApi, functions: Mapping[str, EnvironmentPool]) -> None:
        self._api = api
        self._functions = functions

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Handle one HTTP request."""
        http = HttpRequest(scope, receive)
        body = await _read_body(http)
        request = _request(http, body or b"")
        response = gateway.TOO_LARGE if body is None else await self._respond(request)
        response = gateway.with_cors(self._api.cors, request, response)
        http_response = HttpResponse(response.body, response.status)
        for name, value in (*response.headers, ("apigw-requestid", request.request_id)):
            http_response.headers.append(name, value)
        await http_response(scope, receive, send)

    async def _respond(self, request: gateway.Request) -> gateway.Response:
        match = gateway.match_route(self._api.routes, request.method, request.target)
        if match is None:
            return gateway.Response(204, (), b"") if gateway.is_preflight(request) else gateway.NOT_FOUND
        route, parameters = match
        event = gateway.request_event(self._api, route, parameters, request)
        result = await self._functions[route.function].invoke(event, request.request_id)
        if not result.succeeded:
            print(f"{route.function} failed: {result.payload}", flush=True)
            return gateway.FUNCTION_FAILED
        return gateway.function_response(result.payload)


async def _read_body(http: HttpRequest) -> bytes | None:
    """Return the body, or None if it exceeds API Gateway's limit. Stops reading at the limit."""
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > gateway.BODY_BYTES_MAX:
            return None
    return bytes(body)


def _request(http: HttpRequest, body: bytes) -> gateway.Request:
    source_ip = http.client.host if http.client else "127.0.0.1"
    forwarded = (
        ("x-forwarded-for", source_ip),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", str(http.url.port)),
    )
    received = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in http.headers.raw)
    return gateway.Request(
        method=http.method,
        target=http.scope["raw_path"].decode("latin-1"),
        query=http.scope["query_string"].decode("latin-1"),
        headers=received + forwarded,
        body=body,
        source_ip=source_ip,
        protocol=f"HTTP/{http.scope['http_version']}",
        request_id=str(uuid.uuid4()),
        received_at=datetime.now(UTC),
    )


def main() -> None:
    """Serve until the process is stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m local.http_server", description="Serve a deployed stack's HTTP API."
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--code", type=Path, required=True, help="directory for the functions' code")
    parser.add_argument(
        "--environments", type=int, default=ENVIRONMENTS_MAX, help="maximum of execution environments per function"
    )
    arguments = parser.parse_args()
    api = stack.read_api(os.environ, arguments.stack, domain_name=f"127.0.0.1:{arguments.port}")
    runtime_dir = make_runtime_dir(arguments.code / "runtime")
    functions = {
        name: EnvironmentPool(
            stack.fetch_function(os.environ, name, arguments.code), runtime_dir, arguments.environments
        )
        for name in {route.function for route in api.routes}
    }
    # The log contains the output of the functions only: no access log.
    uvicorn.run(
        HttpServer(api, functions),
        host="127.0.0.1",
        port=arguments.port,
        lifespan="off",
        server_header=False,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
