"""Objects of another deployment on the same Stripe account: out of scope, whatever account they name."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import stripe

from stripe_simulator import Simulator
from tests.functions.events import (
    METADATA,
    event,
    eventbridge_envelope,
    invoice,
    subscription,
    subscription_event,
    thin_event,
)
from tests.functions.stripe_support import create_subscription, inject_fault, list_events, reset
from tests.functions.support import (
    NO_BATCH_FAILURES,
    FunctionHarness,
    LambdaContext,
    event_marker,
    items_with_prefix,
    load_handler,
    stored_items,
)

pytestmark = pytest.mark.engine

FOREIGN = METADATA | {"billing_deployment": "billing-staging"}
WITHOUT_DEPLOYMENT = {"account_id": "acme"}


def invoice_parent(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the `parent` of an invoice of a subscription with this metadata."""
    return {"type": "subscription_details", "subscription_details": {"subscription": "sub_1", "metadata": metadata}}


def checkout_session(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return a completed Checkout Session."""
    source = {"id": "cs_1", "object": "checkout.session", "mode": "subscription", "customer": "cus_acme"}
    return source | {"subscription": "sub_1", "metadata": metadata, "client_reference_id": "acme"}


FOREIGN_EVENTS = {
    "subscription": event("customer.subscription.created", subscription(metadata=FOREIGN)),
    "deletion of a subscription": event(
        "customer.subscription.deleted", subscription(metadata=FOREIGN, status="canceled")
    ),
    "invoice of a subscription": event("invoice.paid", invoice(parent=invoice_parent(FOREIGN))),
    "invoice of an older API version": event(
        "invoice.paid", invoice(parent=None, subscription_details={"metadata": FOREIGN}, subscription="sub_1")
    ),
    "invoice of its own": event("invoice.paid", invoice(parent=None, metadata=FOREIGN)),
    "failed payment": event("invoice.payment_failed", invoice(status="open", parent=invoice_parent(FOREIGN))),
    "checkout": event("checkout.session.completed", checkout_session(FOREIGN)),
    "deleted customer": event("customer.deleted", {"id": "cus_acme", "object": "customer", "metadata": FOREIGN}),
}


@pytest.mark.parametrize("name", FOREIGN_EVENTS)
def test_event_of_another_deployment_is_ignored(deployment: FunctionHarness, name: str) -> None:
    """It does not appear among the events of the account that it names."""
    sent = FOREIGN_EVENTS[name]
    assert deployment.deliver(sent).body == {"received": True, "outcome": "ignored"}
    assert deployment.deliver(sent).body["outcome"] == "duplicate"
    [item] = stored_items(deployment)
    assert item["pk"]["S"] == f"EVENT#{sent['id']}"
    assert "account_id" not in event_marker(deployment, sent["id"])
    assert deployment.repository.load_account("acme").profile.customer_id is None


@pytest.mark.parametrize("name", FOREIGN_EVENTS)
def test_event_of_another_deployment_is_ignored_for_a_linked_customer(deployment: FunctionHarness, name: str) -> None:
    deployment.deliver(subscription_event(status="past_due"))
    before = items_with_prefix(deployment, "ACCOUNT#")
    assert deployment.deliver(FOREIGN_EVENTS[name]).body["outcome"] == "ignored"
    assert items_with_prefix(deployment, "ACCOUNT#") == before


def test_eventbridge_event_of_another_deployment_is_ignored(deployment: FunctionHarness) -> None:
    sent = FOREIGN_EVENTS["subscription"]
    body = json.dumps(eventbridge_envelope(sent))
    response = load_handler("stripe_eventbridge")({"Records": [{"messageId": "0", "body": body}]}, LambdaContext())
    assert response == NO_BATCH_FAILURES
    assert event_marker(deployment, sent["id"])["outcome"] == "ignored"


def test_thin_event_of_another_deployment_is_ignored(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """Only the related object names the deployment."""
    foreign = create_subscription(stripe_client)
    stripe_client.v1.subscriptions.update(foreign.id, {"metadata": FOREIGN})
    sent = thin_event("v1.customer.subscription.updated", "subscription", foreign.id)
    assert deployment.deliver(sent).body["outcome"] == "ignored"
    assert deployment.repository.load_account("acme").profile.customer_id is None


def test_subscription_made_in_the_dashboard_for_a_customer_of_another_deployment_is_ignored(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """The subscription names the account without a deployment. Only the customer in Stripe reveals it."""
    customer = stripe_client.v1.customers.create({"metadata": FOREIGN}).id
    sent = subscription_event(customer=customer, metadata=WITHOUT_DEPLOYMENT)
    assert deployment.deliver(sent).body["outcome"] == "ignored"
    assert deployment.repository.load_account("acme").profile.customer_id is None


def test_subscription_of_another_deployments_customer_raises_no_conflict(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    deployment.deliver(subscription_event())
    customer = stripe_client.v1.customers.create({"metadata": FOREIGN}).id
    sent = subscription_event("sub_2", customer=customer, metadata=WITHOUT_DEPLOYMENT)
    assert deployment.deliver(sent).body["outcome"] == "ignored"


@pytest.mark.parametrize("has_customer", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_event_without_a_deployment_of_a_deleted_customer_links_nothing(
    deployment: FunctionHarness,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
    has_customer: bool,  # noqa: FBT001 - parameter of the test
    exists: bool,  # noqa: FBT001 - parameter of the test
) -> None:
    """A deleted customer has no metadata, so it may be another deployment's. So may one that Stripe does not have."""
    if has_customer:
        deployment.deliver(subscription_event())
    before = deployment.repository.load_account("acme")
    customer = stripe_client.v1.customers.create({"metadata": FOREIGN}).id if exists else "cus_never"
    if exists:
        stripe_client.v1.customers.delete(customer)
    parent = invoice_parent(WITHOUT_DEPLOYMENT)
    for sent in (
        subscription_event("sub_2", customer=customer, metadata=WITHOUT_DEPLOYMENT, status="canceled"),
        event("invoice.paid", invoice("in_2", customer=customer, parent=parent)),
        event("checkout.session.completed", checkout_session(WITHOUT_DEPLOYMENT) | {"customer": customer}),
    ):
        assert deployment.deliver(sent).body["outcome"] == "unknown_customer"
    assert deployment.repository.load_account("acme") == before
    assert deployment.repository.find_owners([customer]) == {}
    assert "CustomerConflict" not in printed()


def test_event_that_names_this_deployment_links_a_deleted_customer(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """The object itself proves whose customer it was. The event may just be late."""
    customer = stripe_client.v1.customers.create({}).id
    stripe_client.v1.customers.delete(customer)
    sent = subscription_event(customer=customer, status="canceled")
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert deployment.repository.load_account("acme").profile.customer_id == customer


def test_object_without_a_deployment_is_linked_by_its_account(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    customer = stripe_client.v1.customers.create({"metadata": WITHOUT_DEPLOYMENT}).id
    sent = subscription_event(customer=customer, metadata=WITHOUT_DEPLOYMENT)
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert deployment.repository.load_account("acme").profile.customer_id == customer


def test_object_without_a_deployment_is_delivered_again_while_stripe_fails(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    customer = stripe_client.v1.customers.create({}).id
    sent = subscription_event(customer=customer, metadata=WITHOUT_DEPLOYMENT)
    inject_fault(simulator, "status:500", f"/v1/customers/{customer}", count=3)
    assert deployment.deliver(sent).status == 503
    assert deployment.deliver(sent).body["outcome"] == "applied"


def test_fetched_subscription_of_another_deployment_is_not_stored(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """An invoice of an older API version names its subscription, without metadata."""
    foreign = create_subscription(stripe_client)
    customer = str(foreign.customer)
    stripe_client.v1.subscriptions.update(foreign.id, {"metadata": FOREIGN})
    deployment.deliver(subscription_event(customer=customer))
    bare = invoice(status="open", customer=customer, parent=None, subscription=foreign.id)
    assert deployment.deliver(event("invoice.payment_failed", bare)).body["outcome"] == "applied"
    assert [each.id for each in deployment.repository.load_account("acme").subscriptions] == ["sub_1"]


def test_malformed_metadata_is_recorded_as_failed(deployment: FunctionHarness) -> None:
    sent = event("customer.subscription.created", subscription(metadata="acme"))
    assert deployment.deliver(sent).body["outcome"] == "failed"


@pytest.mark.parametrize("value", [None, "", 5, {"id": "other"}])
def test_value_that_names_no_deployment_is_not_another_one(deployment: FunctionHarness, value: object) -> None:
    deployment.deliver(subscription_event())
    sent = subscription_event("sub_2", metadata={"account_id": "acme", "billing_deployment": value})
    assert deployment.deliver(sent).body["outcome"] == "applied"


def test_two_deployments_share_a_stripe_account_and_an_account_name(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """Every event of the staging deployment's customer arrives here, too."""
    reset(simulator)
    foreign = create_subscription(stripe_client)
    outcomes = set()
    for each in reversed(list_events(simulator)):
        each["data"]["object"]["metadata"] = FOREIGN
        outcomes.add(deployment.deliver(each).body["outcome"])
    assert outcomes == {"ignored"}
    assert str(foreign.customer) not in str(items_with_prefix(deployment, "CUSTOMER#"))
