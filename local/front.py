"""The HTTP front of the local world: serves the deployed stack's API and runs its functions, as AWS would.

The AWS emulator takes the API's definition and the functions, but does not join them. This does:
`python -m local.front --port 8000 --stack NAME --code DIR`, with AWS_ENDPOINT_URL naming the emulator. The functions
run under AWS's own runtime client; what they log is printed.
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
from local.runtime_api import ExecutionEnvironment, Function, Result, make_runtime_dir

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ENVIRONMENTS_MAX = 8
"""How many execution environments a function may have, unless told otherwise; a further request waits."""


class Environments:
    """The execution environments of one function: each runs one invocation at a time, and is used again."""

    def __init__(self, function: Function, runtime_dir: Path, environments_max: int) -> None:
        self._function = function
        self._runtime_dir = runtime_dir
        self._slots = asyncio.Semaphore(environments_max)
        self._idle: list[ExecutionEnvironment] = []
        self._threads = ThreadPoolExecutor(environments_max)

    async def invoke(self, event: dict[str, Any], request_id: str) -> Result:
        """Run the function on an event in an idle environment, or in a new one."""
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


class Front:
    """The ASGI application of one deployed API, whose `functions` are given by their names."""

    def __init__(self, api: gateway.Api, functions: Mapping[str, Environments]) -> None:
        self._api = api
        self._functions = functions

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one HTTP request."""
        http = HttpRequest(scope, receive)
        body = await _read_body(http)
        request = _request(http, body or b"")
        answer = gateway.TOO_LARGE if body is None else await self._answer(request)
        answer = gateway.with_cors(self._api.cors, request, answer)
        response = HttpResponse(answer.body, answer.status)
        for name, value in (*answer.headers, ("apigw-requestid", request.request_id)):
            response.headers.append(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: gateway.Request) -> gateway.Response:
        found = gateway.find_route(self._api.routes, request.method, request.target)
        if found is None:
            return gateway.Response(204, (), b"") if gateway.is_preflight(request) else gateway.NOT_FOUND
        route, parameters = found
        event = gateway.request_event(self._api, route, parameters, request)
        result = await self._functions[route.function].invoke(event, request.request_id)
        if not result.succeeded:
            print(f"{route.function} failed: {result.payload}", flush=True)
            return gateway.FUNCTION_FAILED
        return gateway.function_response(result.payload)


async def _read_body(http: HttpRequest) -> bytes | None:
    """The body, or None when it is larger than API Gateway takes. Reads no further than that."""
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
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m local.front", description="Serve a deployed stack's HTTP API.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--code", type=Path, required=True, help="where the functions are unpacked")
    parser.add_argument("--environments", type=int, default=ENVIRONMENTS_MAX, help="at most, of each function")
    arguments = parser.parse_args()
    api = stack.read_api(os.environ, arguments.stack, domain_name=f"127.0.0.1:{arguments.port}")
    runtime_dir = make_runtime_dir(arguments.code / "runtime")
    functions = {
        name: Environments(stack.fetch_function(os.environ, name, arguments.code), runtime_dir, arguments.environments)
        for name in {route.function for route in api.routes}
    }
    # The log shows what the functions print; nothing of HTTP is worth a line beside it.
    uvicorn.run(
        Front(api, functions),
        host="127.0.0.1",
        port=arguments.port,
        lifespan="off",
        server_header=False,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
