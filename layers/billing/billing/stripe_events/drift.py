"""Reconciliation: what is compared with Stripe, in which order, and where a run that stopped goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from billing.domain.invoices import Invoice
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.event_types import EventOutcome, Snapshot, derive_fields
from billing.stripe_events.ordering import CLOCK_SKEW, StoredObject

EVENTS_KEPT = timedelta(days=30)
"""For how long Stripe lists an event: https://docs.stripe.com/api/events."""
OVERLAP = timedelta(minutes=10)
"""How far two runs' events overlap: our clock may differ from Stripe's, and an event may be listed late."""
FULL_SYNC_INTERVAL = timedelta(hours=23)
"""So that an hourly schedule full_sync once a day, a little earlier or later."""
STALE = timedelta(hours=24)
"""A run that has turned no page for so long is begun anew: its place may not be in Stripe's lists any more."""
LEASE = timedelta(minutes=40)
"""Longer than the queue hides a message, so that a run that crashed is resumed by its own message first."""


class Phase(StrEnum):
    """What a run goes through, in this order."""

    EVENTS = "events"
    """Stripe's event list: what was never delivered, and what had no account when it was."""
    SUBSCRIPTIONS = "subscriptions"
    INVOICES = "invoices"


REPAIR_ID_PREFIX = "reconciliation_"
"""Begins the ids of the markers that mending leaves: no event of Stripe's has such a one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far reconciliation has come: one row, whose `version` counts its writes. `step` None: no run is under way.

    `began` and `since` are of that run: when it started, and the oldest event that it looks at. `after` is the id at
    which the next page begins, `page_at` when the last one was turned; `incomplete`: a list was not gone through. All
    events until `events_until` were looked at, and everything was full_sync_at at `full_sync_at`.
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
        """Whether a run of another id is at work, or may still be."""
        return self.run_id not in {None, run_id} and self.leased_until is not None and now < self.leased_until

    def acquire_lease(self, run_id: str, now: datetime) -> "Checkpoint":
        """This run's lease on where the last one stopped; a run that ended, or never will, is followed by a new one."""
        held = replace(self, run_id=run_id, leased_until=now + LEASE)
        if self.phase and self.page_at and now < self.page_at + STALE:
            return held
        full_sync = self.full_sync_at is None or now >= self.full_sync_at + FULL_SYNC_INTERVAL
        since = now - EVENTS_KEPT if full_sync or self.events_until is None else self.events_until - OVERLAP
        begun = replace(held, began=now, since=since, full_sync=full_sync, incomplete=False)
        return replace(begun, phase=Phase.EVENTS, after=None, page_at=now)

    def advance_page(self, after: str | None, now: datetime) -> "Checkpoint":
        """After a page: the one that begins `after`, or where there is none the next step, or the end."""
        held = replace(self, leased_until=now + LEASE, after=after, page_at=now)
        if after is not None:
            return held
        steps = list(Phase)[list(Phase).index(self.phase or Phase.INVOICES) + 1 :] if self.full_sync else []
        if steps:
            return replace(held, phase=steps[0])
        ended = replace(held, phase=None, run_id=None, leased_until=None, events_until=self.began)
        return replace(ended, full_sync_at=self.began) if self.full_sync and not self.incomplete else ended

    def skip_phase(self, now: datetime) -> "Checkpoint":
        """The next step, or the end, though this list was not gone through: the next run full_sync again."""
        return replace(self, incomplete=True).advance_page(None, now)

    def restart_phase(self) -> "Checkpoint":
        """The same step from its first page on."""
        return replace(self, after=None)


UNASSIGNED = frozenset({EventOutcome.UNKNOWN_CUSTOMER, EventOutcome.CUSTOMER_CONFLICT})


def should_process(recorded: EventOutcome | None, matched: AccountMatch | EventOutcome) -> bool:
    """Whether an event of Stripe's list is to be processed, by what is recorded of it and whose it is now.

    Never seen: yes. Nobody's then: once that is decided otherwise. Every other outcome stays until somebody has looked.
    """
    return recorded is None or (recorded in UNASSIGNED and matched is not recorded)


def differs(listed: Snapshot, known: StoredObject[Snapshot] | None, listed_at: datetime) -> bool:
    """Whether a row has to be mended that Stripe, not before `listed_at`, listed so.

    A row that may be newer than the list needs no mending: its events are on their way, or were here. Nor does a draft
    that nobody was told of.
    """
    if known is None:
        return not isinstance(listed, Invoice) or listed.is_issued
    if listed_at < known.seen_from + CLOCK_SKEW:
        return False
    return _without_links(derive_fields(listed, known, listed_at)) != _without_links(known.content)


def _without_links(snapshot: Snapshot) -> Snapshot:
    """An invoice's links have an expiry in them and are made anew for each answer; they never tell news."""
    return replace(snapshot, hosted_invoice_url=None, invoice_pdf=None) if isinstance(snapshot, Invoice) else snapshot


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """An event that was not processed, or an object whose row was not as Stripe says.

    `outcome` is what became of it, None if nothing was to be written.
    """

    phase: Phase
    id: str
    account_id: str | None
    outcome: EventOutcome | None

    @property
    def is_drift(self) -> bool:
        """Whether the table was not in Stripe's state, or may not be, as far as nothing was to be written."""
        return self.outcome in {
            None,
            EventOutcome.APPLIED,
            EventOutcome.CUSTOMER_CONFLICT,
            EventOutcome.MISSING,
            EventOutcome.FAILED,
        }


@dataclass(frozen=True, slots=True)
class PageResult:
    """What one page of a list brought, which Stripe listed not before `listed_at`.

    `after`: the id at which the next page begins; None at the end. `unknown_customer` counts the objects of
    customers without an account.
    """

    phase: Phase
    listed_at: datetime
    ids: tuple[str, ...]
    unknown_customer: int
    discrepancies: tuple[Discrepancy, ...]
    after: str | None

    @property
    def counts(self) -> Mapping[str, int]:
        """The page in numbers: what was compared, what differed, what belongs to nobody."""
        drift = sum(discrepancy.is_drift for discrepancy in self.discrepancies)
        return {"compared": len(self.ids), "drift": drift, "unknown_customer": self.unknown_customer}
