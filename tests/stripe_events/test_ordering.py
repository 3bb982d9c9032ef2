"""The rule, case by case; `tests/protocol` shows that it is enough."""

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
    """Something with a life of three stages."""

    text: str
    lifecycle_rank: int = 1

    @property
    def has_ended(self) -> bool:
        """Whether it is in its last."""
        return self.lifecycle_rank == 2


ROW = StoredObject(Thing("known"), NOW - 60 * SECOND, NOW - 50 * SECOND, version=3)
NEWS = Thing("news")
ENDED = Thing("ended", lifecycle_rank=2)
BEGUN = Thing("begun", lifecycle_rank=0)
INSIDE = ROW.seen_from + 3 * SECOND


def applied(content: Thing, at: datetime) -> StoredObject[Thing]:
    """The row that holds `content`, seen at `at` or at the end of what was known."""
    return StoredObject(content, max(at, ROW.seen_from), max(at, ROW.seen_to), version=4)


@pytest.mark.parametrize(
    ("created", "snapshot", "expected"),
    [
        (ROW.seen_from - CLOCK_SKEW - SECOND, NEWS, ROW),
        (ROW.seen_from - CLOCK_SKEW - SECOND, None, ROW),
        (ROW.seen_from - CLOCK_SKEW, NEWS, None),
        (INSIDE, NEWS, None),
        (INSIDE, None, None),
        (ROW.seen_to + CLOCK_SKEW, NEWS, None),
        (ROW.seen_to + CLOCK_SKEW + SECOND, NEWS, applied(NEWS, ROW.seen_to + CLOCK_SKEW + SECOND)),
        (ROW.seen_to + CLOCK_SKEW + SECOND, None, None),
        (INSIDE, ENDED, applied(ENDED, INSIDE)),
        (INSIDE, BEGUN, ROW),
        (ROW.seen_to + CLOCK_SKEW + SECOND, BEGUN, None),
        (ROW.seen_from, ROW.content, applied(ROW.content, ROW.seen_from)),
        (INSIDE, ROW.content, replace(ROW, seen_from=INSIDE, version=4)),
        (ROW.seen_to + SECOND, ROW.content, applied(ROW.content, ROW.seen_to + SECOND)),
    ],
)
def test_each_place_of_an_event_has_one_answer(
    created: datetime, snapshot: Thing | None, expected: StoredObject[Thing] | None
) -> None:
    """Included, applied, confirmed, or to be fetched (None)."""
    assert apply_snapshot(created, snapshot, ROW, NOW) == expected


@pytest.mark.parametrize("known", [None, ROW])
def test_an_old_snapshot_with_news_is_fetched(known: StoredObject[Thing] | None) -> None:
    """It may be right in its order and still be long superseded."""
    assert apply_snapshot(NOW, NEWS, known, NOW + MAX_SNAPSHOT_AGE + SECOND) is None


def test_the_end_of_an_object_is_believed_at_any_age() -> None:
    """Nothing comes after it, and Stripe may not have the object any more."""
    later = NOW + timedelta(days=40)
    assert apply_snapshot(NOW, ENDED, ROW, later) == applied(ENDED, NOW)
    assert apply_snapshot(NOW, ENDED, None, later) == StoredObject(ENDED, NOW, NOW, version=1)


@pytest.mark.parametrize("known", [None, ROW])
@pytest.mark.parametrize("snapshot", [NEWS, ENDED, ROW.content])
def test_a_snapshot_from_the_future_is_fetched(snapshot: Thing, known: StoredObject[Thing] | None) -> None:
    """Taken for the newest, it would hide all that comes before that time."""
    assert apply_snapshot(NOW + MAX_SNAPSHOT_AGE + SECOND, snapshot, known, NOW) is None
    assert apply_snapshot(NOW + MAX_SNAPSHOT_AGE, NEWS, known, NOW) is not None


def test_an_old_snapshot_without_news_is_not_fetched() -> None:
    """What the row holds already costs no call."""
    assert apply_snapshot(ROW.seen_to, ROW.content, ROW, NOW + timedelta(days=1)) == applied(ROW.content, ROW.seen_to)


def test_an_equal_snapshot_makes_a_new_version() -> None:
    """Whoever fetched before must not commit after it: the object may have changed and changed back since."""
    row = apply_snapshot(ROW.seen_from - CLOCK_SKEW, ROW.content, ROW, NOW)
    assert row == replace(ROW, version=ROW.version + 1)


def test_the_first_sighting_is_the_snapshot_itself() -> None:
    """A row begins with version 1."""
    assert apply_snapshot(NOW, NEWS, None, NOW) == StoredObject(NEWS, NOW, NOW, version=1)


@given(st.integers(-100, 100), st.integers(0, 20))
def test_an_interval_never_moves_back(start: int, length: int) -> None:
    """Whatever a fetch says of its time."""
    row = next_version(NEWS, NOW + start * SECOND, NOW + (start + length) * SECOND, ROW)
    assert row.seen_from >= ROW.seen_from
    assert row.seen_to >= ROW.seen_to
    assert row.seen_from <= row.seen_to
    assert row.version == ROW.version + 1
