"""Reconciliation of pending changes, from the events that never arrived and from the list of subscriptions."""

import pytest
import stripe

from billing.domain.subscriptions import PendingChange
from stripe_simulator import Simulator
from tests.functions.reconcile.support import ReconcileFunction, skip_events
from tests.functions.stripe_support import control, create_subscription, deliver_all, pending_change, schedule_change
from tests.functions.support import FunctionHarness, items_with_prefix

pytestmark = pytest.mark.engine


def stored_change(deployment: FunctionHarness) -> PendingChange | None:
    """Return the pending change of acme's only subscription."""
    [found] = deployment.repository.load_account("acme").subscriptions
    return found.pending_change


@pytest.mark.parametrize("lists_only", [False, True])
def test_run_repairs_a_pending_change_whose_events_are_lost(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    *,
    lists_only: bool,
) -> None:
    created = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    schedule_change(stripe_client, created, "team_monthly")
    control(simulator, "POST", "clock", {"advance_seconds": 60})
    if lists_only:
        skip_events(deployment)
    reconciliation.start()
    assert stored_change(deployment) == pending_change(stripe_client, created, "team_monthly")
    assert len(items_with_prefix(deployment, "EVENT#reconciliation_")) == lists_only


def test_run_repairs_a_row_whose_schedule_has_changed(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    """The schedule has the same id, so only its phases show the difference."""
    created = create_subscription(stripe_client)
    schedule_change(stripe_client, created, "team_monthly")
    deliver_all(deployment, simulator)
    [item] = items_with_prefix(deployment, "SUB#")
    deployment.table.client.update_item(
        TableName=deployment.table.name,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="SET pending_change.quantity = :nine",
        ExpressionAttributeValues={":nine": {"N": "9"}},
    )
    control(simulator, "POST", "clock", {"advance_seconds": 60})
    skip_events(deployment)
    reconciliation.start()
    assert stored_change(deployment) == pending_change(stripe_client, created, "team_monthly")


def test_run_finds_no_difference_in_a_stored_pending_change(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    schedule_change(stripe_client, create_subscription(stripe_client), "team_monthly")
    deliver_all(deployment, simulator)
    control(simulator, "POST", "clock", {"advance_seconds": 60})
    skip_events(deployment)
    reconciliation.start()
    assert items_with_prefix(deployment, "EVENT#reconciliation_") == []
