"""Ablations: the protocol without one of its steps.

Each ablation violates an invariant in some scenario. The violation shows why the step is necessary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from billing.adapters.repository import Commit, ProcessedEvent
from billing.domain.accounts import Profile
from billing.domain.errors import StripeUnavailable
from billing.domain.outbound_events import OutboundEvent
from billing.domain.plans import Catalog
from billing.services import event_processor
from billing.services.event_processor import EventProcessor, MatchedEvent
from billing.stripe_events import account_matching
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef, ParsedEvent, Snapshot, StripeEvent
from billing.stripe_events.ordering import MAX_SNAPSHOT_AGE, StoredObject, apply_snapshot, includes, next_version
from tests.protocol.table_model import Table
from tests.protocol.workers import Components, ReplayedCalls, Write

type Row = StoredObject[Snapshot]


@dataclass(frozen=True)
class Ablation:
    """The protocol without a step.

    Attributes:
        description: One sentence.
        scenario: Scenario in which an invariant is violated.
        violates: Name of the invariant; None if the step only saves fetches.
        components: Components without the step.
    """

    description: str
    scenario: str
    violates: str | None
    components: Components


# --- Conditions of the table ------------------------------------------------------------------------------------------


class UnconditionalRows(Table):
    """Table that writes rows without a condition on their version."""

    def is_stale(self, _row: Row) -> bool:
        return False


class UnconditionalProfiles(Table):
    """Table that writes profiles without a condition on their version."""

    def is_profile_stale(self, _commit: Commit) -> bool:
        return False


class UnconditionalMarkers(Table):
    """Table that writes markers over final ones."""

    def is_processed(self, _marker: ProcessedEvent) -> bool:
        return False


class UnconditionalLinks(Table):
    """Table that links a customer although it has an account."""

    def is_customer_linked(self, _commit: Commit) -> bool:
        return False


class UnconditionalNewRows(Table):
    """Table that writes new rows of a customer that was unlinked."""

    def is_customer_unlinked(self, _commit: Commit) -> bool:
        return False


# --- One transaction --------------------------------------------------------------------------------------------------


def _without_condition(marker: ProcessedEvent) -> ProcessedEvent:
    """Return a marker whose condition always holds, for a transaction that has no marker."""
    return replace(marker, event_id="none", outcome=EventOutcome.UNKNOWN_CUSTOMER)


class MarkerBeforeEffect(ReplayedCalls):
    """Repository that writes the marker before its effect."""

    def commit(self, commit: Commit) -> None:
        self.call(Write(Commit(commit.marker), is_complete=False), object)
        self.call(Write(replace(commit, marker=_without_condition(commit.marker)), is_complete=False), object)


class OutboxBeforeRows(ReplayedCalls):
    """Repository that writes the outbox before the rows."""

    def commit(self, commit: Commit) -> None:
        outbox = Commit(_without_condition(commit.marker), outbound=commit.outbound)
        self.call(Write(outbox, is_complete=False), object)
        self.call(Write(replace(commit, outbound=()), is_complete=False), object)


class OutboxAfterRows(ReplayedCalls):
    """Repository that writes the outbox after the rows."""

    def commit(self, commit: Commit) -> None:
        outbox = Commit(_without_condition(commit.marker), outbound=commit.outbound)
        self.call(Write(replace(commit, outbound=()), is_complete=False), object)
        self.call(Write(outbox, is_complete=False), object)


# --- The processor ----------------------------------------------------------------------------------------------------


class FetchBeforeRead(EventProcessor):
    """Processor that fetches all objects before it reads their rows."""

    def _attempt(self, event: StripeEvent, parsed: ParsedEvent) -> EventOutcome:
        fetched = {target.id: self.fetch(target) for target in parsed.targets}
        return EventProcessor._attempt(replace(self, fetch=lambda target: fetched[target.id]), event, parsed)


class ScheduleByInterval(EventProcessor):
    """Processor that applies the interval of a row to events of the subscription's schedule."""

    def _next_row(self, matched: MatchedEvent, target: ObjectRef, stored: Row | None) -> Row | None:
        return EventProcessor._next_row(self, matched, replace(target, always_fetched=False), stored)


class FetchWithoutMetadata(ReplayedCalls):
    """Stripe whose fetched objects show no metadata."""

    def fetch(self, target: ObjectRef) -> FetchedObject | None:
        fetched = super().fetch(target)
        return replace(fetched, account_id=None) if fetched else None


class ResponseWithoutCommit(EventProcessor):
    """Processor that returns an outcome although nothing is durable."""

    def process(self, payload: object) -> EventOutcome:
        try:
            return EventProcessor.process(self, payload)
        except StripeUnavailable:
            return EventOutcome.IGNORED


