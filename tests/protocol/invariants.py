"""Invariants of the protocol, as listed in docs/explanation/verification.md.

Each invariant is a function that yields a description of every violation.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from billing.domain.invoices import Invoice
from billing.domain.outbound_events import event_object
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import EventOutcome, Snapshot
from billing.stripe_events.ordering import MAX_SNAPSHOT_AGE, StoredObject
from tests.protocol.stripe_model import describe, second, stripe_fields
from tests.protocol.table_model import ACCOUNT_ID, OutboxItem
from tests.protocol.transition_system import FUNCTION_SECONDS_MAX, SystemState

type Row = StoredObject[Snapshot]
type Violations = Iterator[str]


def _timestamp_error(state: SystemState) -> float:
    """Return the greatest error of a timestamp: the clock's, and the fraction of a second that is dropped."""
    return state.scenario.clock_error + 1


# --- After each commit: the row before, the row after, and the state after --------------------------------------------


def content_was_stripes_state(_before: Row | None, row: Row, state: SystemState) -> Violations:
    """The content of a row was Stripe's state at some time, so it grants nothing that Stripe did not."""
    if not state.stripe.indexes(row.content):
        yield f"Stripe never had: {describe(row)}"


def content_never_goes_back(before: Row | None, row: Row, state: SystemState) -> Violations:
    """A commit never replaces newer content by older content."""
    indexes = state.stripe.indexes(row.content)
    if before and indexes and max(indexes) < min(state.stripe.indexes(before.content)):
        yield f"{describe(before)} is newer than {describe(row)}"


def interval_only_moves_forward(before: Row | None, row: Row, _state: SystemState) -> Violations:
    """Neither end of the interval moves back, and each write increments the version by one."""
    if row.seen_from > row.seen_to:
        yield f"ends before it begins: {describe(row)}"
    if before and (row.seen_from < before.seen_from or row.seen_to < before.seen_to):
        yield f"{describe(before)} became {describe(row)}"
    if row.version != (before.version if before else 0) + 1:
        yield f"not the next version: {describe(row)}"


def content_was_current_in_interval(_before: Row | None, row: Row, state: SystemState) -> Violations:
    """The content was Stripe's state within the interval, as far as clocks can show."""
    begin = row.seen_from.timestamp() - _timestamp_error(state)
    end = row.seen_to.timestamp() + _timestamp_error(state)
    states = state.stripe.states[row.content.id]
    spans = [
        (states[index].since, state.stripe.end_of_state(row.content.id, index))
        for index in state.stripe.indexes(row.content)
    ]
    if spans and not any(since <= end and begin <= until for since, until in spans):
        yield f"not Stripe's state at that time: {describe(row)}"


def grace_period_never_begins_early(_before: Row | None, row: Row, state: SystemState) -> Violations:
    """No grace period begins before Stripe's subscription was `past_due`, as far as clocks can show."""
    since = row.content.past_due_since if isinstance(row.content, Subscription) else None
    past_due = [
        each.since
        for each in state.stripe.states[row.content.id]
        if isinstance(each.content, Subscription) and each.content.status == "past_due"
    ]
    if since and not any(begin - _timestamp_error(state) <= since.timestamp() for begin in past_due):
        yield f"past due since {second(since.timestamp())}: {describe(row)}"


def conflict_is_stored(_before: Row | None, row: Row, state: SystemState) -> Violations:
    """A subscription that names an account without a customer grants no plan until an operator decides."""
    content, profiles = row.content, state.table.profiles
    named = profiles.get(state.stripe.account_id(content.id) or "")
    if not isinstance(content, Subscription) or content.has_ended or named is None or named.customer_id:
        return
    owner = profiles[ACCOUNT_ID]
    is_decided = named == owner or content.customer_id in owner.confirmed_customers
    if not is_decided and content.conflicting_account_id != named.account_id:
        yield f"grants its plan although it names {named.account_id}: {describe(row)}"


def new_content_is_recent(before: Row | None, row: Row, state: SystemState) -> Violations:
    """New content had not ended more than ten minutes before its commit, as far as the worker's clock can show."""
    stripe, slowest = state.stripe, min(state.scenario.worker_offsets)
    age_max = MAX_SNAPSHOT_AGE.total_seconds() + FUNCTION_SECONDS_MAX - min(slowest, 0)
    ended = max((stripe.end_of_state(row.content.id, index) for index in stripe.indexes(row.content)), default=0)
    is_new = before is None or stripe_fields(before.content) != stripe_fields(row.content)
    if is_new and ended < stripe.time - age_max:
        yield f"ended {stripe.time - ended:g} seconds ago: {describe(row)}"


