"""Runs of the job: leases, checkpoints, continuation by message, and retries."""

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
import stripe
from botocore.stub import Stubber

import billing.adapters.aws
import billing.adapters.stripe_gateway
from billing.domain.accounts import Profile
from billing.domain.errors import StripeRefused, StripeUnavailable
from billing.services.reconciliation_job import PAGE_SECONDS
from billing.stripe_events.drift import LEASE_DURATION, RUN_TIMEOUT, Phase
from stripe_simulator import Simulator
from tests.functions.reconcile.support import (
    Context,
    ReconcileFunction,
    load_checkpoint,
    plan_and_status,
    record,
    save_checkpoint,
)
from tests.functions.stripe_support import clear_faults, create_subscription, inject_fault
from tests.functions.support import FunctionHarness, items_with_prefix, outbox_types

pytestmark = pytest.mark.engine


def test_run_without_time_for_another_page_continues_by_message(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(billing.adapters.stripe_gateway, "PAGE_SIZE", 3)
    account_ids = ("a1", "a2", "a3", "a4")
    for account_id in account_ids:
        deployment.repository.create_account(Profile(account_id))
        create_subscription(stripe_client, account_id)
    positions = []
    reconciliation.start(Context(PAGE_SECONDS, PAGE_SECONDS - 1))
    while (checkpoint := load_checkpoint(deployment)).phase:
        positions.append((checkpoint.phase, checkpoint.after))
        reconciliation.handle_next(Context(PAGE_SECONDS, PAGE_SECONDS - 1))
    assert len(positions) == len(set(positions)) > 3
    assert {phase for phase, _ in positions} == set(Phase)
    assert reconciliation.take_visible_messages() == []
    assert [len(deployment.repository.load_account(each).subscriptions) for each in account_ids] == [1] * 4


@pytest.mark.usefixtures("single_attempt")
def test_run_after_a_stripe_failure_resumes_at_the_same_page(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    """The message stays hidden until its retry."""
    create_subscription(stripe_client)
    inject_fault(simulator, "status:500", "/v1/subscriptions", count=3)
    with pytest.raises(StripeUnavailable):
        reconciliation.start()
    stopped = load_checkpoint(deployment)
    assert stopped.phase is Phase.SUBSCRIPTIONS
    assert reconciliation.take_visible_messages() == []
    reconciliation.resume(stopped.run_id)
    ended = load_checkpoint(deployment)
    assert (ended.phase, ended.run_id, ended.full_sync_at) == (None, None, stopped.began)
    assert plan_and_status(deployment) == ("pro", "active")


@pytest.mark.usefixtures("single_attempt")
def test_failing_run_is_retried_with_exponential_backoff(
    reconciliation: ReconcileFunction, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delay doubles up to 15 minutes. It is never shorter than the `Retry-After` of Stripe."""
    monkeypatch.setattr(StripeUnavailable, "default_retry_after_seconds", 45)
    inject_fault(simulator, "status:500")
    sent = {"MessageId": "m1", "Body": "{}", "ReceiptHandle": "handle"}
    with Stubber(billing.adapters.aws.client("sqs")) as sqs:
        for receives, seconds in (("1", 45), ("2", 60), ("3", 120), ("5", 480), ("6", 900)):
            hidden = {"QueueUrl": reconciliation.queue_url, "ReceiptHandle": "handle", "VisibilityTimeout": seconds}
            sqs.add_response("change_message_visibility", {}, hidden)
            message = {**sent, "Attributes": {"ApproximateReceiveCount": receives}}
            with pytest.raises(StripeUnavailable):
                reconciliation.handler({"Records": [record(message)]}, Context(PAGE_SECONDS))
        sqs.assert_no_pending_responses()


def test_crashed_run_is_resumed_after_its_lease_expires(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """The next scheduled run continues at the same page."""
    create_subscription(stripe_client)
    now = datetime.now(UTC).replace(microsecond=0)
    save_checkpoint(
        deployment,
        run_id="crashed",
        began=now,
        since=now,
        full_sync=True,
        phase=Phase.INVOICES,
        page_at=now,
        leased_until=now + LEASE_DURATION,
    )
    reconciliation.start()
    assert load_checkpoint(deployment).run_id == "crashed"
    assert reconciliation.take_visible_messages() == []
    assert plan_and_status(deployment) == ("free", None)
    save_checkpoint(deployment, leased_until=now - timedelta(seconds=1))
    reconciliation.start()
    assert (plan_and_status(deployment), len(items_with_prefix(deployment, "INV#"))) == (("free", None), 1)
    assert load_checkpoint(deployment).full_sync_at == now


def test_overtaken_run_ends_and_keeps_the_checkpoint_of_the_other(
    deployment: FunctionHarness, reconciliation: ReconcileFunction
) -> None:
    """The run raises no error, which would trigger an alarm, and sends no message."""

    class OvertakenContext(Context):
        def get_remaining_time_in_millis(self) -> int:
            save_checkpoint(deployment, run_id="other", after="evt_9")
            return super().get_remaining_time_in_millis()

    reconciliation.start(OvertakenContext(PAGE_SECONDS))
    checkpoint = load_checkpoint(deployment)
    assert (checkpoint.run_id, checkpoint.phase, checkpoint.after) == ("other", Phase.EVENTS, "evt_9")
    assert reconciliation.take_visible_messages() == []


def test_stale_run_starts_again(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """The object at its checkpoint may be gone from Stripe's lists."""
    create_subscription(stripe_client)
    long_ago = datetime.now(UTC).replace(microsecond=0) - RUN_TIMEOUT
    old = {"run_id": "old", "page_at": long_ago, "began": long_ago, "since": long_ago}
    save_checkpoint(deployment, **old, phase=Phase.INVOICES, after="in_gone")
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")


def test_full_sync_after_a_rejected_cursor_starts_the_list_again(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """The cursor is an invoice draft that was deleted."""
    create_subscription(stripe_client)
    now = datetime.now(UTC).replace(microsecond=0)
    save_checkpoint(
        deployment, page_at=now, began=now, since=now, full_sync=True, phase=Phase.INVOICES, after="in_gone"
    )
    reconciliation.start()
    assert load_checkpoint(deployment).phase is None
    reconciliation.start()
    assert len(items_with_prefix(deployment, "INV#")) == 1


def test_events_after_a_rejected_cursor_start_again(
    deployment: FunctionHarness, reconciliation: ReconcileFunction, stripe_client: stripe.StripeClient
) -> None:
    """The cursor is an event that Stripe no longer lists."""
    create_subscription(stripe_client)
    now = datetime.now(UTC).replace(microsecond=0)
    long_ago = now - timedelta(days=30)
    save_checkpoint(deployment, page_at=now, began=now, since=long_ago, phase=Phase.EVENTS, after="evt_gone")
    with pytest.raises(StripeRefused):
        reconciliation.start()
    stopped = load_checkpoint(deployment)
    assert (stopped.phase, stopped.after) == (Phase.EVENTS, None)
    reconciliation.resume(stopped.run_id)
    assert plan_and_status(deployment) == ("pro", "active")


@pytest.mark.parametrize("kind", ["status:429", "status:500", "reset", "nonsense"])
@pytest.mark.usefixtures("single_attempt")
def test_concurrent_runs_while_stripe_fails_apply_and_publish_once(
    deployment: FunctionHarness,
    reconciliation: ReconcileFunction,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    kind: str,
) -> None:
    create_subscription(stripe_client)
    inject_fault(simulator, kind, "/v1/", count=3)
    attributes = {"ApproximateReceiveCount": "1"}
    message = {"MessageId": "m1", "Body": "{}", "ReceiptHandle": "handle", "Attributes": attributes}

    def run() -> None:
        with contextlib.suppress(Exception):  # the next run repairs the effects of any failure
            reconciliation.handler({"Records": [record(message)]}, Context(PAGE_SECONDS))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clear_faults(simulator)
    save_checkpoint(deployment, phase=None, run_id=None, full_sync_at=None)
    reconciliation.start()
    assert plan_and_status(deployment) == ("pro", "active")
    assert outbox_types(deployment) == ["invoice.paid", "subscription.created"]