# --- Decisions --------------------------------------------------------------------------------------------------------


def _patched(target: str, patch: object) -> Components:
    return Components(patches=((f"billing.{target}", patch),))


def _fetch_interval(interval: Callable[[datetime, datetime], tuple[datetime, datetime]]) -> Components:
    """Store another interval for fetched objects."""

    def patched(content: Snapshot, seen_from: datetime, seen_to: datetime, stored: Row | None) -> Row:
        return next_version(content, *interval(seen_from, seen_to), stored)

    return _patched("services.event_processor.next_version", patched)


def _equal_snapshot_is_not_written(
    created: datetime, snapshot: Snapshot | None, stored: Row | None, now: datetime
) -> Row | None:
    if stored is not None and snapshot == stored.content and created <= stored.seen_to:
        return stored
    return apply_snapshot(created, snapshot, stored, now)


def _late_end_is_fetched(created: datetime, snapshot: Snapshot | None, stored: Row | None, now: datetime) -> Row | None:
    row = apply_snapshot(created, snapshot, stored, now)
    return None if row is not stored and now - created > MAX_SNAPSHOT_AGE else row


def _time_before_rank(created: datetime, snapshot: Snapshot | None, stored: Row | None, now: datetime) -> Row | None:
    if stored is not None and includes(stored, created):
        return stored
    return apply_snapshot(created, snapshot, stored, now)


def _future_stamp_is_believed(
    created: datetime, snapshot: Snapshot | None, stored: Row | None, now: datetime
) -> Row | None:
    return apply_snapshot(created, snapshot, stored, max(created, now))


def _interval_of_stripe(seen_from: datetime, seen_to: datetime, _now: datetime) -> tuple[datetime, datetime]:
    return seen_from, seen_to


def _new_link_is_conflict(
    parsed: ParsedEvent, owner: str | None, profile: Profile | None
) -> AccountMatch | EventOutcome:
    if profile and owner is None and profile.customer_id == parsed.customer_id and not parsed.customer_deleted:
        return EventOutcome.CUSTOMER_CONFLICT
    return original_match_account(parsed, owner, profile)


def _unlinked_customer_is_linked(
    parsed: ParsedEvent, owner: str | None, profile: Profile | None
) -> AccountMatch | EventOutcome:
    matched = original_match_account(parsed, owner, replace(profile, unlinked_customers=()) if profile else None)
    return replace(matched, profile=profile) if isinstance(matched, AccountMatch) and profile else matched


def _unchanged_profile_is_not_written(
    matched: AccountMatch, parsed: ParsedEvent, written: Sequence[Snapshot], catalog: Catalog
) -> Profile:
    after = original_profile_after(matched, parsed, written, catalog)
    return matched.profile if after == matched.profile else after


def _sequence_is_not_stored(*arguments: Any) -> tuple[Sequence[StoredObject[Snapshot]], Sequence[OutboundEvent]]:
    _rows, events = original_number_events(*arguments)
    return arguments[2].rows, events


original_match_account = account_matching.match_account
original_profile_after = account_matching.profile_after
original_number_events = event_processor._number_events


