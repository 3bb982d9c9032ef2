"""In-memory model of the repository: consistent reads of single rows, atomic commits.

`tests/adapters/test_repository.py` holds the same promises against a real engine.
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

PARTS = ("marker", "customer", "profile", "rows")
"""What BatchGetItem reads for an event: each part is consistent, and all of them together are of no one moment."""


class Refusal(Enum):
    """An answer that is raised. Equal refusals are equal, as exceptions are not."""

    TAKEN = "its marker is there"
    CONFLICT = "the version is another by now"
    FAILED = "Stripe fails"

    def error(self) -> Exception:
        """What the store or Stripe's adapter raises."""
        match self:
            case Refusal.TAKEN:
                return EventAlreadyProcessed()
            case Refusal.CONFLICT:
                return VersionConflict()
            case Refusal.FAILED:
                return StripeUnavailable()


@dataclass(frozen=True)
class Told:
    """An outbox row, as the account's own systems get it."""

    id: str
    type: str
    subject: str
    second: int
    data: FrozenDict[str, str | int | bool | None]

    @classmethod
    def of(cls, event: OutboundEvent) -> "Told":
        """An outbox row with a hash."""
        subject = event.data.get("invoice") or event.data["subscription"]
        return cls(event.id, event.type, str(subject), int(event.occurred_at.timestamp()), FrozenDict(event.data))


@dataclass(frozen=True)
class Table:
    """What is stored, by what would be its keys. Each of its conditions is a method, so that one can be left out."""

    markers: FrozenDict[str, EventOutcome] = field(default_factory=FrozenDict)
    owners: FrozenDict[str, str] = field(default_factory=FrozenDict)
    profiles: FrozenDict[str, Profile] = field(default_factory=FrozenDict)
    rows: FrozenDict[str, StoredObject[Snapshot]] = field(default_factory=FrozenDict)
    outbox: tuple[Told, ...] = ()

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
        """Some parts of what is known of the things an event names; nothing of the others."""
        rows = {target.id: self.rows[target.id] for target in targets if target.id in self.rows}
        return EventContext(
            outcome=self.markers.get(event_id) if "marker" in parts else None,
            account_of_customer=self.owners.get(customer_id) if "customer" in parts else None,
            profile=self.profiles.get(account_id or "") if "profile" in parts else None,
            rows=FrozenDict(rows if "rows" in parts else {}),
        )

    def subscription_rows(self) -> Mapping[str, StoredObject[Snapshot]]:
        """All subscriptions of the only account that has any."""
        return FrozenDict({key: row for key, row in self.rows.items() if key.startswith("sub_")})

    def commit(self, commit: Commit) -> "Table | Refusal":
        """The table with the whole effect, or why nothing was written."""
        if self.is_taken(commit.marker):
            return Refusal.TAKEN
        if any(map(self.is_stale, commit.rows)) or self.is_profile_stale(commit) or self.is_customer_taken(commit):
            return Refusal.CONFLICT
        return self.written(commit)

    def is_taken(self, marker: ProcessedEvent) -> bool:
        """Whether the event has a final outcome."""
        outcome = self.markers.get(marker.event_id)
        return outcome is not None and outcome.is_final

    def is_stale(self, row: StoredObject[Snapshot]) -> bool:
        """Whether the row is not written over the one that was read."""
        stored = self.rows.get(row.content.id)
        return (stored.version if stored else 0) != row.version - 1

    def is_profile_stale(self, commit: Commit) -> bool:
        """Likewise for the profile."""
        profile = commit.profile
        return profile is not None and self.profiles[profile.account_id].version != profile.version

    def is_customer_taken(self, commit: Commit) -> bool:
        """Whether the customer that is to be linked has an account by now."""
        return commit.new_customer_id in self.owners

    def written(self, commit: Commit) -> "Table":
        """All that the commit holds, whatever was there."""
        marker, profile = commit.marker, commit.profile
        saved = {profile.account_id: replace(profile, version=profile.version + 1)} if profile else {}
        linked = {commit.new_customer_id: marker.account_id or ""} if commit.new_customer_id else {}
        return replace(
            self,
            markers=self.markers.having({marker.event_id: marker.outcome}),
            owners=self.owners.having(linked),
            profiles=self.profiles.having(saved),
            rows=self.rows.having({row.content.id: row for row in commit.rows}),
            outbox=(*self.outbox, *map(Told.of, commit.outbound)),
        )
