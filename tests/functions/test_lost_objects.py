"""Events whose object Stripe no longer has, or returns in an unreadable form."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.adapters.repository import Commit, EventAlreadyProcessed, Repository
from billing.catalog import load_catalog
from billing.domain.accounts import OpenCheckout
from billing.domain.errors import EventUnprocessable
from billing.domain.subscriptions import AccessPolicy, Subscription
from billing.services.event_processor import EventProcessor, Fetch
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef, ParsedEvent, parse_envelope
from billing.stripe_events.objects import parse_subscription
from tests.functions.events import METADATA, event, invoice, subscription, subscription_event
from tests.functions.support import FunctionHarness, event_marker, outbox_types, stored_items
from tests.samples import DEPLOYMENT

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC).replace(microsecond=0)
POLICY = AccessPolicy(timedelta(days=7))


def processor(deployment: FunctionHarness, fetch: Fetch = lambda _: None, now: datetime = NOW) -> EventProcessor:
    """Return the event processor at a time, with a Stripe that has no objects by default."""
    return EventProcessor(deployment.repository, load_catalog(), fetch, DEPLOYMENT, now=lambda: now)


def deleted_event(created: datetime) -> dict[str, Any]:
    """Return the deletion event of sub_1."""
    at = int(created.timestamp())
    ended = subscription(status="canceled", canceled_at=at, ended_at=at)
    return event("customer.subscription.deleted", ended, created=created)


def checkout_session(subscription_id: str) -> dict[str, Any]:
    """Return a paid Checkout Session of acme."""
    return {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "subscription",
        "customer": "cus_acme",
        "subscription": subscription_id,
        "metadata": METADATA,
    }


def only_subscription(deployment: FunctionHarness) -> Subscription:
    """Return acme's only subscription."""
    [found] = deployment.repository.load_account("acme").subscriptions
    return found


@pytest.mark.parametrize("delay", [timedelta(minutes=11), timedelta(days=3)], ids=["11 minutes", "3 days"])
def test_late_deletion_of_a_missing_subscription_is_applied(deployment: FunctionHarness, delay: timedelta) -> None:
    """No status follows `canceled`, so the snapshot needs no confirmation by Stripe."""
    processor(deployment).process(subscription_event(created=NOW))
    sent = deleted_event(NOW + timedelta(seconds=100))
    assert processor(deployment, now=NOW + delay).process(sent) is EventOutcome.APPLIED
    assert (only_subscription(deployment).status, only_subscription(deployment).has_ended) == ("canceled", True)
    assert outbox_types(deployment) == ["subscription.canceled", "subscription.created"]
    expiries = [int(each["expires_at"]["N"]) for each in stored_items(deployment) if each["sk"]["S"].startswith("OUT#")]
    assert min(expiries) >= int(NOW.timestamp()) + 35 * 86_400
    assert max(expiries) == int((NOW + delay).timestamp()) + 35 * 86_400


def test_late_update_of_a_missing_subscription_is_recorded_as_missing(deployment: FunctionHarness) -> None:
    """Later events may have superseded the snapshot, so the row stays."""
    processor(deployment).process(subscription_event(created=NOW))
    sent = subscription_event(created=NOW + timedelta(seconds=100), lookup_key="team_monthly")
    later = NOW + timedelta(minutes=20)
    assert processor(deployment, now=later).process(sent) is EventOutcome.MISSING
    assert only_subscription(deployment).plan == "pro"


def test_customer_deleted_event_ends_a_missing_subscription(deployment: FunctionHarness) -> None:
    """Stripe cancels the subscriptions of a deleted customer. The account is on free and can subscribe again."""
    processor(deployment).process(subscription_event(created=NOW))
    later = NOW + timedelta(seconds=60)
    sent = event("customer.deleted", {"id": "cus_acme", "object": "customer"}, created=later)
    assert processor(deployment, now=later).process(sent) is EventOutcome.APPLIED
    ended = only_subscription(deployment)
    assert (ended.status, ended.ended_at) == ("canceled", later)
    assert deployment.repository.load_account("acme").profile.customer_id is None
    assert not ended.live
    assert outbox_types(deployment) == ["subscription.canceled", "subscription.created"]
    assert processor(deployment).process(sent) is EventOutcome.DUPLICATE


