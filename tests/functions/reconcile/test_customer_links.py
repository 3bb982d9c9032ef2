"""Links between accounts and customers, if several customers name one account."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import stripe

from billing.domain.accounts import Profile
from tests.functions.reconcile.support import (
    ReconcileFunction,
    log_entries,
    plan_and_status,
    save_checkpoint,
    skip_events,
)
from tests.functions.stripe_support import create_subscription
from tests.functions.support import FunctionHarness, items_with_prefix

pytestmark = pytest.mark.engine


def event_outcomes(deployment: FunctionHarness) -> set[str]:
    """Return the outcomes of all events of Stripe."""
    return {marker["outcome"]["S"] for marker in items_with_prefix(deployment, "EVENT#evt_")}


def test_customer_of_the_active_subscription_is_linked_by_the_full_sync(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """The subscription of the other customer is newer, but has ended."""
    active = create_subscription(stripe_client)
    canceled = create_subscription(stripe_client)
    stripe_client.v1.subscriptions.cancel(canceled.id)
    skip_events(deployment)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == active.customer
    assert plan_and_status(deployment) == ("pro", "active")


def test_customer_of_the_active_subscription_is_linked_by_its_event(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """Older events name another customer, whose subscription has ended."""
    canceled = create_subscription(stripe_client)
    stripe_client.v1.subscriptions.cancel(canceled.id)
    active = create_subscription(stripe_client)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == active.customer


def test_deletion_of_the_previous_customer_is_processed_before_the_new_customer(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """Both happened while the webhook was down."""
    previous = stripe_client.v1.customers.create({"metadata": {"account_id": "acme"}}).id
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, customer_id=previous), new_customer_id=previous)
    stripe_client.v1.customers.delete(previous)
    active = create_subscription(stripe_client)
    save_checkpoint(deployment, full_sync_at=datetime.now(UTC).replace(microsecond=0))
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == active.customer
    assert plan_and_status(deployment) == ("pro", "active")


def test_deleted_customer_is_not_linked_to_the_account(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
) -> None:
    """Its events keep the outcome `unknown_customer`, which is no discrepancy."""
    deleted = create_subscription(stripe_client)
    stripe_client.v1.customers.delete(str(deleted.customer))
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id is None
    assert event_outcomes(deployment) == {"unknown_customer"}
    assert "found a difference" not in printed()
    active = create_subscription(stripe_client)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == active.customer
    assert plan_and_status(deployment) == ("pro", "active")


def test_full_sync_reports_objects_of_a_second_customer_and_stores_none(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
) -> None:
    """Their events may be older than Stripe's event list."""
    first, second = create_subscription(stripe_client), create_subscription(stripe_client)
    skip_events(deployment)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == second.customer
    output = printed()
    discrepancies = log_entries(output, "found a difference")
    conflicts = [each["object_id"] for each in discrepancies if each["outcome"] == "customer_conflict"]
    assert conflicts == [first.id, str(first.latest_invoice)]
    assert output.count('"CustomerConflict":[1.0]') == len(conflicts)
    assert [each.id for each in deployment.repository.load_account("acme").subscriptions] == [second.id]


def test_events_of_a_customer_conflict_are_applied_once_it_is_resolved(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
) -> None:
    """The outcomes are `unknown_customer` without an account, then `customer_conflict`, then `applied`."""
    subscription = create_subscription(stripe_client, "globex")
    reconciliation.start()
    assert event_outcomes(deployment) == {"unknown_customer"}
    deployment.repository.create_account(Profile("globex", customer_id="cus_other"))
    reconciliation.start()
    assert event_outcomes(deployment) == {"customer_conflict"}
    assert "CustomerConflict" in printed()
    [profile] = deployment.repository.find_profiles(["globex"]).values()
    customer_id = str(subscription.customer)
    deployment.repository.save_profile(replace(profile, customer_id=customer_id), new_customer_id=customer_id)
    reconciliation.start()
    assert [each.status for each in deployment.repository.load_account("globex").subscriptions] == ["active"]
    assert event_outcomes(deployment) == {"applied", "no_change"}
