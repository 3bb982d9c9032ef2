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

from billing.adapters.repository import Repository
from billing.adapters.stripe_gateway import Listing, StripeGateway
from billing.domain.accounts import Profile
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.services.event_processor import EventProcessor
from billing.stripe_events import account_matching, event_types
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.drift import (
    REPAIR_ID_PREFIX,
    UNASSIGNED,
    Discrepancy,
    PageResult,
    Phase,
    differs,
    should_process,
)
from billing.stripe_events.event_types import (
    EVENT_PARSERS,
    EventOutcome,
    FetchedObject,
    ObjectRef,
    ParsedEvent,
    Snapshot,
    StripeEvent,
)
from billing.stripe_events.objects import Json
from billing.stripe_events.ordering import StoredObject
from billing.telemetry import count, logger

TRIES_MAX = 3
PAGE_TIME_BUDGET_SECONDS = 180
"""What a page may take until an object that Stripe fails on is the last one that is asked for."""
SETTLE_SECONDS = 5
"""An event of what just changed has been delivered by then, mostly: what differs for longer was missed."""

# An object in a list tells what an event that carries it would tell.
READER_OF: Mapping[Phase, str] = {
    Phase.SUBSCRIPTIONS: "customer.subscription.updated",
    Phase.INVOICES: "invoice.updated",
}


