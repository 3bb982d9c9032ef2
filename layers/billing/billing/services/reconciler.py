"""Reconciliation of Stripe's lists with the table, one page at a time.

    list a page → match accounts → compare with the table (pure) → EventProcessor: read, fetch, commit

The event processor repairs a row that differs, as if an event had named its object. A page can be reconciled again at
any time; the second time finds no difference.
"""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial

from billing.adapters.repository import Repository
from billing.adapters.stripe_gateway import Listing, StripeGateway
from billing.domain.accounts import Profile
from billing.domain.deployment import Deployment
from billing.domain.errors import EventUnprocessable, StripeFailed, StripeRefused, StripeUnavailable
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.services.event_processor import EventProcessor
from billing.services.superfluous_checkout import expire_superfluous_checkout
from billing.stripe_events import account_matching, event_types, objects
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.customer_links import StripeCustomer
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
"""Time after which the rest of a page is left for the next full sync, if Stripe fails on an object."""
SETTLE_SECONDS = 5
"""Time in which the event of a recent change is usually delivered. A row that differs for longer missed its event."""

# Objects in a list are parsed like the object of these events.
EVENT_TYPE_OF: Mapping[Phase, str] = {
    Phase.SUBSCRIPTIONS: "customer.subscription.updated",
    Phase.INVOICES: "invoice.updated",
}

type Rows = Mapping[str, StoredObject[Snapshot]]
type Match = AccountMatch | EventOutcome
"""Account of an event or object, or the outcome of one that belongs to no account."""


@dataclass(frozen=True, slots=True)
class ReconcileOptions:
    """Extent of a reconciliation.

    Attributes:
        account_id: Only account that is reconciled; None for all.
        dry_run: If True, differences are reported and nothing is written.
        end_missing: If True, a subscription that has not ended and that Stripe does not have is written as canceled.
    """

    account_id: str | None = None
    dry_run: bool = False
    end_missing: bool = False

    def includes(self, account_id: str | None) -> bool:
        """Return True if the account is reconciled."""
        return self.account_id in {None, account_id}


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """Policy for accounts that have no Stripe customer yet.

    Attributes:
        assigns_customers: If True, an event or object may assign an account its first customer.
        planned: Accounts by customer that an import is about to link. They are matched as if they were linked.
    """

    assigns_customers: bool = True
    planned: Mapping[str, str] = field(default_factory=dict)

    def apply(self, matched: Match) -> Match:
        """Return UNKNOWN_CUSTOMER for a match that would assign a customer, if the policy does not allow it."""
        is_assignment = isinstance(matched, AccountMatch) and matched.assigns_customer
        return EventOutcome.UNKNOWN_CUSTOMER if is_assignment and not self.assigns_customers else matched


