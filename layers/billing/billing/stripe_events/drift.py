"""Reconciliation: the checkpoint of a run, and the comparison of Stripe's objects with the table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from billing.domain.invoices import Invoice
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.event_types import EventOutcome, Snapshot, derive_fields
from billing.stripe_events.ordering import CLOCK_SKEW, MAX_CLOCK_ERROR, StoredObject

EVENTS_KEPT = timedelta(days=30)
"""Time for which Stripe lists an event: https://docs.stripe.com/api/events."""
EVENTS_OVERLAP = 2 * MAX_CLOCK_ERROR
"""Overlap of the events of two runs. A clock may be wrong, and an event may be listed late."""
FULL_SYNC_INTERVAL = timedelta(hours=23)
"""Time between two full syncs. With an hourly schedule, which is not exact, this makes one full sync a day."""
RUN_TIMEOUT = timedelta(hours=24)
"""Time without a finished page after which a run is replaced. Stripe's lists may no longer contain its position."""
LEASE_DURATION = timedelta(minutes=40)
"""Longer than the queue hides a message, so that a crashed run is resumed by its own message first."""

REPAIR_ID_PREFIX = "reconciliation_"
"""Prefix of the event ids of repairs. No event of Stripe has it."""


# --- Run --------------------------------------------------------------------------------------------------------------


