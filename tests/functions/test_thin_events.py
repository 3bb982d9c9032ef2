"""Thin events: they name what changed, and the object is fetched from Stripe, by either way that events come."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EventOutcome, FetchedObject
from billing.stripe_events.objects import parse_subscription
from stripe_simulator import Simulator
from tests.functions.conftest import Deployment, LambdaContext, control, load_handler
from tests.functions.events import event, subscription, subscription_event
from tests.functions.stripe_side import fault
from tests.functions.test_eventbridge import DONE, envelope
from tests.functions.test_stripe_webhook import marker, rows

pytestmark = pytest.mark.engine


def thin_event(event_type: str, related_type: str, related_id: str, **changes: Any) -> dict[str, Any]:
    """An event notification as Stripe sends it (https://docs.stripe.com/event-destinations)."""
    created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": f"evt_{event_type}_{related_id}",
        "object": "v2.core.event",
        "type": event_type,
        "created": created,
        "livemode": False,
        "context": None,
        "related_object": {"id": related_id, "type": related_type, "url": f"/v1/{related_type}s/{related_id}"},
    } | changes


@pytest.fixture
def subscribed(stripe_client: stripe.StripeClient) -> stripe.Subscription:
    """A subscription of acme's that Stripe has told nobody of."""
    paying: Any = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer = stripe_client.v1.customers.create(paying | {"metadata": {"account_id": "acme"}})
    [price] = stripe_client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    order: Any = {"customer": customer.id, "items": [{"price": price.id}], "metadata": {"account_id": "acme"}}
    return stripe_client.v1.subscriptions.create(order)


def test_a_subscription_is_fetched(deployment: Deployment, subscribed: stripe.Subscription) -> None:
    """Signed as every event; the row is what Stripe has, and a second delivery is a duplicate."""
    sent = thin_event("v1.customer.subscription.updated", "subscription", subscribed.id)
    assert deployment.deliver(sent).body == {"received": True, "outcome": "applied"}
    body = deployment.authorized("GET", "/v1/billing").body
    assert (body["plan"], body["status"]) == ("pro", "active")
    assert deployment.deliver(sent).body == {"received": True, "outcome": "duplicate"}
    assert marker(deployment, sent["id"])["type"] == "v1.customer.subscription.updated"


def test_eventbridge_brings_them_too(deployment: Deployment, subscribed: stripe.Subscription) -> None:
    """In the same envelope as other events."""
    sent = thin_event("v1.customer.subscription.updated", "subscription", subscribed.id)
    message = {"messageId": "1", "body": json.dumps(envelope(sent))}
    assert load_handler("stripe_eventbridge")({"Records": [message]}, LambdaContext()) == DONE
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"


def test_an_invoice_is_fetched(deployment: Deployment, subscribed: stripe.Subscription) -> None:
    """It is found under its own time, as if the event had carried it."""
    sent = thin_event("v1.invoice.paid", "invoice", str(subscribed.latest_invoice))
    assert deployment.deliver(sent).body["outcome"] == "applied"
    [invoice] = [item for item in rows(deployment) if item["sk"]["S"].startswith("INV#")]
    assert (invoice["id"]["S"], invoice["status"]["S"]) == (subscribed.latest_invoice, "paid")


def test_a_deleted_customer_ends_its_subscriptions(
    deployment: Deployment, subscribed: stripe.Subscription, stripe_client: stripe.StripeClient
) -> None:
    """Of a deleted customer Stripe tells no more than that; whose it was, the table knows."""
    deployment.deliver(thin_event("v1.customer.subscription.updated", "subscription", subscribed.id))
    customer_id = str(subscribed.customer)
    stripe_client.v1.customers.delete(customer_id)
    assert deployment.deliver(thin_event("v1.customer.deleted", "customer", customer_id)).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


@pytest.mark.usefixtures("stripe_client")
def test_a_forgotten_customer_is_a_deleted_one(deployment: Deployment) -> None:
    """Stripe has neither it nor its subscription: the account is free, and without a customer."""
    deployment.deliver(subscription_event())
    sent = thin_event("v1.customer.deleted", "customer", "cus_acme")
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"
    assert deployment.repository.load_account("acme").profile.customer_id is None


