"""The protocol with one step taken out: each breaks a promise in some story, which is what the step is for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from billing.adapters.repository import Commit, ProcessedEvent
from billing.domain.accounts import Profile
from billing.domain.errors import StripeUnavailable
from billing.domain.outbound_events import OutboundEvent
from billing.services import event_processor
from billing.services.event_processor import EventProcessor
from billing.stripe_events import account_matching
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.event_types import EventOutcome, ParsedEvent, Snapshot, StripeEvent
from billing.stripe_events.ordering import MAX_SNAPSHOT_AGE, StoredObject, apply_snapshot, next_version
from tests.protocol.table_model import Table
from tests.protocol.world import Parts, Wire, Write

type Row = StoredObject[Snapshot]


@dataclass(frozen=True)
class Removal:
    """A protocol that lacks a step, a scenario, and the promise that is broken there; None if the step is for speed."""

    tells: str
    scenario: str
    breaks: str | None
    parts: Parts


# --- The table's conditions -------------------------------------------------------------------------------------------


class OverwritingRows(Table):
    """Rows are written whatever their version is by now."""

    def is_stale(self, _row: Row) -> bool:
        return False


class OverwritingProfiles(Table):
    """So are profiles."""

    def is_profile_stale(self, _commit: Commit) -> bool:
        return False


class OverwritingMarkers(Table):
    """Markers are written whatever outcome is there."""

    def is_taken(self, _marker: ProcessedEvent) -> bool:
        return False


class OverwritingCustomers(Table):
    """A new customer is linked even if it has an account by now."""

    def is_customer_taken(self, _commit: Commit) -> bool:
        return False


# --- One transaction --------------------------------------------------------------------------------------------------


def _another(marker: ProcessedEvent) -> ProcessedEvent:
    """A marker that stands in nobody's way, for a transaction that has none."""
    return replace(marker, event_id="none", outcome=EventOutcome.UNKNOWN_CUSTOMER)


class MarkerFirst(Wire):
    """The marker is written before its effect."""

    def commit(self, commit: Commit) -> None:
        self.ask(Write(Commit(commit.marker), is_whole=False), object)
        self.ask(Write(replace(commit, marker=_another(commit.marker)), is_whole=False), object)


class OutboxFirst(Wire):
    """The outbox is written before the rows that it tells of."""

    def commit(self, commit: Commit) -> None:
        self.ask(Write(Commit(_another(commit.marker), outbound=commit.outbound), is_whole=False), object)
        self.ask(Write(replace(commit, outbound=()), is_whole=False), object)


class OutboxLast(Wire):
    """The outbox is written after the rows that it tells of."""

    def commit(self, commit: Commit) -> None:
        self.ask(Write(replace(commit, outbound=()), is_whole=False), object)
        self.ask(Write(Commit(_another(commit.marker), outbound=commit.outbound), is_whole=False), object)


# --- The processor ----------------------------------------------------------------------------------------------------


class FetchesFirst(EventProcessor):
    """What may be needed is fetched before the rows are read."""

    def _attempt(self, event: StripeEvent, parsed: ParsedEvent) -> EventOutcome:
        fetched = {target.id: self.fetch(target) for target in parsed.targets}
        return EventProcessor._attempt(replace(self, fetch=lambda target: fetched[target.id]), event, parsed)


class AnswersAnyway(EventProcessor):
    """Stripe is answered 200 although nothing is durable."""

    def process(self, payload: object) -> EventOutcome:
        try:
            return EventProcessor.process(self, payload)
        except StripeUnavailable:
            return EventOutcome.IGNORED


# --- Decisions --------------------------------------------------------------------------------------------------------


def _seen(interval: Callable[[datetime, datetime], tuple[datetime, datetime]]) -> Parts:
    """Rows that remember another interval of a fetch."""

    def patched(content: Snapshot, seen_from: datetime, seen_to: datetime, known: Row | None) -> Row:
        return next_version(content, *interval(seen_from, seen_to), known)

    return Parts(patches=(("billing.services.event_processor.next_version", patched),))


def _equal_is_included(created: datetime, snapshot: Snapshot | None, known: Row | None, now: datetime) -> Row | None:
    if known is not None and snapshot == known.content and created <= known.seen_to:
        return known
    return apply_snapshot(created, snapshot, known, now)


def _end_is_fetched(created: datetime, snapshot: Snapshot | None, known: Row | None, now: datetime) -> Row | None:
    row = apply_snapshot(created, snapshot, known, now)
    return None if row is not known and now - created > MAX_SNAPSHOT_AGE else row


def _own_customer_is_another(
    parsed: ParsedEvent, owner: str | None, profile: Profile | None
) -> AccountMatch | EventOutcome:
    if profile and owner is None and profile.customer_id == parsed.customer_id and not parsed.customer_deleted:
        return EventOutcome.CUSTOMER_CONFLICT
    return event_effects_match(parsed, owner, profile)