@dataclass(frozen=True, slots=True)
class _Task:
    """Processing of one event or object.

    Attributes:
        run: Processes it and returns the outcome.
        expected: Outcome that a dry run reports; None if only processing can tell.
    """

    id: str
    account_id: str | None
    run: Callable[[], EventOutcome]
    expected: EventOutcome | None = None


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Reconciles the table of a deployment with its Stripe account.

    Every method raises StripeUnavailable and StoreUnavailable, and StripeRefused if Stripe rejects a list. If Stripe
    rejects or fails on a single object, the other objects are processed.
    """

    repository: Repository
    gateway: StripeGateway
    catalog: Catalog
    deployment: Deployment
    options: ReconcileOptions = ReconcileOptions()
    links: LinkPolicy = LinkPolicy()
    pause: Callable[[float], None] = time.sleep

    def pages(self, phases: Iterable[Phase], since: datetime, customer_id: str | None = None) -> Iterator[PageResult]:
        """Reconcile every page of some lists, and yield each result. The arguments are those of `page`."""
        for phase in phases:
            result = self.page(phase, since, None, customer_id)
            yield result
            while result.after:
                result = self.page(phase, since, result.after, customer_id)
                yield result

    def page(self, phase: Phase, since: datetime, after: str | None, customer_id: str | None = None) -> PageResult:
        """Reconcile one page of a list.

        Args:
            phase: List.
            since: Oldest event of the event list.
            after: Id after which the page begins; None for the first page.
            customer_id: Customer whose subscriptions and invoices are listed; None for all. Events ignore it.
        """
        match phase:
            case Phase.EVENTS:
                return self._reconcile_events(self._retry(lambda: self.gateway.list_events(since, after)))
            case Phase.SUBSCRIPTIONS:
                list_page = self.gateway.list_subscriptions
            case Phase.INVOICES:
                list_page = self.gateway.list_invoices
        return self._reconcile_objects(phase, self._retry(lambda: list_page(after, customer_id)))

    def report_missing(
        self, live: Iterable[tuple[str, Subscription]], listed: Collection[str], now: datetime
    ) -> Iterator[Discrepancy]:
        """Yield the subscriptions that have not ended and that Stripe does not have.

        Args:
            live: Subscriptions of the table that have not ended, each with its account.
            listed: Ids that Stripe listed. Only other subscriptions are requested from Stripe.
            now: Time at which a subscription is written as canceled.
        """
        tasks = []
        for account_id, subscription in live:
            target = ObjectRef(Subscription, subscription.id)
            if subscription.id not in listed and self._is_missing(target):
                ends = self.options.end_missing
                parsed = ParsedEvent(subscription.customer_id, account_id, (target,), ended_if_missing=ends)
                tasks.append(self._repair(Phase.SUBSCRIPTIONS, parsed, account_id, now))
        return self._process(Phase.SUBSCRIPTIONS, tasks)

    def _is_missing(self, target: ObjectRef) -> bool:
        """Return True if Stripe returns 404. An object that it refuses or that cannot be parsed exists."""
        try:
            return self._fetch(target) is None
        except (EventUnprocessable, StripeRefused):
            return False

    # --- Events -------------------------------------------------------------------------------------------------------

    def _reconcile_events(self, listing: Listing) -> PageResult:
        """Process the events that were never delivered, and those whose account was unknown and is known now."""
        markers = self.repository.find_markers(listing.objects)
        recorded = {event_id: marker.outcome for event_id, marker in markers.items()}
        oldest_first = {
            event_id: self._parse_event(event)
            for event_id, event in reversed([*listing.objects.items()])
            if recorded.get(event_id) in {None, *UNASSIGNED} and not self._is_event_of_other_deployment(event)
        }
        matches = self._match([parsed for parsed in oldest_first.values() if parsed])
        priority = _priority(oldest_first.values())
        tasks = []
        for event_id, parsed in sorted(oldest_first.items(), key=lambda item: priority(item[1])):
            matched = matches[parsed] if parsed else EventOutcome.IGNORED
            account_id = matched.profile.account_id if isinstance(matched, AccountMatch) else None
            if should_process(recorded.get(event_id), matched) and self.options.includes(account_id):
                run = partial(self._processor.process, listing.objects[event_id])
                expected = None if isinstance(matched, AccountMatch) else matched
                tasks.append(_Task(event_id, account_id, run, expected))
        return self._page_result(Phase.EVENTS, listing, matches, self._process(Phase.EVENTS, tasks))

    def _is_event_of_other_deployment(self, payload: Json) -> bool:
        """Return True if the event's object names another deployment. A malformed event is left to the processor."""
        try:
            return self.deployment.excludes(objects.deployment_id_of(event_types.parse_envelope(payload).object))
        except EventUnprocessable:
            return False

    def _parse_event(self, payload: Json) -> ParsedEvent | None:
        """Return the parsed event; None if the processor will ignore it or record it as failed."""
        try:
            event = event_types.parse_envelope(payload)
            if event_types.is_out_of_scope(event, self.deployment):
                return None
            return event_types.parse_event(event, self.catalog, self.deployment)
        except EventUnprocessable:
            return None

    # --- Subscriptions and invoices -----------------------------------------------------------------------------------

    def _reconcile_objects(self, phase: Phase, listing: Listing) -> PageResult:
        """Repair the rows that differ from the listed objects."""
        parsed_objects = [parsed for each in listing.objects.values() if (parsed := self._parse_object(phase, each))]
        matches = self._match(sorted(parsed_objects, key=_priority(parsed_objects)))
        owners = {
            parsed: matched
            for parsed, matched in matches.items()
            if isinstance(matched, AccountMatch) and self.options.includes(matched.profile.account_id)
        }
        differing, conflicts = self._find_differing(owners, listing.listed_at)
        tasks = [
            self._repair(phase, parsed, owners[parsed].profile.account_id, listing.listed_at) for parsed in differing
        ]
        if phase is Phase.SUBSCRIPTIONS:
            account_ids = {matched.profile.account_id for matched in owners.values()}
            tasks += self._check_live_subscriptions(self.repository.find_profiles(account_ids).values())
        discrepancies = [*self._process(phase, tasks)]
        conflicts += [
            (parsed, parsed.account_id)
            for parsed, matched in matches.items()
            if matched is EventOutcome.CUSTOMER_CONFLICT and self.options.includes(parsed.account_id)
        ]
        for parsed, account_id in conflicts:
            count("CustomerConflict")
            discrepancies.append(_report(phase, parsed.targets[0].id, account_id, EventOutcome.CUSTOMER_CONFLICT))
        return self._page_result(phase, listing, matches, discrepancies)

    def _check_live_subscriptions(self, profiles: Iterable[Profile]) -> Iterator[_Task]:
        """Report accounts with several live subscriptions, and yield a task for each superfluous Checkout Session."""
        for profile in profiles:
            if len(profile.live_subscription_ids) > 1:
                live_ids = ", ".join(profile.live_subscription_ids)
                logger().error("Account has several live subscriptions", account_id=profile.account_id, ids=live_ids)
                count("MultipleSubscriptions")
            if checkout := profile.superfluous_checkout:
                run = partial(self._end_superfluous_checkout, profile)
                yield _Task(checkout.session_id, profile.account_id, run)

    def _end_superfluous_checkout(self, profile: Profile) -> EventOutcome:
        is_ended = self._processor.end_superfluous_checkout(profile)
        return EventOutcome.APPLIED if is_ended else EventOutcome.NO_CHANGE

    def _parse_object(self, phase: Phase, source: Json) -> ParsedEvent | None:
        """Return the content of an object; None if it cannot be parsed or belongs to another deployment."""
        try:
            if self.deployment.excludes(objects.deployment_id_of(source)):
                return None
            return EVENT_PARSERS[EVENT_TYPE_OF[phase]](source, self.catalog)
        except EventUnprocessable as error:
            logger().error("Malformed object in Stripe list", object_id=source["id"], reason=str(error))
            count("EventFailed")
            return None

    def _find_differing(
        self, owners: Mapping[ParsedEvent, AccountMatch], listed_at: datetime
    ) -> tuple[Sequence[ParsedEvent], list[tuple[ParsedEvent, str | None]]]:
        """Return the objects that differ from their rows, and the subscriptions in conflict with their accounts.

        If a stored row differs, its event may be on the way. After a pause it is compared again.
        """
        rows = self._find_rows(owners)
        differing = _compare(owners, rows, listed_at)
        if any(parsed.targets[0].id in rows for parsed in differing):
            self.pause(SETTLE_SECONDS)
            changed = {parsed: owners[parsed] for parsed in differing}
            differing = _compare(changed, self._find_rows(changed), listed_at)
        conflicts: list[tuple[ParsedEvent, str | None]] = [
            (parsed, matched.profile.account_id)
            for parsed, matched in owners.items()
            if _conflict(parsed, matched, rows) and not _snapshot(parsed).has_ended
        ]
        return differing, conflicts

    def _find_rows(self, owners: Mapping[ParsedEvent, AccountMatch]) -> Rows:
        return self.repository.find_rows(
            (matched.profile.account_id, parsed.targets[0]) for parsed, matched in owners.items()
        )

    def _repair(self, phase: Phase, parsed: ParsedEvent, account_id: str, listed_at: datetime) -> _Task:
        """Return a task that fetches an object and writes its row, as if an event of that time had named the object."""
        [target] = parsed.targets
        event = StripeEvent(
            id=f"{REPAIR_ID_PREFIX}{target.id}_{int(listed_at.timestamp())}",
            type=f"reconciliation.{phase}",
            created=listed_at,
            livemode=self.deployment.livemode,
            connected_account=None,
            object={},
        )
        fetched = replace(parsed, targets=(replace(target, fetch_required=True),))
        return _Task(target.id, account_id, lambda: self._processor.apply(event, fetched))

    # --- Both ---------------------------------------------------------------------------------------------------------

    def _match(self, parsed_events: Sequence[ParsedEvent]) -> Mapping[ParsedEvent, Match]:
        """Return the account of each event or object, with two reads for all of them.

        A third read is needed if the metadata of an object names another account than its customer's.
        """
        planned = self.links.planned
        owners = {**planned, **self.repository.find_owners({parsed.customer_id for parsed in parsed_events})}
        accounts = {parsed: owners.get(parsed.customer_id) or parsed.account_id for parsed in parsed_events}
        profiles = {account_id: Profile(account_id) for account_id in planned.values()}
        profiles |= self.repository.find_profiles({account_id for account_id in accounts.values() if account_id})
        named = {parsed.account_id for parsed in parsed_events if parsed.account_id} - set(accounts.values())
        profiles |= self.repository.find_profiles({account_id for account_id in named if account_id})
        find_unlinkable_outcome = cache(self._find_unlinkable_outcome)
        matches: dict[ParsedEvent, Match] = {}
        for parsed, account_id in accounts.items():
            matched = account_matching.match_account(
                parsed, owners.get(parsed.customer_id), profiles.get(account_id or "")
            )
            if isinstance(matched, AccountMatch):
                matched = replace(matched, named=profiles.get(parsed.account_id or ""))
            if account_matching.names_unlinked_customer(matched):
                matched = find_unlinkable_outcome(parsed.customer_id) or matched
            matches[parsed] = self.links.apply(matched)
        return matches

    def _find_unlinkable_outcome(self, customer_id: str) -> EventOutcome | None:
        """Return the outcome of objects whose customer cannot be linked; None if it can, or if Stripe fails.

        If Stripe fails, the processor asks again.
        """
        try:
            customer = self._find_customer(customer_id)
        except StripeFailed:
            return None
        return account_matching.find_unlinkable_outcome(customer, self.deployment)

    def _process(self, phase: Phase, tasks: Sequence[_Task]) -> Iterator[Discrepancy]:
        """Run the tasks and yield the discrepancies.

        An event or object that still belongs to no account is not a discrepancy.

        If Stripe fails on an object, it is reported as failed and left for the next full sync. If the page's time
        budget is exceeded by then, so are the remaining tasks.
        """
        deadline, is_over = time.monotonic() + PAGE_TIME_BUDGET_SECONDS, False
        for task in tasks:
            outcome = task.expected
            if not self.options.dry_run:
                outcome = None if is_over else _none_if_stripe_fails(task.run)
                if outcome is None:
                    outcome = EventOutcome.FAILED
                    count("EventFailed")
                    is_over = time.monotonic() > deadline
            if outcome is not EventOutcome.UNKNOWN_CUSTOMER:
                yield _report(phase, task.id, task.account_id, outcome)

    def _page_result(
        self, phase: Phase, listing: Listing, matches: Mapping[ParsedEvent, Match], discrepancies: Iterable[Discrepancy]
    ) -> PageResult:
        """Return the result of a page. A run of one account counts an unknown customer only if it names the account."""
        unknown_customer = sum(
            matched is EventOutcome.UNKNOWN_CUSTOMER and self.options.includes(parsed.account_id)
            for parsed, matched in matches.items()
        )
        ids = tuple(listing.objects)
        return PageResult(phase, listing.listed_at, ids, unknown_customer, tuple(discrepancies), listing.after)

    @property
    def _processor(self) -> EventProcessor:
        return EventProcessor(
            self.repository,
            self.catalog,
            self._fetch,
            self.deployment,
            find_customer=self._find_customer,
            verify_customers=True,
            assigns_customers=self.links.assigns_customers,
            expire_checkout=self._expire_checkout,
        )

    def _find_customer(self, customer_id: str) -> StripeCustomer | None:
        return self._retry(lambda: self.gateway.find_customer(customer_id))

    def _fetch(self, target: ObjectRef) -> FetchedObject | None:
        return self._retry(lambda: self.gateway.fetch(target, self.catalog))

    def _expire_checkout(self, profile: Profile) -> bool:
        return self._retry(lambda: expire_superfluous_checkout(self.gateway, profile))

    def _retry[T](self, call: Callable[[], T]) -> T:
        return retry_stripe(call, self.pause)


