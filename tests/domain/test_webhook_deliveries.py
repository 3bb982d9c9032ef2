"""Deliveries: status after each result, waiting times, and the health of endpoints."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.webhook_deliveries import (
    ATTEMPTS_MAX,
    FAILING_GAP,
    FAILING_MAX,
    JITTER,
    LEASE,
    LOGGED_ATTEMPTS_MAX,
    RETRY_AFTER_MAX,
    RETRY_DELAYS,
    SLOW_LATENCY_MS,
    SLOW_PAUSES,
    Attempt,
    AttemptResult,
    Delivery,
    DeliveryError,
    DeliveryStatus,
    EndpointHealth,
    delivery_id,
    parse_delivery_id,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEW = Delivery("whe_1", "msg_1", "subscription.created", "acme", "acme", created=NOW)
DELIVERED = AttemptResult(204, 12)
REJECTED = AttemptResult(500, 12, body="no")
TIMED_OUT = AttemptResult(None, 15_000, DeliveryError.TIMEOUT)


def after(*results: AttemptResult, jitter: float = 0) -> Delivery:
    """Return the delivery after attempts with these results, each at its time."""
    delivery, now = NEW, NOW
    for result in results:
        now = max(now, delivery.next_attempt_at or now)
        delivery = delivery.start(now, "claim").finish(result, now, jitter)
    return delivery


def test_schedule_has_ten_attempts_at_the_documented_times() -> None:
    assert len(RETRY_DELAYS) == ATTEMPTS_MAX - 1
    assert [int(each.total_seconds()) for each in RETRY_DELAYS] == [
        5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400,
    ]  # fmt: skip


@pytest.mark.parametrize("status_code", [200, 201, 202, 204, 299])
def test_delivery_after_2xx_is_delivered(status_code: int) -> None:
    finished = after(AttemptResult(status_code, 12, body="ok"))
    assert finished == replace(
        NEW,
        status=DeliveryStatus.DELIVERED,
        attempts=(Attempt(NOW, status_code, 12),),
        tries=1,
        response_body="ok",
        claim="claim",
    )


@pytest.mark.parametrize("status_code", [100, 199, 300, 301, 302, 307, 400, 401, 404, 408, 429, 500, 503, 599])
def test_delivery_after_another_status_is_retried(status_code: int) -> None:
    finished = after(AttemptResult(status_code, 12))
    assert (finished.status, finished.next_attempt_at) == (DeliveryStatus.PENDING, NOW + RETRY_DELAYS[0])


def test_delivery_after_410_is_failed_at_once() -> None:
    finished = after(AttemptResult(410, 12))
    assert (finished.status, finished.next_attempt_at) == (DeliveryStatus.FAILED, None)


def test_delivery_after_the_last_attempt_is_failed() -> None:
    assert after(*[REJECTED] * (ATTEMPTS_MAX - 1)).status is DeliveryStatus.PENDING
    finished = after(*[REJECTED] * ATTEMPTS_MAX)
    assert (finished.status, finished.next_attempt_at) == (DeliveryStatus.FAILED, None)
    assert len(finished.attempts) == ATTEMPTS_MAX


@given(failures=st.integers(1, ATTEMPTS_MAX - 1), jitter=st.floats(0, 1))
def test_waiting_time_is_the_scheduled_one_with_jitter(failures: int, jitter: float) -> None:
    before = after(*[REJECTED] * (failures - 1))
    start = before.next_attempt_at or NOW
    finished = before.start(start, "claim").finish(REJECTED, start, jitter)
    assert finished.next_attempt_at is not None
    waiting, scheduled = finished.next_attempt_at - start, RETRY_DELAYS[failures - 1]
    assert scheduled <= waiting <= scheduled * (1 + JITTER)


@pytest.mark.parametrize(
    ("status_code", "retry_after", "waiting"),
    [
        (429, timedelta(minutes=10), timedelta(minutes=10)),
        (503, timedelta(minutes=10), timedelta(minutes=10)),
        (500, timedelta(minutes=10), timedelta(minutes=10)),
        (503, timedelta(seconds=1), RETRY_DELAYS[0]),
        (503, timedelta(days=30), RETRY_AFTER_MAX),
        (404, timedelta(minutes=10), RETRY_DELAYS[0]),
    ],
)
def test_retry_after_extends_the_waiting_time(status_code: int, retry_after: timedelta, waiting: timedelta) -> None:
    assert after(AttemptResult(status_code, 12, retry_after=retry_after)).next_attempt_at == NOW + waiting


def test_running_delivery_may_start_again_after_its_lease() -> None:
    running = NEW.start(NOW, "claim")
    assert not running.may_start(NOW + LEASE - timedelta(seconds=1))
    assert running.may_start(NOW + LEASE)
    again = running.start(NOW + LEASE, "claim")
    assert again.attempts == (Attempt(NOW), Attempt(NOW + LEASE)), "the interrupted attempt stays in the log"


@pytest.mark.parametrize("finished", [after(DELIVERED), after(AttemptResult(410, 1)), NEW.fail("expired")])
def test_finished_delivery_may_not_start(finished: Delivery) -> None:
    assert not finished.may_start(NOW + timedelta(days=30))


def test_delivery_may_start_at_its_time_and_not_before() -> None:
    waiting = after(REJECTED)
    assert waiting.next_attempt_at is not None
    assert not waiting.may_start(waiting.next_attempt_at - timedelta(microseconds=1))
    assert waiting.may_start(waiting.next_attempt_at)


def test_requested_delivery_has_a_new_schedule_and_keeps_its_log() -> None:
    failed = after(*[REJECTED] * ATTEMPTS_MAX)
    requested = failed.request_again(NOW)
    assert requested.may_start(NOW)
    assert requested.attempts == failed.attempts
    assert requested.start(NOW, "claim").finish(REJECTED, NOW, 0).next_attempt_at == NOW + RETRY_DELAYS[0]


# --- Health -----------------------------------------------------------------------------------------------------------


def test_health_after_success_is_good() -> None:
    assert EndpointHealth(NOW, 3, NOW, NOW).after(DELIVERED, NOW).is_good


def test_endpoint_that_fails_for_five_days_is_failing_too_long() -> None:
    health = EndpointHealth()
    for day in range(5):
        health = health.after(REJECTED, NOW + timedelta(days=day))
    assert health.failing_since == NOW
    assert not health.is_failing_too_long(NOW + FAILING_MAX - timedelta(seconds=1))
    assert health.is_failing_too_long(NOW + FAILING_MAX)
    assert not EndpointHealth().is_failing_too_long(NOW + FAILING_MAX)


def test_failure_after_an_idle_time_begins_a_new_series() -> None:
    """One failure after weeks without an event must not disable an endpoint."""
    later = NOW + timedelta(days=30)
    health = EndpointHealth().after(REJECTED, NOW).after(REJECTED, later)
    assert health.failing_since == later
    assert timedelta(hours=24) * (1 + JITTER) < FAILING_GAP < FAILING_MAX


@pytest.mark.parametrize(
    ("result", "is_failing"),
    [
        (TIMED_OUT, True),
        (AttemptResult(500, SLOW_LATENCY_MS), True),
        (AttemptResult(204, SLOW_LATENCY_MS), False),
    ],
)
def test_slow_endpoint_is_paused_longer_each_time(result: AttemptResult, is_failing: bool) -> None:  # noqa: FBT001
    health, pauses = EndpointHealth(), []
    for _ in range(len(SLOW_PAUSES) + 2):
        health = health.after(result, NOW)
        assert health.paused_until
        pauses.append(health.paused_until - NOW)
    assert pauses == [*SLOW_PAUSES, SLOW_PAUSES[-1], SLOW_PAUSES[-1]]
    assert (health.failing_since is not None) is is_failing
    assert health.after(REJECTED, NOW).paused_until is None, "a fast answer ends the pauses"


def test_log_keeps_the_last_attempts() -> None:
    delivery = NEW
    for number in range(LOGGED_ATTEMPTS_MAX + 5):
        delivery = delivery.start(NOW + timedelta(hours=number), "claim").request_again(NOW)
    assert len(delivery.attempts) == LOGGED_ATTEMPTS_MAX
    assert delivery.attempts[-1].started == NOW + timedelta(hours=LOGGED_ATTEMPTS_MAX + 4)


# --- Ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint_id", ["whe_0123456789abcdef01234567", "bus"])
def test_delivery_id_names_endpoint_and_event(endpoint_id: str) -> None:
    event_id = "msg_0123456789abcdef0123456789"
    assert parse_delivery_id(delivery_id(endpoint_id, event_id)) == (endpoint_id, event_id)


@pytest.mark.parametrize(
    "text", ["", "dlv", "dlv_1", "dlv_1_2_3", "evt_1_2", "dlv__2", "dlv_1_", "dlv_1#_2", "dlv_a/b_2"]
)
def test_other_text_is_no_delivery_id(text: str) -> None:
    assert parse_delivery_id(text) is None