def test_repair_after_the_deletion_event_changes_nothing(deployment: FunctionHarness) -> None:
    """The deletion event arrives after an operator has found the subscription missing in Stripe."""
    processor(deployment).process(subscription_event(created=NOW))
    processor(deployment).process(deleted_event(NOW + timedelta(seconds=50)))
    parsed = ParsedEvent("cus_acme", "acme", (ObjectRef(Subscription, "sub_1"),), ended_if_missing=True)
    repair = parse_envelope(event("reconciliation.subscriptions", {}, created=NOW + timedelta(seconds=60)))
    assert processor(deployment).apply(repair, parsed) is EventOutcome.NO_CHANGE
    assert only_subscription(deployment).ended_at == NOW + timedelta(seconds=50)


def test_customer_deleted_event_from_the_future_ends_its_missing_subscription_now(deployment: FunctionHarness) -> None:
    processor(deployment).process(subscription_event(created=NOW))
    sent = event("customer.deleted", {"id": "cus_acme", "object": "customer"}, created=NOW + timedelta(minutes=9))
    assert processor(deployment).process(sent) is EventOutcome.APPLIED
    assert only_subscription(deployment).ended_at == NOW


@pytest.mark.parametrize("ahead", [timedelta(seconds=30), timedelta(minutes=9)])
def test_end_after_an_event_that_was_stamped_ahead_is_applied(deployment: FunctionHarness, ahead: timedelta) -> None:
    """The first event is not believed. The end is applied although the table may already show a later time."""
    shown = parse_subscription(subscription(lookup_key="team_monthly"), load_catalog())
    fetch: Fetch = lambda _: FetchedObject(shown, NOW + ahead, NOW + ahead)  # noqa: E731
    sent = subscription_event(created=NOW + ahead, lookup_key="team_monthly")
    assert processor(deployment, fetch).process(sent) is EventOutcome.APPLIED
    assert only_subscription(deployment).plan == "team"
    assert processor(deployment, now=NOW + timedelta(seconds=20)).process(deleted_event(NOW)) is EventOutcome.APPLIED
    assert only_subscription(deployment).status == "canceled"


@pytest.mark.parametrize(
    ("dated", "stamped"),
    [(-9, 0), (9, 0), (0, -9), (0, 9), (9, -1)],
    ids=["response behind", "response ahead", "event behind", "event ahead", "both"],
)
def test_change_after_a_fetch_is_stored_although_a_clock_is_wrong(
    deployment: FunctionHarness, dated: int, stamped: int
) -> None:
    """The times are minutes by which the response of the fetch or the timestamp of the change is ahead."""
    pro, team = (
        parse_subscription(subscription(lookup_key=key), load_catalog()) for key in ("pro_monthly", "team_monthly")
    )
    date, later = NOW + timedelta(minutes=dated), NOW + timedelta(seconds=20)
    sent = event("invoice.payment_failed", invoice(status="open"), created=NOW)
    assert processor(deployment, lambda _: FetchedObject(pro, date, date)).process(sent) is EventOutcome.APPLIED
    changed = subscription_event(created=later + timedelta(minutes=stamped), lookup_key="team_monthly")
    fetch: Fetch = lambda _: FetchedObject(team, later, later)  # noqa: E731
    assert processor(deployment, fetch, later).process(changed) is EventOutcome.APPLIED
    assert only_subscription(deployment).plan == "team"


@pytest.mark.parametrize("outcome", [EventOutcome.FAILED, EventOutcome.MISSING])
def test_checkout_completed_without_a_readable_subscription_keeps_the_session_open(
    deployment: FunctionHarness, outcome: EventOutcome
) -> None:
    """The session is paid. Until its subscription is known, a second session must not be paid."""
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, open_checkout=OpenCheckout("cs_1", "fingerprint")))

    def fetch(_: ObjectRef) -> FetchedObject | None:
        if outcome is EventOutcome.FAILED:
            raise EventUnprocessable("items.data is not a list")
        return None

    sent = event("checkout.session.completed", checkout_session("sub_1"), created=NOW)
    assert processor(deployment, fetch).process(sent) is outcome
    assert deployment.repository.load_account("acme").profile.open_checkout is not None
    found = parse_subscription(subscription(), load_catalog())
    assert processor(deployment, lambda _: FetchedObject(found, NOW, NOW)).process(sent) is EventOutcome.APPLIED
    assert deployment.repository.load_account("acme").profile.open_checkout is None