def _snapshot(parsed: ParsedEvent) -> Snapshot:
    """Return the listed object."""
    [target] = parsed.targets
    if target.snapshot is None:
        raise EventUnprocessable("a listed object has no state")
    return target.snapshot


def _conflict(parsed: ParsedEvent, matched: AccountMatch, rows: Rows) -> str | None:
    """Return the other account that a listed subscription may belong to."""
    listed, stored = _snapshot(parsed), rows.get(parsed.targets[0].id)
    if not isinstance(listed, Subscription):
        return None
    return account_matching.find_conflict(matched, listed, parsed.account_id, stored.content if stored else None)


def _compare(owners: Mapping[ParsedEvent, AccountMatch], rows: Rows, listed_at: datetime) -> Sequence[ParsedEvent]:
    """Return the objects that differ from their rows."""
    return [
        parsed
        for parsed, matched in owners.items()
        if differs(_snapshot(parsed), rows.get(parsed.targets[0].id), listed_at, _conflict(parsed, matched, rows))
    ]


def _priority(parsed_events: Iterable[ParsedEvent | None]) -> Callable[[ParsedEvent | None], int]:
    """Return the sort key for processing a page.

    An account whose customer was deleted gets the customer of a subscription that has not ended. The order is:
    deletions of customers, subscriptions that have not ended, all others.
    """
    targets = [target for parsed in parsed_events if parsed for target in parsed.targets]
    ended = {target.id for target in targets if target.snapshot and target.snapshot.has_ended}

    def priority(parsed: ParsedEvent | None) -> int:
        if parsed is None or parsed.customer_deleted:
            return 0
        return 1 if any(each.kind is Subscription and each.id not in ended for each in parsed.targets) else 2

    return priority


def _none_if_stripe_fails(run: Callable[[], EventOutcome]) -> EventOutcome | None:
    try:
        return run()
    except StripeFailed:
        return None


def _report(phase: Phase, object_id: str, account_id: str | None, outcome: EventOutcome | None) -> Discrepancy:
    """Log a discrepancy at once, and count a row that no event explains. The processor counts events."""
    discrepancy = Discrepancy(phase, object_id, account_id, outcome)
    logger().warning(
        "Reconciliation found a difference", phase=phase, object_id=object_id, account_id=account_id, outcome=outcome
    )
    if discrepancy.is_drift and phase is not Phase.EVENTS and outcome is not EventOutcome.CUSTOMER_CONFLICT:
        count("DriftRepaired")
    return discrepancy


def retry_stripe[T](call: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Call Stripe, and retry twice after the time that it asks for. Raises what the last attempt raises."""
    for attempt in range(TRIES_MAX - 1):
        try:
            return call()
        except StripeUnavailable as error:
            pause(error.retry_after_seconds + random.uniform(0, 2**attempt))  # noqa: S311 - jitter, no secret
    return call()
