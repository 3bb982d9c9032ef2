"""When is what we know Stripe's state? The rule that makes every delivery order end in it.

Stripe delivers events late, twice, out of order and with one-second timestamps, and advises not to order by them
(https://docs.stripe.com/webhooks#event-ordering). So a row carries the interval, by Stripe's clock, in which its
content is known to have been Stripe's state, and an event is applied only where that interval proves it newer.
docs/correctness.md has the argument; tests/domain/test_sightings.py checks it over interleavings.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

SKEW = timedelta(seconds=5)
"""How far apart the clocks of two of Stripe's servers are taken to be, the one-second timestamps included."""

OLD = timedelta(minutes=10)
"""Beyond this age a snapshot with news is fetched anew: it would be right in its order, and wrong for an instant."""


class Content(Protocol):
    """What a sighting is of. `stage` only ever grows in an object's life."""

    @property
    def stage(self) -> int:
        """How far the object's life has come."""


@dataclass(frozen=True, slots=True)
class Sighting[T: Content]:
    """A row: `content` was Stripe's state from `seen_from` to `seen_to`; `version` counts the row's writes."""

    content: T
    seen_from: datetime
    seen_to: datetime
    version: int = 0


class Decision(Enum):
    """What to do with an event about a row."""

    APPLY = "the snapshot is newer than the row"
    INCLUDED = "the row already includes the event"
    CONFIRM = "the snapshot is what the row holds, seen at another time"
    FETCH = "only Stripe can tell"


def decide[T: Content](created: datetime, snapshot: T | None, known: Sighting[T] | None, now: datetime) -> Decision:
    """What to do with an event of Stripe's time `created` that carries `snapshot`, or None if it only names the object.

    `snapshot` must already hold what we derive ourselves, so that equal means equal to the row that would be written.
    """
    if known is not None and created < known.seen_from - SKEW:
        return Decision.INCLUDED
    if snapshot is None:
        return Decision.FETCH
    if known is None:
        return Decision.FETCH if now - created > OLD else Decision.APPLY
    if snapshot == known.content:
        return Decision.CONFIRM
    if created > known.seen_to + SKEW:
        goes_back = snapshot.stage < known.content.stage
        return Decision.FETCH if goes_back or now - created > OLD else Decision.APPLY
    if snapshot.stage != known.content.stage:
        return Decision.APPLY if snapshot.stage > known.content.stage else Decision.INCLUDED
    return Decision.FETCH


def seen[T: Content](content: T, seen_from: datetime, seen_to: datetime, known: Sighting[T] | None) -> Sighting[T]:
    """The row after `content` was found to be at least as new as what is known; the interval never moves back."""
    if known is None:
        return Sighting(content, seen_from, seen_to, version=1)
    return Sighting(
        content,
        max(seen_from, known.seen_from),
        max(seen_to, known.seen_to),
        version=known.version + 1,
    )


def confirmed[T: Content](created: datetime, known: Sighting[T]) -> Sighting[T]:
    """The row after the same content was seen again at `created`; itself if that tells nothing new."""
    if created <= known.seen_to:
        return known
    return seen(known.content, created, created, known)
