"""What a run of reconciliation does next, and what counts as a difference."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.domain.accounts import Profile
from billing.stripe_events.account_matching import Match
from billing.stripe_events.drift import (
    LEASE,
    STALE,
    SWEEP_EVERY,
    Finding,
    Progress,
    Report,
    Step,
    differs,
    is_due,
)
from billing.stripe_events.event_types import Outcome, Snapshot
from billing.stripe_events.ordering import SKEW, Sighting
from tests.samples import INVOICE, NOW, SUBSCRIPTION

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(hours=1)
KNOWN: Sighting[Snapshot] = Sighting(SUBSCRIPTION, NOW, NOW, 1)
KNOWN_INVOICE: Sighting[Snapshot] = Sighting(INVOICE, NOW, NOW, 1)


# --- a run, from its start to its end ---------------------------------------------------------------------------------


def test_the_first_run_looks_at_everything() -> None:
    """Thirty days of events, which is all that Stripe has, then every subscription, every invoice, and the end."""
    began = Progress().taken_up("run", NOW)
    assert (began.since, began.step, began.after) == (NOW - timedelta(days=30), Step.EVENTS, None)
    steps = [began.step]
    progress = began
    while progress.step:
        progress = progress.turned("somewhere", NOW).turned(None, LATER)
        steps.append(progress.step)
    assert steps == [Step.EVENTS, Step.SUBSCRIPTIONS, Step.INVOICES, None]
    assert (progress.events_until, progress.swept, progress.run_id, progress.leased_until) == (NOW, NOW, None, None)


def test_an_hourly_run_looks_at_events_alone() -> None:
    """From a little before where the last one began, and nothing was swept by it."""
    last = Progress(events_until=NOW, swept=NOW)
    began = last.taken_up("run", NOW + SWEEP_EVERY - SECOND)
    assert (began.since, began.sweeps) == (NOW - timedelta(minutes=10), False)
    ended = began.turned(None, NOW + SWEEP_EVERY)
    assert (ended.step, ended.events_until, ended.swept) == (None, NOW + SWEEP_EVERY - SECOND, NOW)
    daily = ended.taken_up("next", NOW + SWEEP_EVERY)
    assert (daily.since, daily.sweeps) == (NOW + SWEEP_EVERY - timedelta(days=30), True)


def test_each_page_is_kept_and_renews_the_lease() -> None:
    """What goes on, goes on after the last page that is done."""
    later = NOW + timedelta(minutes=5)
    turned = Progress().taken_up("run", NOW).turned("evt_9", later)
    assert (turned.step, turned.after, turned.leased_until) == (Step.EVENTS, "evt_9", later + LEASE)
    assert turned.taken_up("run", later).after == "evt_9"
    assert turned.step_begun_anew().after is None


def test_a_run_belongs_to_one() -> None:
    """Until its lease is over; its own messages may always go on with it."""
    held = Progress().taken_up("run", NOW)
    assert held.is_held_by_another("other", NOW + LEASE - SECOND)
    assert not held.is_held_by_another("run", NOW)
    assert not held.is_held_by_another("other", NOW + LEASE)
    assert not Progress().is_held_by_another("other", NOW)


def test_a_run_that_never_ended_is_followed_by_a_new_one() -> None:
    """However often it was tried; what it had not looked at is looked at again, from the last run that did end."""
    stopped = replace(Progress(events_until=NOW - timedelta(days=3), swept=NOW).taken_up("run", NOW), after="evt_9")
    later = NOW + STALE
    tried = stopped.taken_up("other", later - SECOND)
    assert tried.after == "evt_9"
    anew = tried.taken_up("another", later)
    assert (anew.step, anew.after, anew.began) == (Step.EVENTS, None, later)


def test_a_run_may_take_longer_than_a_day() -> None:
    """As long as it goes on: a fleet that takes two days is compared to its end, too."""
    progress = Progress().taken_up("run", NOW)
    for hour in range(1, 49):
        now = NOW + timedelta(hours=hour)
        progress = progress.taken_up("run", now).turned(f"evt_{hour}", now)
    assert (progress.began, progress.after) == (NOW, "evt_48")


# --- what counts ------------------------------------------------------------------------------------------------------


MATCH = Match(Profile("acme"))


@pytest.mark.parametrize(
    ("recorded", "matched", "due"),
    [
        (None, MATCH, True),
        (None, Outcome.UNMATCHED, True),
        (Outcome.UNMATCHED, MATCH, True),
        (Outcome.UNMATCHED, Outcome.MISMATCHED, True),
        (Outcome.UNMATCHED, Outcome.UNMATCHED, False),
        (Outcome.MISMATCHED, MATCH, True),
        (Outcome.MISMATCHED, Outcome.UNMATCHED, True),
        (Outcome.MISMATCHED, Outcome.MISMATCHED, False),
        (Outcome.APPLIED, MATCH, False),
        (Outcome.INCLUDED, MATCH, False),
        (Outcome.IGNORED, MATCH, False),
        (Outcome.MISSING, MATCH, False),
        (Outcome.FAILED, MATCH, False),
    ],
)
def test_which_events_are_processed(recorded: Outcome | None, matched: Match | Outcome, *, due: bool) -> None:
    """Those that never came, and those that were nobody's as long as that was so. The rest alarmed somebody already."""
    assert is_due(recorded, matched) is due


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
def test_what_differs(listed: Snapshot, known: Sighting[Snapshot] | None) -> None:
    """Any fact, and a row that is not there."""
    assert differs(listed, known, LATER)


