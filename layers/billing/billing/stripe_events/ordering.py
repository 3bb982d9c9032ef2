"""Event ordering: a pure rule that brings a row to Stripe's state under any delivery order.

Stripe delivers events late, twice and out of order, with timestamps of one-second resolution, and advises against
ordering by them: https://docs.stripe.com/webhooks#event-ordering

Each row therefore stores an interval within which its content was Stripe's state. An event is applied only if its
lifecycle rank or the interval proves that it is newer. Clocks may be wrong, so facts come before times: the rank is
compared first. The first line that applies decides:

| #  | content                          | created                     | result     |
|----|----------------------------------|-----------------------------|------------|
| 1  | the snapshot has a higher rank   | the snapshot is fresh       | apply      |
| 2  | the snapshot has a higher rank   | the snapshot is not fresh   | fetch      |
| 3  | the snapshot has a lower rank    | after seen_to + skew        | fetch      |
| 4  | the snapshot has a lower rank    | up to seen_to + skew        | stored row |
| 5  | the stored object has ended      | before seen_from - skew     | stored row |
| 6  | any                              | before seen_from - tolerance| stored row |
| 7  | any                              | after now + skew            | fetch      |
| 8  | no snapshot                      | any                         | fetch      |
| 9  | the snapshot equals the row      | any                         | apply      |
| 10 | the snapshot is fresh            | after seen_to + skew        | apply      |
| 11 | any                              | any                         | fetch      |

If no row is stored, every snapshot has a higher rank, and an event without one leads to a fetch.

- skew: CLOCK_SKEW
- tolerance: MAX_CLOCK_ERROR + CLOCK_SKEW
- now: the receiver's clock
- stored row: the row already includes the event
- apply: write the snapshot as the next version of the row
- fetch: only Stripe can decide, so the object is fetched
- fresh: created at most MAX_SNAPSHOT_AGE before now and at most CLOCK_SKEW after it, or of an object that has ended

docs/explanation/event-ordering.md has the argument for this rule. tests/protocol checks it over every interleaving of
small scenarios.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

CLOCK_SKEW = timedelta(seconds=5)
"""Greatest difference between two clocks that are right, including the fraction of a second that a timestamp drops."""

MAX_CLOCK_ERROR = timedelta(minutes=10)
"""Greatest error of a clock that is wrong.

An event is discarded by its time only if its row is newer by more than this error. Otherwise a change that a slow clock
stamped would be lost.
"""

MAX_SNAPSHOT_AGE = timedelta(minutes=10)
"""Age above which a snapshot is not fresh: its order is known, but it may show a state that ended long ago."""


class VersionedContent(Protocol):
    """Content of a stored object."""

    @property
    def lifecycle_rank(self) -> int:
        """Position in the lifecycle, which never decreases in Stripe."""

    @property
    def has_ended(self) -> bool:
        """True if no other state follows."""


@dataclass(frozen=True, slots=True)
class StoredObject[T: VersionedContent]:
    """A row: an object, the interval in which it was observed, and a version.

    Attributes:
        content: Subscription or invoice.
        seen_from: Start of an interval within which `content` was Stripe's state.
        seen_to: End of the interval.
        version: Number of writes to the row.
        sequence: Number of outbound events about the object so far.
    """

    content: T
    seen_from: datetime
    seen_to: datetime
    version: int = 0
    sequence: int = 0


def apply_snapshot[T: VersionedContent](
    created: datetime, snapshot: T | None, stored: StoredObject[T] | None, now: datetime
) -> StoredObject[T] | None:
    """Apply an event's snapshot to the stored row, by the decision table of this module.

    Args:
        created: Time of the event, by Stripe's clock.
        snapshot: State of the object that the event carries; None if the event only names the object. It contains the
            derived fields, so that it equals the row that would be written.
        stored: Row as it was read; None if no row is stored.
        now: Current time, by the receiver's clock.

    Returns:
        The new row, the stored row if it already includes the event, or None if the object must be fetched from Stripe.
    """
    if snapshot is None:
        return stored if stored is not None and includes(stored, created) else None
    is_ahead = created > now + CLOCK_SKEW
    is_fresh = snapshot.has_ended or not (is_ahead or now - created > MAX_SNAPSHOT_AGE)
    observed_at = min(created, now + CLOCK_SKEW)
    applied = next_version(snapshot, observed_at, observed_at, stored)
    if stored is None or snapshot.lifecycle_rank > stored.content.lifecycle_rank:
        return applied if is_fresh else None
    is_later = created > stored.seen_to + CLOCK_SKEW
    if snapshot.lifecycle_rank < stored.content.lifecycle_rank:
        return None if is_later else stored
    if includes(stored, created):
        return stored
    # A new version is written even for equal content. The object may have changed and changed back since the row was
    # read, and a worker that fetched it in between must not commit after this event.
    if not is_ahead and (snapshot == stored.content or (is_later and is_fresh)):
        return applied
    return None


def includes[T: VersionedContent](stored: StoredObject[T], created: datetime) -> bool:
    """Return True if the row is newer than an event of equal rank, even if the clock of the event is slow.

    No state follows an end. An event of equal rank may therefore be discarded without the tolerance.
    """
    tolerance = CLOCK_SKEW if stored.content.has_ended else MAX_CLOCK_ERROR + CLOCK_SKEW
    return created < stored.seen_from - tolerance


def observation_interval(seen_from: datetime, seen_to: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Extend the interval of a fetch so that it also covers the fetch by the receiver's clock.

    One of the two clocks may be wrong. Neither end is then so late that later events appear to be included, nor so
    early that older events appear to be newer.

    Args:
        seen_from: Start of the fetch, by Stripe's clock.
        seen_to: End of the fetch, by Stripe's clock.
        now: End of the fetch, by the receiver's clock.
    """
    return min(seen_from, now - (seen_to - seen_from)), min(max(seen_to, now), now + MAX_CLOCK_ERROR)


def next_version[T: VersionedContent](
    content: T, seen_from: datetime, seen_to: datetime, stored: StoredObject[T] | None
) -> StoredObject[T]:
    """Return the row with content that is at least as new as the stored one. Neither end of its interval moves back."""
    if stored is None:
        return StoredObject(content, seen_from, seen_to, version=1)
    return StoredObject(
        content,
        max(seen_from, stored.seen_from),
        max(seen_to, stored.seen_to),
        version=stored.version + 1,
        sequence=stored.sequence,
    )