# --- After each commit: the states before and after -------------------------------------------------------------------


def final_outcome_never_changes(before: SystemState, after: SystemState) -> Violations:
    """A final outcome, which an operator may have read, never changes."""
    for event_id, outcome in before.table.markers.items():
        if outcome.is_final and after.table.markers[event_id] is not outcome:
            yield f"{event_id} was {outcome}, is {after.table.markers[event_id]}"


# --- In each state of the table ---------------------------------------------------------------------------------------


def final_marker_implies_effect(state: SystemState) -> Violations:
    """An event with a final outcome is included in every row that it is about, unless the customer was unlinked.

    A row that has ended includes the deletion of its object.
    """
    if _is_customer_unlinked(state):
        return
    for event in state.stripe.events:
        outcome = state.table.markers.get(event.id)
        if outcome is None or not outcome.is_final:
            continue
        for object_id, index in event.object_states:
            row = state.table.rows.get(object_id)
            if row is not None and row.content.has_ended and not state.stripe.states[object_id][index].content:
                continue
            if row is None or max(state.stripe.indexes(row.content), default=index) < index:
                yield f"{event.id} is {outcome}, and the row is {describe(row)}"


def final_marker_of_schedule_implies_pending_change(state: SystemState) -> Violations:
    """A schedule's event with a final outcome is included in the pending change of its subscription."""
    for event in state.stripe.events:
        outcome = state.table.markers.get(event.id)
        if not event.type.startswith("subscription_schedule.") or outcome is None or not outcome.is_final:
            continue
        for object_id, index in event.object_states:
            row, later = state.table.rows.get(object_id), state.stripe.states[object_id][index:]
            change = row.content.pending_change if row and isinstance(row.content, Subscription) else None
            if all(isinstance(each.content, Subscription) and each.content.pending_change != change for each in later):
                yield f"{event.id} is {outcome}, and the row is {describe(row)}"


def outbox_contains_each_difference_once(state: SystemState) -> Violations:
    """The outbox, read in the order of its sequences, contains the content of the rows, and nothing twice."""
    ids = Counter(item.id for item in state.table.outbox)
    yield from (f"two outbox items have the id {key}" for key, count in ids.items() if count > 1)
    outbox = sorted(state.table.outbox, key=lambda item: item.sequence)
    for row in state.table.rows.values():
        items = [item for item in outbox if item.subject == row.content.id]
        if any(first.content == second.content for first, second in pairwise(items)):
            yield f"two equal outbox items of {describe(row)}"
        if not _has_required_types(row.content, Counter(item.type for item in items)) or _is_outdated(
            row.content, items
        ):
            yield f"outbox items {', '.join(item.type for item in items) or 'none'} of {describe(row)}"


def outbox_sequences_have_no_gap(state: SystemState) -> Violations:
    """The events of an object are numbered 1, 2, 3, …, and their times never decrease.

    If an operator unlinks the customer, its rows are deleted, and the numbers begin again.
    """
    if _is_customer_unlinked(state):
        return
    for subject in {item.subject for item in state.table.outbox}:
        items = sorted((item for item in state.table.outbox if item.subject == subject), key=lambda item: item.sequence)
        if [item.sequence for item in items] != [*range(1, len(items) + 1)]:
            yield f"the sequences of {subject} are {', '.join(str(item.sequence) for item in items)}"
        if any(first.second > second.second for first, second in pairwise(items)):
            yield f"the times of {subject} are {', '.join(str(item.second) for item in items)}"


def _has_required_types(content: Snapshot, types: Counter[str]) -> bool:
    """Return True if the event types fit the object.

    - A paid invoice has one `invoice.paid`.
    - A subscription that was seen before its end has one `subscription.created`, and after its end one
      `subscription.canceled`.
    - A subscription of another product has none.
    """
    if isinstance(content, Invoice):
        return types["invoice.paid"] == (content.status == "paid")
    if content.plan is None:
        return not types
    created = types["subscription.created"]
    requires_created = content.has_started and not content.has_ended
    return requires_created <= created <= 1 and types["subscription.canceled"] == (created and content.has_ended)


def _is_outdated(content: Snapshot, items: Sequence[OutboxItem]) -> bool:
    has_not_ended = isinstance(content, Subscription) and not content.has_ended
    return has_not_ended and bool(items) and items[-1].content != repr(event_object(content))


