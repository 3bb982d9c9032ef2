"""Deliveries of outbound events to webhook endpoints: the log, and the rule that decides on retries.

A delivery is one event for one endpoint. It has an attempt for each request that was sent.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from billing.domain.errors import RequestInvalid
from billing.domain.timestamps import parse_utc

# Waiting times before the second and each further attempt: ten attempts in about three days.
RETRY_DELAYS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
ATTEMPTS_MAX = 10
JITTER = 0.2
"""Largest part that is added to a waiting time at random, so that retries do not arrive together."""
RETRY_AFTER_MAX = timedelta(hours=24)
FAILING_MAX = timedelta(days=5)
"""Time without one success after which an endpoint is disabled."""
FAILING_GAP = timedelta(hours=30)
"""Longest time between two failures of one series: more than the longest waiting time with jitter."""
LOGGED_ATTEMPTS_MAX = 100
LEASE = timedelta(seconds=60)
"""Longest time that an attempt takes. A worker that takes longer has stopped."""
SLOW_PAUSES = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=5), timedelta(minutes=15))
"""Pauses of an endpoint after its first, second, … slow attempt in a row."""
SLOW_LATENCY_MS = 5000
"""Latency from which an attempt is slow, whatever the response is."""
HTTP_GONE = 410
_DELIVERY_ID = re.compile(r"dlv_(bus|[0-9a-f]{1,64})_([0-9a-f]{1,64})")
RETRY_AFTER_STATUSES = frozenset({429, 500, 502, 503, 504})


BUS_ID = "bus"
"""Id of the EventBridge bus in the place of an endpoint."""


class DeliveryError(StrEnum):
    """Reason why a request has no response."""

    ADDRESS_REFUSED = "address_refused"
    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_CLOSED = "connection_closed"
    TLS_ERROR = "tls_error"
    TIMEOUT = "timeout"
    RESPONSE_TOO_LARGE = "response_too_large"
    INVALID_RESPONSE = "invalid_response"


class DeliveryStatus(StrEnum):
    """State of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to an endpoint.

    Attributes:
        started: Time at which the request was sent.
        status_code: HTTP status of the response; None if there was none.
        latency_ms: Time until the response, in milliseconds.
        error: Reason why there was no response, for example "timeout"; None if there was one. An attempt without a
            result was interrupted: whether the endpoint received the event is unknown.
    """

    started: datetime
    status_code: int | None = None
    latency_ms: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """Result of a request.

    Attributes:
        status_code: HTTP status of the response; None if there was none.
        latency_ms: Time until the response, in milliseconds.
        error: Reason why there was no response; one of `DeliveryError`, or an error code of EventBridge.
        error_message: Description of the error for the endpoint's owner.
        body: First 4 KB of the response.
        retry_after: Waiting time that the response requires.
    """

    status_code: int | None
    latency_ms: int
    error: str | None = None
    error_message: str | None = None
    body: str = ""
    retry_after: timedelta | None = None

    @property
    def is_success(self) -> bool:
        """True if the endpoint accepted the event."""
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def is_slow(self) -> bool:
        """True if the endpoint occupied a worker for long."""
        return self.error == DeliveryError.TIMEOUT or self.latency_ms >= SLOW_LATENCY_MS

    @property
    def is_gone(self) -> bool:
        """True if the endpoint wants no more events."""
        return self.status_code == HTTP_GONE


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event for an endpoint.

    Attributes:
        account_id: Account of the event; None for an event about an endpoint of the deployment.
        owner_id: Account of the endpoint; None for an endpoint of the deployment.
        created: Time of the first attempt, or of the replay.
        tries: Attempts since the delivery was last requested.
        next_attempt_at: Earliest time of the next attempt; None if there will be none.
        lease_until: End of the attempt that is running; None if none is.
        response_body: First 4 KB of the last response.
        reason: Reason why no further attempt will be made, besides the responses.
        claim: Random token of the worker that started the last attempt.
        version: Number of writes.
    """

    endpoint_id: str
    event_id: str
    event_type: str
    account_id: str | None
    owner_id: str | None
    created: datetime
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: tuple[Attempt, ...] = ()
    tries: int = 0
    next_attempt_at: datetime | None = None
    lease_until: datetime | None = None
    response_body: str | None = None
    reason: str | None = None
    claim: str | None = None
    version: int = 0

    @property
    def id(self) -> str:
        """Id in the API and in the log."""
        return delivery_id(self.endpoint_id, self.event_id)

    def may_start(self, now: datetime) -> bool:
        """Return True if an attempt may start at `now`."""
        is_early = self.next_attempt_at is not None and now < self.next_attempt_at
        return self.status is DeliveryStatus.PENDING and not self.is_running(now) and not is_early

    def is_running(self, now: datetime) -> bool:
        """Return True if an attempt is running at `now`."""
        return self.lease_until is not None and now < self.lease_until

    def start(self, now: datetime, claim: str) -> "Delivery":
        """Return the delivery with an attempt that is running. The log keeps the last LOGGED_ATTEMPTS_MAX attempts."""
        return replace(
            self,
            attempts=(*self.attempts, Attempt(now))[-LOGGED_ATTEMPTS_MAX:],
            tries=self.tries + 1,
            lease_until=now + LEASE,
            next_attempt_at=None,
            claim=claim,
        )

    def finish(self, result: AttemptResult, now: datetime, jitter: float) -> "Delivery":
        """Return the delivery with the result of the attempt that is running.

        | result | status |
        |---|---|
        | 2xx | delivered |
        | 410 | failed: the endpoint is disabled |
        | any other, at the last attempt | failed |
        | any other | pending until the next attempt |

        Args:
            result: Result of the request.
            now: Current time.
            jitter: Random number from 0 to 1.
        """
        attempt = replace(
            self.attempts[-1], status_code=result.status_code, latency_ms=result.latency_ms, error=result.error
        )
        finished = replace(
            self, attempts=(*self.attempts[:-1], attempt), lease_until=None, response_body=result.body or None
        )
        if result.is_success:
            return replace(finished, status=DeliveryStatus.DELIVERED)
        if result.is_gone:
            return replace(finished, status=DeliveryStatus.FAILED)
        if self.tries >= ATTEMPTS_MAX:
            return replace(finished, status=DeliveryStatus.FAILED)
        return replace(finished, next_attempt_at=now + _waiting_time(self.tries, result, jitter))

    def postpone(self, until: datetime) -> "Delivery":
        """Return the delivery without an attempt before `until`."""
        return replace(self, next_attempt_at=until)

    def fail(self, reason: str) -> "Delivery":
        """Return the delivery as failed, without a further attempt."""
        return replace(self, status=DeliveryStatus.FAILED, next_attempt_at=None, lease_until=None, reason=reason)

    def request_again(self, now: datetime) -> "Delivery":
        """Return the delivery with a new schedule of attempts that begins at `now`. The log keeps the attempts."""
        return replace(self, status=DeliveryStatus.PENDING, tries=0, next_attempt_at=now, lease_until=None, reason=None)


