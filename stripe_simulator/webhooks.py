"""Webhook deliveries: signed, at least once, in any order, with retries.

A delivery mode adds copies, shuffling, delay or a pause.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from stripe_simulator.state import Object, SimulatorState, is_subscribed

RETRY_DELAYS_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ATTEMPT_TIMEOUT_SECONDS = 15.0
MAX_CONCURRENT_ATTEMPTS = 16
SHUFFLE_WINDOW_SECONDS = 0.25
SUCCESS_STATUSES = range(200, 300)


def signature_header(payload: bytes, secret: str, timestamp: int) -> str:
    """Return the ``Stripe-Signature`` header of a payload. The timestamp is in epoch seconds."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


@dataclass(frozen=True, slots=True)
class DeliveryMode:
    """Delivery mode.

    Attributes:
        copies: Number of deliveries of each event to each endpoint.
        shuffle: Collect deliveries for 0.25 s and send them one by one in random (seeded) order.
        delay_seconds: Delay before each first attempt.
        paused: Hold all deliveries until a flush.
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
class DeliveryAttempt:
    """An attempt of a delivery. ``status`` is the HTTP status; if there is no response, ``error`` names the cause."""

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
    """Webhook deliveries of the events in the outbox, with a log of every attempt."""

    state: SimulatorState
    client: httpx.AsyncClient
    mode: DeliveryMode = field(default_factory=DeliveryMode)
    log: list[DeliveryAttempt] = field(default_factory=list)
    _held: list[_Delivery] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_ATTEMPTS))

    @property
    def waiting(self) -> int:
        """Number of deliveries in progress, including those that wait for a retry."""
        return len(self._tasks)

    @property
    def held(self) -> int:
        """Number of deliveries held until a flush."""
        return len(self._held)

    def dispatch(self) -> None:
        """Start delivering the outbox's events to the endpoints that are subscribed to them."""
        events, self.state.outbox[:] = list(self.state.outbox), []
        for event in events:
            for endpoint in self.state.all("webhook_endpoint"):
                if is_subscribed(endpoint, event["type"]):
                    self.send(event, endpoint, self.mode.copies)

    def send(self, event: Object, endpoint: Object, copies: int = 1) -> None:
        """Start delivering an event to an endpoint, or hold it, as the mode requires."""
        payload = json.dumps(event, indent=2).encode()
        deliveries = [_Delivery(event, endpoint, payload) for _ in range(copies)]
        if self.mode.paused:
            self._held += deliveries
        elif self.mode.shuffle:
            if not self._held:
                self._spawn(self._flush_after_window())
            self._held += deliveries
        else:
            for delivery in deliveries:
                self._spawn(self._deliver(delivery))

    def flush(self) -> int:
        """Send the held deliveries, in random order if the mode is ``shuffle``, and return their number."""
        released, self._held = self._held, []
        if self.mode.shuffle:
            self.state.random.shuffle(released)
            self._spawn(self._deliver_sequentially(released))
        else:
            for delivery in released:
                self._spawn(self._deliver(delivery))
        return len(released)

    def redeliver(self) -> int:
        """Send every event again that an endpoint has not acknowledged, and return the number of deliveries.

        Stripe retries for up to three days. Here the automatic retries end after half a minute, so that tests can wait
        for them.
        """
        pending = [
            (event, endpoint)
            for event in self.state.all("event")
            for endpoint in self.state.all("webhook_endpoint")
            if is_subscribed(endpoint, event["type"]) and endpoint["id"] not in self._acknowledged(event)
        ]
        for event, endpoint in reversed(pending):
            self.send(event, endpoint)
        return len(pending)

    def _acknowledged(self, event: Object) -> set[str]:
        """Return the ids of the endpoints that have acknowledged an event."""
        endpoints: set[str] = self.state.private[event["id"]].setdefault("acknowledged_by", set())
        return endpoints

    async def drain(self, deadline: float) -> bool:
        """Wait until no delivery is in progress. Return False if the deadline in seconds is exceeded."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        return not self._tasks

    async def close(self) -> None:
        """Cancel all deliveries."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush_after_window(self) -> None:
        await asyncio.sleep(SHUFFLE_WINDOW_SECONDS)
        if not self.mode.paused:
            self.flush()

    async def _deliver_sequentially(self, deliveries: list[_Delivery]) -> None:
        for delivery in deliveries:
            await asyncio.sleep(self.mode.delay_seconds)
            if not await self._attempt(delivery, 1):
                self._spawn(self._retry(delivery))

    async def _deliver(self, delivery: _Delivery) -> None:
        await asyncio.sleep(self.mode.delay_seconds)
        if not await self._attempt(delivery, 1):
            await self._retry(delivery)

    async def _retry(self, delivery: _Delivery) -> None:
        for attempt, delay in enumerate(RETRY_DELAYS_SECONDS, start=2):
            await asyncio.sleep(delay)
            if await self._attempt(delivery, attempt):
                return

    async def _attempt(self, delivery: _Delivery, number: int) -> bool:
        """Make an attempt. Return True if the event is acknowledged, or the endpoint is deleted or disabled."""
        event, endpoint = delivery.event, delivery.endpoint
        if endpoint["id"] not in self.state.objects or endpoint["status"] != "enabled":
            return True
        status, error = await self._post(endpoint, delivery.payload)
        self.log.append(
            DeliveryAttempt(event["id"], event["type"], endpoint["id"], endpoint["url"], number, status, error)
        )
        if status not in SUCCESS_STATUSES:
            return False
        acknowledged = self._acknowledged(event)
        if endpoint["id"] not in acknowledged:
            acknowledged.add(endpoint["id"])
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
        return True

    async def _post(self, endpoint: Object, payload: bytes) -> tuple[int | None, str | None]:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            # Real time, not the simulator's: receivers compare the timestamp with their own clock.
            "Stripe-Signature": signature_header(
                payload, self.state.private[endpoint["id"]]["secret"], int(time.time())
            ),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        async with self._slots:
            try:
                response = await self.client.post(endpoint["url"], content=payload, headers=headers)
            except httpx.HTTPError as error:
                return None, type(error).__name__
        return response.status_code, None
