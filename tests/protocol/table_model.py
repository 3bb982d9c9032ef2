"""Immutable model of the repository: consistent reads of single items, and atomic commits.

`tests/adapters/test_repository.py` checks the same properties on a real engine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

from billing.adapters.repository import Commit, EventAlreadyProcessed, EventContext, ProcessedEvent, VersionConflict
from billing.domain.accounts import Profile
from billing.domain.errors import StripeUnavailable
from billing.domain.outbound_events import OutboundEvent
from billing.stripe_events.event_types import EventOutcome, ObjectRef, Snapshot
from billing.stripe_events.ordering import StoredObject
from tests.protocol.stripe_model import FrozenDict

ACCOUNT_ID = "acme"
"""The account whose customer the scenarios are about."""
CONTEXT_PARTS = ("marker", "customer", "profile", "rows")
"""Parts of an event's context. BatchGetItem reads each part consistently, but not all of them at the same moment."""


class CallFailure(Enum):
    """A response that is raised as an error. Unlike exceptions, equal failures compare equal."""

    ALREADY_PROCESSED = "the marker exists"
    CONFLICT = "a version has changed"
    STRIPE_UNAVAILABLE = "Stripe fails"

    def error(self) -> Exception:
        """Return the error that the repository or the Stripe gateway raises."""
        match self:
            case CallFailure.ALREADY_PROCESSED:
                return EventAlreadyProcessed()
            case CallFailure.CONFLICT:
                return VersionConflict()
            case CallFailure.STRIPE_UNAVAILABLE:
                return StripeUnavailable()


@dataclass(frozen=True)
class OutboxItem:
    """An outbound event with a hash. `subject` is the id of its object, `content` its serialized state."""

    id: str
    type: str
    subject: str
    second: int
    sequence: int
    content: str

    @classmethod
    def of(cls, event: OutboundEvent) -> "OutboxItem":
        """Convert an outbound event."""
        second = int(event.occurred_at.timestamp())
        return cls(event.id, event.type, event.object["id"], second, event.sequence, repr(event.object))


@dataclass(frozen=True)
class Table:
    """Stored items by their ids. Each condition of a commit is a method, so that an ablation can remove it."""

    markers: FrozenDict[str, EventOutcome] = field(default_factory=FrozenDict)
    owners: FrozenDict[str, str] = field(default_factory=FrozenDict)
    profiles: FrozenDict[str, Profile] = field(default_factory=FrozenDict)
    rows: FrozenDict[str, StoredObject[Snapshot]] = field(default_factory=FrozenDict)
    outbox: tuple[OutboxItem, ...] = ()

    @cached_property
    def _hash(self) -> int:
        return hash((self.markers, self.owners, self.profiles, self.rows, self.outbox))

    def __hash__(self) -> int:
        return self._hash

    def read(
        self,
        parts: Iterable[str],
        event_id: str,
        customer_id: str,
        account_id: str | None,
        targets: Sequence[ObjectRef],
    ) -> EventContext:
        """Read some parts of an event's context. The other parts are empty."""
        stored = self.rows if account_id == ACCOUNT_ID else {}
        rows = {target.id: stored[target.id] for target in targets if target.id in stored}
        return EventContext(
            outcome=self.markers.get(event_id) if "marker" in parts else None,
            account_of_customer=self.owners.get(customer_id) if "customer" in parts else None,
            profile=self.profiles.get(account_id or "") if "profile" in parts else None,
            rows=FrozenDict(rows if "rows" in parts else {}),
        )

    def subscription_rows(self) -> Mapping[str, StoredObject[Snapshot]]:
        """Return all subscription rows. They belong to the account `ACCOUNT_ID`."""
        return FrozenDict({key: row for key, row in self.rows.items() if key.startswith("sub_")})

    def commit(self, commit: Commit) -> "Table | CallFailure":
        """Return the table after a commit, or the reason why nothing was written."""
        if self.is_processed(commit.marker):
            return CallFailure.ALREADY_PROCESSED
        if any(map(self.is_stale, commit.rows)) or self.is_profile_stale(commit):
            return CallFailure.CONFLICT
        if self.is_customer_linked(commit) or self.is_customer_unlinked(commit):
            return CallFailure.CONFLICT
        return self.written(commit)

    def is_processed(self, marker: ProcessedEvent) -> bool:
        """Return True if the event has a final outcome."""
        outcome = self.markers.get(marker.event_id)
        return outcome is not None and outcome.is_final

    def is_stale(self, row: StoredObject[Snapshot]) -> bool:
        """Return True if the stored version is not the one before the new row."""
        stored = self.rows.get(row.content.id)
        return (stored.version if stored else 0) != row.version - 1

    def is_profile_stale(self, commit: Commit) -> bool:
        """Return True if the stored version of the profile is not the one that was read."""
        profile = commit.profile
        return profile is not None and self.profiles[profile.account_id].version != profile.version

    def is_customer_linked(self, commit: Commit) -> bool:
        """Return True if the customer to link already has an account."""
        return commit.new_customer_id in self.owners

    def is_customer_unlinked(self, commit: Commit) -> bool:
        """Return True if a new row's customer no longer belongs to the account."""
        has_new_row = any(row.version == 1 for row in commit.rows) and commit.new_customer_id is None
        return has_new_row and self.owners.get(commit.marker.customer_id or "") != commit.marker.account_id

    def written(self, commit: Commit) -> "Table":
        """Return the table with everything in the commit, without checking conditions."""
        marker, profile = commit.marker, commit.profile
        saved = {profile.account_id: replace(profile, version=profile.version + 1)} if profile else {}
        linked = {commit.new_customer_id: marker.account_id or ""} if commit.new_customer_id else {}
        return replace(
            self,
            markers=self.markers.updated({marker.event_id: marker.outcome}),
            owners=self.owners.updated(linked),
            profiles=self.profiles.updated(saved),
            rows=self.rows.updated({row.content.id: _in_seconds(row) for row in commit.rows}),
            outbox=(*self.outbox, *map(OutboxItem.of, commit.outbound)),
        )


def _in_seconds(row: StoredObject[Snapshot]) -> StoredObject[Snapshot]:
    """Drop fractions of seconds, as `item_codec.to_seconds` does."""
    return replace(row, seen_from=row.seen_from.replace(microsecond=0), seen_to=row.seen_to.replace(microsecond=0))