def _gone_customer_is_left(matched: AccountMatch, parsed: ParsedEvent, written: Iterable[Snapshot]) -> Profile:
    after = event_effects_profile_after(matched, parsed, written)
    return matched.profile if after == matched.profile else after


def _told_by_event(*arguments: object) -> Sequence[OutboundEvent]:
    events = processor_outbound(*arguments)
    return [replace(event, id="".join(event.id.split(".")[::2])) for event in events]


event_effects_match = account_matching.match_account
event_effects_profile_after = account_matching.profile_after
processor_outbound: Callable[..., Sequence[OutboundEvent]] = event_processor._outbound


def _patched(target: str, patch: object) -> Parts:
    return Parts(patches=((f"billing.{target}", patch),))


REMOVALS = {
    "versions": Removal(
        "A row is written although it is no longer the one that was read.",
        "slow-fetch",
        "content_never_goes_back",
        Parts(table=OverwritingRows),
    ),
    "skew": Removal(
        "Stamps of different servers are taken for exact.",
        "one-second",
        "no_final_marker_without_its_effect",
        _patched("stripe_events.ordering.CLOCK_SKEW", timedelta(0)),
    ),
    "seen-from": Removal(
        "What was fetched counts as Stripe's state at the end of the call alone.",
        "slow-fetch",
        "no_final_marker_without_its_effect",
        _seen(lambda _seen_from, seen_to: (seen_to, seen_to)),
    ),
    "seen-to": Removal(
        "What was fetched counts as Stripe's state at the beginning of the call alone.",
        "slow-fetch",
        "content_never_goes_back",
        _seen(lambda seen_from, _seen_to: (seen_from, seen_from)),
    ),
    "fetch-after-read": Removal(
        "What is fetched was Stripe's state before the row was read, so the row may be newer.",
        "slow-fetch",
        "content_never_goes_back",
        Parts(processor=FetchesFirst),
    ),
    "equal-is-written": Removal(
        "An event whose snapshot equals the row leaves no trace in it.",
        "there-and-back",
        "no_final_marker_without_its_effect",
        _patched("services.event_processor.apply_snapshot", _equal_is_included),
    ),
    "old": Removal(
        "A snapshot is applied in its order, however late it comes.",
        "late",
        "news_is_not_old",
        _patched("stripe_events.ordering.MAX_SNAPSHOT_AGE", timedelta(days=3650)),
    ),
    "end-is-fresh": Removal(
        "A late snapshot of an object that has ended is fetched anew.",
        "end-forgotten",
        "rows_end_as_stripe_has_them",
        _patched("services.event_processor.apply_snapshot", _end_is_fetched),
    ),
    "markers": Removal(
        "An event's marker is written over a final one.",
        "late-account",
        "final_outcome_stays",
        Parts(table=OverwritingMarkers),
    ),
    "marker-with-rows": Removal(
        "The marker is written in a transaction of its own.",
        "crashes",
        "no_final_marker_without_its_effect",
        Parts(wire=MarkerFirst),
    ),
    "outbox-before-rows": Removal(
        "The outbox is written in a transaction of its own, before the rows.",
        "crashes",
        "outbox_tells_each_difference_once",
        Parts(wire=OutboxFirst),
    ),
    "outbox-after-rows": Removal(
        "The outbox is written in a transaction of its own, after the rows.",
        "crashes",
        "outbox_tells_each_difference_once",
        Parts(wire=OutboxLast),
    ),
    "outbox-by-version": Removal(
        "An outbox row is named by its event alone.",
        "invoice-without-subscription",
        "outbox_tells_each_difference_once",
        _patched("services.event_processor._outbound", _told_by_event),
    ),
    "durable-first": Removal(
        "Stripe is answered 200 when a fetch has failed.",
        "failing-fetches",
        "rows_end_as_stripe_has_them",
        Parts(processor=AnswersAnyway),
    ),
    "profile-versions": Removal(
        "A profile is written although it is no longer the one that was read.",
        "two-facts",
        "account_ends_right",
        Parts(table=OverwritingProfiles),
    ),
    "linked-meanwhile": Removal(
        "A link that was made between the reads of customer and profile counts as another customer's.",
        "first-customer",
        "rows_end_as_stripe_has_them",
        _patched("stripe_events.account_matching.match_account", _own_customer_is_another),
    ),
    "new-customer": Removal(
        "A customer that had no account when it was read is linked, whatever was done with it since.",
        "customer-come-and-gone",
        "account_ends_right",
        Parts(table=OverwritingCustomers),
    ),
    "gone-customer": Removal(
        "That a customer is gone is not written where the profile, read earlier, did not have it yet.",
        "customer-come-and-gone",
        "account_ends_right",
        _patched("stripe_events.account_matching.profile_after", _gone_customer_is_left),
    ),
    "stage": Removal(
        "Nothing is known of the order in which an object lives: more is fetched, and nothing ends wrong.",
        "one-second",
        None,
        _patched("domain.subscriptions.Subscription.lifecycle_rank", 1),
    ),
}