def _is_customer_unlinked(state: SystemState) -> bool:
    profile = state.table.profiles.get(ACCOUNT_ID)
    return profile is not None and bool(profile.unlinked_customers)


# --- In each final state ----------------------------------------------------------------------------------------------


def final_rows_equal_stripe(state: SystemState) -> Violations:
    """Every row equals Stripe's object, or has ended if the object had ended before Stripe deleted it.

    If an operator unlinked the customer, there are no rows.
    """
    if _is_customer_unlinked(state):
        yield from (f"the customer was unlinked, the row is {describe(row)}" for row in state.table.rows.values())
        return
    for object_id, (*states, last) in state.stripe.states.items():
        row = state.table.rows.get(object_id)
        deleted = states[-1].content if states else None
        if last.content and (row is None or stripe_fields(row.content) != last.content):
            yield f"the row is {describe(row)}, Stripe has {describe(last.content)}"
        elif not last.content and deleted and deleted.has_ended and (row is None or not row.content.has_ended):
            yield f"the row is {describe(row)}, the last state in Stripe was {describe(deleted)}"


def every_event_has_final_outcome(state: SystemState) -> Violations:
    """Every event has a final outcome, or `missing` if Stripe deleted an object, or its customer was unlinked."""
    has_deleted_object = any(states[-1].content is None for states in state.stripe.states.values())
    for event in state.stripe.events:
        outcome = state.table.markers.get(event.id)
        is_unassigned = outcome is EventOutcome.UNKNOWN_CUSTOMER and _is_customer_unlinked(state)
        is_missing = outcome is EventOutcome.MISSING and has_deleted_object
        if outcome is None or not (outcome.is_final or is_missing or is_unassigned):
            yield f"{event.id} is {outcome}"


def final_profile_equals_stripe(state: SystemState) -> Violations:
    """The profile has Stripe's customer, a used trial if there was one, and no ended Checkout Session."""
    profile = state.table.profiles[ACCOUNT_ID]
    customer = None if _is_customer_unlinked(state) else next(iter(state.stripe.customers), None)
    if profile.customer_id != customer:
        yield f"the customer of the profile is {profile.customer_id}, Stripe has {customer}"
    contents = [row.content for row in state.table.rows.values()]
    live_ids = tuple(sorted(each.id for each in contents if isinstance(each, Subscription) and each.live))
    if profile.live_subscription_ids != live_ids:
        yield f"the live subscriptions are {live_ids}, the profile has {profile.live_subscription_ids}"
    if not profile.trial_used and any(isinstance(each, Subscription) and each.trial_end for each in contents):
        yield "the trial of the profile is not used"
    ended = {event.source["id"] for event in state.stripe.events if event.type.startswith("checkout.session.")}
    if profile.open_checkout and profile.open_checkout.session_id in ended:
        yield "the open checkout of the profile has ended"


# ----------------------------------------------------------------------------------------------------------------------

ROW_INVARIANTS = (
    content_was_stripes_state,
    content_never_goes_back,
    interval_only_moves_forward,
    content_was_current_in_interval,
    grace_period_never_begins_early,
    conflict_is_stored,
    new_content_is_recent,
)
TABLE_INVARIANTS = (
    final_marker_implies_effect,
    final_marker_of_schedule_implies_pending_change,
    outbox_contains_each_difference_once,
    outbox_sequences_have_no_gap,
)
FINAL_INVARIANTS = (final_rows_equal_stripe, every_event_has_final_outcome, final_profile_equals_stripe)


def violations(before: SystemState, after: SystemState) -> list[tuple[str, str]]:
    """Return the violations after a transition, each with the name of the invariant and a description."""
    found: list[tuple[Callable[..., Violations], Violations]] = []
    if after.table is not before.table:
        found.append((final_outcome_never_changes, final_outcome_never_changes(before, after)))
        rows = before.table.rows
        for key, row in after.table.rows.items():
            if row is not rows.get(key):
                found += [(invariant, invariant(rows.get(key), row, after)) for invariant in ROW_INVARIANTS]
        found += [(invariant, invariant(after)) for invariant in TABLE_INVARIANTS]
    if after.is_final:
        found += [(invariant, invariant(after)) for invariant in FINAL_INVARIANTS]
    return [(invariant.__name__, violation) for invariant, yielded in found for violation in yielded]
