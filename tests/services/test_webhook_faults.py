"""Outbound events under faults: workers that stop at any step, repeated and lost messages, and concurrent workers.

Each event is delivered at least once, and each request to an endpoint is in the log exactly once.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from billing.adapters.dynamodb import Table
from billing.adapters.sqs import OutgoingMessage
from billing.domain.errors import QueueUnavailable, StoreUnavailable
from billing.domain.webhook_deliveries import AttemptResult, Delivery, DeliveryError
from billing.domain.webhook_endpoints import WebhookEndpoint
from billing.services.webhook_queue import DeliveryRequest
from tests.services.webhook_support import WebhookWorld, answers, statuses

pytestmark = pytest.mark.engine

STEPS = ("read_delivery_context", "save_delivery", "save_health", "request_later")


class WorkerStopped(BaseException):
    """The worker's process ends. Nothing after it runs, not even error handling."""


class FaultyWorld(WebhookWorld):
    """Outbound events whose workers stop or fail before or after some of their calls.

    Attributes:
        plan: Returns the fault of a call: None, "before" or "after" for a worker that stops, or "error".
    """

    plan: Callable[[str], str | None] = staticmethod(lambda _step: None)

    def __post_init__(self) -> None:
        super().__post_init__()
        for owner, names in ((self.repository, STEPS[:3]), (self.queues, STEPS[3:])):
            for name in names:
                self._wrap(owner, name)

    def _wrap(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            fault = self.plan(name)
            if fault == "before":
                raise WorkerStopped
            if fault == "error":
                raise QueueUnavailable if name == "request_later" else StoreUnavailable
            result = original(*arguments, **options)
            if fault == "after":
                raise WorkerStopped
            return result

        # The services are frozen dataclasses with slots: replace the method in this object's class only.
        replaced = type(owner.__class__.__name__, (owner.__class__,), {name: staticmethod(call), "__slots__": ()})
        object.__setattr__(owner, "__class__", replaced)

    def deliver(self) -> int:
        """Run every attempt that may start now, in workers that can stop."""
        delivered = 0
        while batch := self.delivery_queue.receive():
            delivered += len(batch)
            for message in batch:
                try:
                    self.delivery.attempt(DeliveryRequest.of_body(message.body))
                    self.queues.delivery_queue.delete(message)
                except (WorkerStopped, StoreUnavailable, QueueUnavailable):
                    continue
        return delivered


@pytest.fixture
def world(table: Table) -> FaultyWorld:
    """Outbound events without a fault yet."""
    return FaultyWorld(table)


def fault_once(world: FaultyWorld, step: str, fault: str, call: int) -> None:
    """Let the call with this number of a step fail."""
    calls: Counter[str] = Counter()

    def plan(name: str) -> str | None:
        calls[name] += 1
        return fault if (name, calls[name]) == (step, call) else None

    world.plan = plan


def logged_attempts(world: WebhookWorld, endpoint: WebhookEndpoint) -> int:
    """Return the number of attempts in an endpoint's log."""
    return sum(len(each.attempts) for each in world.log(endpoint))


@pytest.mark.parametrize("fault", ["before", "after", "error"])
@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("read_delivery_context", 1),
        ("read_delivery_context", 2),
        ("save_delivery", 1),
        ("save_delivery", 2),
        ("save_delivery", 3),
        ("save_delivery", 4),
        ("save_health", 1),
        ("save_health", 2),
        ("request_later", 1),
        ("request_later", 2),
    ],
)
def test_worker_that_stops_at_a_step_loses_no_event(world: FaultyWorld, fault: str, step: str, call: int) -> None:
    endpoint = world.add_endpoint("own")
    world.receivers[endpoint.url] = answers(AttemptResult(500, 1), AttemptResult(204, 1))
    fault_once(world, step, fault, call)
    event = world.emit()
    world.run(timedelta(hours=1))
    assert statuses(world.log(endpoint)) == ["delivered"]
    requests = world.received[endpoint.url]
    assert {headers["webhook-id"] for _body, headers in requests} == {event.id}
    # A worker that stops between claim and request leaves an attempt without a request.
    assert len(requests) <= logged_attempts(world, endpoint) <= len(requests) + 1


def test_worker_whose_claim_is_repeated_by_the_client_goes_on(world: FaultyWorld) -> None:
    """Botocore repeats a write whose response was lost. The condition of the repeated write fails."""
    endpoint, save = world.add_endpoint("own"), world.repository.save_delivery
    world.emit()

    def repeat(delivery: Delivery) -> Delivery:
        save(delivery)
        return save(delivery)

    object.__setattr__(world.repository, "save_delivery", repeat)
    world.run(timedelta(hours=1))
    assert statuses(world.log(endpoint)) == ["delivered"]
    assert len(world.received[endpoint.url]) == 1


def test_concurrent_workers_attempt_a_delivery_once(world: FaultyWorld) -> None:
    endpoint, barrier = world.add_endpoint("own"), threading.Barrier(8)
    event = world.emit()
    request = DeliveryRequest.of_event("acme", endpoint.id, event)

    def attempt(_number: int) -> None:
        barrier.wait()
        world.delivery.attempt(request)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(8)))
    assert len(world.received[endpoint.url]) == logged_attempts(world, endpoint) == 1


@pytest.mark.parametrize("seed", range(2))
def test_random_faults_lose_no_event_and_log_each_attempt_once(world: FaultyWorld, seed: int) -> None:
    chance = random.Random(seed)
    endpoints = [world.add_endpoint(f"e{number}", "acme" if number else None) for number in range(3)]

    def receive(_body: bytes, _headers: Mapping[str, str]) -> AttemptResult:
        status = chance.choices([204, 500, 503, 302, None], [10, 3, 1, 1, 1])[0]
        wait = timedelta(seconds=chance.randrange(600)) if status == 503 else None
        error = DeliveryError.TIMEOUT if status is None else None
        return AttemptResult(status, 1, error, retry_after=wait)

    def plan(_step: str) -> str | None:
        return chance.choices([None, "before", "after", "error"], [90, 3, 3, 4])[0]

    world.receivers = {each.url: receive for each in endpoints}
    world.plan = plan
    events = [world.emit(subject=f"sub_{number % 4}", sequence=number // 4 + 1) for number in range(16)]
    world.dispatch()
    duplicated = [*world.delivery_queue.messages]
    world.queues.delivery_queue.send_all(
        [OutgoingMessage(world.delivery_queue.body_of(each), group_id=each.group) for each in duplicated]
    )
    world.run(timedelta(days=4))
    for endpoint in endpoints:
        log = {each.event_id: each for each in world.log(endpoint)}
        requested = Counter(headers["webhook-id"] for _body, headers in world.received[endpoint.url])
        assert log.keys() == {event.id for event in events}
        for event in events:
            delivery = log[event.id]
            assert delivery.status.value == "delivered" or len(delivery.attempts) >= 10
            answered = [each for each in delivery.attempts if each.latency_ms is not None]
            assert len(answered) <= requested[event.id] <= len(delivery.attempts)
        received = {body["id"]: body["sequence"] for body in world.bodies(endpoint)}
        assert received == {event.id: event.sequence for event in events}
