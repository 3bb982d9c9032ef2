"""Event ordering: a pure rule that brings a row to Stripe's state under any delivery order.

Stripe delivers events late, twice and out of order, with timestamps of one-second resolution, and advises against
ordering by them: https://docs.stripe.com/webhooks#event-ordering

Each row therefore stores an interval of Stripe's clock within which its content was Stripe's state. An event is applied
only if the interval or the lifecycle rank proves that it is newer. The first line that applies decides:

| #  | created                 | condition                                               | result     |
|----|-------------------------|---------------------------------------------------------|------------|
| 1  | before seen_from - skew |                                                         | stored row |
| 2  | any                     | no snapshot, or created is after now + MAX_SNAPSHOT_AGE | fetch      |
| 3  | any                     | no row is stored, and the snapshot is fresh             | apply      |
| 4  | any                     | no row is stored, and the snapshot is not fresh         | fetch      |
| 5  | any                     | the snapshot equals the row                             | apply      |
| 6  | after seen_to + skew    | lower rank than the row                                 | fetch      |
| 7  | up to seen_to + skew    | lower rank than the row                                 | stored row |
| 8  | any                     | the snapshot is not fresh                               | fetch      |
| 9  | after seen_to + skew    |                                                         | apply      |
| 10 | up to seen_to + skew    | higher rank than the row                                | apply      |
| 11 | up to seen_to + skew    | equal rank                                              | fetch      |

- skew: CLOCK_SKEW
- stored row: the row already includes the event
- apply: write the snapshot as the next version of the row
- fetch: only Stripe can decide, so the object is fetched
- fresh: at most MAX_SNAPSHOT_AGE old, or of an object that has ended

docs/explanation/event-ordering.md has the argument for this rule. tests/protocol checks it over every interleaving of
small scenarios.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

CLOCK_SKEW = timedelta(seconds=5)
"""Greatest difference between two of Stripe's clocks, including the fraction of a second that a timestamp drops."""

MAX_SNAPSHOT_AGE = timedelta(minutes=10)
"""Age above which a snapshot is not fresh: its order is known, but it may show a state that ended long ago.

The same limit applies to the future. A snapshot beyond it would look like the newest one, and hide all events before
its time.
"""


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
        seen_from: Start of an interval, by Stripe's clock, within which `content` was Stripe's state.
        seen_to: End of the interval.
        version: Number of writes to the row.
    """

    content: T
    seen_from: datetime
    seen_to: datetime
    version: int = 0


def apply_snapshot[T: VersionedContent](
    created: datetime, snapshot: T | None, stored: StoredObject[T] | None, now: datetime
) -> StoredObject[T] | None:
    """Apply an event's snapshot to the stored row, by the decision table of this module.

    Args:
        created: Time of the event, by Stripe's clock.
        snapshot: State of the object that the event carries; None if the event only names the object. It contains the
            derived fields, so that it equals the row that would be written.
        stored: Row as it was read; None if no row is stored.
        now: Current time.

    Returns:
        The new row, the stored row if it already includes the event, or None if the object must be fetched from Stripe.
    """
    if stored is not None and created < stored.seen_from - CLOCK_SKEW:
        return stored
    if snapshot is None or created > now + MAX_SNAPSHOT_AGE:
        return None
    is_fresh = now - created <= MAX_SNAPSHOT_AGE or snapshot.has_ended
    if stored is None:
        return next_version(snapshot, created, created, None) if is_fresh else None
    if snapshot == stored.content:
        # A new version is written even for equal content. The object may have changed and changed back since the row
        # was read, and a worker that fetched it in between must not commit after this event.
        return next_version(snapshot, created, created, stored)
    is_later = created > stored.seen_to + CLOCK_SKEW
    rank_change = snapshot.lifecycle_rank - stored.content.lifecycle_rank
    if rank_change < 0:
        return None if is_later else stored
    if is_fresh and (is_later or rank_change > 0):
        return next_version(snapshot, created, created, stored)
    return None


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
    )
