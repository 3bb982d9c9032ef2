"""Event processor: applies one Stripe event to the table, completely or not at all.

    parse → read the stored state → decide (pure) → fetch if only Stripe can decide → commit in one transaction → report
                     ↑___________________________ a version has changed ____________________________|

The fetch comes after the read. If a row is unchanged at the commit, it was written before the fetch, so the fetched
object is at least as new. The processor returns only after a durable commit. Every failure of Stripe or DynamoDB
raises, and Stripe delivers the event again. An event that cannot be parsed is recorded as failed and does not raise.
docs/explanation/event-ordering.md describes the protocol.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from billing.adapters.repository import (
    Commit,
    EventAlreadyProcessed,
    EventContext,
    ProcessedEvent,
    Repository,
    VersionConflict,
)
from billing.domain.accounts import Profile
from billing.domain.deployment import Deployment
from billing.domain.errors import BillingError, EventUnprocessable, StoreUnavailable
from billing.domain.identifiers import is_id
from billing.domain.outbound_events import (
    OutboundEvent,
    event_id,
    event_object,
    outbound_event_type,
    previous_values,
)
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.services.superfluous_checkout import expire_superfluous_checkout
from billing.stripe_events import account_matching, event_types
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.customer_links import StripeCustomer
from billing.stripe_events.drift import REPAIR_ID_PREFIX
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
from billing.stripe_events.ordering import StoredObject, apply_snapshot, next_version, observation_interval
from billing.telemetry import count, logger

if TYPE_CHECKING:
    from billing.adapters.stripe_gateway import StripeGateway

ATTEMPTS_MAX = 20
PAUSE_SECONDS_MAX = 0.5
CUSTOMER_SUBSCRIPTIONS_MAX = 45
"""Subscriptions that end with a deleted customer. With two writes each they fit a transaction, which has at most 100.

