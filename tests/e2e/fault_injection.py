"""Faults of DynamoDB and Stripe, injected between the deployed functions and their dependencies.

`DynamoDBProxy` forwards requests to the engine. It can return DynamoDB's errors, cut the connection before or after a
write, or kill the function that sent the request. `FaultSchedule` changes the fault rates of the proxy and of the
Stripe simulator.
"""

import asyncio
import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.support import children

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
OPERATION = re.compile(rb"\r\nx-amz-target: *DynamoDB_20120810\.(\w+)", re.IGNORECASE)
TRANSACTION = b"TransactWriteItems"

THROTTLED, THROUGHPUT = "throttled", "throughput exceeded"
CONFLICT, SERVER_ERROR = "transaction conflict", "error 500"
RESET, RESPONSE_LOST = "connection reset", "response lost after the write"
KILLED, KILLED_AFTER = "function killed before the write", "function killed after the write"
DYNAMODB_FAULTS = (THROTTLED, THROUGHPUT, CONFLICT, SERVER_ERROR, RESET, RESPONSE_LOST, KILLED, KILLED_AFTER)
TRANSACTION_FAULTS = {CONFLICT, RESPONSE_LOST, KILLED, KILLED_AFTER}
"""Faults of transactions only. All others also apply to reads."""
WRONG_DATE = "date"
"""Response with a wrong `Date`."""
STRIPE_FAULTS = ("status:500", "status:429", "reset", "slow:0.7", "timeout", WRONG_DATE)
CLOCK_ERROR_SECONDS = 600
"""Greatest error of a clock."""

_PREFIX = "com.amazonaws.dynamodb.v20120810"
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
_ERROR_RESPONSES: Mapping[str, tuple[int, str, str]] = {
    THROTTLED: (400, "com.amazon.coral.availability#ThrottlingException", "Rate of requests exceeds the allowed rate."),
    THROUGHPUT: (400, f"{_PREFIX}#ProvisionedThroughputExceededException", "The level of throughput was exceeded."),
    CONFLICT: (400, f"{_PREFIX}#TransactionCanceledException", "Transaction cancelled, see its reasons"),
    SERVER_ERROR: (500, f"{_PREFIX}#InternalServerError", "Internal server error"),
}