class Phase(StrEnum):
    """List that a run reads. A run reads them in this order."""

    EVENTS = "events"
    """Events that were never delivered, or that belonged to no account when they were."""
    SUBSCRIPTIONS = "subscriptions"
    INVOICES = "invoices"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Stored position of reconciliation.

    Attributes:
        version: Number of writes.
        run_id: Run that holds the lease.
        leased_until: End of the lease.
        began: Start of the run.
        since: Time of the oldest event that the run reads.
        full_sync: True if the run reads all phases; otherwise it reads events only.
        phase: Current phase; None if no run is in progress.
        after: Id after which the next page begins; None for the first page.
        page_at: Time at which the last page was finished.
        incomplete: True if the run skipped the rest of a list.
        events_until: Time up to which all events were read.
        full_sync_at: Start of the last complete full sync.
    """

    version: int = 0
    run_id: str | None = None
    leased_until: datetime | None = None
    began: datetime | None = None
    since: datetime | None = None
    full_sync: bool = False
    phase: Phase | None = None
    after: str | None = None
    page_at: datetime | None = None
    incomplete: bool = False
    events_until: datetime | None = None
    full_sync_at: datetime | None = None

    def is_held_by_another(self, run_id: str, now: datetime) -> bool:
        """Return True if another run holds the lease."""
        return self.run_id not in {None, run_id} and self.leased_until is not None and now < self.leased_until

    def acquire_lease(self, run_id: str, now: datetime) -> "Checkpoint":
        """Lease the checkpoint to a run.

        The run resumes at the stored position. If no run is in progress, or the last one has timed out, a new run
        starts.
        """
        leased = replace(self, run_id=run_id, leased_until=now + LEASE_DURATION)
        if self.phase and self.page_at and now < self.page_at + RUN_TIMEOUT:
            return leased
        full_sync = self.full_sync_at is None or now >= self.full_sync_at + FULL_SYNC_INTERVAL
        since = now - EVENTS_KEPT if full_sync or self.events_until is None else self.events_until - EVENTS_OVERLAP
        started = replace(leased, began=now, since=since, full_sync=full_sync, incomplete=False)
        return replace(started, phase=Phase.EVENTS, after=None, page_at=now)

    def advance_page(self, after: str | None, now: datetime) -> "Checkpoint":
        """Move to the next page, and renew the lease.

        Args:
            after: Id after which the next page begins. If it is None, the next phase begins, or the run ends.
            now: Current time.
        """
        leased = replace(self, leased_until=now + LEASE_DURATION, after=after, page_at=now)
        if after is not None:
            return leased
        following = list(Phase)[list(Phase).index(self.phase or Phase.INVOICES) + 1 :] if self.full_sync else []
        if following:
            return replace(leased, phase=following[0])
        ended = replace(leased, phase=None, run_id=None, leased_until=None, events_until=self.began)
        return replace(ended, full_sync_at=self.began) if self.full_sync and not self.incomplete else ended

    def skip_phase(self, now: datetime) -> "Checkpoint":
        """Skip the rest of the phase. The run is incomplete, so the next one is a full sync again."""
        return replace(self, incomplete=True).advance_page(None, now)

    def restart_phase(self) -> "Checkpoint":
        """Return to the first page of the phase."""
        return replace(self, after=None)


# --- Comparison -------------------------------------------------------------------------------------------------------

UNASSIGNED = frozenset({EventOutcome.UNKNOWN_CUSTOMER, EventOutcome.CUSTOMER_CONFLICT})


def should_process(recorded: EventOutcome | None, matched: AccountMatch | EventOutcome) -> bool:
    """Return True if an event of Stripe's list is to be processed.

    | recorded outcome                        | process                        |
    |-----------------------------------------|--------------------------------|
    | none                                    | yes                            |
    | `unknown_customer`, `customer_conflict` | if the account match differs   |
    | any other                               | no: an operator has to replay  |

    Args:
        recorded: Outcome in the event's marker; None if there is no marker.
        matched: Account match of the event now.
    """
    return recorded is None or (recorded in UNASSIGNED and matched is not recorded)


def differs(
    listed: Snapshot,
    stored: StoredObject[Snapshot] | None,
    listed_at: datetime,
    conflicting_account_id: str | None = None,
) -> bool:
    """Return True if a row has to be repaired.

    A row that may be newer than the list is left to its events. A draft without a row is left out, because events of
    drafts are not handled.

    Args:
        listed: Object as Stripe lists it.
        stored: Row of the object; None if there is none.
        listed_at: Earliest time at which Stripe listed the object in this state.
        conflicting_account_id: Result of `account_matching.find_conflict`.
    """
    if stored is None:
        return not isinstance(listed, Invoice) or listed.is_issued
    if listed_at < stored.seen_from + CLOCK_SKEW:
        return False
    derived = derive_fields(listed, stored, listed_at, conflicting_account_id)
    return _listed_fields(derived) != _listed_fields(stored.content)


def _listed_fields(snapshot: Snapshot) -> Snapshot:
    """Remove the fields that cannot be compared with a list.

    - The links of an invoice: Stripe creates them anew, with another expiry, for each response.
    - The plan of a pending change: a list contains the id of its price, and the plan may follow from the lookup key.
    """
    if isinstance(snapshot, Invoice):
        return replace(snapshot, hosted_invoice_url=None, invoice_pdf=None)
    if snapshot.pending_change is None:
        return snapshot
    return replace(snapshot, pending_change=replace(snapshot.pending_change, plan=None, is_per_seat=False))


# --- Results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """An event that was not processed, or an object that differs from its row.

    Attributes:
        phase: List that contained it.
        id: Id of the event or object.
        account_id: Account of the event or object.
        outcome: Outcome of its processing; None if the run only reports.
    """

    phase: Phase
    id: str
    account_id: str | None
    outcome: EventOutcome | None

    @property
    def is_drift(self) -> bool:
        """True if the table was not in Stripe's state, or may not be in a run that only reports."""
        return self.outcome in {
            None,
            EventOutcome.APPLIED,
            EventOutcome.CUSTOMER_CONFLICT,
            EventOutcome.MISSING,
            EventOutcome.FAILED,
        }


@dataclass(frozen=True, slots=True)
class PageResult:
    """Result of one page of a list.

    Attributes:
        phase: List that was read.
        listed_at: Earliest time at which Stripe listed the page.
        ids: Ids of the page.
        unknown_customer: Number of objects whose customer belongs to no account. A run of one account counts an object
            only if its metadata names the account.
        discrepancies: Discrepancies that were found.
        after: Id after which the next page begins; None on the last page.
    """

    phase: Phase
    listed_at: datetime
    ids: tuple[str, ...]
    unknown_customer: int
    discrepancies: tuple[Discrepancy, ...]
    after: str | None

    @property
    def counts(self) -> Mapping[str, int]:
        """Numbers of compared objects, of discrepancies that are drift, and of objects without an account."""
        drift = sum(discrepancy.is_drift for discrepancy in self.discrepancies)
        return {"compared": len(self.ids), "drift": drift, "unknown_customer": self.unknown_customer}
