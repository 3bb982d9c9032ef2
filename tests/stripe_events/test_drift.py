"""What a run of reconciliation does next, and what counts as a difference."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.domain.accounts import Profile
from billing.stripe_events.account_matching import AccountMatch
from billing.stripe_events.drift import (
    FULL_SYNC_INTERVAL,
    LEASE,
    STALE,
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
KNOWN: StoredObject[Snapshot] = StoredObject(SUBSCRIPTION, NOW, NOW, 1)
KNOWN_INVOICE: StoredObject[Snapshot] = StoredObject(INVOICE, NOW, NOW, 1)


# --- a run, from its start to its end ---------------------------------------------------------------------------------


def test_the_first_run_looks_at_everything() -> None:
    """Thirty days of events, which is all that Stripe has, then every subscription, every invoice, and the end."""
    began = Checkpoint().acquire_lease("run", NOW)
    assert (began.since, began.phase, began.after) == (NOW - timedelta(days=30), Phase.EVENTS, None)
    steps = [began.phase]
    progress = began
    while progress.phase:
        progress = progress.advance_page("somewhere", NOW).advance_page(None, LATER)
        steps.append(progress.phase)
    assert steps == [Phase.EVENTS, Phase.SUBSCRIPTIONS, Phase.INVOICES, None]
    assert (progress.events_until, progress.full_sync_at, progress.run_id, progress.leased_until) == (
        NOW,
        NOW,
        None,
        None,
    )


def test_an_hourly_run_looks_at_events_alone() -> None:
    """From a little before where the last one began, and nothing was full_sync_at by it."""
    last = Checkpoint(events_until=NOW, full_sync_at=NOW)
    began = last.acquire_lease("run", NOW + FULL_SYNC_INTERVAL - SECOND)
    assert (began.since, began.full_sync) == (NOW - timedelta(minutes=10), False)
    ended = began.advance_page(None, NOW + FULL_SYNC_INTERVAL)
    assert (ended.phase, ended.events_until, ended.full_sync_at) == (None, NOW + FULL_SYNC_INTERVAL - SECOND, NOW)
    daily = ended.acquire_lease("next", NOW + FULL_SYNC_INTERVAL)
    assert (daily.since, daily.full_sync) == (NOW + FULL_SYNC_INTERVAL - timedelta(days=30), True)


def test_each_page_is_kept_and_renews_the_lease() -> None:
    """What goes on, goes on after the last page that is done."""
    later = NOW + timedelta(minutes=5)
    advance_page = Checkpoint().acquire_lease("run", NOW).advance_page("evt_9", later)
    assert (advance_page.phase, advance_page.after, advance_page.leased_until) == (Phase.EVENTS, "evt_9", later + LEASE)
    assert advance_page.acquire_lease("run", later).after == "evt_9"
    assert advance_page.restart_phase().after is None


def test_a_run_belongs_to_one() -> None:
    """Until its lease is over; its own messages may always go on with it."""
    held = Checkpoint().acquire_lease("run", NOW)
    assert held.is_held_by_another("other", NOW + LEASE - SECOND)
    assert not held.is_held_by_another("run", NOW)
    assert not held.is_held_by_another("other", NOW + LEASE)
    assert not Checkpoint().is_held_by_another("other", NOW)


def test_a_run_that_never_ended_is_followed_by_a_new_one() -> None:
    """However often it was tried; what it had not looked at is looked at again, from the last run that did end."""
    stopped = replace(
        Checkpoint(events_until=NOW - timedelta(days=3), full_sync_at=NOW).acquire_lease("run", NOW), after="evt_9"
    )
    later = NOW + STALE
    tried = stopped.acquire_lease("other", later - SECOND)
    assert tried.after == "evt_9"
    anew = tried.acquire_lease("another", later)
    assert (anew.phase, anew.after, anew.began) == (Phase.EVENTS, None, later)


def test_a_run_may_take_longer_than_a_day() -> None:
    """As long as it goes on: a fleet that takes two days is compared to its end, too."""
    progress = Checkpoint().acquire_lease("run", NOW)
    for hour in range(1, 49):
        now = NOW + timedelta(hours=hour)
        progress = progress.acquire_lease("run", now).advance_page(f"evt_{hour}", now)
    assert (progress.began, progress.after) == (NOW, "evt_48")


# --- what counts ------------------------------------------------------------------------------------------------------


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
def test_which_events_are_processed(
    recorded: EventOutcome | None, matched: AccountMatch | EventOutcome, *, due: bool
) -> None:
    """Those that never came, and those that were nobody's as long as that was so. The rest alarmed somebody already."""
    assert should_process(recorded, matched) is due


def test_a_row_that_is_as_listed_does_not_differ() -> None:
    """Whenever it was listed."""
    for at in (NOW - timedelta(days=1), NOW, NOW + timedelta(days=1)):
        assert not differs(SUBSCRIPTION, KNOWN, at)
        assert not differs(INVOICE, KNOWN_INVOICE, at)


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        (replace(SUBSCRIPTION, status="canceled"), KNOWN),
        (replace(SUBSCRIPTION, quantity=2), KNOWN),
        (replace(INVOICE, status="void"), KNOWN_INVOICE),
        (SUBSCRIPTION, None),
        (INVOICE, None),
    ],
)
def test_what_differs(listed: Snapshot, known: StoredObject[Snapshot] | None) -> None:
    """Any fact, and a row that is not there."""
    assert differs(listed, known, LATER)


def test_a_row_that_may_be_newer_than_the_list_does_not_differ() -> None:
    """The clocks of two of Stripe's servers may differ by so much; the next sweep will see what this one leaves."""
    listed = replace(SUBSCRIPTION, status="past_due")
    assert not differs(listed, KNOWN, NOW + CLOCK_SKEW - SECOND)
    assert differs(listed, KNOWN, NOW + CLOCK_SKEW)
    assert differs(listed, replace(KNOWN, seen_to=LATER), NOW + CLOCK_SKEW)


def test_what_we_derive_does_not_differ() -> None:
    """Since when it is past due, and which plan an unmapped price had before, Stripe never says."""
    past_due = replace(SUBSCRIPTION, status="past_due")
    assert not differs(past_due, StoredObject(replace(past_due, past_due_since=NOW), NOW, NOW, 1), LATER)
    unmapped = replace(SUBSCRIPTION, price_is_mapped=False)
    assert not differs(replace(unmapped, plan=None), StoredObject(unmapped, NOW, NOW, 1), LATER)


def test_links_do_not_differ() -> None:
    """Stripe makes them anew for each answer."""
    assert not differs(replace(INVOICE, hosted_invoice_url="https://a", invoice_pdf="https://b"), KNOWN_INVOICE, LATER)


def test_a_draft_is_no_difference_until_it_was_told_of() -> None:
    """Events of drafts are not handled; one that has a row is kept right like any other."""
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
def test_what_is_drift(phase: Phase, outcome: EventOutcome | None, *, is_drift: bool) -> None:
    """What was not as Stripe says; what a webhook mended meanwhile is none, nor is an event that brought nothing."""
    discrepancy = Discrepancy(phase, "id", "acme", outcome)
    assert discrepancy.is_drift is is_drift
    assert PageResult(phase, NOW, ("id", "other"), 1, (discrepancy,), None).counts == {
        "compared": 2,
        "drift": int(is_drift),
        "unknown_customer": 1,
    }
