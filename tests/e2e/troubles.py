"""Trouble between the deployed functions and what they stand on, as a bad day on AWS and at Stripe brings it.

`DynamoDBProxy` lies on the way to the engine and answers as DynamoDB does when it is unwell, cuts the connection before
or after the write was done, or kills the function that asked. `Weather` changes how much of that there is, and asks the
Stripe simulator for the like of it.
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
CONFLICT, FAILED = "transaction conflict", "error 500"
RESET, LOST = "connection reset", "answer lost after the write"
KILLED, KILLED_AFTER = "function killed before the write", "function killed after the write"
DYNAMODB_TROUBLES = (THROTTLED, THROUGHPUT, CONFLICT, FAILED, RESET, LOST, KILLED, KILLED_AFTER)
OF_TRANSACTIONS = {CONFLICT, LOST, KILLED, KILLED_AFTER}
"""What befalls a write alone; the others befall a read as well."""
STRIPE_TROUBLES = ("status:500", "status:429", "reset", "slow:0.7", "timeout")

_PREFIX = "com.amazonaws.dynamodb.v20120810"
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
_ANSWERS: Mapping[str, tuple[int, str, str]] = {
    THROTTLED: (400, "com.amazon.coral.availability#ThrottlingException", "Rate of requests exceeds the allowed rate."),
    THROUGHPUT: (400, f"{_PREFIX}#ProvisionedThroughputExceededException", "The level of throughput was exceeded."),
    CONFLICT: (400, f"{_PREFIX}#TransactionCanceledException", "Transaction cancelled, see its reasons"),
    FAILED: (500, f"{_PREFIX}#InternalServerError", "Internal server error"),
}


@dataclass
class DynamoDBProxy:
    """One HTTP proxy before an engine. `rates`: how likely each trouble is for a request; none at first.

    `counts` has what was done of each kind, `busiest` how many requests were under way at once at most.
    """

    engine_port: int
    kill: Callable[[int], bool]
    choice: random.Random
    rates: Mapping[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    busiest: int = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Serve on a port of its own; its URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            server.close_clients()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, with one of its own to the engine; ends with either."""
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.engine_port)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    request = await _read_message(reader)
                    self.under_way += 1
                    self.busiest = max(self.busiest, self.under_way)
                    try:
                        writer.write(await self._answer(request, writer, there_reader, there_writer))
                    finally:
                        self.under_way -= 1
        finally:
            writer.close()
            there_writer.close()

    async def _answer(
        self,
        request: bytes,
        client: asyncio.StreamWriter,
        there_reader: asyncio.StreamReader,
        there_writer: asyncio.StreamWriter,
    ) -> bytes:
        """The engine's answer, or what stands in its place. Raises ConnectionResetError where there is none."""
        trouble = self._draw(request)
        if trouble == KILLED and not self.kill(client.get_extra_info("peername")[1]):
            trouble = None
        if trouble in {KILLED, RESET}:
            raise self._reset(trouble, client)
        if trouble is not None and trouble in _ANSWERS:
            self.counts[trouble] += 1
            return _refusal(trouble, request)
        there_writer.write(request)
        answer = await _read_message(there_reader)
        if trouble == KILLED_AFTER and not self.kill(client.get_extra_info("peername")[1]):
            trouble = None
        if trouble in {LOST, KILLED_AFTER}:
            raise self._reset(trouble, client)
        self.counts["requests"] += 1
        return answer

    def _reset(self, trouble: str, client: asyncio.StreamWriter) -> ConnectionResetError:
        self.counts[trouble] += 1
        client.transport.abort()
        return ConnectionResetError(trouble)

    def _draw(self, request: bytes) -> str | None:
        """The trouble of a request, most often none."""
        operation = OPERATION.search(request)
        is_transaction = operation is not None and operation[1] == TRANSACTION
        die = self.choice.random()
        for trouble, rate in self.rates.items():
            if is_transaction or trouble not in OF_TRANSACTIONS:
                die -= rate
            if die < 0:
                return trouble
        return None


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = CONTENT_LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


