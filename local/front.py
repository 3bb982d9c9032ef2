"""The HTTP front of the local world: serves the deployed stack's routes, as API Gateway would.

The AWS emulator takes the API's definition and the functions, but does not join them. This does:
`python -m local.front --port 8000 --stack NAME`, with AWS_ENDPOINT_URL naming the emulator. Prints what the
functions log.
"""

import argparse
import asyncio
import base64
import json
import os
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import uvicorn
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from local import gateway
from local.stack import aws, read_api

if TYPE_CHECKING:
    from mypy_boto3_lambda.client import LambdaClient
    from starlette.types import Receive, Scope, Send

ENVIRONMENTS_MAX = 4
"""How many execution environments a function may have; a further request waits instead of being throttled."""

# API Gateway gives an integration 30 s.
_CLIENT_CONFIG = Config(read_timeout=30, retries={"total_max_attempts": 1}, max_pool_connections=64)


class Environments:
    """The execution environments of one function: reused when idle, and started one after the other.

    The emulator unpacks the layers anew for each, which takes seconds when many do it at once. While one starts, the
    others go on serving.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._idle = 0
        self._started = 0
        self._starting = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """An environment for the time of one invocation."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._idle or self._may_start())
            cold = not self._idle
            if cold:
                self._started += 1
                self._starting = True
            else:
                self._idle -= 1
        try:
            yield
        finally:
            async with self._changed:
                self._idle += 1
                self._starting = self._starting and not cold
                self._changed.notify_all()

    def _may_start(self) -> bool:
        return not self._starting and self._started < ENVIRONMENTS_MAX


class Front:
    """The ASGI application of one deployed API."""

    def __init__(self, api: gateway.Api, functions: "LambdaClient") -> None:
        self._api = api
        self._functions = functions
        self._environments: defaultdict[str, Environments] = defaultdict(Environments)

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
        async with self._environments[route.function].one():
            return await asyncio.to_thread(self._invoke, route.function, event)

    def _invoke(self, function: str, event: dict[str, Any]) -> gateway.Response:
        try:
            answer = self._functions.invoke(FunctionName=function, Payload=json.dumps(event).encode(), LogType="Tail")
            result = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError) as error:
            print(f"{function}: {error}", flush=True)
            return gateway.UNAVAILABLE
        if log := base64.b64decode(answer.get("LogResult", "")).decode(errors="replace").strip():
            print(log, flush=True)
        if answer.get("FunctionError"):
            print(f"{function} failed: {result}", flush=True)
            return gateway.FUNCTION_FAILED
        return gateway.function_response(result)


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
    parser = argparse.ArgumentParser(description="Serve a deployed stack's HTTP API on this machine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stack", required=True)
    arguments = parser.parse_args()
    api = read_api(os.environ, arguments.stack, domain_name=f"127.0.0.1:{arguments.port}")
    front = Front(api, boto3.client("lambda", config=_CLIENT_CONFIG, **aws(os.environ)))
    # The log shows what the functions print; nothing of HTTP is worth a line beside it.
    uvicorn.run(front, host="127.0.0.1", port=arguments.port, lifespan="off", server_header=False, access_log=False)


if __name__ == "__main__":
    main()
