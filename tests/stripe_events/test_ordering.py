"""Ordering rule, line by line. `tests/protocol` checks that it is sufficient."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.stripe_events.ordering import CLOCK_SKEW, MAX_SNAPSHOT_AGE, StoredObject, apply_snapshot, next_version

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Thing:
    """Content with three lifecycle ranks."""

    text: str
    lifecycle_rank: int = 1

    @property
    def has_ended(self) -> bool:
        return self.lifecycle_rank == 2


ROW = StoredObject(Thing("stored"), NOW - 60 * SECOND, NOW - 50 * SECOND, version=3)
OTHER = Thing("other")
ENDED = Thing("ended", lifecycle_rank=2)
STARTED = Thing("started", lifecycle_rank=0)
INSIDE = ROW.seen_from + 3 * SECOND


def applied(content: Thing, at: datetime) -> StoredObject[Thing]:
    """Return the next version of ROW after an event at `at` was applied."""
    return StoredObject(content, max(at, ROW.seen_from), max(at, ROW.seen_to), version=4)


@pytest.mark.parametrize(
    ("created", "snapshot", "expected"),
    [
        (ROW.seen_from - CLOCK_SKEW - SECOND, OTHER, ROW),
        (ROW.seen_from - CLOCK_SKEW - SECOND, None, ROW),
        (ROW.seen_from - CLOCK_SKEW, OTHER, None),
        (INSIDE, OTHER, None),
        (INSIDE, None, None),
        (ROW.seen_to + CLOCK_SKEW, OTHER, None),
        (ROW.seen_to + CLOCK_SKEW + SECOND, OTHER, applied(OTHER, ROW.seen_to + CLOCK_SKEW + SECOND)),
        (ROW.seen_to + CLOCK_SKEW + SECOND, None, None),
        (INSIDE, ENDED, applied(ENDED, INSIDE)),
        (INSIDE, STARTED, ROW),
        (ROW.seen_to + CLOCK_SKEW + SECOND, STARTED, None),
        (ROW.seen_from, ROW.content, applied(ROW.content, ROW.seen_from)),
        (INSIDE, ROW.content, replace(ROW, seen_from=INSIDE, version=4)),
        (ROW.seen_to + SECOND, ROW.content, applied(ROW.content, ROW.seen_to + SECOND)),
    ],
)
def test_apply_snapshot_of_event_at_any_time_follows_decision_table(
    created: datetime, snapshot: Thing | None, expected: StoredObject[Thing] | None
) -> None:
    assert apply_snapshot(created, snapshot, ROW, NOW) == expected


@pytest.mark.parametrize("stored", [None, ROW])
def test_old_snapshot_that_differs_is_fetched(stored: StoredObject[Thing] | None) -> None:
    assert apply_snapshot(NOW, OTHER, stored, NOW + MAX_SNAPSHOT_AGE + SECOND) is None


def test_old_snapshot_of_ended_object_is_applied() -> None:
    """No state follows an end, and Stripe may no longer have the object."""
    later = NOW + timedelta(days=40)
    assert apply_snapshot(NOW, ENDED, ROW, later) == applied(ENDED, NOW)
    assert apply_snapshot(NOW, ENDED, None, later) == StoredObject(ENDED, NOW, NOW, version=1)


@pytest.mark.parametrize("stored", [None, ROW])
@pytest.mark.parametrize("snapshot", [OTHER, ENDED, ROW.content])
def test_snapshot_from_future_is_fetched(snapshot: Thing, stored: StoredObject[Thing] | None) -> None:
    assert apply_snapshot(NOW + MAX_SNAPSHOT_AGE + SECOND, snapshot, stored, NOW) is None
    assert apply_snapshot(NOW + MAX_SNAPSHOT_AGE, OTHER, stored, NOW) is not None


def test_old_snapshot_equal_to_row_is_not_fetched() -> None:
    assert apply_snapshot(ROW.seen_to, ROW.content, ROW, NOW + timedelta(days=1)) == applied(ROW.content, ROW.seen_to)


def test_snapshot_equal_to_row_increments_version() -> None:
    """A worker that fetched earlier must not commit later. The object may have changed and changed back."""
    row = apply_snapshot(ROW.seen_from - CLOCK_SKEW, ROW.content, ROW, NOW)
    assert row == replace(ROW, version=ROW.version + 1)


def test_first_snapshot_becomes_version_one() -> None:
    assert apply_snapshot(NOW, OTHER, None, NOW) == StoredObject(OTHER, NOW, NOW, version=1)


@given(st.integers(-100, 100), st.integers(0, 20))
def test_next_version_of_any_interval_never_moves_back(start: int, length: int) -> None:
    row = next_version(OTHER, NOW + start * SECOND, NOW + (start + length) * SECOND, ROW)
    assert row.seen_from >= ROW.seen_from
    assert row.seen_to >= ROW.seen_to
    assert row.seen_from <= row.seen_to
    assert row.version == ROW.version + 1