def test_past_due_event_from_the_future_starts_the_grace_period_at_the_fetch(deployment: FunctionHarness) -> None:
    """Neither an event with `created` in the year 9999 nor a `Date` ahead of our clock extends the grace period."""
    shown = parse_subscription(subscription(status="past_due"), load_catalog())
    future = datetime(9999, 12, 31, tzinfo=UTC)
    sent = subscription_event(created=future, status="past_due")
    dated = NOW + timedelta(minutes=9)
    fetch: Fetch = lambda _: FetchedObject(shown, dated, dated)  # noqa: E731
    assert processor(deployment, fetch).process(sent) is EventOutcome.APPLIED
    assert only_subscription(deployment).past_due_since == NOW
    assert not only_subscription(deployment).granting(load_catalog(), NOW + POLICY.past_due_grace, POLICY)


def test_late_past_due_event_does_not_start_the_grace_period_before_a_known_payment(
    deployment: FunctionHarness,
) -> None:
    """The event arrives two days late: after the payment that followed it, and just after the next failure."""
    later = NOW + timedelta(days=2)
    processor(deployment).process(subscription_event(created=NOW + timedelta(seconds=4)))
    shown = parse_subscription(subscription(status="past_due"), load_catalog())
    late = subscription_event(created=NOW, status="past_due")
    assert (
        processor(deployment, lambda _: FetchedObject(shown, later, later), later).process(late) is EventOutcome.APPLIED
    )
    assert only_subscription(deployment).past_due_since == NOW + timedelta(seconds=4)


def test_payment_failed_event_with_an_unreadable_subscription_stores_the_invoice(deployment: FunctionHarness) -> None:
    """The event is recorded as failed with the reason. It is applied once the subscription is readable."""

    def unreadable(_: ObjectRef) -> FetchedObject:
        raise EventUnprocessable("items.data is not a list")

    sent = event("invoice.payment_failed", invoice(status="open"), created=NOW)
    assert processor(deployment, unreadable).process(sent) is EventOutcome.FAILED
    assert [each.id for each in deployment.repository.list_invoices("acme", 10).invoices] == ["in_1"]
    found = event_marker(deployment, sent["id"])
    assert (found["outcome"], found["account_id"]) == ("failed", "acme")
    assert found["reason"] == "sub_1 as fetched from Stripe: items.data is not a list"
    readable = parse_subscription(subscription(status="past_due"), load_catalog())
    assert processor(deployment, lambda _: FetchedObject(readable, NOW, NOW)).process(sent) is EventOutcome.APPLIED
    assert only_subscription(deployment).status == "past_due"


def test_add_on_with_an_unusual_lookup_key_does_not_change_the_plan(deployment: FunctionHarness) -> None:
    source = subscription()
    add_on = {"price": {"id": "price_add_on", "lookup_key": "seats\u00a0\u200bextra"}, "quantity": 1}
    source["items"]["data"].append(add_on)
    sent = event("customer.subscription.updated", source, created=NOW)
    assert processor(deployment).process(sent) is EventOutcome.APPLIED
    assert only_subscription(deployment).plan == "pro"


def test_duplicate_of_a_concurrent_worker_emits_the_alarm_metric(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """The other worker may have died before it emitted the metric, and Stripe does not deliver again."""

    def lose_race(repository: Repository, commit: Commit) -> None:
        original_commit(repository, commit)
        raise EventAlreadyProcessed

    original_commit = Repository.commit
    monkeypatch.setattr(Repository, "commit", lose_race)
    sent = subscription_event(lookup_key="unheard_of", created=NOW)
    assert processor(deployment).process(sent) is EventOutcome.DUPLICATE
    assert '"UnmappedPrice":[1.0]' in printed().replace(" ", "")