def _refusal(trouble: str, request: bytes) -> bytes:
    status, error, message = _ANSWERS[trouble]
    document: dict[str, Any] = {"__type": error, "message": message}
    if trouble == CONFLICT:
        # DynamoDB has a reason for each write; the last one met another transaction.
        writes = json.loads(request.partition(b"\r\n\r\n")[2])["TransactItems"]
        met = {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}
        document["CancellationReasons"] = [*({"Code": "None"} for _ in writes[1:]), met]
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} \r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def kill_owner_of(port: int, parent: int) -> bool:
    """Kill the child of `parent` whose connection comes from this port; whether there was one."""
    socket = _socket_of(port)
    for pid in children(parent):
        with suppress(FileNotFoundError, PermissionError):
            if any(_links_to(descriptor, socket) for descriptor in Path(f"/proc/{pid}/fd").iterdir()):
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def _socket_of(port: int) -> str:
    """What a process's descriptor of the connection from this port to the loopback interface links to."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1] == f"0100007F:{port:04X}":
            return f"socket:[{columns[9]}]"
    return "none"


def _links_to(descriptor: Path, wanted: str) -> bool:
    try:
        return str(descriptor.readlink()) == wanted
    except FileNotFoundError:
        return False


CALM: Mapping[str, float] = {
    **dict.fromkeys(DYNAMODB_TROUBLES, 0.02),
    **dict.fromkeys((KILLED, KILLED_AFTER), 0.006),
}
STORM = 0.6
"""How likely the trouble of the hour is: likely enough for the SDK's own retries to be used up."""
STORMY = (THROTTLED, THROUGHPUT, CONFLICT, FAILED, RESET, LOST)
SPELL_SECONDS = (0.3, 1.5)
STRIPE_PATHS = ("/v1/subscriptions/", "/v1/invoices/")
"""What the functions fetch; nobody else reads single objects."""


@dataclass
class Weather:
    """Changes the rates of troubles all the time, from calm to a storm of one kind, here and at Stripe."""

    proxy: DynamoDBProxy
    stripe: httpx.AsyncClient
    choice: random.Random
    stripe_counts: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def bad(self) -> AsyncIterator[None]:
        """Bad weather; afterwards the sky is clear."""
        changing = asyncio.create_task(self._change())
        try:
            yield
        finally:
            changing.cancel()
            with suppress(asyncio.CancelledError):
                await changing
            self.proxy.rates = {}
            await self._clear_stripe()

    async def _change(self) -> None:
        while True:
            storm = {self.choice.choice(STORMY): STORM} if self.choice.random() < 0.4 else {}
            self.proxy.rates = {**storm, **{kind: rate for kind, rate in CALM.items() if kind not in storm}}
            await self._clear_stripe()
            await self._trouble_stripe()
            await asyncio.sleep(self.choice.uniform(*SPELL_SECONDS))

    async def _trouble_stripe(self) -> None:
        # A call that hangs holds its function for five seconds: few of those say as much as many.
        [kind] = self.choice.choices(STRIPE_TROUBLES, (6, 4, 6, 3, 1))
        count = 1 if kind == "timeout" else self.choice.randint(1, 4)
        for path in STRIPE_PATHS:
            fault = {"match": {"method": "GET", "path_prefix": path}, "count": count, "kind": kind}
            (await self.stripe.post("/_simulator/faults", json=fault)).raise_for_status()
            self.stripe_counts[kind] += count

    async def _clear_stripe(self) -> None:
        """Forget what nobody met; it does not count."""
        left = (await self.stripe.get("/_simulator/faults")).raise_for_status().json()["data"]
        for fault in left:
            self.stripe_counts[fault["kind"]] -= fault["count"]
        (await self.stripe.delete("/_simulator/faults")).raise_for_status()