ABLATIONS = {
    "versions": Ablation(
        "A row is written although its version has changed since the read.",
        "slow-fetch",
        "content_never_goes_back",
        Components(table=UnconditionalRows),
    ),
    "skew": Ablation(
        "Timestamps of different servers are treated as exact.",
        "around-the-skew",
        "content_never_goes_back",
        _patched("stripe_events.ordering.CLOCK_SKEW", timedelta(0)),
    ),
    "seen-from": Ablation(
        "A fetched object is treated as Stripe's state at the end of the call only.",
        "stamps-behind",
        "final_marker_implies_effect",
        _fetch_interval(lambda _seen_from, seen_to: (seen_to, seen_to)),
    ),
    "seen-to": Ablation(
        "A fetched object is treated as Stripe's state at the beginning of the call only.",
        "slow-fetch",
        "content_never_goes_back",
        _fetch_interval(lambda seen_from, _seen_to: (seen_from, seen_from)),
    ),
    "rank-before-time": Ablation(
        "The time of an event is compared before its lifecycle rank.",
        "all-clocks-wrong",
        "final_marker_implies_effect",
        _patched("services.event_processor.apply_snapshot", _time_before_rank),
    ),
    "believe-future-stamps": Ablation(
        "A timestamp ahead of the receiver's clock is believed.",
        "stamps-ahead",
        "content_never_goes_back",
        _patched("services.event_processor.apply_snapshot", _future_stamp_is_believed),
    ),
    "clock-error": Ablation(
        "An event is discarded as soon as its row is newer by more than the clock skew.",
        "stamps-behind",
        "final_marker_implies_effect",
        _patched("stripe_events.ordering.MAX_CLOCK_ERROR", timedelta(0)),
    ),
    "both-clocks": Ablation(
        "The interval of a fetch depends on the response's Date alone.",
        "dates-wrong",
        "content_never_goes_back",
        _patched("services.event_processor.observation_interval", _interval_of_stripe),
    ),
    "fetch-after-read": Ablation(
        "An object is fetched before its row is read, so the row may be newer.",
        "slow-fetch",
        "content_never_goes_back",
        Components(processor=FetchBeforeRead),
    ),
    "equal-is-written": Ablation(
        "An event whose snapshot equals the row does not increment the version.",
        "there-and-back",
        "final_marker_implies_effect",
        _patched("services.event_processor.apply_snapshot", _equal_snapshot_is_not_written),
    ),
    "schedule-is-fetched": Ablation(
        "A schedule's event is treated as included in a row that is newer.",
        "schedule",
        "final_marker_of_schedule_implies_pending_change",
        Components(processor=ScheduleByInterval),
    ),
    "old": Ablation(
        "A snapshot is applied in its order at any age.",
        "late",
        "new_content_is_recent",
        _patched("stripe_events.ordering.MAX_SNAPSHOT_AGE", timedelta(days=3650)),
    ),
    "end-is-fresh": Ablation(
        "A late snapshot of an ended object is fetched again.",
        "end-deleted",
        "final_rows_equal_stripe",
        _patched("services.event_processor.apply_snapshot", _late_end_is_fetched),
    ),
    "markers": Ablation(
        "An event's marker is written over a final one.",
        "late-account",
        "final_outcome_never_changes",
        Components(table=UnconditionalMarkers),
    ),
    "marker-with-rows": Ablation(
        "The marker is written in a transaction of its own.",
        "crashes",
        "final_marker_implies_effect",
        Components(calls=MarkerBeforeEffect),
    ),
    "outbox-before-rows": Ablation(
        "The outbox is written in a transaction of its own, before the rows.",
        "crashes",
        "outbox_contains_each_difference_once",
        Components(calls=OutboxBeforeRows),
    ),
    "outbox-after-rows": Ablation(
        "The outbox is written in a transaction of its own, after the rows.",
        "crashes",
        "outbox_contains_each_difference_once",
        Components(calls=OutboxAfterRows),
    ),
    "outbox-sequence": Ablation(
        "The row does not store the sequence of its last outbound event.",
        "invoice-without-subscription",
        "outbox_sequences_have_no_gap",
        _patched("services.event_processor._number_events", _sequence_is_not_stored),
    ),
    "durable-first": Ablation(
        "Stripe gets a 200 although a fetch has failed.",
        "failing-fetches",
        "final_rows_equal_stripe",
        Components(processor=ResponseWithoutCommit),
    ),
    "profile-versions": Ablation(
        "A profile is written although its version has changed since the read.",
        "two-profile-changes",
        "final_profile_equals_stripe",
        Components(table=UnconditionalProfiles),
    ),
    "linked-meanwhile": Ablation(
        "A link that was created between the reads of customer and profile is treated as a conflict.",
        "first-customer",
        "final_rows_equal_stripe",
        _patched("stripe_events.account_matching.match_account", _new_link_is_conflict),
    ),
    "new-customer": Ablation(
        "A customer without an account at the read is linked, even if it got one since.",
        "customer-added-and-deleted",
        "final_profile_equals_stripe",
        Components(table=UnconditionalLinks),
    ),
    "gone-customer": Ablation(
        "The deletion of a customer is not written if the profile did not have the customer at the read.",
        "customer-added-and-deleted",
        "final_profile_equals_stripe",
        _patched("stripe_events.account_matching.profile_after", _unchanged_profile_is_not_written),
    ),
    "link-of-new-rows": Ablation(
        "A new row is written although its customer was unlinked since the read.",
        "customer-unlinked",
        "final_rows_equal_stripe",
        Components(table=UnconditionalNewRows),
    ),
    "unlinked-stays": Ablation(
        "The metadata of an object links a customer again that an operator has unlinked.",
        "customer-unlinked",
        "final_profile_equals_stripe",
        _patched("stripe_events.account_matching.match_account", _unlinked_customer_is_linked),
    ),
    "conflict-of-fetched": Ablation(
        "The account in the metadata of a fetched subscription is not compared with its customer's.",
        "account-conflict",
        "conflict_is_stored",
        Components(calls=FetchWithoutMetadata),
    ),
    "lifecycle-rank": Ablation(
        "All objects have the same lifecycle rank. More objects are fetched, and no invariant is violated.",
        "one-second",
        None,
        _patched("domain.subscriptions.Subscription.lifecycle_rank", 1),
    ),
}
