"""What became of Stripe's events, as the table has it. docs/reference/event-outcomes.md defines each outcome."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from heapq import merge
from typing import Any

from billing.adapters.repository import ProcessedEvent, Repository
from billing.domain.timestamps import iso
from billing.stripe_events.drift import REPAIR_ID_PREFIX
from billing.stripe_events.event_types import EventOutcome


class Found(StrEnum):
    """What an operator asks for: what is recorded of an event, or that nothing is."""

    APPLIED = EventOutcome.APPLIED
    NO_CHANGE = EventOutcome.NO_CHANGE
    IGNORED = EventOutcome.IGNORED
    UNKNOWN_CUSTOMER = EventOutcome.UNKNOWN_CUSTOMER
    CUSTOMER_CONFLICT = EventOutcome.CUSTOMER_CONFLICT
    MISSING = EventOutcome.MISSING
    FAILED = EventOutcome.FAILED
    ABSENT = "absent"
    """Stripe has it, and it never came here."""


OPEN = tuple(found for found in Found if found is not Found.ABSENT and not EventOutcome(found).is_final)
"""What is worth another look, and listed for it."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which events: None is any.

    `since` and `until` bound when they were processed; when they happened, where it is Stripe's list that answers.
    """

    since: datetime
    until: datetime
    account_id: str | None = None
    type: str | None = None
    found: Found | None = None

    @property
    def is_for_stripe(self) -> bool:
        """Whether only Stripe's list has an answer: our records are listed by account, and by what is open."""
        return self.found is Found.ABSENT or not (self.found in OPEN or self.account_id)

    def includes(self, entry: "Entry") -> bool:
        """Whether an event is asked for."""
        return (
            self.account_id in {None, entry.account_id}
            and self.type in {None, entry.type}
            and self.found in {None, entry.found}
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, and what became of it."""

    id: str
    type: str
    found: Found
    created: datetime | None = None
    processed: datetime | None = None
    account_id: str | None = None
    customer_id: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, marker: ProcessedEvent) -> "Entry":
        """What is recorded of an event."""
        return cls(
            id=marker.event_id,
            type=marker.type,
            found=Found(marker.outcome),
            created=marker.created,
            processed=marker.processed,
            account_id=marker.account_id,
            customer_id=marker.customer_id,
            reason=marker.reason,
        )

    @property
    def is_mending(self) -> bool:
        """Whether it is what reconciliation left, and no event that Stripe has."""
        return self.id.startswith(REPAIR_ID_PREFIX)

    @property
    def facts(self) -> Mapping[str, Any]:
        """All of it for programs."""
        return {
            "id": self.id,
            "type": self.type,
            "outcome": self.found,
            "created": iso(self.created),
            "processed": iso(self.processed),
            "account_id": self.account_id,
            "customer": self.customer_id,
            "reason": self.reason,
        }

    @property
    def row(self) -> tuple[object, ...]:
        """A line of it for people."""
        return iso(self.created), self.id, self.type, self.found, self.account_id, self.reason


def recorded(repository: Repository, question: Question) -> Iterator[Entry]:
    """The table's answer, latest first."""
    entries = map(Entry.of, merge(*_sources(repository, question), key=lambda marker: marker.processed, reverse=True))
    return filter(question.includes, entries)


def _sources(repository: Repository, question: Question) -> Iterable[Iterator[ProcessedEvent]]:
    period = (question.since, question.until)
    for found in OPEN:
        if question.found in {None, found}:
            yield repository.list_open_events(EventOutcome(found), *period)
    if question.account_id and question.found not in OPEN:
        yield repository.list_account_events(question.account_id, *period)