def test_a_row_that_may_be_newer_than_the_list_does_not_differ() -> None:
    """The clocks of two of Stripe's servers may differ by so much; the next sweep will see what this one leaves."""
    listed = replace(SUBSCRIPTION, status="past_due")
    assert not differs(listed, KNOWN, NOW + SKEW - SECOND)
    assert differs(listed, KNOWN, NOW + SKEW)
    assert differs(listed, replace(KNOWN, seen_to=LATER), NOW + SKEW)


def test_what_we_derive_does_not_differ() -> None:
    """Since when it is past due, and which plan an unmapped price had before, Stripe never says."""
    past_due = replace(SUBSCRIPTION, status="past_due")
    assert not differs(past_due, Sighting(replace(past_due, past_due_since=NOW), NOW, NOW, 1), LATER)
    unmapped = replace(SUBSCRIPTION, price_is_mapped=False)
    assert not differs(replace(unmapped, plan=None), Sighting(unmapped, NOW, NOW, 1), LATER)


def test_links_do_not_differ() -> None:
    """Stripe makes them anew for each answer."""
    assert not differs(replace(INVOICE, hosted_invoice_url="https://a", invoice_pdf="https://b"), KNOWN_INVOICE, LATER)


def test_a_draft_is_no_difference_until_it_was_told_of() -> None:
    """Events of drafts are not handled; one that has a row is kept right like any other."""
    draft = replace(INVOICE, status="draft")
    assert not differs(draft, None, LATER)
    assert differs(replace(draft, total=1), Sighting(draft, NOW, NOW, 1), LATER)


@pytest.mark.parametrize(
    ("step", "outcome", "is_drift"),
    [
        (Step.EVENTS, Outcome.APPLIED, True),
        (Step.EVENTS, Outcome.INCLUDED, False),
        (Step.EVENTS, Outcome.FAILED, True),
        (Step.EVENTS, Outcome.UNMATCHED, False),
        (Step.EVENTS, None, True),
        (Step.SUBSCRIPTIONS, None, True),
        (Step.INVOICES, Outcome.APPLIED, True),
        (Step.SUBSCRIPTIONS, Outcome.MISSING, True),
        (Step.SUBSCRIPTIONS, Outcome.MISMATCHED, True),
        (Step.SUBSCRIPTIONS, Outcome.INCLUDED, False),
    ],
)
def test_what_is_drift(step: Step, outcome: Outcome | None, *, is_drift: bool) -> None:
    """What was not as Stripe says; what a webhook mended meanwhile is none, nor is an event that brought nothing."""
    finding = Finding(step, "id", "acme", outcome)
    assert finding.is_drift is is_drift
    assert Report(step, NOW, ("id", "other"), 1, (finding,), None).counts == {
        "compared": 2,
        "drift": int(is_drift),
        "unmatched": 1,
    }
