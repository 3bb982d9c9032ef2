"""Thousands of outbound events to endpoints that misbehave, with real requests and a movable clock.

    .venv/bin/python -m tests.services.webhook_load --events 10000 --seed 1

| endpoint | behavior |
|---|---|
| good | answers 204 |
| flaky | 500 in 30 % of the requests |
| hanging | no answer in time in 2 % of the requests |
| busy | 500 or 503 with `Retry-After` in 30 % of the requests |
| rotated | its secret is rotated; it verifies with the new one from a random time in the next day on |
| moved | 301 always |
| gone | 410 always |
| down | 500 until the end, then it is enabled again and replayed |
| metadata, internal | the name resolves to 169.254.169.254 or 127.0.0.1 |
| operator | endpoint of the deployment: receives the events of all accounts |
"""

import argparse
import heapq
import json
import random
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, cast

from standardwebhooks import Webhook

from billing.adapters.dynamodb import Table
from billing.adapters.outbox import put_outbound
from billing.adapters.sqs import Queue
from billing.adapters.webhook_repository import WebhookRepository
from billing.adapters.webhook_sender import WebhookSender
from billing.domain.outbound_events import OutboundEvent, event_id
from billing.domain.webhook_deliveries import AttemptResult, Delivery
from billing.domain.webhook_endpoints import EndpointList, SigningSecret, WebhookEndpoint
from billing.services.delivery_batch import DeliveryBatch
from billing.services.delivery_schedule import DeliverySchedule
from billing.services.event_dispatch import EventDispatcher
from billing.services.webhook_delivery import WebhookDelivery
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest
from billing.services.webhook_redelivery import WebhookRedelivery
from tests.services.webhook_support import SECRET, Clock, MemoryQueue

NEW_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
TIMEOUT_SECONDS = 0.3
SUBJECTS = 5
"""Objects of an account, each with its sequence of events."""
DURATION = timedelta(days=8)
"""Time over which the events are committed: longer than the five days after which an endpoint is disabled."""
BURSTS = 200
HOSTILE = {"metadata": "169.254.169.254", "internal": "127.0.0.1"}
DELIVERABLE = ("good", "flaky", "hanging", "busy", "rotated", "operator")


class RecordedRepository(WebhookRepository):
    """Repository that remembers committed events, and the times of further attempts."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.committed: list[OutboundEvent] = []
        self.due: list[datetime] = []

    def save_delivery(self, delivery: Delivery) -> Delivery:
        """Write a delivery."""
        saved = super().save_delivery(delivery)
        if saved.next_attempt_at:
            heapq.heappush(self.due, saved.next_attempt_at)
        return saved

    def save_endpoints(
        self, endpoints: EndpointList, *, outbound: OutboundEvent | None = None, now: datetime | None = None
    ) -> EndpointList:
        """Write endpoints."""
        saved = super().save_endpoints(endpoints, outbound=outbound, now=now)
        if outbound:
            self.committed.append(outbound)
        return saved


@dataclass
class Receivers:
    """HTTP server of all endpoints; the path names the endpoint. It counts connections to forbidden addresses."""

    clock: Clock
    chance: random.Random
    received: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    unverified: list[str] = field(default_factory=list)
    switched_at: datetime | None = None
    is_repaired: bool = False

    def answer(self, name: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """Return status and headers of a response; 0 for none."""
        status, more = self._behavior(name)
        if 200 <= status < 300:
            uses_new = name == "rotated" and self.switched_at is not None and self.clock.now >= self.switched_at
            secret = NEW_SECRET if uses_new else SECRET
            try:
                self.received[name].append(Webhook(secret).verify(body, dict(headers)))
            except Exception as error:  # noqa: BLE001 - any failure is a finding
                self.unverified.append(f"{name}: {error!r}")
        return status, more

    def _behavior(self, name: str) -> tuple[int, dict[str, str]]:
        luck = self.chance.random()
        match name:
            case "flaky":
                return (500 if luck < 0.3 else 204), {}
            case "hanging":
                return (0 if luck < 0.02 else 204), {}
            case "busy" if luck < 0.3:
                return self.chance.choice([500, 503]), {"Retry-After": str(self.chance.randrange(1, 900))}
            case "moved":
                return 301, {"Location": "http://127.0.0.1:1/"}
            case "gone":
                return 410, {}
            case "down":
                return (204 if self.is_repaired else 500), {}
            case _:
                return 204, {}

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the endpoints. Yields the base URL."""
        receivers, released = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers = receivers.answer(self.path.strip("/"), body, dict(self.headers))
                if status == 0:
                    released.wait(TIMEOUT_SECONDS * 3)
                    return
                self.send_response(status)
                for header, value in headers.items():
                    self.send_header(header, value)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            released.set()
            server.shutdown()
            server.server_close()


