"""Delivery of outbound events: throughput, memory, units and price.

The events are in the table, the queue is the emulator's SQS, and the endpoints are one HTTP server in its own process.
Dispatcher and workers run in one process, as many workers as `WebhookConcurrency` permits batches.
"""

import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import batched
from multiprocessing.connection import Connection
from typing import Any

from bench.capacity import CapacityMeter, Units
from bench.engine import TABLE_NAME, Deployment
from bench.isolated_process import run_isolated
from bench.prices import MILLION, Prices
from bench.report import Row, SampleSizes
from billing.adapters.aws import client
from billing.adapters.dynamodb import Table
from billing.adapters.outbox import put_outbound
from billing.adapters.sqs import Queue, messages_of
from billing.adapters.webhook_repository import WebhookRepository
from billing.adapters.webhook_sender import WebhookSender
from billing.domain.outbound_events import OutboundEvent, event_id
from billing.domain.webhook_deliveries import AttemptResult
from billing.domain.webhook_endpoints import EndpointList, SigningSecret, WebhookEndpoint
from billing.services.delivery_batch import DeliveryBatch
from billing.services.event_dispatch import EventDispatcher
from billing.services.webhook_delivery import WebhookDelivery
from billing.services.webhook_queue import DeliveryQueues

ENDPOINTS = 20
STREAM_BATCH = 100
"""BatchSize of the stream in the template."""
WORKERS = 10
"""Default of WebhookConcurrency."""
METERED = 40
MEMORY_GB = 0.5
BATCH_MS = 250
"""Assumed duration of a batch of ten deliveries, for the price: endpoints answer in 200 ms."""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the benchmark
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Delivered:
    """Measurement of a number of deliveries."""

    deliveries: int
    dispatch_seconds: float
    delivery_seconds: float
    processor_ms: float
    peak_mb: float
    calculated: Units
    reported: Units


def rows(deployment: Deployment, sizes: SampleSizes) -> Iterator[Row]:
    """Return throughput, memory, units and price of deliveries."""
    events = sizes.requests * ENDPOINTS
    with _endpoint_server() as url:
        measured = run_isolated(deployment.environment, measure, url, events)
    yield Row("webhooks: events dispatched per second", f"{events / measured.dispatch_seconds:,.0f}")
    title = f"webhooks: {measured.deliveries:,} deliveries to {ENDPOINTS} endpoints, per second"
    yield Row(title, f"{measured.deliveries / measured.delivery_seconds:,.0f}")
    yield Row("webhooks: processor time per delivery", f"{measured.processor_ms:.1f} ms")
    yield Row("webhooks: peak memory", f"{measured.peak_mb:,.0f} MB")
    yield Row("webhooks: units per delivery, calculated by AWS's rules", str(measured.calculated))
    yield Row("webhooks: units per delivery, reported by the engine", str(measured.reported))
    costs = price(measured.calculated)
    parts = ", ".join(f"{part} {dollars:.2f}" for part, dollars in costs.items())
    yield Row("a million deliveries: US dollars", f"{sum(costs.values()):.2f} ({parts})")


def price(units: Units) -> dict[str, float]:
    """Return the price of a million deliveries by billed item, dispatch included."""
    prices = Prices()
    return {
        "Lambda requests": prices.lambda_requests_million / WORKERS,
        "Lambda duration": MILLION * BATCH_MS / 10 / 1000 * MEMORY_GB * prices.lambda_arm64_gb_second,
        "DynamoDB reads": units.reads * prices.dynamodb_read_units_million,
        "DynamoDB writes": units.writes * prices.dynamodb_write_units_million,
        # A tenth of a call to send and to receive, and one to delete.
        "SQS": 1.2 * prices.sqs_fifo_requests_million,
    }


