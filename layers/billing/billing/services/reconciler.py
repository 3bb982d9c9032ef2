"""What Stripe lists, compared with the table page by page, and what differs mended by the event protocol itself.

    list a page → find whose it is and what is stored → decide (pure) → EventProcessor: read, fetch, commit

Everything may be repeated: a page that is worked through twice finds nothing the second time.
"""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from billing.adapters.repository import Store
from billing.adapters.stripe_gateway import Listing, Payments
from billing.domain.accounts import Profile
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.services.event_processor import EventProcessor, Fetched
from billing.stripe_events import account_matching, event_types
from billing.stripe_events.account_matching import Match
from billing.stripe_events.drift import MENDING_ID, OF_NOBODY, Finding, Report, Step, differs, is_due
from billing.stripe_events.event_types import READERS, Notice, Outcome, Snapshot, StripeEvent, Target
from billing.stripe_events.objects import Json
from billing.stripe_events.ordering import Sighting
from billing.telemetry import count, logger

TRIES_MAX = 3
PATIENCE_SECONDS = 180
"""What a page may take until an object that Stripe fails on is the last one that is asked for."""
SETTLE_SECONDS = 5
"""An event of what just changed has been delivered by then, mostly: what differs for longer was missed."""

# An object in a list tells what an event that carries it would tell.
READER_OF: Mapping[Step, str] = {
    Step.SUBSCRIPTIONS: "customer.subscription.updated",
    Step.INVOICES: "invoice.updated",
}