Further subscriptions end through their own events.
"""
LATE_EVENT_THRESHOLD = timedelta(minutes=5)
"""Delay from which an applied event is counted as late: the account had the wrong plan for this time."""

type Row = StoredObject[Snapshot]
type Fetch = Callable[[ObjectRef], FetchedObject | None]
type LookUp = Callable[[RelatedObject], Json | None]
type FindCustomer = Callable[[str], StripeCustomer | None]


class _ObjectOutOfScope(BillingError):
    """A fetched object belongs to another deployment."""


@dataclass(frozen=True, slots=True)
class MatchedEvent:
    """An event with its content and its account."""

    event: StripeEvent
    parsed: ParsedEvent
    account: AccountMatch


@dataclass(frozen=True, slots=True)
class EventTargets:
    """Objects whose rows an event may change.

    Attributes:
        objects: The objects.
        rows: Their rows as they were read, by object id. An object without a row is not contained.
    """

    objects: Sequence[ObjectRef]
    rows: Mapping[str, Row]

    def is_changed(self, content: Snapshot) -> bool:
        """Return True if `content` differs from the row that was read."""
        stored = self.rows.get(content.id)
        return stored is None or stored.content != content


@dataclass(frozen=True, slots=True)
class Changes:
    """Effect of an event on the rows of its objects.

    Attributes:
        rows: Rows to write.
        missing: True if Stripe no longer has an object that had to be fetched.
        unreadable: Reason why a fetched object could not be parsed.
    """

    rows: Sequence[Row]
    missing: bool = False
    unreadable: str | None = None


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _not_found(_related: RelatedObject) -> None: ...


def _no_customer(_customer_id: str) -> None: ...


def _never(_profile: Profile) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class EventProcessor:
    """Processor of Stripe events.

    Attributes:
        repository: Table.
        catalog: Plans and prices.
        fetch: Fetches an object from Stripe; None if Stripe returns 404. Raises EventUnprocessable if the object cannot
            be parsed.
        deployment: Deployment whose events are processed. Events of others are ignored.
        now: Clock.
        pause: Waits for a number of seconds.
        look_up: Returns the object that a thin event names, from which its customer follows; None if Stripe returns
            404.
        find_customer: Finds a customer in Stripe; None if Stripe returns 404. It is called before a customer is linked
            or reported as a conflict, unless the event's object names this deployment.
        verify_customers: True if it is called also if the object names this deployment. Replays and reconciliation need
            it, because they process events long after they happened: Stripe may not have the customer anymore.
        assigns_customers: True if an event may assign an account its first customer.
        expire_checkout: Expires the superfluous Checkout Session of a profile. Returns True if the session can no
            longer be paid and its subscription, if it has one, is stored.
    """

    repository: Repository
    catalog: Catalog
    fetch: Fetch
    deployment: Deployment
    now: Callable[[], datetime] = field(default=_utc_now)
    pause: Callable[[float], None] = field(default=time.sleep)
    look_up: LookUp = field(default=_not_found)
    find_customer: FindCustomer = field(default=_no_customer)
    verify_customers: bool = False
    assigns_customers: bool = True
    expire_checkout: Callable[[Profile], bool] = field(default=_never)

    @classmethod
    def connect(
        cls,
        repository: Repository,
        catalog: Catalog,
        gateway: "Callable[[], StripeGateway]",
        deployment: Deployment,
        *,
        verify_customers: bool = False,
    ) -> "EventProcessor":
        """Create a processor that sends its requests to Stripe through a gateway.

        Args:
            repository: Table.
            catalog: Plans and prices.
            gateway: Returns the gateway. It is called for each request to Stripe, so most events create no connection,
                and a rotated API key takes effect.
            deployment: Deployment whose events are processed.
            verify_customers: True if a customer is linked only if Stripe still has it, whatever the object names.
        """
        return cls(
            repository,
            catalog,
            fetch=lambda target: gateway().fetch(target, catalog),
            deployment=deployment,
            look_up=lambda related: gateway().look_up(related),
            find_customer=lambda customer_id: gateway().find_customer(customer_id),
            verify_customers=verify_customers,
            expire_checkout=lambda profile: expire_superfluous_checkout(gateway(), profile),
        )

    def process(self, payload: object) -> EventOutcome:
        """Process an Event object. The call may be repeated.

        After an error nothing is written, with one exception: the expiry of a superfluous Checkout Session follows the
        commit and can fail alone.

        Args:
            payload: Parsed JSON of the delivery.

        Raises:
            EventUnidentified: The payload has no usable id.
            StripeFailed: Stripe is unavailable or rejected a request.
            StoreUnavailable: DynamoDB is unavailable, or other workers caused too many conflicts.
        """
        event_id, body = event_types.identify(payload)
        event = None
        try:
            event = event_types.parse_envelope(body)
            parsed = self._parse(event)
        except EventUnprocessable as error:
            reason, created = str(error), event.created if event else None
            return self._retry_on_conflict(lambda: self._record_failure(event_id, body.get("type"), reason, created))
        return self.apply(event, parsed)

    def apply(self, event: StripeEvent, parsed: ParsedEvent | None) -> EventOutcome:
        """Apply a parsed event; None is recorded as ignored. Raises the same errors as `process`."""
        if parsed is None:
            return self._retry_on_conflict(lambda: self._record(event, EventOutcome.IGNORED))
        return self._retry_on_conflict(lambda: self._attempt(event, parsed))

    def end_customer(self, profile: Profile, customer_id: str) -> EventOutcome:
        """Process the deletion of a customer whose event was lost.

        Its subscriptions are fetched and end. If it is the profile's customer, the account can get another one.

        Raises the same errors as `process`.
        """
        checkout = profile.open_checkout if profile.customer_id == customer_id else None
        parsed = ParsedEvent(
            customer_id,
            profile.account_id,
            ended_checkout_id=checkout.session_id if checkout else None,
            customer_deleted=True,
            ended_if_missing=True,
        )
        return self.apply(self._repair_event("customer", customer_id), parsed)

    def complete_checkout(
        self, account_id: str, customer_id: str, session_id: str, subscription_id: str
    ) -> EventOutcome:
        """Process the completion of a Checkout Session whose events were lost or are late.

        Its subscription is fetched. The session is then removed from the account's profile.

        Args:
            account_id: Account of the customer.
            customer_id: Customer that the session was for.
            session_id: Completed session.
            subscription_id: Subscription that it created.

        Raises the same errors as `process`.
        """
        parsed = ParsedEvent(
            customer_id,
            account_id,
            (ObjectRef(Subscription, subscription_id),),
            deployment_id=self.deployment.id,
            ended_checkout_id=session_id,
        )
        return self.apply(self._repair_event("checkout", session_id), parsed)

    def _repair_event(self, name: str, object_id: str) -> StripeEvent:
        """Return an event of now about an object whose own event was lost."""
        now = self.now()
        return StripeEvent(
            id=f"{REPAIR_ID_PREFIX}{object_id}_{int(now.timestamp())}",
            type=f"reconciliation.{name}",
            created=now,
            livemode=self.deployment.livemode,
            connected_account=None,
            object={},
        )

    def _retry_on_conflict(self, attempt_once: Callable[[], EventOutcome]) -> EventOutcome:
        for attempt in range(ATTEMPTS_MAX):
            try:
                return attempt_once()
            except EventAlreadyProcessed:
                return EventOutcome.DUPLICATE
            except VersionConflict:
                ceiling = min(PAUSE_SECONDS_MAX, 0.02 * 2**attempt)
                self.pause(random.uniform(0, ceiling))  # noqa: S311 - jitter, no secret
        raise StoreUnavailable

    def _attempt(self, event: StripeEvent, parsed: ParsedEvent) -> EventOutcome:
        """Read, decide and commit once. Raises VersionConflict if another worker has written in between."""
        context = self._read_context(event, parsed)
        matched = self._match_account(parsed, context)
        if context.outcome is not None and context.outcome.is_final:
            self._repeat_follow_up(event, matched, context)
            return EventOutcome.DUPLICATE
        matched = self._verify_link(parsed, matched)
        if isinstance(matched, EventOutcome):
            return self._record(event, matched, parsed)
        targets = self._find_targets(parsed, matched, context)
        changes = self._compute_changes(MatchedEvent(event, parsed, matched), targets)
        return self._commit(event, parsed, matched, targets, changes)

    # --- Parse --------------------------------------------------------------------------------------------------------

    def _parse(self, event: StripeEvent) -> ParsedEvent | None:
        if event.parser is None or event_types.is_out_of_scope(event, self.deployment):
            return None
        found = self._with_related_object(event)
        if event_types.is_out_of_scope(found, self.deployment):
            return None
        return event_types.parse_event(found, self.catalog, self.deployment)

    def _with_related_object(self, event: StripeEvent) -> StripeEvent:
        """Add the object that a thin event names. Only the object contains the customer."""
        if event.related is None:
            return event
        found = self.look_up(event.related)
        if found is None and event.related.type not in event_types.ID_ONLY_TYPES:
            raise EventUnprocessable("Stripe does not have the related object")
        return replace(event, object=found or {"id": event.related.id})

    # --- Read and match -----------------------------------------------------------------------------------------------

    def _read_context(self, event: StripeEvent, parsed: ParsedEvent) -> EventContext:
        """Read the stored state; once more if the customer belongs to another account than the event names."""
        context = self.repository.read_event_context(event.id, parsed.customer_id, parsed.account_id, parsed.targets)
        owner = context.account_of_customer
        if owner is None or owner == parsed.account_id:
            return context
        of_owner = self.repository.read_event_context(event.id, parsed.customer_id, owner, parsed.targets)
        return replace(of_owner, named=context.profile)

    def _match_account(self, parsed: ParsedEvent, context: EventContext) -> AccountMatch | EventOutcome:
        matched = account_matching.match_account(parsed, context.account_of_customer, context.profile)
        return replace(matched, named=context.named) if isinstance(matched, AccountMatch) else matched

    def _verify_link(self, parsed: ParsedEvent, matched: AccountMatch | EventOutcome) -> AccountMatch | EventOutcome:
        """Return the match, or the outcome of an event whose customer is not to be linked."""
        if not account_matching.names_unlinked_customer(matched):
            return matched
        if isinstance(matched, AccountMatch) and not self.assigns_customers:
            return EventOutcome.UNKNOWN_CUSTOMER
        if not self.verify_customers and not account_matching.requires_customer(parsed, matched):
            return matched
        customer = self.find_customer(parsed.customer_id)
        return account_matching.find_unlinkable_outcome(customer, self.deployment) or matched

    def _find_targets(self, parsed: ParsedEvent, matched: AccountMatch, context: EventContext) -> EventTargets:
        """Return the objects that the event names, or all live subscriptions of a deleted customer."""
        if not parsed.customer_deleted:
            return EventTargets(parsed.targets, context.rows)
        rows = self.repository.load_subscription_rows(matched.profile.account_id)
        live = [
            ObjectRef(Subscription, row.content.id)
            for row in rows.values()
            if isinstance(row.content, Subscription)
            and row.content.customer_id == parsed.customer_id
            and row.content.live
        ]
        return EventTargets(live[:CUSTOMER_SUBSCRIPTIONS_MAX], rows)

    # --- Decide -------------------------------------------------------------------------------------------------------

    def _compute_changes(self, matched: MatchedEvent, targets: EventTargets) -> Changes:
        rows: list[Row] = []
        missing, unreadable = False, None
        for target in targets.objects:
            stored = targets.rows.get(target.id)
            try:
                row = self._next_row(matched, target, stored)
                row = row or self._ended_on_404(matched.event, matched.parsed, stored)
            except _ObjectOutOfScope:
                continue
            except EventUnprocessable as error:
                unreadable = f"{target.id} as fetched from Stripe: {error}"
                continue
            if row is None:
                missing = True
            elif row is not stored:
                rows.append(row)
        return Changes(rows, missing, unreadable)

    def _next_row(self, matched: MatchedEvent, target: ObjectRef, stored: Row | None) -> Row | None:
        """Return the row of an object after the event.

        Returns:
            The new row, or the stored row if it already includes the event. None if the object had to be fetched and
            Stripe returned 404.

        Raises:
            EventUnprocessable: The fetched object cannot be parsed.
            _ObjectOutOfScope: The fetched object belongs to another deployment.
        """
        created, now = matched.event.created, self.now()
        snapshot = None if target.fetch_required else target.snapshot
        if snapshot is not None:
            conflict = self._find_conflict(matched, snapshot, matched.parsed.account_id, stored)
            snapshot = event_types.derive_fields(snapshot, stored, min(created, now), conflict)
        if target.always_fetched:
            has_ended = stored is not None and stored.content.has_ended
            return stored if has_ended else self._fetch_row(matched, target, snapshot, stored)
        row = apply_snapshot(created, snapshot, stored, now)
        if row is None or (row is not stored and event_types.is_change_unknown(row.content, stored)):
            return self._fetch_row(matched, target, snapshot, stored)
        return row

    def _fetch_row(
        self, matched: MatchedEvent, target: ObjectRef, snapshot: Snapshot | None, stored: Row | None
    ) -> Row | None:
        fetched = self.fetch(target)
        if fetched is None:
            return None
        if self.deployment.excludes(fetched.deployment_id):
            raise _ObjectOutOfScope
        now = self.now()
        observed_at = min(fetched.seen_to, now)
        if snapshot is not None and event_types.is_past_due(snapshot):
            # The grace period starts with the event, but not before `seen_to` of the row. The row may include a payment
            # that was made after the event.
            created = matched.event.created
            earliest = max(created, stored.seen_to) if stored else created
            observed_at = min(earliest, observed_at)
        conflict = self._find_conflict(matched, fetched.content, fetched.account_id, stored)
        content = event_types.derive_fields(fetched.content, stored, observed_at, conflict)
        return next_version(content, *observation_interval(fetched.seen_from, fetched.seen_to, now), stored)

    def _ended_on_404(self, event: StripeEvent, parsed: ParsedEvent, stored: Row | None) -> Row | None:
        """Return the row of a subscription that Stripe no longer has, if the event implies that it ended."""
        if stored is None or not parsed.ended_if_missing or not isinstance(stored.content, Subscription):
            return None
        if stored.content.has_ended:
            return stored
        ended_at = min(event.created, self.now())
        return next_version(stored.content.as_canceled(ended_at), ended_at, ended_at, stored)

    def _find_conflict(
        self, matched: MatchedEvent, content: Snapshot, account_id: str | None, stored: Row | None
    ) -> str | None:
        """Return the other account that a subscription may belong to.

        The profile of the account that the event names was read before. If a fetched subscription names another
        account, its profile is read here.
        """
        if not isinstance(content, Subscription):
            return None
        account = matched.account
        if account_id is not None and account_id not in {account.profile.account_id, matched.parsed.account_id}:
            account = replace(account, named=self.repository.find_profiles([account_id]).get(account_id))
        return account_matching.find_conflict(account, content, account_id, stored.content if stored else None)

    # --- Commit -------------------------------------------------------------------------------------------------------

    def _commit(
        self, event: StripeEvent, parsed: ParsedEvent, matched: AccountMatch, targets: EventTargets, changes: Changes
    ) -> EventOutcome:
        profile = self._profile_after(parsed, matched, changes)
        account_id, alarms = profile.account_id, _alarms(matched, changes, profile)
        has_changes = profile != matched.profile or any(targets.is_changed(row.content) for row in changes.rows)
        outcome = _outcome(changes, has_changes=has_changes)
        writes_profile = profile is not matched.profile
        marker = self._marker(event, outcome, parsed, account_id, "; ".join(alarms.values()))
        rows, outbound = _number_events(account_id, targets, changes, marker.processed, self.catalog)
        commit = Commit(
            marker=marker,
            rows=rows,
            outbound=outbound,
            profile=profile if writes_profile else None,
            new_customer_id=parsed.customer_id if matched.assigns_customer else None,
        )
        try:
            self.repository.commit(commit)
        except EventAlreadyProcessed:
            # The worker that committed may stop before its report, and this delivery may be the last one.
            _emit_alarms(_log_fields(event, EventOutcome.DUPLICATE, account_id), alarms)
            outcome = EventOutcome.DUPLICATE
        else:
            self._report(event, outcome, alarms, account_id)
        self.end_superfluous_checkout(replace(profile, version=profile.version + writes_profile))
        return outcome

    def _profile_after(self, parsed: ParsedEvent, matched: AccountMatch, changes: Changes) -> Profile:
        if changes.missing or changes.unreadable:
            # Without its subscription a Checkout Session stays open in the profile, so that the account cannot pay for
            # a second subscription.
            parsed = replace(parsed, ended_checkout_id=None)
        return account_matching.profile_after(matched, parsed, [row.content for row in changes.rows], self.catalog)

    def end_superfluous_checkout(self, profile: Profile) -> bool:
        """Expire the Checkout Session that is still open although the account has a live subscription.

        The session stays in the profile until it is expired. If Stripe fails, the error is raised after the commit:
        the redelivered event, every later event of the account and the full sync try again.

        Args:
            profile: Profile with its present version.

        Returns:
            True if there was such a session and it was removed from the profile.
        """
        if profile.superfluous_checkout is None or not self.expire_checkout(profile):
            return False
        try:
            self.repository.save_profile(replace(profile, open_checkout=None))
        except VersionConflict:
            # The session is expired. If it is still stored, the next checkout or event removes it.
            return False
        return True

    def _record(self, event: StripeEvent, outcome: EventOutcome, parsed: ParsedEvent | None = None) -> EventOutcome:
        """Commit the marker of an event that changes no row.

        Its account is the one in the metadata, unless the event belongs to another deployment.
        """
        account_id = parsed.account_id if parsed and outcome is not EventOutcome.IGNORED else None
        self.repository.commit(Commit(self._marker(event, outcome, parsed, account_id)))
        alarms = {"CustomerConflict": "the account in its metadata has another Stripe customer"}
        self._report(event, outcome, alarms if outcome is EventOutcome.CUSTOMER_CONFLICT else {})
        return outcome

    def _record_failure(self, event_id: str, event_type: object, reason: str, created: datetime | None) -> EventOutcome:
        """Commit the marker of an event that cannot be parsed, so that Stripe does not deliver it again."""
        marker = ProcessedEvent(
            event_id=event_id,
            type=event_type if isinstance(event_type, str) and is_id(event_type) else "unknown",
            outcome=EventOutcome.FAILED,
            processed=self.now(),
            created=created,
            reason=reason,
        )
        self.repository.commit(Commit(marker))
        logger().error("Event failed permanently", event_id=event_id, reason=reason)
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

    # --- Report -------------------------------------------------------------------------------------------------------

    def _repeat_follow_up(
        self, event: StripeEvent, matched: AccountMatch | EventOutcome, context: EventContext
    ) -> None:
        """Repeat the steps after a commit, because the worker that committed may have stopped before them."""
        if isinstance(matched, AccountMatch):
            _re_emit_alarms(event, matched, context)
            self.end_superfluous_checkout(matched.profile)

    def _report(
        self, event: StripeEvent, outcome: EventOutcome, alarms: Mapping[str, str], account_id: str | None = None
    ) -> None:
        """Log and count an event after its commit, so that a repeated attempt is not reported twice."""
        delay = self.now() - event.created
        fields = _log_fields(event, outcome, account_id)
        logger().info("Event processed", extra=fields | {"delay_seconds": int(delay.total_seconds())})
        if outcome is EventOutcome.APPLIED and delay > LATE_EVENT_THRESHOLD:
            count("EventLate")
        _emit_alarms(fields, alarms)


# --- Decide -----------------------------------------------------------------------------------------------------------


def _outcome(changes: Changes, *, has_changes: bool) -> EventOutcome:
    if changes.unreadable:
        return EventOutcome.FAILED
    if changes.missing:
        return EventOutcome.MISSING
    return EventOutcome.APPLIED if has_changes else EventOutcome.NO_CHANGE


def _number_events(
    account_id: str, targets: EventTargets, changes: Changes, committed: datetime, catalog: Catalog
) -> tuple[Sequence[Row], Sequence[OutboundEvent]]:
    """Return the rows with the sequence of their last outbound event, and the events of the changes."""
    rows: list[Row] = []
    events: list[OutboundEvent] = []
    for row in changes.rows:
        stored = targets.rows.get(row.content.id)
        before, after = stored.content if stored else None, row.content
        event_type = outbound_event_type(before, after, catalog)
        if event_type is None:
            rows.append(row)
            continue
        sequence = row.sequence + 1
        rows.append(replace(row, sequence=sequence))
        events.append(
            OutboundEvent(
                id=event_id(committed, account_id, after.id, sequence),
                type=event_type,
                account_id=account_id,
                occurred_at=row.seen_to,
                sequence=sequence,
                object=event_object(after),
                previous=previous_values(before, after),
            )
        )
    return rows, events


# --- Alarms -----------------------------------------------------------------------------------------------------------


def _alarms(matched: AccountMatch, changes: Changes, profile: Profile) -> Mapping[str, str]:
    """Return the reasons for operator action, by alarm metric. `profile` is the profile after the event."""
    subscriptions = [row.content for row in changes.rows if isinstance(row.content, Subscription)]
    unmapped_prices = [str(each.price_id) for each in subscriptions if not each.price_is_mapped and each.live]
    multiplied_prices = [each.id for each in subscriptions if each.multiplies_flat_price]
    conflicts = [
        f"{each.id} names another account, {each.conflicting_account_id}"
        for each in subscriptions
        if each.conflicting_account_id
    ]
    live_ids = profile.live_subscription_ids
    is_one_of_several = len(live_ids) > 1 and any(row.content.id in live_ids for row in changes.rows)
    alarms = {
        "UnmappedPrice": f"not in the catalog: price {', '.join(unmapped_prices)}" if unmapped_prices else None,
        "FlatPriceMultiplied": f"a flat price with a quantity above 1: subscription {', '.join(multiplied_prices)}"
        if multiplied_prices
        else None,
        "CustomerConflict": _describe_conflict(matched, conflicts),
        "MultipleSubscriptions": f"the account has several live subscriptions: {', '.join(live_ids)}"
        if is_one_of_several
        else None,
        "ObjectMissing": "Stripe does not have an object of the event" if changes.missing else None,
        "EventFailed": changes.unreadable,
    }
    return {metric: reason for metric, reason in alarms.items() if reason}


def _describe_conflict(matched: AccountMatch, conflicts: Sequence[str]) -> str | None:
    if conflicts:
        return f"metadata of {', '.join(conflicts)}; the plan is not granted until an operator decides"
    if matched.metadata_conflicts:
        return "its metadata names another account than the one linked to its customer"
    return None


def _emit_alarms(fields: Mapping[str, str | None], alarms: Mapping[str, str]) -> None:
    for metric, reason in alarms.items():
        logger().error("Event requires operator action", extra={**fields, "reason": reason})
        count(metric)


def _re_emit_alarms(event: StripeEvent, matched: AccountMatch, context: EventContext) -> None:
    alarms = _alarms(matched, Changes([*context.rows.values()]), matched.profile)
    _emit_alarms(_log_fields(event, EventOutcome.DUPLICATE, matched.profile.account_id), alarms)


def _log_fields(event: StripeEvent, outcome: EventOutcome, account_id: str | None) -> dict[str, str | None]:
    return {"event_id": event.id, "event_type": event.type, "account_id": account_id, "outcome": outcome.value}