def _waiting_time(tries: int, result: AttemptResult, jitter: float) -> timedelta:
    scheduled = RETRY_DELAYS[tries - 1] * (1 + JITTER * jitter)
    if result.retry_after is None or result.status_code not in RETRY_AFTER_STATUSES:
        return scheduled
    return max(scheduled, min(result.retry_after, RETRY_AFTER_MAX))


EVENT_ID = re.compile(r"msg_[0-9a-f]{26,64}")
"""Form of an event id, which is also the position of a delivery in the list of its endpoint."""


def delivery_id(endpoint_id: str, event_id: str) -> str:
    """Return the id of the delivery of an event to an endpoint."""
    return f"dlv_{endpoint_id.removeprefix('whe_')}_{event_id.removeprefix('msg_')}"


def parse_delivery_id(text: str) -> tuple[str, str] | None:
    """Return the endpoint and the event of a delivery id; None if it has another form."""
    found = _DELIVERY_ID.fullmatch(text)
    if found is None:
        return None
    endpoint, event = found.groups()
    return endpoint if endpoint == BUS_ID else f"whe_{endpoint}", f"msg_{event}"


def parse_since(text: str, now: datetime) -> datetime:
    """Return the beginning of a replay. Raises RequestInvalid if it is not a time in UTC, or is in the future."""
    since = parse_utc(text)
    if since is None:
        raise RequestInvalid.at("since", "must be a time in UTC, for example 2026-11-21T14:00:00Z")
    if since > now:
        raise RequestInvalid.at("since", "must not be in the future")
    return since


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """Health of an endpoint, from its latest attempts. An item is stored only while there are failures.

    Attributes:
        failing_since: Time of the first failure after the last success; None if the last attempt succeeded. After
            FAILING_GAP without an attempt, it starts again.
        slow_attempts: Slow attempts in a row.
        paused_until: Time before which no attempt starts, because the endpoint answers slowly.
        failed_at: Time of the last failure.
        version: Number of writes.
    """

    failing_since: datetime | None = None
    slow_attempts: int = 0
    paused_until: datetime | None = None
    failed_at: datetime | None = None
    version: int = 0

    @property
    def is_good(self) -> bool:
        """True if nothing has to be stored."""
        return self.failing_since is None and self.paused_until is None

    def after(self, result: AttemptResult, now: datetime) -> "EndpointHealth":
        """Return the health after an attempt."""
        health = EndpointHealth(version=self.version)
        if not result.is_success:
            is_continued = self.failed_at is not None and now - self.failed_at <= FAILING_GAP
            since = self.failing_since if is_continued else None
            health = replace(health, failing_since=since or now, failed_at=now)
        if not result.is_slow:
            return health
        pause = SLOW_PAUSES[min(self.slow_attempts, len(SLOW_PAUSES) - 1)]
        return replace(health, slow_attempts=self.slow_attempts + 1, paused_until=now + pause)

    def is_failing_too_long(self, now: datetime) -> bool:
        """Return True if the endpoint is to be disabled."""
        return self.failing_since is not None and now - self.failing_since >= FAILING_MAX
