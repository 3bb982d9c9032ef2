"""Stripe events that the table has markers of. docs/reference/event-outcomes.md defines the outcomes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Any

from billing.adapters.repository import ProcessedEvent, Repository
from billing.domain.timestamps import iso
from billing.stripe_events.customer_links import OPERATOR_ID_PREFIX
from billing.stripe_events.drift import REPAIR_ID_PREFIX
from billing.stripe_events.event_types import EventOutcome

ABSENT = "absent"
"""Outcome of an event that Stripe has and the table has no marker of: it never arrived."""
OUTCOMES = (*(outcome for outcome in EventOutcome if outcome is not EventOutcome.DUPLICATE), ABSENT)
"""Outcomes of a listed event. No marker has the outcome `duplicate`."""
OPEN_OUTCOMES = tuple(outcome for outcome in EventOutcome if not outcome.is_final)
"""Outcomes that need attention. The table has an index of these events."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Filter of `billing events list` and `replay`. None matches any value.

    Attributes:
        since: Earliest time of processing, or time of the event if Stripe's event list is read.
        until: Latest time, in the same sense.
        outcome: One of OUTCOMES.
        reason: Text that the reason contains.
    """

    since: datetime
    until: datetime
    account_id: str | None = None
    type: str | None = None
    outcome: str | None = None
    reason: str | None = None

    @property
    def needs_stripe_list(self) -> bool:
        """True if the table cannot list the events: it has them by account, and by outcome if it is not final."""
        return self.outcome == ABSENT or not (self.outcome in OPEN_OUTCOMES or self.account_id)

    def matches(self, entry: "EventEntry") -> bool:
        """Return True if the event has the account, type, outcome and reason of the filter."""
        return (
            self.account_id in {None, entry.account_id}
            and self.type in {None, entry.type}
            and self.outcome in {None, entry.outcome}
            and (self.reason or "").lower() in (entry.reason or "").lower()
        )


@dataclass(frozen=True, slots=True)
class EventEntry:
    """One event and its outcome."""

    id: str
    type: str
    outcome: str
    created: datetime | None = None
    processed: datetime | None = None
    account_id: str | None = None
    customer_id: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, marker: ProcessedEvent) -> "EventEntry":
        """Create an entry from an event's marker."""
        return cls(
            id=marker.event_id,
            type=marker.type,
            outcome=marker.outcome,
            created=marker.created,
            processed=marker.processed,
            account_id=marker.account_id,
            customer_id=marker.customer_id,
            reason=marker.reason,
        )

    @property
    def is_repair(self) -> bool:
        """True if reconciliation left the marker. Stripe has no such event."""
        return self.id.startswith(REPAIR_ID_PREFIX)

    @property
    def is_audit_entry(self) -> bool:
        """True for an operator's action. Stripe has no such event."""
        return self.id.startswith(OPERATOR_ID_PREFIX)

    def as_dict(self) -> Mapping[str, Any]:
        """Return the entry for JSON output."""
        return {
            "id": self.id,
            "type": self.type,
            "outcome": self.outcome,
            "created": iso(self.created),
            "processed": iso(self.processed),
            "account_id": self.account_id,
            "customer": self.customer_id,
            "reason": self.reason,
        }

    def as_row(self) -> tuple[object, ...]:
        """Return the columns of text output."""
        return iso(self.created), self.id, self.type, self.outcome, self.account_id, self.reason


def list_recorded_events(repository: Repository, event_filter: EventFilter) -> Iterator[EventEntry]:
    """Yield the events that the table has, newest first."""
    sources = _sources(repository, event_filter)
    entries = map(EventEntry.of, merge(*sources, key=lambda marker: marker.processed, reverse=True))
    return filter(event_filter.matches, entries)


def _sources(repository: Repository, event_filter: EventFilter) -> Iterable[Iterator[ProcessedEvent]]:
    period = (event_filter.since, event_filter.until)
    for outcome in OPEN_OUTCOMES:
        if event_filter.outcome in {None, outcome}:
            yield repository.list_open_events(outcome, *period)
    if event_filter.account_id and event_filter.outcome not in OPEN_OUTCOMES:
        yield repository.list_account_events(event_filter.account_id, *period)