def measure(url: str, events: int) -> Delivered:
    """Dispatch and deliver events in this process."""
    bench = _Webhooks(url)
    committed = [bench.commit(number) for number in range(events)]
    began, processor = time.perf_counter(), time.process_time()
    for batch in batched(committed, STREAM_BATCH, strict=False):
        bench.dispatcher.dispatch(batch)
    dispatched = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        deliveries = sum(pool.map(lambda _number: bench.work(), range(WORKERS)))
    delivered = time.perf_counter()
    processor_ms = 1000 * (time.process_time() - processor) / deliveries
    meter = CapacityMeter(client("dynamodb"))
    bench.dispatcher.dispatch([bench.commit(events + number) for number in range(METERED)])
    written = meter.calculated, meter.reported
    metered = bench.work()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # The outbox items belong to the event that commits them.
    outbox = Units(writes=written[0].writes), Units(writes=written[1].writes)
    return Delivered(
        deliveries,
        dispatched - began,
        delivered - dispatched,
        processor_ms,
        peak_mb,
        (meter.calculated - outbox[0]).per(metered),
        (meter.reported - outbox[1]).per(metered),
    )


class _Webhooks:
    """Services on the engine, with one endpoint for each of the accounts."""

    def __init__(self, url: str) -> None:
        self._table = Table(client("dynamodb"), TABLE_NAME)
        repository, sqs = WebhookRepository(self._table), client("sqs")
        attributes: Any = {
            "FifoQueue": "true",
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
        }
        delivery_queue = Queue(sqs, sqs.create_queue(QueueName="bench.fifo", Attributes=attributes)["QueueUrl"])
        retry_queue = Queue(sqs, sqs.create_queue(QueueName="bench-retry")["QueueUrl"])
        queues = DeliveryQueues(delivery_queue, retry_queue)
        self.dispatcher = EventDispatcher(repository, queues, retry_queue, has_event_bus=False)
        sender = WebhookSender(allows_loopback=True)
        delivery = WebhookDelivery(repository, queues, sender.send, lambda _event: AttemptResult(200, 0))
        self._queue, self._batch = delivery_queue, DeliveryBatch(delivery.attempt, delivery_queue)
        for number in range(ENDPOINTS):
            secrets = (SigningSecret(SECRET),)
            endpoint = WebhookEndpoint(
                f"whe_{number:024x}", url, ("*",), "", created=datetime.now(UTC), secrets=secrets
            )
            repository.save_endpoints(EndpointList(f"hook{number}").add(endpoint))

    def commit(self, number: int) -> OutboundEvent:
        """Store an event."""
        now, account = datetime.now(UTC), f"hook{number % ENDPOINTS}"
        event = OutboundEvent(
            id=event_id(now, account, f"sub_{number}", 1),
            type="subscription.updated",
            account_id=account,
            occurred_at=now,
            sequence=1,
            object={"id": f"sub_{number}", "plan": "pro", "status": "active", "quantity": 1, "currency": "usd"},
            previous={"plan": "free"},
        )
        self._table.write(put_outbound(event, now))
        return event

    def work(self) -> int:
        """Deliver batches until the queue is empty. Returns the number of deliveries."""
        delivered = 0
        while batch := self._receive():
            self._batch.run(messages_of({"Records": batch}))
            delivered += len(batch)
        return delivered

    def _receive(self) -> Sequence[dict[str, Any]]:
        names: Any = ["ApproximateReceiveCount"]
        found = self._queue.sqs.receive_message(
            QueueUrl=self._queue.url, MaxNumberOfMessages=10, MessageSystemAttributeNames=names, WaitTimeSeconds=1
        )
        return [
            {
                "messageId": each["MessageId"],
                "body": each["Body"],
                "receiptHandle": each["ReceiptHandle"],
                "attributes": each["Attributes"],
            }
            for each in found.get("Messages", [])
        ]


@contextmanager
def _endpoint_server() -> Iterator[str]:
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def _serve(parent: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    parent.send(server.server_port)
    server.serve_forever()