@dataclass(frozen=True, slots=True)
class _Due:
    """An event or object whose turn it is. `work` brings it to its effect; `foreseen` is that, where it is known."""

    id: str
    account_id: str | None
    work: Callable[[], EventOutcome]
    foreseen: EventOutcome | None = None


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One deployment's table beside its Stripe.

    `account_id` limits it to one account, and `customer_id` the lists to one customer of it, which is quicker. With
    `dry_run` nothing is written; `planned` are accounts by the customers that they are to get, as if they had them.
    Unless it `makes_links`, no account gets its first customer. `end_missing`: a living subscription that Stripe does
    not have counts as ended.
    """

    repository: Repository
    gateway: StripeGateway
    catalog: Catalog
    livemode: bool
    account_id: str | None = None
    customer_id: str | None = None
    dry_run: bool = False
    assigns_customers: bool = True
    end_missing: bool = False
    planned: Mapping[str, str] = field(default_factory=dict)
    pause: Callable[[float], None] = time.sleep

    def page(self, phase: Phase, since: datetime, after: str | None) -> PageResult:
        """Work through one page of a list. Raises StripeUnavailable and StoreUnavailable, StripeRefused of the list."""
        match phase:
            case Phase.EVENTS:
                return self._events(self._retry_stripe(lambda: self.gateway.list_events(since, after)))
            case Phase.SUBSCRIPTIONS:
                list_page = self.gateway.list_subscriptions
            case Phase.INVOICES:
                list_page = self.gateway.list_invoices
        return self._objects(phase, self._retry_stripe(lambda: list_page(after, self.customer_id)))

    def pages(self, phases: Iterable[Phase], since: datetime) -> Iterator[PageResult]:
        """Every page of these lists. Raises as `page` does."""
        for phase in phases:
            report = self.page(phase, since, None)
            yield report
            while report.after:
                report = self.page(phase, since, report.after)
                yield report

    def report_missing(
        self, living: Iterable[tuple[str, Subscription]], listed: Collection[str], now: datetime
    ) -> Iterator[Discrepancy]:
        """Of living subscriptions with their accounts, those that were not listed and that Stripe does not have.

        Raises as `page` does.
        """
        due = [
            self._repair(Phase.SUBSCRIPTIONS, self._missing(known, owner), owner, now)
            for owner, known in living
            if known.id not in listed and self._is_gone(ObjectRef(Subscription, known.id))
        ]
        return self._process_due(Phase.SUBSCRIPTIONS, due)

    def _missing(self, known: Subscription, owner: str) -> ParsedEvent:
        target = ObjectRef(Subscription, known.id)
        return ParsedEvent(known.customer_id, owner, (target,), ended_if_missing=self.end_missing)

    def _is_gone(self, target: ObjectRef) -> bool:
        """Whether Stripe says so: it has what it refuses to show, and what cannot be read."""
        try:
            return self._fetch(target) is None
        except (EventUnprocessable, StripeRefused):
            return False

    # --- events -------------------------------------------------------------------------------------------------------

    def _events(self, listing: Listing) -> PageResult:
        markers = self.repository.find_markers(listing.objects)
        recorded = {event_id: marker.outcome for event_id, marker in markers.items()}
        parsed_events = {
            event_id: self._parse_event(event)
            for event_id, event in listing.objects.items()
            if recorded.get(event_id) in {None, *UNASSIGNED}
        }
        matches = self._match([parsed for parsed in parsed_events.values() if parsed])
        due = []
        ended = _ended(parsed for parsed in parsed_events.values() if parsed)
        oldest_first = [*reversed(parsed_events.items())]
        for event_id, parsed in sorted(oldest_first, key=lambda told: _precedence(told[1], ended)):
            matched = matches[parsed] if parsed else EventOutcome.IGNORED
            account_id = matched.profile.account_id if isinstance(matched, AccountMatch) else None
            if should_process(recorded.get(event_id), matched) and self.account_id in {None, account_id}:
                work = partial(self._processor.process, listing.objects[event_id])
                due.append(_Due(event_id, account_id, work, None if isinstance(matched, AccountMatch) else matched))
        unknown_customer = sum(matched is EventOutcome.UNKNOWN_CUSTOMER for matched in matches.values())
        discrepancies = tuple(self._process_due(Phase.EVENTS, due))
        return PageResult(
            Phase.EVENTS, listing.seen_from, tuple(listing.objects), unknown_customer, discrepancies, listing.after
        )

    def _parse_event(self, payload: Json) -> ParsedEvent | None:
        """What an event tells; None where the processor will find out that it is nothing, or cannot be read."""
        try:
            event = event_types.parse_envelope(payload)
            return event_types.parse_event(event, self.catalog)
        except EventUnprocessable:
            return None

    # --- subscriptions and invoices -----------------------------------------------------------------------------------

    def _objects(self, phase: Phase, listing: Listing) -> PageResult:
        parsed_events = [parsed for each in listing.objects.values() if (parsed := self._read(phase, each))]
        ended = _ended(parsed_events)
        matches = self._match(sorted(parsed_events, key=lambda parsed: _precedence(parsed, ended)))
        owners = {
            parsed: matched.profile.account_id
            for parsed, matched in matches.items()
            if isinstance(matched, AccountMatch)
        }
        asked_for = {parsed: owner for parsed, owner in owners.items() if self.account_id in {None, owner}}
        differing = [
            self._repair(phase, parsed, account_id, listing.seen_from)
            for parsed, account_id in self._differing(asked_for, listing.seen_from).items()
        ]
        customer_conflict = [
            Discrepancy(phase, parsed.targets[0].id, parsed.account_id, EventOutcome.CUSTOMER_CONFLICT)
            for parsed, matched in matches.items()
            if matched is EventOutcome.CUSTOMER_CONFLICT and self.account_id in {None, parsed.account_id}
        ]
        for _ in customer_conflict:
            count("CustomerConflict")
        discrepancies = (*self._process_due(phase, differing), *map(_report_discrepancy, customer_conflict))
        unknown_customer = sum(matched is EventOutcome.UNKNOWN_CUSTOMER for matched in matches.values())
        return PageResult(
            phase, listing.seen_from, tuple(listing.objects), unknown_customer, discrepancies, listing.after
        )

    def _differing(self, accounts: Mapping[ParsedEvent, str], listed_at: datetime) -> Mapping[ParsedEvent, str]:
        """Those whose rows differ, also after a moment in which an event that is under way arrives."""
        rows = self._rows(accounts)
        differing = _filter_different(accounts, rows, listed_at)
        if not any(parsed.targets[0].id in rows for parsed in differing):
            return differing
        self.pause(SETTLE_SECONDS)
        return _filter_different(differing, self._rows(differing), listed_at)

    def _rows(self, accounts: Mapping[ParsedEvent, str]) -> Mapping[str, StoredObject[Snapshot]]:
        return self.repository.find_rows((account_id, parsed.targets[0]) for parsed, account_id in accounts.items())

    def _read(self, phase: Phase, source: Json) -> ParsedEvent | None:
        try:
            return EVENT_PARSERS[READER_OF[phase]](source, self.catalog)
        except EventUnprocessable as error:
            facts = {"object_id": source["id"], "reason": str(error)}
            logger().error("An object that Stripe lists cannot be understood", extra=facts)
            count("EventFailed")
            return None

    def _repair(self, phase: Phase, parsed: ParsedEvent, account_id: str, seen: datetime) -> _Due:
        """What lets the protocol fetch an object and write its row, as if an event of that time had named it."""
        [target] = parsed.targets
        event = StripeEvent(
            id=f"{REPAIR_ID_PREFIX}{target.id}_{int(seen.timestamp())}",
            type=f"reconciliation.{phase}",
            created=seen,
            livemode=self.livemode,
            connected_account=None,
            object={},
        )
        named = replace(parsed, targets=(replace(target, fetch_required=True),))
        return _Due(target.id, account_id, lambda: self._processor.apply(event, named))

    def _process_due(self, phase: Phase, due: Sequence[_Due]) -> Iterator[Discrepancy]:
        """Do the work that is due, and tell what came of it; what stays nobody's is no finding.

        An object that Stripe refuses or fails on must not keep all others from their turn: it is left for the next
        sweep, and so is the rest of a page that takes too long by it.
        """
        outcomes = (each.foreseen for each in due) if self.dry_run else _outcomes(due)
        for each, outcome in zip(due, outcomes, strict=True):
            if outcome is not EventOutcome.UNKNOWN_CUSTOMER:
                yield _report_discrepancy(Discrepancy(phase, each.id, each.account_id, outcome))

    # --- whose it is --------------------------------------------------------------------------------------------------

    def _match(self, parsed_events: Sequence[ParsedEvent]) -> Mapping[ParsedEvent, AccountMatch | EventOutcome]:
        """The account of each, or the outcome of what belongs to none; two reads, however many they are."""
        owners = {**self.planned, **self.repository.find_owners({parsed.customer_id for parsed in parsed_events})}
        accounts = {parsed: owners.get(parsed.customer_id) or parsed.account_id for parsed in parsed_events}
        profiles = self._profiles({account_id for account_id in accounts.values() if account_id})
        matches = {
            parsed: account_matching.match_account(
                parsed, owners.get(parsed.customer_id), profiles.get(account_id or "")
            )
            for parsed, account_id in accounts.items()
        }
        return (
            matches
            if self.assigns_customers
            else {parsed: _without_assignment(matched) for parsed, matched in matches.items()}
        )

    def _profiles(self, account_ids: Collection[str]) -> Mapping[str, Profile]:
        planned = {account_id: Profile(account_id) for account_id in self.planned.values()}
        return {**planned, **self.repository.find_profiles(account_ids)}

    # --- Stripe, which may be busy ------------------------------------------------------------------------------------

    @property
    def _processor(self) -> EventProcessor:
        return EventProcessor(
            self.repository, self.catalog, self._fetch, self.livemode, may_assign_customer=self._may_assign_customer
        )

    def _may_assign_customer(self, customer_id: str) -> bool:
        """Whether an account may get its first customer: what is listed long after may be of one that is gone."""
        return self.assigns_customers and not self._retry_stripe(lambda: self.gateway.is_customer_gone(customer_id))

    def _fetch(self, target: ObjectRef) -> FetchedObject | None:
        return self._retry_stripe(lambda: self.gateway.fetch(target, self.catalog))

    def _retry_stripe[T](self, call: Callable[[], T]) -> T:
        return retry_stripe(call, self.pause)


def _filter_different(
    accounts: Mapping[ParsedEvent, str], rows: Mapping[str, StoredObject[Snapshot]], listed_at: datetime
) -> Mapping[ParsedEvent, str]:
    return {
        parsed: account_id
        for parsed, account_id in accounts.items()
        for target in parsed.targets
        if target.snapshot and differs(target.snapshot, rows.get(target.id), listed_at)
    }


def _ended(parsed_events: Iterable[ParsedEvent]) -> Collection[str]:
    """The ids of what one of them shows to have ended."""
    targets = [target for parsed in parsed_events for target in parsed.targets]
    return {target.id for target in targets if target.snapshot and target.snapshot.has_ended}


def _precedence(parsed: ParsedEvent | None, ended: Collection[str]) -> int:
    """What is looked at first: an account that lost its customer gets the one that has a living subscription."""
    if parsed is None or parsed.customer_deleted:
        return 0
    return 1 if any(each.kind is Subscription and each.id not in ended for each in parsed.targets) else 2


def _outcomes(due: Iterable[_Due]) -> Iterator[EventOutcome]:
    """What came of each; Stripe is asked for nothing more once it fails on an object and the time is over."""
    started, is_over = time.monotonic(), False
    for each in due:
        outcome = None if is_over else _unless_stripe_fails(each.work)
        if outcome is None:
            count("EventFailed")
            is_over = time.monotonic() - started > PAGE_TIME_BUDGET_SECONDS
        yield outcome or EventOutcome.FAILED


def _unless_stripe_fails(work: Callable[[], EventOutcome]) -> EventOutcome | None:
    try:
        return work()
    except StripeFailed:
        return None


def _without_assignment(matched: AccountMatch | EventOutcome) -> AccountMatch | EventOutcome:
    """The same, but for an account's first customer."""
    return EventOutcome.UNKNOWN_CUSTOMER if isinstance(matched, AccountMatch) and matched.assigns_customer else matched


def _report_discrepancy(discrepancy: Discrepancy) -> Discrepancy:
    """Log a finding as soon as it is made, and count a row that no event had brought; the processor counts events."""
    facts = {"phase": discrepancy.phase, "object_id": discrepancy.id, "account_id": discrepancy.account_id}
    logger().warning("Reconciliation found a difference", extra=facts | {"outcome": discrepancy.outcome})
    is_event = discrepancy.phase is Phase.EVENTS
    if discrepancy.is_drift and not is_event and discrepancy.outcome is not EventOutcome.CUSTOMER_CONFLICT:
        count("DriftRepaired")
    return discrepancy


def retry_stripe[T](call: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Ask Stripe again after as many seconds as it says, or a few. Raises what the last try raises."""
    for attempt in range(TRIES_MAX - 1):
        try:
            return call()
        except StripeUnavailable as error:
            pause(error.retry_after_seconds + random.uniform(0, 2**attempt))  # noqa: S311 - jitter, no secret
    return call()
