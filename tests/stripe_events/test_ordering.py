"""Ordering rule, line by line. `tests/protocol` checks that it is sufficient."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.stripe_events.ordering import (
    CLOCK_SKEW,
    MAX_CLOCK_ERROR,
    MAX_SNAPSHOT_AGE,
    StoredObject,
    apply_snapshot,
    next_version,
    observation_interval,
)

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
ENDED_ROW = replace(ROW, content=ENDED)
INSIDE = ROW.seen_from + 3 * SECOND
TOLERANCE = MAX_CLOCK_ERROR + CLOCK_SKEW


def applied(content: Thing, at: datetime) -> StoredObject[Thing]:
    """Return the next version of ROW after an event at `at` was applied."""
    return StoredObject(content, max(at, ROW.seen_from), max(at, ROW.seen_to), version=4)


@pytest.mark.parametrize(
    ("created", "snapshot", "expected"),
    [
        (ROW.seen_from - TOLERANCE - SECOND, OTHER, ROW),
        (ROW.seen_from - TOLERANCE - SECOND, None, ROW),
        (ROW.seen_from - TOLERANCE - SECOND, ROW.content, ROW),
        (ROW.seen_from - TOLERANCE - SECOND, STARTED, ROW),
        (ROW.seen_from - TOLERANCE - SECOND, ENDED, applied(ENDED, ROW.seen_from - TOLERANCE - SECOND)),
        (ROW.seen_from - TOLERANCE, OTHER, None),
        (ROW.seen_from - TOLERANCE, None, None),
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
@pytest.mark.parametrize("snapshot", [OTHER, STARTED, ROW.content, None])
@pytest.mark.parametrize("ahead", [CLOCK_SKEW + SECOND, MAX_CLOCK_ERROR, timedelta(days=3650)])
def test_event_ahead_of_receivers_clock_is_fetched(
    ahead: timedelta, snapshot: Thing | None, stored: StoredObject[Thing] | None
) -> None:
    assert apply_snapshot(NOW + ahead, snapshot, stored, NOW) is None
    assert apply_snapshot(NOW + CLOCK_SKEW, OTHER, stored, NOW) is not None


@pytest.mark.parametrize("shift", [timedelta(days=-40), -MAX_CLOCK_ERROR, MAX_CLOCK_ERROR, timedelta(days=3650)])
def test_end_is_applied_at_any_time(shift: timedelta) -> None:
    """An end is a fact. The row never ends ahead of the receiver's clock, so later events are not included."""
    row = apply_snapshot(NOW + shift, ENDED, ROW, NOW)
    assert row is not None
    assert (row.content, row.version) == (ENDED, ROW.version + 1)
    assert row.seen_to <= NOW + CLOCK_SKEW
    first = apply_snapshot(NOW + shift, ENDED, None, NOW)
    assert first is not None
    assert first.seen_to <= NOW + CLOCK_SKEW


@pytest.mark.parametrize("created", [NOW - timedelta(days=40), ROW.seen_from - CLOCK_SKEW - SECOND])
def test_event_of_ended_row_that_is_older_by_more_than_the_skew_is_included(created: datetime) -> None:
    """No state follows an end, so a slow clock can hide none."""
    for snapshot in (None, OTHER, Thing("ended otherwise", lifecycle_rank=2)):
        assert apply_snapshot(created, snapshot, ENDED_ROW, NOW) is ENDED_ROW


@pytest.mark.parametrize("ahead", [MAX_CLOCK_ERROR, timedelta(minutes=1)])
def test_row_that_was_stored_with_a_time_ahead_includes_no_later_event(ahead: timedelta) -> None:
    """Version 0.2.0 believed timestamps of up to ten minutes ahead. Such a row was observed before `NOW`."""
    row = StoredObject(Thing("believed"), NOW + ahead, NOW + ahead, version=3)
    for seconds in (0, 30, 599):
        delivered = NOW + seconds * SECOND
        assert apply_snapshot(delivered, OTHER, row, delivered + SECOND) is not row
        ended = apply_snapshot(delivered, ENDED, row, delivered + SECOND)
        assert ended is not None
        assert ended.content is ENDED


def test_old_snapshot_equal_to_row_is_not_fetched() -> None:
    assert apply_snapshot(ROW.seen_to, ROW.content, ROW, NOW + timedelta(days=1)) == applied(ROW.content, ROW.seen_to)


def test_snapshot_equal_to_row_increments_version() -> None:
    """A worker that fetched earlier must not commit later. The object may have changed and changed back."""
    row = apply_snapshot(ROW.seen_from - TOLERANCE, ROW.content, ROW, NOW)
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


@pytest.mark.parametrize("error", [0, -1, 1, -600, 600])
def test_observation_interval_contains_the_fetch_if_one_clock_is_right(error: int) -> None:
    began, ended = NOW - 3 * SECOND, NOW
    shift = error * SECOND
    for seen_from, seen_to in (
        observation_interval(began + shift, ended + shift, ended),
        observation_interval(began, ended, ended + shift),
    ):
        assert seen_from <= began
        assert seen_to >= ended


def test_observation_interval_ends_at_most_the_clock_error_ahead() -> None:
    """A `Date` years ahead would lead to a fetch for each event until then."""
    future = datetime(9999, 12, 31, tzinfo=UTC)
    assert observation_interval(future - SECOND, future, NOW) == (NOW - SECOND, NOW + MAX_CLOCK_ERROR)