class Load:
    """A run of many events."""

    def __init__(self, table: Table, base_url: str, receivers: Receivers) -> None:
        self.clock, self.receivers = receivers.clock, receivers
        self.repository = RecordedRepository(table)
        self.delivery_queue, self.retry_queue = MemoryQueue(self.clock), MemoryQueue(self.clock)
        self.queues = DeliveryQueues(Queue(cast(Any, self.delivery_queue), ""), Queue(cast(Any, self.retry_queue), ""))
        self.table, self.dispatched = table, 0
        self.local = WebhookSender(allows_loopback=True)
        self.strict = WebhookSender(allows_loopback=False, resolve=_resolve_hostile)
        self.endpoints = {
            name: self._create(name, base_url) for name in (*DELIVERABLE, "moved", "gone", "down", *HOSTILE)
        }
        self.requests: Counter[str] = Counter()

    def _create(self, name: str, base_url: str) -> WebhookEndpoint:
        endpoint = WebhookEndpoint(
            id=f"whe_{name.encode().hex()}",
            url=f"https://{name}.example" if name in HOSTILE else f"{base_url}/{name}",
            events=("*",),
            description=name,
            created=self.clock.now,
            secrets=(SigningSecret(SECRET),),
        )
        owned = self.repository.load_endpoints(_owner(name))
        self.repository.save_endpoints(owned.add(endpoint))
        return endpoint

    def _send(self, url: str, body: bytes, headers: Mapping[str, str]) -> AttemptResult:
        sender = self.strict if url.endswith(".example") else self.local
        self.requests["attempts"] += 1
        return sender.send(url, body, headers, timeout_seconds=TIMEOUT_SECONDS)

    def commit(self, account_id: str, subject: str, sequence: int) -> None:
        """Commit an event."""
        event = OutboundEvent(
            id=event_id(self.clock.now, account_id, subject, sequence),
            type="subscription.updated",
            account_id=account_id,
            occurred_at=self.clock.now,
            sequence=sequence,
            object={"id": subject, "plan": "pro", "quantity": sequence},
            previous={"quantity": sequence - 1},
        )
        self.table.write(put_outbound(event, self.clock.now))
        self.repository.committed.append(event)

    def run_until(self, end: datetime) -> None:
        """Dispatch, deliver and retry until a time."""
        schedule = DeliverySchedule(self.repository, self.queues)
        while True:
            while self._dispatch() + self._deliver() + self._forward(schedule):
                pass
            upcoming = self._next_moment()
            if upcoming is None or upcoming > end:
                break
            self.clock.now = upcoming
            if self.repository.due and self.repository.due[0] <= upcoming:
                schedule.request_due(upcoming)
                while self.repository.due and self.repository.due[0] <= upcoming:
                    heapq.heappop(self.repository.due)
        self.clock.now = end

    def _dispatch(self) -> int:
        new = self.repository.committed[self.dispatched :]
        self.dispatched += len(new)
        dispatcher = EventDispatcher(self.repository, self.queues, self.queues.retry_queue, has_event_bus=False)
        dispatcher.dispatch(new)
        return len(new)

    def _deliver(self) -> int:
        delivery = WebhookDelivery(
            self.repository, self.queues, self._send, lambda _event: AttemptResult(200, 1), now=self.clock
        )
        delivered = 0
        while batch := self.delivery_queue.receive():
            delivered += len(batch)
            DeliveryBatch(delivery.attempt, self.queues.delivery_queue).run(batch)
        return delivered

    def _forward(self, schedule: DeliverySchedule) -> int:
        forwarded = 0
        while batch := self.retry_queue.receive():
            forwarded += len(batch)
            schedule.forward([DeliveryRequest.of_body(each.body) for each in batch])
            for each in batch:
                self.queues.retry_queue.delete(each)
        return forwarded

    def _next_moment(self) -> datetime | None:
        queued = [each.visible_at for queue in (self.delivery_queue, self.retry_queue) for each in queue.messages]
        due = self.repository.due[:1]
        minutes = [max(each, self.clock.now).replace(second=0, microsecond=0) + timedelta(minutes=1) for each in due]
        return min([*(each for each in queued if each > self.clock.now), *minutes], default=None)


def _owner(name: str) -> str | None:
    return None if name == "operator" else name


def _resolve_hostile(host: str, _port: int) -> list[Any]:
    return [ip_address(HOSTILE[host.removesuffix(".example")])]


@contextmanager
def recorded_connections() -> Iterator[list[str]]:
    """Record the hosts of all connections from this process."""
    hosts: list[str] = []
    original = socket.create_connection

    def create(address: Any, *arguments: Any, **options: Any) -> socket.socket:
        hosts.append(address[0])
        return original(address, *arguments, **options)

    socket.create_connection = create
    try:
        yield hosts
    finally:
        socket.create_connection = original


