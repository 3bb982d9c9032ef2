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

from billing.adapters.repository import Commit, EventAlreadyProcessed, EventContext, EventMarker, Store, VersionConflict
from billing.domain.errors import EventUnprocessable, StoreUnavailable
from billing.domain.outbound_events import OutboundEvent, difference, outbound_data
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.stripe_events import account_matching, event_types
from billing.stripe_events.account_matching import Match
from billing.stripe_events.event_types import Notice, Outcome, RelatedObject, Snapshot, StripeEvent, Target
from billing.stripe_events.objects import Json, is_id
from billing.stripe_events.ordering import Sighting, advance, seen
from billing.telemetry import count, logger

ATTEMPTS_MAX = 20
CUSTOMER_SUBSCRIPTIONS_MAX = 45
"""Two writes each fit a transaction of 100 (DynamoDB's limit); more would end by their own events."""
PAUSE_SECONDS_MAX = 0.5
LATE = timedelta(minutes=5)
"""An event that is applied later than this after it happened is counted: somebody had the wrong plan for so long."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object as Stripe answered it, and between which times of Stripe's clock it was its state."""

    content: Snapshot
    seen_from: datetime
    seen_to: datetime


type Fetch = Callable[[Target], Fetched | None]
type LookUp = Callable[[RelatedObject], Json | None]


@dataclass(frozen=True, slots=True)
class _Subject:
    """What an event is about, and what is stored of it."""

    targets: Sequence[Target]
    known: Mapping[str, Sighting[Snapshot]]

    def lacks(self, content: Snapshot) -> bool:
        """Whether this is another content than what is stored of it."""
        known = self.known.get(content.id)
        return known is None or known.content != content


