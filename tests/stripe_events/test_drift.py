"""Reconciliation: the checkpoint of a run, and the comparison with Stripe."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.domain.accounts import Profile
from billing.domain.subscriptions import UNKNOWN_CHANGE, PendingChange, Subscription
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.drift import (
    EVENTS_OVERLAP,
    FULL_SYNC_INTERVAL,
    LEASE_DURATION,
    RUN_TIMEOUT,
    Checkpoint,
    Discrepancy,
    PageResult,
    Phase,
    differs,
    should_process,
)
from billing.stripe_events.event_types import EventOutcome, Snapshot
from billing.stripe_events.ordering import CLOCK_SKEW, StoredObject
from tests.samples import INVOICE, NOW, SUBSCRIPTION

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(hours=1)
STORED: StoredObject[Snapshot] = StoredObject(SUBSCRIPTION, NOW, NOW, 1)
STORED_INVOICE: StoredObject[Snapshot] = StoredObject(INVOICE, NOW, NOW, 1)


# --- Run --------------------------------------------------------------------------------------------------------------


def test_first_run_is_full_sync_of_all_phases() -> None:
    began = Checkpoint().acquire_lease("run", NOW)
    assert (began.since, began.phase, began.after) == (NOW - timedelta(days=30), Phase.EVENTS, None)
    phases = [began.phase]
    progress = began
    while progress.phase:
        progress = progress.advance_page("evt_1", NOW).advance_page(None, LATER)
        phases.append(progress.phase)
    assert phases == [Phase.EVENTS, Phase.SUBSCRIPTIONS, Phase.INVOICES, None]
    assert (progress.events_until, progress.full_sync_at, progress.run_id, progress.leased_until) == (
        NOW,
        NOW,
        None,
        None,
    )


def test_run_between_full_syncs_reads_events_only() -> None:
    last = Checkpoint(events_until=NOW, full_sync_at=NOW)
    began = last.acquire_lease("run", NOW + FULL_SYNC_INTERVAL - SECOND)
    assert (began.since, began.full_sync) == (NOW - EVENTS_OVERLAP, False)
    ended = began.advance_page(None, NOW + FULL_SYNC_INTERVAL)
    assert (ended.phase, ended.events_until, ended.full_sync_at) == (None, NOW + FULL_SYNC_INTERVAL - SECOND, NOW)
    daily = ended.acquire_lease("next", NOW + FULL_SYNC_INTERVAL)
    assert (daily.since, daily.full_sync) == (NOW + FULL_SYNC_INTERVAL - timedelta(days=30), True)


def test_finished_page_is_stored_and_renews_lease() -> None:
    later = NOW + timedelta(minutes=5)
    advanced = Checkpoint().acquire_lease("run", NOW).advance_page("evt_9", later)
    assert (advanced.phase, advanced.after, advanced.leased_until) == (Phase.EVENTS, "evt_9", later + LEASE_DURATION)
    assert advanced.acquire_lease("run", later).after == "evt_9"
    assert advanced.restart_phase().after is None


def test_lease_excludes_other_runs_until_it_ends() -> None:
    held = Checkpoint().acquire_lease("run", NOW)
    assert held.is_held_by_another("other", NOW + LEASE_DURATION - SECOND)
    assert not held.is_held_by_another("run", NOW)
    assert not held.is_held_by_another("other", NOW + LEASE_DURATION)
    assert not Checkpoint().is_held_by_another("other", NOW)


def test_run_without_page_for_timeout_is_replaced() -> None:
    """Attempts to resume the run do not extend the timeout. Only a finished page does."""
    stopped = replace(
        Checkpoint(events_until=NOW - timedelta(days=3), full_sync_at=NOW).acquire_lease("run", NOW), after="evt_9"
    )
    later = NOW + RUN_TIMEOUT
    resumed = stopped.acquire_lease("other", later - SECOND)
    assert resumed.after == "evt_9"
    replaced = resumed.acquire_lease("another", later)
    assert (replaced.phase, replaced.after, replaced.began) == (Phase.EVENTS, None, later)


def test_run_with_finished_pages_may_take_longer_than_timeout() -> None:
    progress = Checkpoint().acquire_lease("run", NOW)
    for hour in range(1, 49):
        now = NOW + timedelta(hours=hour)
        progress = progress.acquire_lease("run", now).advance_page(f"evt_{hour}", now)
    assert (progress.began, progress.after) == (NOW, "evt_48")


# --- Comparison -------------------------------------------------------------------------------------------------------


MATCH = AccountMatch(Profile("acme"))


@pytest.mark.parametrize(
    ("recorded", "matched", "due"),
    [
        (None, MATCH, True),
        (None, EventOutcome.UNKNOWN_CUSTOMER, True),
        (EventOutcome.UNKNOWN_CUSTOMER, MATCH, True),
        (EventOutcome.UNKNOWN_CUSTOMER, EventOutcome.CUSTOMER_CONFLICT, True),
        (EventOutcome.UNKNOWN_CUSTOMER, EventOutcome.UNKNOWN_CUSTOMER, False),
        (EventOutcome.CUSTOMER_CONFLICT, MATCH, True),
        (EventOutcome.CUSTOMER_CONFLICT, EventOutcome.UNKNOWN_CUSTOMER, True),
        (EventOutcome.CUSTOMER_CONFLICT, EventOutcome.CUSTOMER_CONFLICT, False),
        (EventOutcome.APPLIED, MATCH, False),
        (EventOutcome.NO_CHANGE, MATCH, False),
        (EventOutcome.IGNORED, MATCH, False),
        (EventOutcome.MISSING, MATCH, False),
        (EventOutcome.FAILED, MATCH, False),
    ],
)
def test_should_process_new_events_and_unassigned_ones_with_other_match(
    recorded: EventOutcome | None, matched: AccountMatch | EventOutcome, *, due: bool
) -> None:
    assert should_process(recorded, matched) is due


def test_row_equal_to_listed_object_does_not_differ() -> None:
    for at in (NOW - timedelta(days=1), NOW, NOW + timedelta(days=1)):
        assert not differs(SUBSCRIPTION, STORED, at)
        assert not differs(INVOICE, STORED_INVOICE, at)


@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        (replace(SUBSCRIPTION, status="canceled"), STORED),
        (replace(SUBSCRIPTION, quantity=2), STORED),
        (replace(INVOICE, status="void"), STORED_INVOICE),
        (SUBSCRIPTION, None),
        (INVOICE, None),
    ],
)
def test_row_with_other_field_or_without_row_differs(listed: Snapshot, stored: StoredObject[Snapshot] | None) -> None:
    assert differs(listed, stored, LATER)


def test_row_within_clock_skew_of_list_does_not_differ() -> None:
    """The next full sync repairs such a row, if an event does not."""
    listed = replace(SUBSCRIPTION, status="past_due")
    assert not differs(listed, STORED, NOW + CLOCK_SKEW - SECOND)
    assert differs(listed, STORED, NOW + CLOCK_SKEW)
    assert differs(listed, replace(STORED, seen_to=LATER), NOW + CLOCK_SKEW)


def test_row_with_derived_fields_does_not_differ() -> None:
    past_due = replace(SUBSCRIPTION, status="past_due")
    assert not differs(past_due, StoredObject(replace(past_due, past_due_since=NOW), NOW, NOW, 1), LATER)
    unmapped = replace(SUBSCRIPTION, price_is_mapped=False)
    assert not differs(replace(unmapped, plan=None), StoredObject(unmapped, NOW, NOW, 1), LATER)


SCHEDULED = replace(SUBSCRIPTION, schedule_id="sub_sched_1", pending_change=PendingChange("team", "price_2", 1, LATER))
STORED_SCHEDULE: StoredObject[Snapshot] = StoredObject(SCHEDULED, NOW, NOW, 1)


def test_row_with_the_listed_pending_change_does_not_differ() -> None:
    """A list contains the id of the price, not its lookup key."""
    assert SCHEDULED.pending_change
    listed = replace(SCHEDULED, pending_change=replace(SCHEDULED.pending_change, plan=None))
    assert not differs(listed, STORED_SCHEDULE, LATER)
    assert not differs(replace(SCHEDULED, pending_change=UNKNOWN_CHANGE), STORED_SCHEDULE, LATER)


@pytest.mark.parametrize(
    "listed",
    [
        SUBSCRIPTION,
        replace(SCHEDULED, schedule_id="sub_sched_2", pending_change=UNKNOWN_CHANGE),
        replace(SCHEDULED, pending_change=PendingChange(None, "price_2", 2, LATER)),
        replace(SCHEDULED, pending_change=PendingChange(None, "price_3", 1, LATER)),
        replace(SCHEDULED, pending_change=PendingChange(None, "price_2", 1, LATER + SECOND)),
        replace(SCHEDULED, pending_change=None),
    ],
)
def test_row_with_another_pending_change_differs(listed: Subscription) -> None:
    assert differs(listed, STORED_SCHEDULE, LATER)


def test_row_with_other_invoice_links_does_not_differ() -> None:
    assert not differs(replace(INVOICE, hosted_invoice_url="https://a", invoice_pdf="https://b"), STORED_INVOICE, LATER)


def test_draft_differs_only_if_it_has_row() -> None:
    draft = replace(INVOICE, status="draft")
    assert not differs(draft, None, LATER)
    assert differs(replace(draft, total=1), StoredObject(draft, NOW, NOW, 1), LATER)


@pytest.mark.parametrize(
    ("phase", "outcome", "is_drift"),
    [
        (Phase.EVENTS, EventOutcome.APPLIED, True),
        (Phase.EVENTS, EventOutcome.NO_CHANGE, False),
        (Phase.EVENTS, EventOutcome.FAILED, True),
        (Phase.EVENTS, EventOutcome.UNKNOWN_CUSTOMER, False),
        (Phase.EVENTS, None, True),
        (Phase.SUBSCRIPTIONS, None, True),
        (Phase.INVOICES, EventOutcome.APPLIED, True),
        (Phase.SUBSCRIPTIONS, EventOutcome.MISSING, True),
        (Phase.SUBSCRIPTIONS, EventOutcome.CUSTOMER_CONFLICT, True),
        (Phase.SUBSCRIPTIONS, EventOutcome.NO_CHANGE, False),
    ],
)
def test_discrepancy_is_drift_if_table_was_not_in_stripes_state(
    phase: Phase, outcome: EventOutcome | None, *, is_drift: bool
) -> None:
    """A row that a webhook corrected in the meantime is not drift."""
    discrepancy = Discrepancy(phase, "id", "acme", outcome)
    assert discrepancy.is_drift is is_drift
    assert PageResult(phase, NOW, ("id", "other"), 1, (discrepancy,), None).counts == {
        "compared": 2,
        "drift": int(is_drift),
        "unknown_customer": 1,
    }
