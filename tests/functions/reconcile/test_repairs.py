"""Repairs of a run: missed events, changed rows and missing rows."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
import stripe

import billing.adapters.stripe_gateway
from billing.adapters.stripe_gateway import event_type_groups, rate_limited_gateway
from billing.adapters.token_bucket import TokenBucket
from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.services.reconciler import Reconciler
from billing.stripe_events.drift import FULL_SYNC_INTERVAL, Phase
from billing.stripe_events.event_types import EventOutcome
from stripe_simulator import Simulator
from tests.functions.reconcile.support import (
    ReconcileFunction,
    log_entries,
    overwrite_status,
    plan_and_status,
    save_checkpoint,
)
from tests.functions.stripe_support import (
    clear_faults,
    control,
    create_subscription,
    deliver_all,
    inject_fault,
    open_session,
)
from tests.functions.support import FunctionHarness, items_with_prefix, outbox_types
from tests.samples import DEPLOYMENT

pytestmark = pytest.mark.engine


def test_missed_events_are_applied_and_published_once(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """A second full sync changes nothing."""
    subscription = create_subscription(stripe_client)
    assert plan_and_status(deployment) == ("free", None)
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")
    [invoice] = deployment.authorized("GET", "/v1/billing/invoices").body["invoices"]
    assert invoice["id"] == subscription.latest_invoice
    assert outbox_types(deployment) == ["invoice.paid", "subscription.created"]
    assert items_with_prefix(deployment, "EVENT#reconciliation_") == []
    before = items_with_prefix(deployment, "EVENT#")
    save_checkpoint(deployment, full_sync_at=None)
    reconciliation.start()
    assert items_with_prefix(deployment, "EVENT#") == before
    assert outbox_types(deployment) == ["invoice.paid", "subscription.created"]


def test_drift_is_repaired_counted_and_logged(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
) -> None:
    subscription = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    overwrite_status(deployment, simulator, subscription.id, "canceled")
    assert plan_and_status(deployment) == ("free", "canceled")
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")
    [marker] = items_with_prefix(deployment, "EVENT#reconciliation_")
    assert marker["outcome"]["S"] == "applied"
    assert marker["type"]["S"] == "reconciliation.subscriptions"
    output = printed()
    assert re.findall(r'"DriftRepaired":\[([\d.]+)\]', output) == ["1.0"]
    [entry] = log_entries(output, "found a difference")
    assert (entry["object_id"], entry["account_id"], entry["outcome"]) == (subscription.id, "acme", "applied")
    pages = log_entries(output, "Page reconciled")
    assert [(page["phase"], page["drift"], page["unknown_customer"]) for page in pages] == [
        *[("events", 0, 0)] * len(event_type_groups()),
        ("subscriptions", 1, 0),
        ("invoices", 0, 0),
    ]


def test_change_whose_event_arrives_within_the_pause_is_no_drift(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,  # noqa: ARG001 - its environment comes first
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    """Reconciliation waits SETTLE_SECONDS for events that are being delivered."""
    subscription = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    control(simulator, "POST", "clock", {"advance_seconds": 60})
    stripe_client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    reconciler = Reconciler(
        deployment.repository,
        rate_limited_gateway("sk_test_functions", simulator.url),
        load_catalog(),
        deployment=DEPLOYMENT,
        pause=lambda _: deliver_all(deployment, simulator),
    )
    report = reconciler.page(Phase.SUBSCRIPTIONS, datetime.now(UTC), None)
    assert (report.ids, report.discrepancies) == ((subscription.id,), ())
    assert deployment.authorized("GET", "/v1/billing").body["cancel_at_period_end"] is True


def test_missing_rows_are_written_from_the_lists(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    """The events of the rows may be older than Stripe's event list."""
    subscription = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    for item in [*items_with_prefix(deployment, "SUB#"), *items_with_prefix(deployment, "INV#")]:
        deployment.table.client.delete_item(TableName=deployment.table.name, Key={"pk": item["pk"], "sk": item["sk"]})
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")
    [invoice] = deployment.authorized("GET", "/v1/billing/invoices").body["invoices"]
    assert (invoice["id"], invoice["status"]) == (subscription.latest_invoice, "paid")


def test_full_sync_runs_once_a_day(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    """The hourly run reads only events."""
    subscription = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    reconciliation.start()
    overwrite_status(deployment, simulator, subscription.id, "canceled")
    reconciliation.start()
    assert plan_and_status(deployment) == ("free", "canceled")
    save_checkpoint(deployment, full_sync_at=datetime.now(UTC) - FULL_SYNC_INTERVAL)
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")


def test_events_of_an_unknown_customer_are_applied_once_their_account_exists(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    create_subscription(stripe_client, "late")
    deliver_all(deployment, simulator)
    reconciliation.start()
    event_ids = [item["event_id"]["S"] for item in items_with_prefix(deployment, "EVENT#")]
    markers = deployment.repository.find_markers(event_ids)
    assert EventOutcome.UNKNOWN_CUSTOMER in {marker.outcome for marker in markers.values()}
    deployment.repository.create_account(Profile("late"))
    save_checkpoint(deployment, full_sync_at=None)
    reconciliation.start()
    [subscription] = deployment.repository.load_account("late").subscriptions
    assert subscription.status == "active"
    outcomes = {marker.outcome for marker in deployment.repository.find_markers(event_ids).values()}
    assert outcomes <= {EventOutcome.APPLIED, EventOutcome.NO_CHANGE, EventOutcome.IGNORED}


def test_objects_without_an_account_are_recorded_once_and_not_stored(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """Another product may have customers in the same Stripe account."""
    create_subscription(stripe_client, None)
    reconciliation.start()
    before = items_with_prefix(deployment, "")
    save_checkpoint(deployment, full_sync_at=None)
    reconciliation.start()
    after = items_with_prefix(deployment, "")
    without_checkpoint = [[row for row in each if row["pk"]["S"] != "RECONCILIATION"] for each in (before, after)]
    assert without_checkpoint[0] == without_checkpoint[1]
    for prefix in ("SUB#", "INV#", "CUSTOMER#"):
        assert items_with_prefix(deployment, prefix) == []


def test_run_waits_for_the_rate_limit_before_each_list_call(
    reconciliation: ReconcileFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other requests to Stripe must not be rate-limited because of reconciliation."""
    waits: list[float] = []
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 0.001)
    monkeypatch.setattr(billing.adapters.stripe_gateway, "TokenBucket", partial(TokenBucket, sleep=waits.append))
    reconciliation.start()
    assert len(waits) == len(event_type_groups()) + len([Phase.SUBSCRIPTIONS, Phase.INVOICES])


def test_full_sync_expires_a_superfluous_checkout_and_reports_several_live_subscriptions(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
) -> None:
    """All deliveries of the subscriptions' events failed after their commit."""
    deployment.authorized("POST", "/v1/billing/checkout", {"tier": "team"})
    session = open_session(stripe_client, deployment)
    bought = [create_subscription(stripe_client, customer_id=str(session.customer)) for _ in range(2)]
    inject_fault(simulator, "status:500", "/v1/checkout/sessions", count=1000)
    deliver_all(deployment, simulator)
    profile = deployment.repository.load_account("acme").profile
    assert profile.live_subscription_ids == tuple(sorted(each.id for each in bought))
    assert profile.open_checkout is not None
    clear_faults(simulator)
    printed()
    reconciliation.start()
    assert '"MultipleSubscriptions":[1.0]' in printed().replace(" ", "")
    assert deployment.repository.load_account("acme").profile.open_checkout is None
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"