@dataclass(frozen=True, slots=True)
class _News:
    """What the event's rows become; of what had to be fetched, whether Stripe lacked it, and why it cannot be read."""

    rows: Sequence[Sighting[Snapshot]]
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

    store: Store
    catalog: Catalog
    fetch: Fetch
    livemode: bool
    now: Callable[[], datetime] = field(default=_now)
    pause: Callable[[float], None] = field(default=time.sleep)
    look_up: LookUp = field(default=_nothing)
    may_link: Callable[[str], bool] = field(default=_any)

    def process(self, payload: object) -> Outcome:
        """Bring one Event object to its effect; safe to repeat.

        Raises EventUnidentified for a payload without an id, and StoreUnavailable, StripeUnavailable or StripeRefused
        where nothing was written and another delivery is needed.
        """
        event_id, body = event_types.identify(payload)
        event = None
        try:
            event = event_types.read_event(body)
            notice = self._read_notice(event)
        except EventUnprocessable as error:
            reason, created = str(error), event.created if event else None
            return self._persistently(lambda: self._record_failure(event_id, body.get("type"), reason, created))
        return self.bring_about(event, notice)

    def bring_about(self, event: StripeEvent, notice: Notice | None) -> Outcome:
        """Bring what an event tells to its effect; a notice of None is recorded as ignored. Raises as `process`."""
        return self._persistently(
            lambda: self._attempt(event, notice) if notice else self._record(event, Outcome.IGNORED)
        )

    def _persistently(self, attempt_once: Callable[[], Outcome]) -> Outcome:
        """The outcome of the first attempt that no other writer was faster than."""
        for attempt in range(ATTEMPTS_MAX):
            try:
                return attempt_once()
            except EventAlreadyProcessed:
                return Outcome.DUPLICATE
            except VersionConflict:
                ceiling = min(PAUSE_SECONDS_MAX, 0.02 * 2**attempt)
                self.pause(random.uniform(0, ceiling))  # noqa: S311 - jitter, no secret
        raise StoreUnavailable

    def _read_notice(self, event: StripeEvent) -> Notice | None:
        if event_types.is_foreign(event, livemode=self.livemode) or event.reader is None:
            return None
        return event_types.read_notice(self._with_object(event), self.catalog)

    def _with_object(self, event: StripeEvent) -> StripeEvent:
        """A thin event with the object that it names: whose it is, is only told there."""
        if event.related is None:
            return event
        found = self.look_up(event.related)
        if found is None and event.related.type not in event_types.TOLD_BY_ID:
            raise EventUnprocessable("Stripe does not have the object that it names")
        return replace(event, object=found or {"id": event.related.id})

    def _attempt(self, event: StripeEvent, notice: Notice) -> Outcome:
        context = self._read_context(event, notice)
        matched = self._match(notice, context)
        if context.outcome is not None and context.outcome.is_final:
            _alarm_again(event, matched, context)
            return Outcome.DUPLICATE
        if isinstance(matched, Outcome):
            return self._record(event, matched, notice)
        subject = self._subject(notice, matched, context)
        return self._commit(event, notice, matched, subject, self._news(event, notice, subject))

    def _match(self, notice: Notice, context: EventContext) -> Match | Outcome:
        matched = account_matching.match(notice, context.account_of_customer, context.profile)
        is_first = isinstance(matched, Match) and matched.links_customer
        return Outcome.UNMATCHED if is_first and not self.may_link(notice.customer_id) else matched

    def _read_context(self, event: StripeEvent, notice: Notice) -> EventContext:
        context = self.store.read_event_context(event.id, notice.customer_id, notice.account_id, notice.targets)
        owner = context.account_of_customer
        if owner is None or owner == notice.account_id:
            return context
        return self.store.read_event_context(event.id, notice.customer_id, owner, notice.targets)

    def _subject(self, notice: Notice, matched: Match, context: EventContext) -> _Subject:
        """The rows an event names, or all that still lived by a customer that is gone."""
        if not notice.customer_deleted:
            return _Subject(notice.targets, context.rows)
        known = self.store.load_subscription_rows(matched.profile.account_id)
        lived = [
            Target(Subscription, row.content.id)
            for row in known.values()
            if isinstance(row.content, Subscription)
            and row.content.customer_id == notice.customer_id
            and not row.content.has_ended
        ]
        return _Subject(lived[:CUSTOMER_SUBSCRIPTIONS_MAX], known)

    def _news(self, event: StripeEvent, notice: Notice, subject: _Subject) -> _News:
        rows: list[Sighting[Snapshot]] = []
        missing, unreadable = False, None
        for target in subject.targets:
            known = subject.known.get(target.id)
            try:
                row = self._row(event, target, known) or _concluded(event, notice, known)
            except EventUnprocessable as error:
                unreadable = f"what Stripe has of {target.id}: {error}"
                continue
            if row is None:
                missing = True
            elif row is not known:
                rows.append(row)
        return _News(rows, missing, unreadable)

    def _row(self, event: StripeEvent, target: Target, known: Sighting[Snapshot] | None) -> Sighting[Snapshot] | None:
        """The row after the event; None if it had to be fetched, and Stripe lacks it. Raises EventUnprocessable."""
        told = None if target.names_only else target.snapshot
        snapshot = event_types.settle(told, known, event.created) if told else None
        row = advance(event.created, snapshot, known, self.now())
        fetched = self.fetch(target) if row is None else None
        if fetched is None:
            return row
        shown = fetched.seen_to
        if told and event_types.is_past_due(told):
            # Not from before the row, which may hold a payment that was made in between.
            shown = min(max(event.created, known.seen_to if known else event.created), shown)
        content = event_types.settle(fetched.content, known, shown)
        return seen(content, fetched.seen_from, fetched.seen_to, known)

    def _commit(self, event: StripeEvent, notice: Notice, matched: Match, subject: _Subject, news: _News) -> Outcome:
        # A checkout whose subscription could not be had stays open: nobody may pay for a second one meanwhile.
        told = replace(notice, ends_checkout=None) if news.missing or news.unreadable else notice
        profile = account_matching.profile_after(matched, told, [row.content for row in news.rows])
        is_news = profile != matched.profile or any(subject.lacks(row.content) for row in news.rows)
        outcome = _outcome(news, is_news=is_news)
        alarms = _alarms(matched, news)
        account_id = matched.profile.account_id
        commit = Commit(
            marker=self._marker(event, outcome, notice, account_id, "; ".join(alarms.values())),
            rows=news.rows,
            outbound=_outbound(event, account_id, subject, news),
            profile=profile if profile is not matched.profile else None,
            new_customer_id=notice.customer_id if matched.links_customer else None,
        )
        try:
            self.store.commit(commit)
        except EventAlreadyProcessed:
            # Whoever was faster may have died before it could tell, and this delivery may be the last.
            _alarm(_facts(event, Outcome.DUPLICATE, account_id), alarms)
            return Outcome.DUPLICATE
        self._tell(event, outcome, alarms, account_id)
        return outcome

    def _record(self, event: StripeEvent, outcome: Outcome, notice: Notice | None = None) -> Outcome:
        """The outcome of an event that changes nothing; an account is only the one that it names."""
        self.store.commit(Commit(self._marker(event, outcome, notice, notice.account_id if notice else None)))
        alarms = {"CustomerMismatch": "the account it names has another customer"}
        self._tell(event, outcome, alarms if outcome is Outcome.MISMATCHED else {})
        return outcome

    def _record_failure(self, event_id: str, event_type: object, reason: str, created: datetime | None) -> Outcome:
        """An event that no later try will understand: kept for the operator, and not asked for again."""
        marker = EventMarker(
            event_id=event_id,
            type=event_type if isinstance(event_type, str) and is_id(event_type) else "unknown",
            outcome=Outcome.FAILED,
            processed=self.now(),
            created=created,
            reason=reason,
        )
        self.store.commit(Commit(marker))
        logger().error("Event failed for good", event_id=event_id, reason=reason)
        count("EventFailed")
        return Outcome.FAILED

    def _marker(
        self,
        event: StripeEvent,
        outcome: Outcome,
        notice: Notice | None,
        account_id: str | None = None,
        reason: str | None = None,
    ) -> EventMarker:
        return EventMarker(
            event_id=event.id,
            type=event.type,
            outcome=outcome,
            processed=self.now(),
            created=event.created,
            account_id=account_id,
            customer_id=notice.customer_id if notice else None,
            reason=reason or None,
        )

    def _tell(
        self, event: StripeEvent, outcome: Outcome, alarms: Mapping[str, str], account_id: str | None = None
    ) -> None:
        """Log and count only what is durable, so that a retried commit is told once."""
        delay = self.now() - event.created
        facts = _facts(event, outcome, account_id)
        logger().info("Event processed", extra=facts | {"delay_seconds": int(delay.total_seconds())})
        if outcome is Outcome.APPLIED and delay > LATE:
            count("EventLate")
        _alarm(facts, alarms)