@dataclass(frozen=True, slots=True)
class _Due:
    """An event or object whose turn it is. `work` brings it to its effect; `foreseen` is that, where it is known."""

    id: str
    account_id: str | None
    work: Callable[[], Outcome]
    foreseen: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One deployment's table beside its Stripe.

    `account_id` limits it to one account, and `customer_id` the lists to one customer of it, which is quicker. With
    `dry_run` nothing is written; `planned` are accounts by the customers that they are to get, as if they had them.
    Unless it `makes_links`, no account gets its first customer. `end_missing`: a living subscription that Stripe does
    not have counts as ended.
    """

    store: Store
    payments: Payments
    catalog: Catalog
    livemode: bool
    account_id: str | None = None
    customer_id: str | None = None
    dry_run: bool = False
    makes_links: bool = True
    end_missing: bool = False
    planned: Mapping[str, str] = field(default_factory=dict)
    pause: Callable[[float], None] = time.sleep

    def page(self, step: Step, since: datetime, after: str | None) -> Report:
        """Work through one page of a list. Raises StripeUnavailable and StoreUnavailable, StripeRefused of the list."""
        match step:
            case Step.EVENTS:
                return self._events(self._patiently(lambda: self.payments.list_events(since, after)))
            case Step.SUBSCRIPTIONS:
                list_page = self.payments.list_subscriptions
            case Step.INVOICES:
                list_page = self.payments.list_invoices
        return self._objects(step, self._patiently(lambda: list_page(after, self.customer_id)))

    def pages(self, steps: Iterable[Step], since: datetime) -> Iterator[Report]:
        """Every page of these lists. Raises as `page` does."""
        for step in steps:
            report = self.page(step, since, None)
            yield report
            while report.after:
                report = self.page(step, since, report.after)
                yield report

    def report_missing(
        self, living: Iterable[tuple[str, Subscription]], listed: Collection[str], now: datetime
    ) -> Iterator[Finding]:
        """Of living subscriptions with their accounts, those that were not listed and that Stripe does not have.

        Raises as `page` does.
        """
        due = [
            self._mend(Step.SUBSCRIPTIONS, self._missing(known, owner), owner, now)
            for owner, known in living
            if known.id not in listed and self._is_gone(Target(Subscription, known.id))
        ]
        return self._findings(Step.SUBSCRIPTIONS, due)

    def _missing(self, known: Subscription, owner: str) -> Notice:
        target = Target(Subscription, known.id)
        return Notice(known.customer_id, owner, (target,), missing_has_ended=self.end_missing)

    def _is_gone(self, target: Target) -> bool:
        """Whether Stripe says so: it has what it refuses to show, and what cannot be read."""
        try:
            return self._fetch(target) is None
        except (EventUnprocessable, StripeRefused):
            return False

    # --- events -------------------------------------------------------------------------------------------------------

    def _events(self, listing: Listing) -> Report:
        markers = self.store.find_markers(listing.objects)
        recorded = {event_id: marker.outcome for event_id, marker in markers.items()}
        notices = {
            event_id: self._notice_of(event)
            for event_id, event in listing.objects.items()
            if recorded.get(event_id) in {None, *OF_NOBODY}
        }
        matches = self._match([notice for notice in notices.values() if notice])
        due = []
        ended = _ended(notice for notice in notices.values() if notice)
        oldest_first = [*reversed(notices.items())]
        for event_id, notice in sorted(oldest_first, key=lambda told: _precedence(told[1], ended)):
            matched = matches[notice] if notice else Outcome.IGNORED
            account_id = matched.profile.account_id if isinstance(matched, Match) else None
            if is_due(recorded.get(event_id), matched) and self.account_id in {None, account_id}:
                work = partial(self._processor.process, listing.objects[event_id])
                due.append(_Due(event_id, account_id, work, None if isinstance(matched, Match) else matched))
        unmatched = sum(matched is Outcome.UNMATCHED for matched in matches.values())
        findings = tuple(self._findings(Step.EVENTS, due))
        return Report(Step.EVENTS, listing.seen_from, tuple(listing.objects), unmatched, findings, listing.after)

    def _notice_of(self, payload: Json) -> Notice | None:
        """What an event tells; None where the processor will find out that it is nothing, or cannot be read."""
        try:
            event = event_types.read_event(payload)
            return event_types.read_notice(event, self.catalog)
        except EventUnprocessable:
            return None

    # --- subscriptions and invoices -----------------------------------------------------------------------------------

    def _objects(self, step: Step, listing: Listing) -> Report:
        notices = [notice for each in listing.objects.values() if (notice := self._read(step, each))]
        ended = _ended(notices)
        matches = self._match(sorted(notices, key=lambda notice: _precedence(notice, ended)))
        owners = {
            notice: matched.profile.account_id for notice, matched in matches.items() if isinstance(matched, Match)
        }
        asked_for = {notice: owner for notice, owner in owners.items() if self.account_id in {None, owner}}
        differing = [
            self._mend(step, notice, account_id, listing.seen_from)
            for notice, account_id in self._differing(asked_for, listing.seen_from).items()
        ]
        mismatched = [
            Finding(step, notice.targets[0].id, notice.account_id, Outcome.MISMATCHED)
            for notice, matched in matches.items()
            if matched is Outcome.MISMATCHED and self.account_id in {None, notice.account_id}
        ]
        for _ in mismatched:
            count("CustomerMismatch")
        findings = (*self._findings(step, differing), *map(_told, mismatched))
        unmatched = sum(matched is Outcome.UNMATCHED for matched in matches.values())
        return Report(step, listing.seen_from, tuple(listing.objects), unmatched, findings, listing.after)

    def _differing(self, accounts: Mapping[Notice, str], listed_at: datetime) -> Mapping[Notice, str]:
        """Those whose rows differ, also after a moment in which an event that is under way arrives."""
        rows = self._rows(accounts)
        differing = _that_differ(accounts, rows, listed_at)
        if not any(notice.targets[0].id in rows for notice in differing):
            return differing
        self.pause(SETTLE_SECONDS)
        return _that_differ(differing, self._rows(differing), listed_at)

    def _rows(self, accounts: Mapping[Notice, str]) -> Mapping[str, Sighting[Snapshot]]:
        return self.store.find_rows((account_id, notice.targets[0]) for notice, account_id in accounts.items())

    def _read(self, step: Step, source: Json) -> Notice | None:
        try:
            return READERS[READER_OF[step]](source, self.catalog)
        except EventUnprocessable as error:
            facts = {"object_id": source["id"], "reason": str(error)}
            logger().error("An object that Stripe lists cannot be understood", extra=facts)
            count("EventFailed")
            return None

    def _mend(self, step: Step, notice: Notice, account_id: str, seen: datetime) -> _Due:
        """What lets the protocol fetch an object and write its row, as if an event of that time had named it."""
        [target] = notice.targets
        event = StripeEvent(
            id=f"{MENDING_ID}{target.id}_{int(seen.timestamp())}",
            type=f"reconciliation.{step}",
            created=seen,
            livemode=self.livemode,
            connected_account=None,
            api_version=None,
            object={},
        )
        named = replace(notice, targets=(replace(target, names_only=True),))
        return _Due(target.id, account_id, lambda: self._processor.bring_about(event, named))

    def _findings(self, step: Step, due: Sequence[_Due]) -> Iterator[Finding]:
        """Do the work that is due, and tell what came of it; what stays nobody's is no finding.

        An object that Stripe refuses or fails on must not keep all others from their turn: it is left for the next
        sweep, and so is the rest of a page that takes too long by it.
        """
        outcomes = (each.foreseen for each in due) if self.dry_run else _outcomes(due)
        for each, outcome in zip(due, outcomes, strict=True):
            if outcome is not Outcome.UNMATCHED:
                yield _told(Finding(step, each.id, each.account_id, outcome))

    # --- whose it is --------------------------------------------------------------------------------------------------

    def _match(self, notices: Sequence[Notice]) -> Mapping[Notice, Match | Outcome]:
        """The account of each, or the outcome of what belongs to none; two reads, however many they are."""
        owners = {**self.planned, **self.store.find_owners({notice.customer_id for notice in notices})}
        accounts = {notice: owners.get(notice.customer_id) or notice.account_id for notice in notices}
        profiles = self._profiles({account_id for account_id in accounts.values() if account_id})
        matches = {
            notice: account_matching.match(notice, owners.get(notice.customer_id), profiles.get(account_id or ""))
            for notice, account_id in accounts.items()
        }
        return matches if self.makes_links else {notice: _unlinked(matched) for notice, matched in matches.items()}

    def _profiles(self, account_ids: Collection[str]) -> Mapping[str, Profile]:
        planned = {account_id: Profile(account_id) for account_id in self.planned.values()}
        return {**planned, **self.store.find_profiles(account_ids)}

    # --- Stripe, which may be busy ------------------------------------------------------------------------------------

    @property
    def _processor(self) -> EventProcessor:
        return EventProcessor(self.store, self.catalog, self._fetch, self.livemode, may_link=self._may_link)

    def _may_link(self, customer_id: str) -> bool:
        """Whether an account may get its first customer: what is listed long after may be of one that is gone."""
        return self.makes_links and not self._patiently(lambda: self.payments.is_customer_gone(customer_id))

    def _fetch(self, target: Target) -> Fetched | None:
        return self._patiently(lambda: self.payments.fetch(target, self.catalog))

    def _patiently[T](self, call: Callable[[], T]) -> T:
        return patiently(call, self.pause)


def _that_differ(
    accounts: Mapping[Notice, str], rows: Mapping[str, Sighting[Snapshot]], listed_at: datetime
) -> Mapping[Notice, str]:
    return {
        notice: account_id
        for notice, account_id in accounts.items()
        for target in notice.targets
        if target.snapshot and differs(target.snapshot, rows.get(target.id), listed_at)
    }


def _ended(notices: Iterable[Notice]) -> Collection[str]:
    """The ids of what one of them shows to have ended."""
    targets = [target for notice in notices for target in notice.targets]
    return {target.id for target in targets if target.snapshot and target.snapshot.has_ended}


def _precedence(notice: Notice | None, ended: Collection[str]) -> int:
    """What is looked at first: an account that lost its customer gets the one that has a living subscription."""
    if notice is None or notice.customer_deleted:
        return 0
    return 1 if any(each.kind is Subscription and each.id not in ended for each in notice.targets) else 2


def _outcomes(due: Iterable[_Due]) -> Iterator[Outcome]:
    """What came of each; Stripe is asked for nothing more once it fails on an object and the time is over."""
    started, is_over = time.monotonic(), False
    for each in due:
        outcome = None if is_over else _unless_stripe_fails(each.work)
        if outcome is None:
            count("EventFailed")
            is_over = time.monotonic() - started > PATIENCE_SECONDS
        yield outcome or Outcome.FAILED


def _unless_stripe_fails(work: Callable[[], Outcome]) -> Outcome | None:
    try:
        return work()
    except StripeFailed:
        return None


def _unlinked(matched: Match | Outcome) -> Match | Outcome:
    """The same, but for an account's first customer."""
    return Outcome.UNMATCHED if isinstance(matched, Match) and matched.links_customer else matched


def _told(finding: Finding) -> Finding:
    """Log a finding as soon as it is made, and count a row that no event had brought; the processor counts events."""
    facts = {"step": finding.step, "object_id": finding.id, "account_id": finding.account_id}
    logger().warning("Reconciliation found a difference", extra=facts | {"outcome": finding.outcome})
    is_event = finding.step is Step.EVENTS
    if finding.is_drift and not is_event and finding.outcome is not Outcome.MISMATCHED:
        count("DriftMended")
    return finding


def patiently[T](call: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Ask Stripe again after as many seconds as it says, or a few. Raises what the last try raises."""
    for attempt in range(TRIES_MAX - 1):
        try:
            return call()
        except StripeUnavailable as error:
            pause(error.retry_after_seconds + random.uniform(0, 2**attempt))  # noqa: S311 - jitter, no secret
    return call()