@dataclass
class DynamoDBProxy:
    """HTTP proxy in front of a DynamoDB engine.

    Attributes:
        engine_port: Port of the engine.
        kill: Kills the process that owns the connection from a port. Returns False if there is none.
        rng: Source of randomness.
        rates: Probability of each fault per request; initially empty.
        counts: Number of forwarded requests and of injected faults by kind.
        concurrent: Number of requests in progress.
        concurrent_max: Maximum of `concurrent`.
    """

    engine_port: int
    kill: Callable[[int], bool]
    rng: random.Random
    rates: Mapping[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    concurrent: int = 0
    concurrent_max: int = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Serve on a free port. Yields the URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            server.close_clients()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client connection through one connection to the engine, until either closes."""
        engine_reader, engine_writer = await asyncio.open_connection("127.0.0.1", self.engine_port)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    request = await _read_message(reader)
                    self.concurrent += 1
                    self.concurrent_max = max(self.concurrent_max, self.concurrent)
                    try:
                        writer.write(await self._respond(request, writer, engine_reader, engine_writer))
                    finally:
                        self.concurrent -= 1
        finally:
            writer.close()
            engine_writer.close()

    async def _respond(
        self,
        request: bytes,
        client: asyncio.StreamWriter,
        engine_reader: asyncio.StreamReader,
        engine_writer: asyncio.StreamWriter,
    ) -> bytes:
        """Return the engine's response or an injected error. Raises ConnectionResetError if the connection is cut."""
        fault = self._choose_fault(request)
        if fault == KILLED and not self.kill(client.get_extra_info("peername")[1]):
            fault = None
        if fault in {KILLED, RESET}:
            raise self._reset(fault, client)
        if fault is not None and fault in _ERROR_RESPONSES:
            self.counts[fault] += 1
            return _error_response(fault, request)
        engine_writer.write(request)
        response = await _read_message(engine_reader)
        if fault == KILLED_AFTER and not self.kill(client.get_extra_info("peername")[1]):
            fault = None
        if fault in {RESPONSE_LOST, KILLED_AFTER}:
            raise self._reset(fault, client)
        self.counts["requests"] += 1
        return response

    def _reset(self, fault: str, client: asyncio.StreamWriter) -> ConnectionResetError:
        self.counts[fault] += 1
        client.transport.abort()
        return ConnectionResetError(fault)

    def _choose_fault(self, request: bytes) -> str | None:
        """Return a random fault for the request, or None."""
        operation = OPERATION.search(request)
        is_transaction = operation is not None and operation[1] == TRANSACTION
        sample = self.rng.random()
        for fault, rate in self.rates.items():
            if is_transaction or fault not in TRANSACTION_FAULTS:
                sample -= rate
            if sample < 0:
                return fault
        return None


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = CONTENT_LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


def _error_response(fault: str, request: bytes) -> bytes:
    status, error, message = _ERROR_RESPONSES[fault]
    document: dict[str, Any] = {"__type": error, "message": message}
    if fault == CONFLICT:
        # DynamoDB returns a reason for each write. Here the last write has the conflict.
        writes = json.loads(request.partition(b"\r\n\r\n")[2])["TransactItems"]
        conflict = {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}
        document["CancellationReasons"] = [*({"Code": "None"} for _ in writes[1:]), conflict]
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} \r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def kill_connection_owner(port: int, parent: int) -> bool:
    """Kill the child of `parent` that owns the connection from this port. Returns False if there is none."""
    socket = _socket_of(port)
    for pid in children(parent):
        with suppress(FileNotFoundError, PermissionError):
            if any(_links_to(descriptor, socket) for descriptor in Path(f"/proc/{pid}/fd").iterdir()):
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def _socket_of(port: int) -> str:
    """Return the link target of file descriptors for the connection from this loopback port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1] == f"0100007F:{port:04X}":
            return f"socket:[{columns[9]}]"
    return "none"


def _links_to(descriptor: Path, target: str) -> bool:
    try:
        return str(descriptor.readlink()) == target
    except FileNotFoundError:
        return False


BASE_RATES: Mapping[str, float] = {
    **dict.fromkeys(DYNAMODB_FAULTS, 0.02),
    **dict.fromkeys((KILLED, KILLED_AFTER), 0.006),
}
BURST_RATE = 0.6
"""Probability of the fault during a burst. It is high enough to exhaust the SDK's retries."""
BURST_FAULTS = (THROTTLED, THROUGHPUT, CONFLICT, SERVER_ERROR, RESET, RESPONSE_LOST)
PERIOD_SECONDS = (0.3, 1.5)
STRIPE_PATHS = ("/v1/subscriptions/", "/v1/invoices/")
"""Paths of single objects, which only the functions request."""


@dataclass
class FaultSchedule:
    """Changes the fault rates of DynamoDB and Stripe at random intervals, between base rates and bursts of one kind."""

    proxy: DynamoDBProxy
    stripe: httpx.AsyncClient
    rng: random.Random
    stripe_counts: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def active(self) -> AsyncIterator[None]:
        """Inject faults until exit."""
        changing = asyncio.create_task(self._change())
        try:
            yield
        finally:
            changing.cancel()
            with suppress(asyncio.CancelledError):
                await changing
            self.proxy.rates = {}
            await self._clear_stripe_faults()

    async def _change(self) -> None:
        while True:
            burst = {self.rng.choice(BURST_FAULTS): BURST_RATE} if self.rng.random() < 0.4 else {}
            self.proxy.rates = {**burst, **{kind: rate for kind, rate in BASE_RATES.items() if kind not in burst}}
            await self._clear_stripe_faults()
            await self._inject_stripe_faults()
            await asyncio.sleep(self.rng.uniform(*PERIOD_SECONDS))

    async def _inject_stripe_faults(self) -> None:
        # A timeout blocks its function for five seconds, so there are few.
        [kind] = self.rng.choices(STRIPE_FAULTS, (6, 4, 6, 3, 1, 10))
        count = 1 if kind == "timeout" else self.rng.randint(1, 4)
        error = f":{self.rng.randint(-CLOCK_ERROR_SECONDS, CLOCK_ERROR_SECONDS)}" if kind == WRONG_DATE else ""
        for path in STRIPE_PATHS:
            fault = {"match": {"method": "GET", "path_prefix": path}, "count": count, "kind": kind + error}
            (await self.stripe.post("/_simulator/faults", json=fault)).raise_for_status()
            self.stripe_counts[kind] += count

    async def _clear_stripe_faults(self) -> None:
        """Delete unused faults and subtract them from the counts."""
        unused = (await self.stripe.get("/_simulator/faults")).raise_for_status().json()["data"]
        for fault in unused:
            kind = WRONG_DATE if fault["kind"].startswith(WRONG_DATE) else fault["kind"]
            self.stripe_counts[kind] -= fault["count"]
        (await self.stripe.delete("/_simulator/faults")).raise_for_status()
