"""Thin events: they name an object, which is fetched from Stripe. They arrive by webhook and by EventBridge."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from billing.catalog import load_catalog
from billing.services.event_processor import EventProcessor
from billing.stripe_events.event_types import EventOutcome, FetchedObject
from billing.stripe_events.objects import parse_subscription
from stripe_simulator import Simulator
from tests.functions.events import eventbridge_envelope, subscription, subscription_event, thin_event
from tests.functions.stripe_support import clear_faults, create_subscription, inject_fault
from tests.functions.support import (
    NO_BATCH_FAILURES,
    FunctionHarness,
    LambdaContext,
    event_marker,
    load_handler,
    stored_items,
)
from tests.samples import DEPLOYMENT

pytestmark = pytest.mark.engine


@pytest.fixture
def existing_subscription(stripe_client: stripe.StripeClient) -> stripe.Subscription:
    """A subscription of acme in Stripe, of which no event was delivered."""
    return create_subscription(stripe_client)


def test_thin_subscription_event_applies_the_fetched_subscription(
    deployment: FunctionHarness, existing_subscription: stripe.Subscription
) -> None:
    sent = thin_event("v1.customer.subscription.updated", "subscription", existing_subscription.id)
    assert deployment.deliver(sent).body == {"received": True, "outcome": "applied"}
    body = deployment.authorized("GET", "/v1/billing").body
    assert (body["plan"], body["status"]) == ("pro", "active")
    assert deployment.deliver(sent).body == {"received": True, "outcome": "duplicate"}
    assert event_marker(deployment, sent["id"])["type"] == "v1.customer.subscription.updated"


def test_thin_event_from_eventbridge_changes_the_plan(
    deployment: FunctionHarness, existing_subscription: stripe.Subscription
) -> None:
    sent = thin_event("v1.customer.subscription.updated", "subscription", existing_subscription.id)
    message = {"messageId": "1", "body": json.dumps(eventbridge_envelope(sent))}
    assert load_handler("stripe_eventbridge")({"Records": [message]}, LambdaContext()) == NO_BATCH_FAILURES
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"


def test_thin_invoice_event_stores_the_fetched_invoice(
    deployment: FunctionHarness, existing_subscription: stripe.Subscription
) -> None:
    sent = thin_event("v1.invoice.paid", "invoice", str(existing_subscription.latest_invoice))
    assert deployment.deliver(sent).body["outcome"] == "applied"
    [invoice] = [item for item in stored_items(deployment) if item["sk"]["S"].startswith("INV#")]
    assert (invoice["id"]["S"], invoice["status"]["S"]) == (existing_subscription.latest_invoice, "paid")


def test_thin_customer_deleted_event_ends_its_subscriptions(
    deployment: FunctionHarness, existing_subscription: stripe.Subscription, stripe_client: stripe.StripeClient
) -> None:
    """Stripe returns a deleted customer without its metadata. The account comes from the table."""
    deployment.deliver(thin_event("v1.customer.subscription.updated", "subscription", existing_subscription.id))
    customer_id = str(existing_subscription.customer)
    stripe_client.v1.customers.delete(customer_id)
    assert deployment.deliver(thin_event("v1.customer.deleted", "customer", customer_id)).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


@pytest.mark.usefixtures("stripe_client")
def test_thin_customer_deleted_event_of_a_missing_customer_ends_its_subscriptions(deployment: FunctionHarness) -> None:
    """Stripe returns 404 for the customer and for its subscription."""
    deployment.deliver(subscription_event())
    sent = thin_event("v1.customer.deleted", "customer", "cus_acme")
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"
    assert deployment.repository.load_account("acme").profile.customer_id is None


def test_thin_event_older_than_the_row_changes_nothing(
    deployment: FunctionHarness, existing_subscription: stripe.Subscription
) -> None:
    deployment.deliver(thin_event("v1.customer.subscription.created", "subscription", existing_subscription.id))
    created = (datetime.now(UTC) - timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
    late = thin_event("v1.customer.subscription.updated", "subscription", existing_subscription.id, created=created)
    assert deployment.deliver(late).body["outcome"] == "no_change"


def test_thin_event_while_stripe_fails_returns_503_and_writes_nothing(
    deployment: FunctionHarness, existing_subscription: stripe.Subscription, simulator: Simulator
) -> None:
    inject_fault(simulator, "status:500", "/v1/subscriptions")
    sent = thin_event("v1.customer.subscription.updated", "subscription", existing_subscription.id)
    assert deployment.deliver(sent).status == 503
    assert stored_items(deployment) == []
    clear_faults(simulator)
    assert deployment.deliver(sent).body["outcome"] == "applied"


def test_thin_event_applies_the_object_fetched_after_the_read(deployment: FunctionHarness) -> None:
    """The lookup happens before the row is read, so its result may be outdated."""
    now = datetime.now(UTC)
    looked_up = subscription(status="incomplete")
    fetched = parse_subscription(subscription(status="active"), load_catalog())
    processor = EventProcessor(
        deployment.repository,
        load_catalog(),
        lambda _target: FetchedObject(fetched, now, now),
        DEPLOYMENT,
        look_up=lambda _related: looked_up,
    )
    sent = thin_event("v1.customer.subscription.updated", "subscription", "sub_1")
    assert processor.process(sent) is EventOutcome.APPLIED
    assert deployment.authorized("GET", "/v1/billing").body["status"] == "active"


OUT_OF_SCOPE = {
    "other API": thin_event("v2.core.account.updated", "v2.core.account", "acct_1"),
    "unhandled type": thin_event("v1.charge.captured", "charge", "ch_1"),
    "no object": thin_event("v2.core.event_destination.ping", "", "", related_object=None),
    "account of an organization": thin_event("v1.invoice.paid", "invoice", "in_1", context="acct_1"),
    "connected account": thin_event("v1.invoice.paid", "invoice", "in_1", account="acct_1"),
    "live mode": thin_event("v1.invoice.paid", "invoice", "in_1", livemode=True),
}


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize("name", OUT_OF_SCOPE)
def test_thin_event_out_of_scope_is_ignored_without_a_call_to_stripe(
    deployment: FunctionHarness, simulator: Simulator, name: str
) -> None:
    inject_fault(simulator, "status:500")
    assert deployment.deliver(OUT_OF_SCOPE[name]).body == {"received": True, "outcome": "ignored"}


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no created": ({"created": None}, "created is missing"),
    "created is a number": ({"created": 1_780_000_000}, "created is not a string"),
    "created without a time zone": ({"created": "2026-11-21T17:00:00"}, "created is not a time"),
    "created is not a time": ({"created": "today"}, "created is not a time"),
    "no type of the object": ({"related_object": {"id": "in_1"}}, "type is missing"),
    "missing object": ({}, "Stripe does not have the related object"),
}


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize("name", MALFORMED)
def test_thin_event_malformed_is_recorded_as_failed(deployment: FunctionHarness, name: str) -> None:
    changes, reason = MALFORMED[name]
    sent = thin_event("v1.invoice.paid", "invoice", "in_gone", **changes)
    assert deployment.deliver(sent).body == {"received": True, "outcome": "failed"}
    assert event_marker(deployment, sent["id"])["reason"] == reason