def problems_of(table: Table, events: int, seed: int) -> tuple[list[str], Mapping[str, object]]:
    """Run the load. Returns what went wrong, and the figures of the run."""
    chance = random.Random(seed)
    receivers = Receivers(Clock(), random.Random(seed + 1))
    # The library compares timestamps with the clock of the machine.
    Webhook._Webhook__verify_timestamp = lambda _self, _text: receivers.clock.now  # type: ignore[attr-defined]
    began = time.monotonic()
    with receivers.served() as base_url, recorded_connections() as connections:
        load = Load(table, base_url, receivers)
        accounts = [name for name in load.endpoints if name != "operator"]
        sequences: Counter[tuple[str, str]] = Counter()
        start = receivers.clock.now
        for burst in range(BURSTS):
            for _ in range(events // BURSTS):
                account, subject = chance.choice(accounts), f"sub_{chance.randrange(SUBJECTS)}"
                sequences[account, subject] += 1
                load.commit(account, subject, sequences[account, subject])
            if burst == BURSTS // 4:
                _rotate(load, chance)
            load.run_until(start + DURATION * (burst + 1) / BURSTS)
        load.run_until(receivers.clock.now + timedelta(days=5))
        problems = [*_problems(load, sequences)]
        problems += _replay(load, sequences)
        forbidden = [each for each in connections if each == HOSTILE["metadata"]]
    problems += [f"connected to {each}" for each in forbidden]
    problems += [f"a delivery was not verified: {each}" for each in receivers.unverified[:5]]
    figures = {
        "events": sum(sequences.values()),
        "attempts": load.requests["attempts"],
        "received": sum(len(each) for each in receivers.received.values()),
        "seconds": round(time.monotonic() - began),
    }
    return problems, figures


def _rotate(load: Load, chance: random.Random) -> None:
    endpoint = load.endpoints["rotated"]
    owned = load.repository.load_endpoints("rotated")
    load.repository.save_endpoints(owned.put(endpoint.with_secret(NEW_SECRET, load.clock.now)))
    load.receivers.switched_at = load.clock.now + timedelta(hours=24) * chance.random()


def _problems(load: Load, sequences: Counter[tuple[str, str]]) -> Iterator[str]:
    """Yield events that did not arrive, and endpoints that should have been disabled."""
    for name in DELIVERABLE:
        expected = {
            (account, subject, number)
            for (account, subject), last in sequences.items()
            for number in range(1, last + 1)
            if name in {"operator", account}
        }
        received = {
            (each["account_id"], each["data"]["object"]["id"], each["sequence"])
            for each in load.receivers.received[name]
            if each["type"] == "subscription.updated"
        }
        yield from (f"{name} did not receive {each}" for each in sorted(expected - received)[:5])
        yield from (f"{name} received {each}" for each in sorted(received - expected)[:5])
        ids = {each["id"] for each in load.receivers.received[name] if each["type"] == "subscription.updated"}
        if len(ids) != len(expected):
            yield f"{name} received {len(ids)} ids for {len(expected)} events"
    told = {
        (each["account_id"], each["data"]["object"]["disabled_reason"])
        for each in load.receivers.received["operator"]
        if each["type"] == "webhook_endpoint.disabled"
    }
    expected_told = {("gone", "gone"), *((name, "failing") for name in ("moved", "down", *HOSTILE))}
    if told != expected_told:
        yield f"disabled endpoints: {sorted(told)}"
    yield from (f"{name} received an event" for name in ("moved", *HOSTILE) if load.receivers.received[name])


def _replay(load: Load, sequences: Counter[tuple[str, str]]) -> Iterator[str]:
    """Repair the endpoint that was down, enable it and replay everything."""
    load.receivers.is_repaired = True
    owned = load.repository.load_endpoints("down")
    load.repository.save_endpoints(owned.put(owned.endpoints[0].enable()))
    redelivery, after = WebhookRedelivery(load.repository, load.queues, "down"), None
    while True:
        since = load.clock.now - timedelta(days=20)
        page = redelivery.replay(load.endpoints["down"].id, since, load.clock.now, after)
        if (after := page.continues_after) is None:
            break
    load.run_until(load.clock.now + timedelta(hours=1))
    received = {(each["data"]["object"]["id"], each["sequence"]) for each in load.receivers.received["down"]}
    expected = {
        (subject, number)
        for (account, subject), last in sequences.items()
        for number in range(1, last + 1)
        if account == "down"
    }
    if received != expected:
        yield f"the replay brought {len(received)} of {len(expected)} events"


def main() -> int:
    """Run the load on a new engine, and print its figures. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.services.webhook_load")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    import logging

    from bench.engine import deployment
    from billing.adapters.aws import client

    logging.disable(logging.CRITICAL)
    with deployment() as deployed:
        import os

        os.environ.update(deployed.environment)
        table = Table(client("dynamodb"), deployed.environment["TABLE_NAME"])
        problems, figures = problems_of(table, arguments.events, arguments.seed)
    print(json.dumps(figures), *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