def _outcome(news: _News, *, is_news: bool) -> Outcome:
    if news.unreadable:
        return Outcome.FAILED
    return Outcome.MISSING if news.missing else Outcome.APPLIED if is_news else Outcome.INCLUDED


def _concluded(event: StripeEvent, notice: Notice, known: Sighting[Snapshot] | None) -> Sighting[Snapshot] | None:
    """The row of a subscription that has ended by an event's word, which Stripe does not have any more."""
    if known is None or not notice.missing_has_ended or not isinstance(known.content, Subscription):
        return None
    if known.content.has_ended:
        return known
    return seen(known.content.ended(event.created), event.created, event.created, known)


def _alarm_again(event: StripeEvent, matched: Match | Outcome, context: EventContext) -> None:
    """What there still is to alarm of an event that was committed: whoever did may have died before it could tell."""
    if isinstance(matched, Match):
        alarms = _alarms(matched, _News([*context.rows.values()]))
        _alarm(_facts(event, Outcome.DUPLICATE, matched.profile.account_id), alarms)


def _alarm(facts: Mapping[str, str | None], alarms: Mapping[str, str]) -> None:
    for metric, reason in alarms.items():
        logger().error("Event needs an operator", extra={**facts, "reason": reason})
        count(metric)


def _facts(event: StripeEvent, outcome: Outcome, account_id: str | None) -> dict[str, str | None]:
    """What the log says of an event."""
    return {"event_id": event.id, "event_type": event.type, "account_id": account_id, "outcome": outcome.value}


def _alarms(matched: Match, news: _News) -> Mapping[str, str]:
    """What an operator has to look at, by the metric that alarms."""
    prices = [
        row.content.price_id
        for row in news.rows
        if isinstance(row.content, Subscription) and not row.content.price_is_mapped and not row.content.has_ended
    ]
    alarms = {
        "UnmappedPrice": f"no plan in the catalog has price {', '.join(map(str, prices))}" if prices else None,
        "CustomerMismatch": "its metadata names another account than its customer's" if matched.disagrees else None,
        "ObjectMissing": "Stripe does not have an object that it names" if news.missing else None,
        "EventFailed": news.unreadable,
    }
    return {metric: reason for metric, reason in alarms.items() if reason}


def _outbound(event: StripeEvent, account_id: str, subject: _Subject, news: _News) -> Sequence[OutboundEvent]:
    """What the account's own systems are to be told: the differences between before and after.

    Each is of one version of one row, and that makes its id: an event that is left open may be processed once more. By
    time and id those of one row stand in the order of its versions, in whatever order the events came.
    """
    events: list[OutboundEvent] = []
    for row in news.rows:
        known = subject.known.get(row.content.id)
        event_type = difference(known.content if known else None, row.content)
        if event_type:
            told_as = f"{row.content.id}.{row.version:08d}.{event.id}"
            data = outbound_data(row.content)
            events.append(OutboundEvent(told_as, event_type, account_id, row.seen_to, data))
    return events
