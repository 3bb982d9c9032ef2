"""Events to webhook endpoints: signed, at least once, in any order, with retries; and on demand worse than that."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from stripe_simulator.world import Object, World, wants

RETRY_DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ATTEMPT_TIMEOUT = 15.0
CONCURRENT = 16
SHUFFLE_WINDOW = 0.25
SUCCESS = range(200, 300)


def signature_header(payload: bytes, secret: str, timestamp: int) -> str:
    """Return the ``Stripe-Signature`` of a payload sent at an epoch second."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


@dataclass(frozen=True, slots=True)
class DeliveryMode:
    """How events travel.

    Attributes:
        copies: How often each delivery is made.
        shuffle: Collect deliveries for a moment and make them one by one in a random (seeded) order.
        delay_seconds: Wait before each first attempt.
        paused: Hold all deliveries until they are flushed.
    """

    copies: int = 1
    shuffle: bool = False
    delay_seconds: float = 0
    paused: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.copies, int) or self.copies < 1:
            raise ValueError("copies must be an integer of at least 1")
        if self.delay_seconds < 0:
            raise ValueError("delay_seconds must not be negative")


@dataclass(slots=True)
class Attempt:
    """One try of one delivery; ``status`` is the HTTP status, or None with the ``error`` that prevented one."""

    event: str
    type: str
    endpoint: str
    url: str
    attempt: int
    status: int | None
    error: str | None


@dataclass(slots=True)
class _Delivery:
    event: Object
    endpoint: Object
    payload: bytes


@dataclass(slots=True)
class Deliveries:
    """Sends what is in the world's outbox and keeps a log of every attempt."""

    world: World
    client: httpx.AsyncClient
    mode: DeliveryMode = field(default_factory=DeliveryMode)
    log: list[Attempt] = field(default_factory=list)
    _held: list[_Delivery] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENT))

    @property
    def waiting(self) -> int:
        """How many deliveries are under way, retries included."""
        return len(self._tasks)

    @property
    def held(self) -> int:
        """How many deliveries wait for a flush."""
        return len(self._held)

    def dispatch(self) -> None:
        """Start delivering the events of the outbox to the endpoints that want them."""
        events, self.world.outbox[:] = list(self.world.outbox), []
        for event in events:
            for endpoint in self.world.all("webhook_endpoint"):
                if wants(endpoint, event["type"]):
                    self.send(event, endpoint, self.mode.copies)

    def send(self, event: Object, endpoint: Object, copies: int = 1) -> None:
        """Deliver one event to one endpoint."""
        payload = json.dumps(event, indent=2).encode()
        deliveries = [_Delivery(event, endpoint, payload) for _ in range(copies)]
        if self.mode.paused:
            self._held += deliveries
        elif self.mode.shuffle:
            if not self._held:
                self._spawn(self._flush_soon())
            self._held += deliveries
        else:
            for delivery in deliveries:
                self._spawn(self._deliver(delivery))

    def flush(self) -> int:
        """Release what is held, in a random order if the mode shuffles; return how many deliveries that are."""
        released, self._held = self._held, []
        if self.mode.shuffle:
            self.world.random.shuffle(released)
            self._spawn(self._deliver_in_turn(released))
        else:
            for delivery in released:
                self._spawn(self._deliver(delivery))
        return len(released)

    def redeliver(self) -> int:
        """Begin again with every event that an endpoint has not acknowledged; return how many deliveries that are.

        What Stripe does for three days the retries here do for half a minute, so that a test can wait for their end.
        """
        pending = [
            (event, endpoint)
            for event in self.world.all("event")
            for endpoint in self.world.all("webhook_endpoint")
            if wants(endpoint, event["type"]) and endpoint["id"] not in self._acknowledged(event)
        ]
        for event, endpoint in reversed(pending):
            self.send(event, endpoint)
        return len(pending)

    def _acknowledged(self, event: Object) -> set[str]:
        """The ids of the endpoints that have answered an event with success."""
        endpoints: set[str] = self.world.hidden[event["id"]].setdefault("acknowledged_by", set())
        return endpoints

    async def drain(self, deadline: float) -> bool:
        """Wait until nothing is under way, at most so many seconds; say whether that was reached."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        return not self._tasks

    async def close(self) -> None:
        """Stop delivering."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(SHUFFLE_WINDOW)
        if not self.mode.paused:
            self.flush()

    async def _deliver_in_turn(self, deliveries: list[_Delivery]) -> None:
        for delivery in deliveries:
            await asyncio.sleep(self.mode.delay_seconds)
            if not await self._attempt(delivery, 1):
                self._spawn(self._retry(delivery))

    async def _deliver(self, delivery: _Delivery) -> None:
        await asyncio.sleep(self.mode.delay_seconds)
        if not await self._attempt(delivery, 1):
            await self._retry(delivery)

    async def _retry(self, delivery: _Delivery) -> None:
        for attempt, delay in enumerate(RETRY_DELAYS, start=2):
            await asyncio.sleep(delay)
            if await self._attempt(delivery, attempt):
                return

    async def _attempt(self, delivery: _Delivery, number: int) -> bool:
        """Make one attempt and say whether the delivery is over: acknowledged, or its endpoint gone."""
        event, endpoint = delivery.event, delivery.endpoint
        if endpoint["id"] not in self.world.objects or endpoint["status"] != "enabled":
            return True
        status, error = await self._post(endpoint, delivery.payload)
        self.log.append(Attempt(event["id"], event["type"], endpoint["id"], endpoint["url"], number, status, error))
        if status not in SUCCESS:
            return False
        acknowledged = self._acknowledged(event)
        if endpoint["id"] not in acknowledged:
            acknowledged.add(endpoint["id"])
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
        return True

    async def _post(self, endpoint: Object, payload: bytes) -> tuple[int | None, str | None]:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            # The time of sending is real: receivers compare it with their own clock, which nobody moves.
            "Stripe-Signature": signature_header(
                payload, self.world.hidden[endpoint["id"]]["secret"], int(time.time())
            ),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        async with self._slots:
            try:
                response = await self.client.post(endpoint["url"], content=payload, headers=headers)
            except httpx.HTTPError as error:
                return None, type(error).__name__
        return response.status_code, None