def test_what_is_known_to_be_newer_stays(deployment: Deployment, subscribed: stripe.Subscription) -> None:
    """A late one about a row that was Stripe's state afterwards changes nothing."""
    deployment.deliver(thin_event("v1.customer.subscription.created", "subscription", subscribed.id))
    created = (datetime.now(UTC) - timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
    late = thin_event("v1.customer.subscription.updated", "subscription", subscribed.id, created=created)
    assert deployment.deliver(late).body["outcome"] == "no_change"


def test_a_stripe_that_fails_is_asked_again(
    deployment: Deployment, subscribed: stripe.Subscription, simulator: Simulator
) -> None:
    """Nothing is written, and Stripe delivers again."""
    fault(simulator, "status:500", "/v1/subscriptions")
    sent = thin_event("v1.customer.subscription.updated", "subscription", subscribed.id)
    assert deployment.deliver(sent).status == 503
    assert rows(deployment) == []
    control(simulator, "DELETE", "faults")
    assert deployment.deliver(sent).body["outcome"] == "applied"


def test_what_was_looked_up_proves_nothing(deployment: Deployment) -> None:
    """It was Stripe's state before the row was read: what counts is what is fetched after that."""
    now = datetime.now(UTC)
    looked_up = subscription(status="incomplete")
    fetched = parse_subscription(subscription(status="active"), load_catalog())
    processor = EventProcessor(
        deployment.repository,
        load_catalog(),
        lambda _target: FetchedObject(fetched, now, now),
        livemode=False,
        look_up=lambda _related: looked_up,
    )
    sent = thin_event("v1.customer.subscription.updated", "subscription", "sub_1")
    assert processor.process(sent) is EventOutcome.APPLIED
    assert deployment.authorized("GET", "/v1/billing").body["status"] == "active"


IGNORED = {
    "another api": thin_event("v2.core.account.updated", "v2.core.account", "acct_1"),
    "a type that is not handled": thin_event("v1.charge.captured", "charge", "ch_1"),
    "no object": thin_event("v2.core.event_destination.ping", "", "", related_object=None),
    "another account's": thin_event("v1.invoice.paid", "invoice", "in_1", context="acct_1"),
    "live mode's": thin_event("v1.invoice.paid", "invoice", "in_1", livemode=True),
}


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize("name", IGNORED)
def test_the_rest_is_none_of_ours(deployment: Deployment, simulator: Simulator, name: str) -> None:
    """Recorded as ignored, and Stripe not asked."""
    fault(simulator, "status:500")
    assert deployment.deliver(IGNORED[name]).body == {"received": True, "outcome": "ignored"}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no time": ({"created": None}, "created is missing"),
    "an ordinary time": ({"created": 1_780_000_000}, "created is not a string"),
    "a time of no zone": ({"created": "2026-11-21T17:00:00"}, "created is not a time"),
    "nonsense for a time": ({"created": "today"}, "created is not a time"),
    "nothing in the object": ({"related_object": {"id": "in_1"}}, "type is missing"),
    "an object that is gone": ({}, "Stripe does not have the related object"),
}


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_understood_is_recorded(deployment: Deployment, name: str) -> None:
    """With the reason, and acknowledged: no later delivery would help."""
    changes, reason = BROKEN[name]
    sent = thin_event("v1.invoice.paid", "invoice", "in_gone", **changes)
    assert deployment.deliver(sent).body == {"received": True, "outcome": "failed"}
    assert marker(deployment, sent["id"])["reason"] == reason


def test_late_events_are_counted(deployment: Deployment, printed: Callable[[], str]) -> None:
    """Applied more than five minutes after it happened: somebody had the wrong plan for so long."""
    deployment.deliver(subscription_event(created=datetime.now(UTC) - timedelta(minutes=4)))
    deployment.deliver(event("charge.captured", {}, created=datetime.now(UTC) - timedelta(hours=1)))
    assert "EventLate" not in printed()
    deployment.repository.create_account(Profile("globex", customer_id="cus_globex"))
    late = subscription_event("sub_2", customer="cus_globex", created=datetime.now(UTC) - timedelta(minutes=6))
    assert deployment.deliver(late).body["outcome"] == "applied"
    assert printed().count('"EventLate"') == 2
