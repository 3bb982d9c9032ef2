"""Reconciliation of objects of other deployments, and of subscriptions in conflict with their account."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import stripe

from billing.domain.accounts import Profile
from stripe_simulator import Simulator
from tests.functions.reconcile.support import ReconcileFunction, log_entries, plan_and_status, skip_events
from tests.functions.stripe_support import control, create_subscription
from tests.functions.support import FunctionHarness, items_with_prefix

pytestmark = pytest.mark.engine

FOREIGN: Any = {"metadata": {"account_id": "acme", "billing_deployment": "billing-staging"}}


def create_foreign_subscription(client: stripe.StripeClient) -> stripe.Subscription:
    """Create a customer with a subscription and an invoice of another deployment that name acme."""
    customer = client.v1.customers.create(FOREIGN)
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": card(client, customer.id)}})
    [price] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    params: Any = {"customer": customer.id, "items": [{"price": price.id}], **FOREIGN}
    return client.v1.subscriptions.create(params)


def card(client: stripe.StripeClient, customer_id: str) -> str:
    """Attach a card to a customer."""
    return client.v1.payment_methods.attach("pm_card_visa", {"customer": customer_id}).id


@pytest.mark.parametrize("with_events", [True, False])
def test_objects_of_another_deployment_are_left_out(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
    with_events: bool,  # noqa: FBT001 - parameter of the test
) -> None:
    """Neither a row nor a marker nor a report."""
    create_foreign_subscription(stripe_client)
    if not with_events:
        skip_events(deployment)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id is None
    assert items_with_prefix(deployment, "EVENT#") == items_with_prefix(deployment, "CUSTOMER#") == []
    output = printed()
    assert "found a difference" not in output
    assert "CustomerConflict" not in output


@pytest.mark.parametrize("has_customer", [True, False])
def test_subscription_made_in_the_dashboard_for_a_customer_of_another_deployment_is_left_out(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
    has_customer: bool,  # noqa: FBT001 - parameter of the test
) -> None:
    """Only the customer names the deployment. If the account has a customer, this is no conflict."""
    if has_customer:
        profile = deployment.repository.load_account("acme").profile
        deployment.repository.save_profile(replace(profile, customer_id="cus_acme"), new_customer_id="cus_acme")
    before = deployment.repository.load_account("acme").profile
    foreign = create_foreign_subscription(stripe_client)
    stripe_client.v1.subscriptions.update(foreign.id, {"metadata": {"billing_deployment": ""}})
    skip_events(deployment)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile == before
    output = printed()
    assert "found a difference" not in output
    assert "CustomerConflict" not in output


@pytest.mark.parametrize("has_customer", [True, False])
@pytest.mark.parametrize("with_events", [True, False])
@pytest.mark.parametrize("deployment_id", ["", "billing-test"])
def test_objects_of_a_deleted_customer_without_account_are_left_out_in_each_sync(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
    has_customer: bool,  # noqa: FBT001 - parameter of the test
    with_events: bool,  # noqa: FBT001 - parameter of the test
    deployment_id: str,
) -> None:
    """Nobody can link a deleted customer, and its subscriptions have ended. Nothing is left to decide."""
    if has_customer:
        profile = deployment.repository.load_account("acme").profile
        deployment.repository.save_profile(replace(profile, customer_id="cus_acme"), new_customer_id="cus_acme")
    before = deployment.repository.load_account("acme")
    foreign = create_foreign_subscription(stripe_client)
    metadata = {"account_id": "acme", "billing_deployment": deployment_id}
    stripe_client.v1.subscriptions.update(foreign.id, {"metadata": metadata})
    stripe_client.v1.customers.delete(str(foreign.customer))
    for _ in range(2):
        if not with_events:
            skip_events(deployment)
        reconciliation.start()
    assert deployment.repository.load_account("acme") == before
    output = printed()
    assert "found a difference" not in output
    assert "CustomerConflict" not in output


@pytest.fixture
def conflicting(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> stripe.Subscription:
    """A second subscription of acme's customer that names globex, which has no customer."""
    deployment.repository.create_account(Profile("globex"))
    first = create_subscription(stripe_client)
    reconciliation.start()
    [price] = stripe_client.v1.prices.list({"lookup_keys": ["team_monthly"]}).data
    return stripe_client.v1.subscriptions.create(
        {"customer": str(first.customer), "items": [{"price": price.id}], "metadata": {"account_id": "globex"}}
    )


def full_sync(deployment: FunctionHarness, reconciliation: ReconcileFunction) -> None:
    """Run all phases except the events."""
    skip_events(deployment)
    reconciliation.start()


def test_conflict_survives_the_full_sync_and_alarms_in_each(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    conflicting: stripe.Subscription,
    printed: Callable[[], str],
) -> None:
    full_sync(deployment, reconciliation)
    assert plan_and_status(deployment) == ("pro", "active")
    conflict = (conflicting.id, "acme", "customer_conflict")
    for syncs in (1, 2, 3):
        assert found_differences(output := printed()).count(conflict) == syncs
        assert output.count('"CustomerConflict":[1.0]') >= 1
        full_sync(deployment, reconciliation)
    assert len(found_differences(printed())) == 1 + len(["subscription", "invoice"]) + 3
    assert plan_and_status(deployment) == ("pro", "active")


def found_differences(output: str) -> list[tuple[str, str, str]]:
    """Return id, account and outcome of every logged difference."""
    entries = log_entries(output, "found a difference")
    return [(each["object_id"], each["account_id"], each["outcome"]) for each in entries]


@pytest.mark.usefixtures("conflicting")
def test_operators_confirmation_takes_effect_with_the_full_sync(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    simulator: Simulator,
    printed: Callable[[], str],
) -> None:
    full_sync(deployment, reconciliation)
    profile = deployment.repository.load_account("acme").profile
    customer_id = profile.customer_id or ""
    confirmed = profile.with_customer(customer_id, confirmed=True)
    deployment.repository.save_profile(confirmed, new_customer_id=customer_id)
    wait_a_minute(simulator)
    full_sync(deployment, reconciliation)
    assert plan_and_status(deployment) == ("team", "active")
    before = found_differences(printed())
    full_sync(deployment, reconciliation)
    output = printed()
    assert found_differences(output) == before
    assert "CustomerConflict" not in output


def test_account_created_after_the_subscription_starts_the_conflict(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    first = create_subscription(stripe_client)
    stripe_client.v1.subscriptions.update(first.id, {"metadata": {"account_id": "globex"}})
    profile = deployment.repository.load_account("acme").profile
    customer_id = str(first.customer)
    deployment.repository.save_profile(replace(profile, customer_id=customer_id), new_customer_id=customer_id)
    full_sync(deployment, reconciliation)
    assert plan_and_status(deployment) == ("pro", "active")
    deployment.repository.create_account(Profile("globex"))
    wait_a_minute(simulator)
    full_sync(deployment, reconciliation)
    assert plan_and_status(deployment) == ("free", "active")


def wait_a_minute(simulator: Simulator) -> None:
    """Let Stripe be read a minute later."""
    control(simulator, "POST", "clock", {"advance_seconds": 60})
