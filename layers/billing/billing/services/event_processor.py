"""One event of Stripe, from whatever way it came, to its whole effect in the table or to none.

    identify → read what is stored → decide (pure) → fetch where only Stripe can tell → commit in one transaction
                 ↑______________________ the version was no longer the one read _____________|

The fetch comes after the read: a row that is unchanged at the commit was written before the fetch, so what was fetched
is at least as new. Returning means durable; everything else raises, and Stripe delivers again.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from billing.adapters.repository import (
    Commit,
    EventAlreadyProcessed,
    EventContext,
    ProcessedEvent,
    Repository,
    VersionConflict,
)
from billing.domain.errors import EventUnprocessable, StoreUnavailable
from billing.domain.identifiers import is_id
from billing.domain.outbound_events import OutboundEvent, difference, outbound_data
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.stripe_events import account_matching, event_types
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.event_types import (
    EventOutcome,
    FetchedObject,
    ObjectRef,
    ParsedEvent,
    RelatedObject,
    Snapshot,
    StripeEvent,
)
from billing.stripe_events.objects import Json
from billing.stripe_events.ordering import StoredObject, apply_snapshot, next_version
from billing.telemetry import count, logger

ATTEMPTS_MAX = 20
CUSTOMER_SUBSCRIPTIONS_MAX = 45
"""Two writes each fit a transaction of 100 (DynamoDB's limit); more would end by their own events."""
PAUSE_SECONDS_MAX = 0.5
LATE_EVENT_THRESHOLD = timedelta(minutes=5)
"""An event that is applied later than this after it happened is counted: somebody had the wrong plan for so long."""


type Fetch = Callable[[ObjectRef], FetchedObject | None]
type LookUp = Callable[[RelatedObject], Json | None]


@dataclass(frozen=True, slots=True)
class EventTargets:
    """What an event is about, and what is stored of it."""

    targets: Sequence[ObjectRef]
    known: Mapping[str, StoredObject[Snapshot]]

    def lacks(self, content: Snapshot) -> bool:
        """Whether this is another content than what is stored of it."""
        known = self.known.get(content.id)
        return known is None or known.content != content


@dataclass(frozen=True, slots=True)
class Changes:
    """What the event's rows become; of what had to be fetched, whether Stripe lacked it, and why it cannot be read."""

    rows: Sequence[StoredObject[Snapshot]]
    missing: bool = False
    unreadable: str | None = None


def _now() -> datetime:
    return datetime.now(UTC)


def _nothing(_related: RelatedObject) -> None: ...


def _any(_customer_id: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class EventProcessor:
    """The protocol, over a store and two ways to ask Stripe, which answer None for what it does not have.

    `fetch` is for the object of a row, and raises EventUnprocessable for one that cannot be read; `look_up` is for what
    a thin event names, which tells whose event it is. `may_link` says whether an account may get this first customer.
    """

    repository: Repository
    catalog: Catalog
    fetch: Fetch
    livemode: bool
    now: Callable[[], datetime] = field(default=_now)
    pause: Callable[[float], None] = field(default=time.sleep)
    look_up: LookUp = field(default=_nothing)
    may_assign_customer: Callable[[str], bool] = field(default=_any)

    def process(self, payload: object) -> EventOutcome:
        """Bring one Event object to its effect; safe to repeat.

        Raises EventUnidentified for a payload without an id, and StoreUnavailable, StripeUnavailable or StripeRefused
        where nothing was written and another delivery is needed.
        """
        event_id, body = event_types.identify(payload)
        event = None
        try:
            event = event_types.read_event(body)
            parsed = self._parse(event)
        except EventUnprocessable as error:
            reason, created = str(error), event.created if event else None
            return self._retry_on_conflict(lambda: self._record_failure(event_id, body.get("type"), reason, created))
        return self.apply(event, parsed)

    def apply(self, event: StripeEvent, parsed: ParsedEvent | None) -> EventOutcome:
        """Bring what an event tells to its effect; a notice of None is recorded as ignored. Raises as `process`."""
        return self._retry_on_conflict(
            lambda: self._attempt(event, parsed) if parsed else self._record(event, EventOutcome.IGNORED)
        )

    def _retry_on_conflict(self, attempt_once: Callable[[], EventOutcome]) -> EventOutcome:
        """The outcome of the first attempt that no other writer was faster than."""
        for attempt in range(ATTEMPTS_MAX):
            try:
                return attempt_once()
            except EventAlreadyProcessed:
                return EventOutcome.DUPLICATE
            except VersionConflict:
                ceiling = min(PAUSE_SECONDS_MAX, 0.02 * 2**attempt)
                self.pause(random.uniform(0, ceiling))  # noqa: S311 - jitter, no secret
        raise StoreUnavailable

    def _parse(self, event: StripeEvent) -> ParsedEvent | None:
        if event_types.is_out_of_scope(event, livemode=self.livemode) or event.reader is None:
            return None
        return event_types.parse_event(self._with_object(event), self.catalog)

    def _with_object(self, event: StripeEvent) -> StripeEvent:
        """A thin event with the object that it names: whose it is, is only told there."""
        if event.related is None:
            return event
        found = self.look_up(event.related)
        if found is None and event.related.type not in event_types.ID_ONLY_TYPES:
            raise EventUnprocessable("Stripe does not have the object that it names")
        return replace(event, object=found or {"id": event.related.id})

    def _attempt(self, event: StripeEvent, parsed: ParsedEvent) -> EventOutcome:
        context = self._read_context(event, parsed)
        matched = self._match(parsed, context)
        if context.outcome is not None and context.outcome.is_final:
            _re_emit_alarms(event, matched, context)
            return EventOutcome.DUPLICATE
        if isinstance(matched, EventOutcome):
            return self._record(event, matched, parsed)
        event_targets = self._event_targets(parsed, matched, context)
        return self._commit(event, parsed, matched, event_targets, self._compute_changes(event, parsed, event_targets))

    def _match(self, parsed: ParsedEvent, context: EventContext) -> AccountMatch | EventOutcome:
        matched = account_matching.match_account(parsed, context.account_of_customer, context.profile)
        is_first = isinstance(matched, AccountMatch) and matched.assigns_customer
        return (
            EventOutcome.UNKNOWN_CUSTOMER if is_first and not self.may_assign_customer(parsed.customer_id) else matched
        )

    def _read_context(self, event: StripeEvent, parsed: ParsedEvent) -> EventContext:
        context = self.repository.read_event_context(event.id, parsed.customer_id, parsed.account_id, parsed.targets)
        owner = context.account_of_customer
        if owner is None or owner == parsed.account_id:
            return context
        return self.repository.read_event_context(event.id, parsed.customer_id, owner, parsed.targets)

    def _event_targets(self, parsed: ParsedEvent, matched: AccountMatch, context: EventContext) -> EventTargets:
        """The rows an event names, or all that still lived by a customer that is gone."""
        if not parsed.customer_deleted:
            return EventTargets(parsed.targets, context.rows)
        known = self.repository.load_subscription_rows(matched.profile.account_id)
        lived = [
            ObjectRef(Subscription, row.content.id)
            for row in known.values()
            if isinstance(row.content, Subscription)
            and row.content.customer_id == parsed.customer_id
            and not row.content.has_ended
        ]
        return EventTargets(lived[:CUSTOMER_SUBSCRIPTIONS_MAX], known)

    def _compute_changes(self, event: StripeEvent, parsed: ParsedEvent, event_targets: EventTargets) -> Changes:
        rows: list[StoredObject[Snapshot]] = []
        missing, unreadable = False, None
        for target in event_targets.targets:
            known = event_targets.known.get(target.id)
            try:
                row = self._row(event, target, known) or _ended_on_404(event, parsed, known)
            except EventUnprocessable as error:
                unreadable = f"what Stripe has of {target.id}: {error}"
                continue
            if row is None:
                missing = True
            elif row is not known:
                rows.append(row)
        return Changes(rows, missing, unreadable)

    def _row(
        self, event: StripeEvent, target: ObjectRef, known: StoredObject[Snapshot] | None
    ) -> StoredObject[Snapshot] | None:
        """The row after the event; None if it had to be fetched, and Stripe lacks it. Raises EventUnprocessable."""
        told = None if target.fetch_required else target.snapshot
        snapshot = event_types.derive_fields(told, known, event.created) if told else None
        row = apply_snapshot(event.created, snapshot, known, self.now())
        fetched = self.fetch(target) if row is None else None
        if fetched is None:
            return row
        shown = fetched.seen_to
        if told and event_types.is_past_due(told):
            # Not from before the row, which may hold a payment that was made in between.
            shown = min(max(event.created, known.seen_to if known else event.created), shown)
        content = event_types.derive_fields(fetched.content, known, shown)
        return next_version(content, fetched.seen_from, fetched.seen_to, known)

    def _commit(
        self,
        event: StripeEvent,
        parsed: ParsedEvent,
        matched: AccountMatch,
        event_targets: EventTargets,
        changes: Changes,
    ) -> EventOutcome:
        # A checkout whose subscription could not be had stays open: nobody may pay for a second one meanwhile.
        told = replace(parsed, ends_checkout=None) if changes.missing or changes.unreadable else parsed
        profile = account_matching.profile_after(matched, told, [row.content for row in changes.rows])
        has_changes = profile != matched.profile or any(event_targets.lacks(row.content) for row in changes.rows)
        outcome = _outcome(changes, has_changes=has_changes)
        alarms = _alarms(matched, changes)
        account_id = matched.profile.account_id
        commit = Commit(
            marker=self._marker(event, outcome, parsed, account_id, "; ".join(alarms.values())),
            rows=changes.rows,
            outbound=_outbound(event, account_id, event_targets, changes),
            profile=profile if profile is not matched.profile else None,
            new_customer_id=parsed.customer_id if matched.assigns_customer else None,
        )
        try:
            self.repository.commit(commit)
        except EventAlreadyProcessed:
            # Whoever was faster may have died before it could tell, and this delivery may be the last.
            _emit_alarms(_facts(event, EventOutcome.DUPLICATE, account_id), alarms)
            return EventOutcome.DUPLICATE
        self._report(event, outcome, alarms, account_id)
        return outcome

    def _record(self, event: StripeEvent, outcome: EventOutcome, parsed: ParsedEvent | None = None) -> EventOutcome:
        """The outcome of an event that changes nothing; an account is only the one that it names."""
        self.repository.commit(Commit(self._marker(event, outcome, parsed, parsed.account_id if parsed else None)))
        alarms = {"CustomerConflict": "the account it names has another customer"}
        self._report(event, outcome, alarms if outcome is EventOutcome.CUSTOMER_CONFLICT else {})
        return outcome

    def _record_failure(self, event_id: str, event_type: object, reason: str, created: datetime | None) -> EventOutcome:
        """An event that no later try will understand: kept for the operator, and not asked for again."""
        marker = ProcessedEvent(
            event_id=event_id,
            type=event_type if isinstance(event_type, str) and is_id(event_type) else "unknown",
            outcome=EventOutcome.FAILED,
            processed=self.now(),
            created=created,
            reason=reason,
        )
        self.repository.commit(Commit(marker))
        logger().error("Event failed for good", event_id=event_id, reason=reason)
        count("EventFailed")
        return EventOutcome.FAILED

    def _marker(
        self,
        event: StripeEvent,
        outcome: EventOutcome,
        parsed: ParsedEvent | None,
        account_id: str | None = None,
        reason: str | None = None,
    ) -> ProcessedEvent:
        return ProcessedEvent(
            event_id=event.id,
            type=event.type,
            outcome=outcome,
            processed=self.now(),
            created=event.created,
            account_id=account_id,
            customer_id=parsed.customer_id if parsed else None,
            reason=reason or None,
        )

    def _report(
        self, event: StripeEvent, outcome: EventOutcome, alarms: Mapping[str, str], account_id: str | None = None
    ) -> None:
        """Log and count only what is durable, so that a retried commit is told once."""
        delay = self.now() - event.created
        facts = _facts(event, outcome, account_id)
        logger().info("Event processed", extra=facts | {"delay_seconds": int(delay.total_seconds())})
        if outcome is EventOutcome.APPLIED and delay > LATE_EVENT_THRESHOLD:
            count("EventLate")
        _emit_alarms(facts, alarms)


def _outcome(changes: Changes, *, has_changes: bool) -> EventOutcome:
    if changes.unreadable:
        return EventOutcome.FAILED
    return EventOutcome.MISSING if changes.missing else EventOutcome.APPLIED if has_changes else EventOutcome.NO_CHANGE


def _ended_on_404(
    event: StripeEvent, parsed: ParsedEvent, known: StoredObject[Snapshot] | None
) -> StoredObject[Snapshot] | None:
    """The row of a subscription that has ended by an event's word, which Stripe does not have any more."""
    if known is None or not parsed.ended_if_missing or not isinstance(known.content, Subscription):
        return None
    if known.content.has_ended:
        return known
    return next_version(known.content.ended(event.created), event.created, event.created, known)


def _re_emit_alarms(event: StripeEvent, matched: AccountMatch | EventOutcome, context: EventContext) -> None:
    """What there still is to alarm of an event that was committed: whoever did may have died before it could tell."""
    if isinstance(matched, AccountMatch):
        alarms = _alarms(matched, Changes([*context.rows.values()]))
        _emit_alarms(_facts(event, EventOutcome.DUPLICATE, matched.profile.account_id), alarms)


def _emit_alarms(facts: Mapping[str, str | None], alarms: Mapping[str, str]) -> None:
    for metric, reason in alarms.items():
        logger().error("Event needs an operator", extra={**facts, "reason": reason})
        count(metric)


def _facts(event: StripeEvent, outcome: EventOutcome, account_id: str | None) -> dict[str, str | None]:
    """What the log says of an event."""
    return {"event_id": event.id, "event_type": event.type, "account_id": account_id, "outcome": outcome.value}


def _alarms(matched: AccountMatch, changes: Changes) -> Mapping[str, str]:
    """What an operator has to look at, by the metric that alarms."""
    prices = [
        row.content.price_id
        for row in changes.rows
        if isinstance(row.content, Subscription) and not row.content.price_is_mapped and not row.content.has_ended
    ]
    alarms = {
        "UnmappedPrice": f"no plan in the catalog has price {', '.join(map(str, prices))}" if prices else None,
        "CustomerConflict": "its metadata names another account than its customer's"
        if matched.metadata_conflicts
        else None,
        "ObjectMissing": "Stripe does not have an object that it names" if changes.missing else None,
        "EventFailed": changes.unreadable,
    }
    return {metric: reason for metric, reason in alarms.items() if reason}


def _outbound(
    event: StripeEvent, account_id: str, event_targets: EventTargets, changes: Changes
) -> Sequence[OutboundEvent]:
    """What the account's own systems are to be told: the differences between before and after.

    Each is of one version of one row, and that makes its id: an event that is left open may be processed once more. By
    time and id those of one row stand in the order of its versions, in whatever order the events came.
    """
    events: list[OutboundEvent] = []
    for row in changes.rows:
        known = event_targets.known.get(row.content.id)
        event_type = difference(known.content if known else None, row.content)
        if event_type:
            told_as = f"{row.content.id}.{row.version:08d}.{event.id}"
            data = outbound_data(row.content)
            events.append(OutboundEvent(told_as, event_type, account_id, row.seen_to, data))
    return events
