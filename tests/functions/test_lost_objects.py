"""Events whose object Stripe does not have any more, or shows as what cannot be read: what is known goes its way."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.adapters.repository import Commit, EventAlreadyProcessed, Repository
from billing.catalog import load_catalog
from billing.domain.accounts import OpenCheckout
from billing.domain.errors import EventUnprocessable
from billing.domain.subscriptions import Subscription
from billing.services.event_processor import EventProcessor, Fetch
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef, ParsedEvent, parse_envelope
from billing.stripe_events.objects import parse_subscription
from tests.functions.conftest import Deployment
from tests.functions.events import event, invoice, subscription, subscription_event
from tests.functions.test_stripe_webhook import marker, rows

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC).replace(microsecond=0)
GRACE = timedelta(days=7)


def processor(deployment: Deployment, fetch: Fetch = lambda _: None, now: datetime = NOW) -> EventProcessor:
    """The protocol on this table, at a time, beside a Stripe that has nothing unless told otherwise."""
    return EventProcessor(deployment.repository, load_catalog(), fetch, livemode=False, now=lambda: now)


def ended_event(created: datetime) -> dict[str, Any]:
    """Stripe's last word of sub_1."""
    at = int(created.timestamp())
    ended = subscription(status="canceled", canceled_at=at, ended_at=at)
    return event("customer.subscription.deleted", ended, created=created)


def session(subscription_id: str) -> dict[str, Any]:
    """A Checkout Session of acme's that was paid."""
    return {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "subscription",
        "customer": "cus_acme",
        "subscription": subscription_id,
        "metadata": {"account_id": "acme"},
    }


def the_subscription(deployment: Deployment) -> Subscription:
    """The only one that acme has."""
    [found] = deployment.repository.load_account("acme").subscriptions
    return found


def told(deployment: Deployment) -> list[str]:
    """What the account's own systems are to be told."""
    return sorted(each["type"]["S"] for each in rows(deployment) if each["sk"]["S"].startswith("OUT#"))


@pytest.mark.parametrize("late", [timedelta(minutes=11), timedelta(days=3)])
def test_a_late_end_counts_though_stripe_forgot_the_object(deployment: Deployment, late: timedelta) -> None:
    """Nothing comes after an end: there is nobody to be asked whether it is still so."""
    processor(deployment).process(subscription_event(created=NOW))
    sent = ended_event(NOW + timedelta(seconds=100))
    assert processor(deployment, now=NOW + late).process(sent) is EventOutcome.APPLIED
    assert (the_subscription(deployment).status, the_subscription(deployment).has_ended) == ("canceled", True)
    assert told(deployment) == ["subscription.canceled", "subscription.created"]
    kept_until = [int(each["expires_at"]["N"]) for each in rows(deployment) if each["sk"]["S"].startswith("OUT#")]
    assert min(kept_until) >= int(NOW.timestamp()) + 35 * 86_400
    assert max(kept_until) == int((NOW + late).timestamp()) + 35 * 86_400


def test_a_late_change_of_a_forgotten_object_is_missing(deployment: Deployment) -> None:
    """What it says may have been superseded long ago: the row stays, and somebody is told."""
    processor(deployment).process(subscription_event(created=NOW))
    sent = subscription_event(created=NOW + timedelta(seconds=100), lookup_key="team_monthly")
    later = NOW + timedelta(minutes=20)
    assert processor(deployment, now=later).process(sent) is EventOutcome.MISSING
    assert the_subscription(deployment).plan == "pro"


def test_a_deleted_customers_forgotten_subscription_has_ended(deployment: Deployment) -> None:
    """Stripe ends the subscriptions of a customer that is deleted: the account is free, and can subscribe again."""
    processor(deployment).process(subscription_event(created=NOW))
    sent = event("customer.deleted", {"id": "cus_acme", "object": "customer"}, created=NOW + timedelta(seconds=60))
    assert processor(deployment).process(sent) is EventOutcome.APPLIED
    ended = the_subscription(deployment)
    assert (ended.status, ended.ended_at) == ("canceled", NOW + timedelta(seconds=60))
    assert deployment.repository.load_account("acme").profile.customer_id is None
    deployment.repository.load_account("acme").refuse_second_subscription(NOW, GRACE)
    assert told(deployment) == ["subscription.canceled", "subscription.created"]
    assert processor(deployment).process(sent) is EventOutcome.DUPLICATE


def test_an_end_that_stripe_told_is_not_concluded_again(deployment: Deployment) -> None:
    """An operator lists what lives, Stripe lacks it, and meanwhile the event of its end arrives."""
    processor(deployment).process(subscription_event(created=NOW))
    processor(deployment).process(ended_event(NOW + timedelta(seconds=50)))
    named = ParsedEvent("cus_acme", "acme", (ObjectRef(Subscription, "sub_1"),), ended_if_missing=True)
    mending = parse_envelope(event("reconciliation.subscriptions", {}, created=NOW + timedelta(seconds=60)))
    assert processor(deployment).apply(mending, named) is EventOutcome.NO_CHANGE
    assert the_subscription(deployment).ended_at == NOW + timedelta(seconds=50)


