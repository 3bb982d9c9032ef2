"""When is what we know Stripe's state? The rule that makes every delivery order end in it.

Stripe delivers events late, twice, out of order and with one-second timestamps, and advises not to order by them
(https://docs.stripe.com/webhooks#event-ordering). So a row carries the interval, by Stripe's clock, in which its
content is known to have been Stripe's state, and an event is applied only where that interval proves it newer.
docs/explanation/event-ordering.md has the argument; tests/protocol checks it over every interleaving of small stories.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

SKEW = timedelta(seconds=5)
"""How far apart the clocks of two of Stripe's servers are taken to be, the one-second timestamps included."""

OLD = timedelta(minutes=10)
"""Beyond this age a snapshot with news is fetched anew: it would be right in its order, and wrong for an instant.

Not so the end of an object, after which nothing comes. And any snapshot that far in the future: taken for the newest,
it would hide all that comes before that time.
"""


class Content(Protocol):
    """What a sighting is of. `stage` only ever grows in an object's life."""

    @property
    def stage(self) -> int:
        """How far the object's life has come."""

    @property
    def has_ended(self) -> bool:
        """Whether no other stage comes after it."""


@dataclass(frozen=True, slots=True)
class Sighting[T: Content]:
    """A row: `content` was Stripe's state from `seen_from` to `seen_to`; `version` counts the row's writes."""

    content: T
    seen_from: datetime
    seen_to: datetime
    version: int = 0


def advance[T: Content](
    created: datetime, snapshot: T | None, known: Sighting[T] | None, now: datetime
) -> Sighting[T] | None:
    """The row after an event of Stripe's time `created`; `known` itself if the event tells nothing new.

    None where only Stripe can tell. `snapshot` is None if the event names the object without carrying it; it must
    already hold what we derive ourselves, so that equal means equal to the row that would be written.
    """
    if known is not None and created < known.seen_from - SKEW:
        return known
    if snapshot is None or created > now + OLD:
        return None
    is_old = now - created > OLD and not snapshot.has_ended
    if known is None:
        return None if is_old else seen(snapshot, created, created, None)
    if snapshot == known.content:
        # Written even where nothing moves but the version: since the row was read by whoever fetches now, the object
        # may have changed and changed back, and what was fetched in between must not be committed after this event.
        return seen(snapshot, created, created, known)
    is_later = created > known.seen_to + SKEW
    ahead = snapshot.stage - known.content.stage
    if ahead < 0:
        return None if is_later else known
    if is_old:
        return None
    return seen(snapshot, created, created, known) if is_later or ahead > 0 else None


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
