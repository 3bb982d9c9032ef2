"""Objects and lists that Stripe rejects, fails on, or returns in an unreadable form."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import stripe

import billing.services.reconciler
from billing.adapters.stripe_gateway import StripeGateway
from billing.domain.accounts import Profile
from billing.domain.errors import EventUnprocessable
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import FetchedObject, ObjectRef
from stripe_simulator import Simulator
from tests.functions.reconcile.support import (
    ReconcileFunction,
    load_checkpoint,
    log_entries,
    overwrite_status,
    plan_and_status,
    save_checkpoint,
    skip_events,
)
from tests.functions.stripe_support import clear_faults, create_subscription, deliver_all, inject_fault
from tests.functions.support import FunctionHarness, items_with_prefix

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("kind", ["status:403", "status:500", "reset"])
@pytest.mark.usefixtures("single_attempt")
def test_object_that_stripe_fails_on_does_not_stop_the_run(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
    kind: str,
) -> None:
    """Its row stays as it is, and an operator is alerted."""
    deployment.repository.create_account(Profile("globex"))
    failing, other = create_subscription(stripe_client), create_subscription(stripe_client, "globex")
    deliver_all(deployment, simulator)
    for subscription, account_id in ((failing, "acme"), (other, "globex")):
        overwrite_status(deployment, simulator, subscription.id, "canceled", account_id)
    inject_fault(simulator, kind, f"/v1/subscriptions/{failing.id}")
    reconciliation.start()
    assert load_checkpoint(deployment).phase is None
    assert plan_and_status(deployment) == ("free", "canceled")
    assert [each.status for each in deployment.repository.load_account("globex").subscriptions] == ["active"]
    assert '"EventFailed":[1.0]' in printed().replace(" ", "")


@pytest.mark.usefixtures("single_attempt")
def test_page_over_its_time_budget_leaves_failing_objects_to_the_next_full_sync(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(billing.services.reconciler, "PAGE_TIME_BUDGET_SECONDS", -1)
    deployment.repository.create_account(Profile("globex"))
    subscriptions = {account_id: create_subscription(stripe_client, account_id) for account_id in ("acme", "globex")}
    deliver_all(deployment, simulator)
    for account_id, subscription in subscriptions.items():
        overwrite_status(deployment, simulator, subscription.id, "canceled", account_id)
    inject_fault(simulator, "status:500", f"/v1/subscriptions/{subscriptions['globex'].id}")
    reconciliation.start()
    assert load_checkpoint(deployment).phase is None
    assert plan_and_status(deployment) == ("free", "canceled")
    clear_faults(simulator)
    save_checkpoint(deployment, full_sync_at=None)
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")
    assert [each.status for each in deployment.repository.load_account("globex").subscriptions] == ["active"]


def test_list_that_stripe_rejects_is_skipped_until_the_next_run(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
) -> None:
    """The API key may lack the permission to read invoices."""
    create_subscription(stripe_client)
    skip_events(deployment)
    inject_fault(simulator, "status:403", "/v1/invoices")
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")
    checkpoint = load_checkpoint(deployment)
    assert (checkpoint.phase, checkpoint.full_sync_at) == (None, None)
    assert '"EventFailed":[1.0]' in printed().replace(" ", "")
    clear_faults(simulator)
    reconciliation.start()
    assert len(items_with_prefix(deployment, "INV#")) == 1
    assert load_checkpoint(deployment).full_sync_at


def test_event_of_an_unreadable_object_is_recorded_as_failed_and_the_run_continues(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployment.repository.create_account(Profile("globex"))
    create_subscription(stripe_client)
    unreadable = create_subscription(stripe_client, "globex").id
    original_fetch = StripeGateway.fetch

    def fetch(gateway: StripeGateway, target: ObjectRef, catalog: Catalog) -> FetchedObject | None:
        if target.id == unreadable:
            raise EventUnprocessable("lookup_key is not a string")
        return original_fetch(gateway, target, catalog)

    monkeypatch.setattr(StripeGateway, "fetch", fetch)
    monkeypatch.setattr("billing.stripe_events.ordering.MAX_SNAPSHOT_AGE", timedelta(seconds=-10))
    reconciliation.start()
    assert load_checkpoint(deployment).phase is None
    assert plan_and_status(deployment) == ("pro", "active")
    markers = items_with_prefix(deployment, "EVENT#")
    reasons = {marker["reason"]["S"] for marker in markers if marker["outcome"]["S"] == "failed"}
    assert reasons == {f"{unreadable} as fetched from Stripe: lookup_key is not a string"}


def test_listed_object_that_is_unreadable_emits_the_alarm_metric(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
    printed: Callable[[], str],
) -> None:
    """Its row cannot be compared."""
    listed = create_subscription(stripe_client)

    def unreadable(_source: object, _catalog: Catalog) -> Subscription:
        raise EventUnprocessable("items.data is not a list")

    monkeypatch.setattr("billing.stripe_events.objects.parse_subscription", unreadable)
    skip_events(deployment)
    reconciliation.start()
    output = printed()
    [entry] = log_entries(output, "Malformed object in Stripe list")
    assert (entry["object_id"], entry["reason"]) == (listed.id, "items.data is not a list")
    assert '"EventFailed":[1.0]' in output.replace(" ", "")