@pytest.mark.parametrize("outcome", [EventOutcome.FAILED, EventOutcome.MISSING])
def test_a_checkout_whose_subscription_cannot_be_had_stays_open(deployment: Deployment, outcome: EventOutcome) -> None:
    """It was paid: until it is known for what, nobody may pay for a second one."""
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, open_checkout=OpenCheckout("cs_1", "fingerprint")))

    def fetch(_: ObjectRef) -> FetchedObject | None:
        if outcome is EventOutcome.FAILED:
            raise EventUnprocessable("items.data is not a list")
        return None

    sent = event("checkout.session.completed", session("sub_1"), created=NOW)
    assert processor(deployment, fetch).process(sent) is outcome
    assert deployment.repository.load_account("acme").profile.open_checkout is not None
    found = parse_subscription(subscription(), load_catalog())
    assert processor(deployment, lambda _: FetchedObject(found, NOW, NOW)).process(sent) is EventOutcome.APPLIED
    assert deployment.repository.load_account("acme").profile.open_checkout is None


def test_past_due_never_begins_in_the_future(deployment: Deployment) -> None:
    """The grace period of an event that says it is of the year 9999 begins when Stripe answers."""
    shown = parse_subscription(subscription(status="past_due"), load_catalog())
    future = datetime(9999, 12, 31, tzinfo=UTC)
    sent = subscription_event(created=future, status="past_due")
    fetch: Fetch = lambda _: FetchedObject(shown, NOW, NOW)  # noqa: E731
    assert processor(deployment, fetch).process(sent) is EventOutcome.APPLIED
    assert the_subscription(deployment).past_due_since == NOW
    assert not the_subscription(deployment).grants_access(NOW + GRACE, GRACE)


def test_grace_does_not_begin_before_a_payment_that_is_known(deployment: Deployment) -> None:
    """A failure's event comes two days late, after the payment that followed it and just after the next failure."""
    later = NOW + timedelta(days=2)
    processor(deployment).process(subscription_event(created=NOW + timedelta(seconds=4)))
    shown = parse_subscription(subscription(status="past_due"), load_catalog())
    late = subscription_event(created=NOW, status="past_due")
    assert (
        processor(deployment, lambda _: FetchedObject(shown, later, later), later).process(late) is EventOutcome.APPLIED
    )
    assert the_subscription(deployment).past_due_since == NOW + timedelta(seconds=4)


def test_what_can_be_read_is_written_beside_what_cannot(deployment: Deployment) -> None:
    """The invoice is there, the event stays open with its reason, and once the subscription can be read it is done."""

    def unreadable(_: ObjectRef) -> FetchedObject:
        raise EventUnprocessable("items.data is not a list")

    sent = event("invoice.payment_failed", invoice(status="open"), created=NOW)
    assert processor(deployment, unreadable).process(sent) is EventOutcome.FAILED
    assert [each.id for each in deployment.repository.list_invoices("acme", 10).invoices] == ["in_1"]
    found = marker(deployment, sent["id"])
    assert (found["outcome"], found["account_id"]) == ("failed", "acme")
    assert found["reason"] == "sub_1 as fetched from Stripe: items.data is not a list"
    readable = parse_subscription(subscription(status="past_due"), load_catalog())
    assert processor(deployment, lambda _: FetchedObject(readable, NOW, NOW)).process(sent) is EventOutcome.APPLIED
    assert the_subscription(deployment).status == "past_due"


def test_an_add_ons_odd_lookup_key_fails_nothing(deployment: Deployment) -> None:
    """Whoever pays for the plan has it, whatever characters stand beside it."""
    source = subscription()
    add_on = {"price": {"id": "price_add_on", "lookup_key": "seats\u00a0\u200bextra"}, "quantity": 1}
    source["items"]["data"].append(add_on)
    assert processor(deployment).process(event("customer.subscription.updated", source)) is EventOutcome.APPLIED
    assert the_subscription(deployment).plan == "pro"


def test_the_slower_of_two_workers_alarms_too(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """The faster one may have died before it could tell, and Stripe delivers no more."""

    def faster(repository: Repository, commit: Commit) -> None:
        written(repository, commit)
        raise EventAlreadyProcessed

    written = Repository.commit
    monkeypatch.setattr(Repository, "commit", faster)
    sent = subscription_event(lookup_key="unheard_of", created=NOW)
    assert processor(deployment).process(sent) is EventOutcome.DUPLICATE
    assert '"UnmappedPrice":[1.0]' in printed().replace(" ", "")
