"""The scheduled reconciliation, as Lambda runs it: a queue's message, a real table, and a Stripe over HTTP."""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import boto3
import pytest
import stripe
from botocore.stub import Stubber

import billing.adapters.aws
import billing.adapters.stripe_gateway
import billing.services.reconciler
from billing.adapters.reconciliation_checkpoint import CheckpointRepository
from billing.adapters.stripe_gateway import StripeGateway, rate_limited_gateway
from billing.adapters.token_bucket import TokenBucket
from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.domain.errors import EventUnprocessable, StripeRefused, StripeUnavailable
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.services.reconciler import Reconciler
from billing.services.reconciliation_job import PAGE_SECONDS
from billing.stripe_events.drift import FULL_SYNC_INTERVAL, LEASE, STALE, Checkpoint, Phase
from billing.stripe_events.event_types import EventOutcome, FetchedObject, ObjectRef
from stripe_simulator import Simulator
from tests.functions.conftest import Deployment, control, load_handler, stripe_with_prices
from tests.functions.stripe_side import deliver_all, fault

pytestmark = pytest.mark.engine

SUBSCRIPTIONS = "/v1/subscriptions"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A Stripe of this test's own: everything in it is compared."""
    with stripe_with_prices() as simulator:
        yield simulator


class Context:
    """Lambda's context of an invocation that has so much time for each time that it is asked."""

    def __init__(self, *seconds_left: float) -> None:
        self._left = list(seconds_left)

    def get_remaining_time_in_millis(self) -> int:
        """The last one again and again."""
        return int(1000 * (self._left.pop(0) if len(self._left) > 1 else self._left[0]))


class Reconciliation:
    """The function behind its queue."""

    def __init__(self, queue_url: str, sqs: Any) -> None:
        self.handler = load_handler("reconcile")
        self.url = queue_url
        self.sqs = sqs

    def start(self, context: Context | None = None) -> None:
        """What the schedule does, and Lambda then: a message is put into the queue, and taken out of it."""
        self.sqs.send_message(QueueUrl=self.url, MessageBody="{}")
        self.go_on(context)

    def go_on(self, context: Context | None = None) -> None:
        """Let Lambda take one message; it is deleted if the function succeeds, and hidden for a while else."""
        [message] = self._receive()
        self.handler({"Records": [record(message)]}, context or Context(PAGE_SECONDS))
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def waiting(self) -> list[dict[str, Any]]:
        """The messages that can be taken now, which are then gone."""
        found = self._receive()
        for message in found:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]

    def _receive(self) -> list[dict[str, Any]]:
        names = ["ApproximateReceiveCount"]
        return self.sqs.receive_message(QueueUrl=self.url, MessageSystemAttributeNames=names).get("Messages", [])  # type: ignore[no-any-return]


def record(message: dict[str, Any]) -> dict[str, Any]:
    """A message as Lambda hands it to the function."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
    }


@pytest.fixture
def reconciliation(
    deployment: Deployment,
    stripe_client: stripe.StripeClient,  # noqa: ARG001 - its environment comes first
    emulator_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reconciliation]:
    """The function, with a queue and a Stripe that nobody else uses, so that it need not keep to a rate."""
    sqs = boto3.client("sqs", endpoint_url=emulator_url)
    url = sqs.create_queue(QueueName=f"reconcile-{deployment.table.name}")["QueueUrl"]
    monkeypatch.setenv("RECONCILE_QUEUE_URL", url)
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 10_000)
    monkeypatch.setattr(billing.services.reconciler, "SETTLE_SECONDS", 0)
    yield Reconciliation(url, sqs)
    sqs.delete_queue(QueueUrl=url)


def subscribe(client: stripe.StripeClient, account_id: str | None = "acme", **fields: Any) -> stripe.Subscription:
    """A new customer in Stripe with a paid subscription, which carries the account's id if it has one."""
    metadata = {"account_id": account_id} if account_id else {}
    paying = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    who: Any = {"email": "jo@acme.test", "metadata": metadata, **paying}
    customer = client.v1.customers.create(who)
    [price] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    order: Any = {"customer": customer.id, "items": [{"price": price.id}], "metadata": metadata, **fields}
    return client.v1.subscriptions.create(order)


def status(deployment: Deployment) -> tuple[Any, Any]:
    """The plan and status that the API answers for acme."""
    body = deployment.authorized("GET", "/v1/billing").body
    return body["plan"], body["status"]


def rows(deployment: Deployment, prefix: str) -> list[dict[str, Any]]:
    """The rows whose partition or sort key begins so."""
    items = deployment.table.client.scan(TableName=deployment.table.name)["Items"]
    return [item for item in items if item["pk"]["S"].startswith(prefix) or item["sk"]["S"].startswith(prefix)]


def outbox(deployment: Deployment) -> list[str]:
    """What the account's own systems are to be told."""
    return sorted(item["type"]["S"] for item in rows(deployment, "OUT#"))


def spoil(
    deployment: Deployment, simulator: Simulator, subscription_id: str, status: str, account_id: str = "acme"
) -> None:
    """Change a row by hand, as no event ever did, some time before Stripe is asked again."""
    control(simulator, "POST", "clock", {"advance_seconds": 60})
    deployment.table.client.update_item(
        TableName=deployment.table.name,
        Key={"pk": {"S": f"ACCOUNT#{account_id}"}, "sk": {"S": f"SUB#{subscription_id}"}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
    )


def pretend(deployment: Deployment, **changes: Any) -> None:
    """Let reconciliation have come so far."""
    repository = deployment.repository
    known = CheckpointRepository(repository._table).load()
    facts = {name: getattr(known, name) for name in Checkpoint.__slots__} | changes
    CheckpointRepository(repository._table).save(Checkpoint(**facts))


# --- what it brings about ---------------------------------------------------------------------------------------------


def test_missed_events_are_taken(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """While the webhook was down somebody subscribed: the account is on its plan, has its invoice, and is told once."""
    subscription = subscribe(stripe_client)
    assert status(deployment) == ("free", None)
    reconciliation.start()
    assert status(deployment) == ("pro", "active")
    [invoice] = deployment.authorized("GET", "/v1/billing/invoices").body["invoices"]
    assert invoice["id"] == subscription.latest_invoice
    assert outbox(deployment) == ["invoice.paid", "subscription.created"]
    assert rows(deployment, "EVENT#reconciliation_") == []
    before = rows(deployment, "EVENT#")
    pretend(deployment, full_sync_at=None)
    reconciliation.start()
    assert rows(deployment, "EVENT#") == before
    assert outbox(deployment) == ["invoice.paid", "subscription.created"]


def test_drift_is_mended_counted_and_logged(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
) -> None:
    """A row that somebody changed by hand is Stripe's again, with a marker, a metric and a line that names it."""
    subscription = subscribe(stripe_client)
    deliver_all(deployment, simulator)
    spoil(deployment, simulator, subscription.id, "canceled")
    assert status(deployment) == ("free", "canceled")
    reconciliation.start()
    assert status(deployment) == ("pro", "active")
    [marker] = rows(deployment, "EVENT#reconciliation_")
    assert marker["outcome"]["S"] == "applied"
    assert marker["type"]["S"] == "reconciliation.subscriptions"
    said = printed()
    assert re.findall(r'"DriftMended":\[([\d.]+)\]', said) == ["1.0"]
    [line] = [json.loads(each) for each in said.splitlines() if "found a difference" in each]
    assert (line["object_id"], line["account_id"], line["outcome"]) == (subscription.id, "acme", "applied")
    pages = [json.loads(each) for each in said.splitlines() if "Page reconciled" in each]
    assert [(page["phase"], page["drift"], page["unknown_customer"]) for page in pages] == [
        ("events", 0, 0),
        ("subscriptions", 1, 0),
        ("invoices", 0, 0),
    ]


def test_a_change_that_is_under_way_is_no_drift(
    deployment: Deployment,
    reconciliation: Reconciliation,  # noqa: ARG001 - its environment comes first
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    """What Stripe changed just now, and its event brings within the moment that is waited, is nobody's mistake."""
    subscription = subscribe(stripe_client)
    deliver_all(deployment, simulator)
    control(simulator, "POST", "clock", {"advance_seconds": 60})
    stripe_client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    reconciler = Reconciler(
        deployment.repository,
        rate_limited_gateway("sk_test_functions", simulator.url),
        load_catalog(),
        livemode=False,
        pause=lambda _: deliver_all(deployment, simulator),
    )
    report = reconciler.page(Phase.SUBSCRIPTIONS, datetime.now(UTC), None)
    assert (report.ids, report.discrepancies) == ((subscription.id,), ())
    assert deployment.authorized("GET", "/v1/billing").body["cancel_at_period_end"] is True


def test_a_missing_row_is_written(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """Rows of which every trace is lost, their events' too old to be listed, come back from Stripe's lists."""
    subscription = subscribe(stripe_client)
    deliver_all(deployment, simulator)
    for item in [*rows(deployment, "SUB#"), *rows(deployment, "INV#")]:
        deployment.table.client.delete_item(TableName=deployment.table.name, Key={"pk": item["pk"], "sk": item["sk"]})
    reconciliation.start()
    assert status(deployment) == ("pro", "active")
    [invoice] = deployment.authorized("GET", "/v1/billing/invoices").body["invoices"]
    assert (invoice["id"], invoice["status"]) == (subscription.latest_invoice, "paid")


def test_a_sweep_is_daily(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The hourly run looks at events alone; once a day it compares everything."""
    subscription = subscribe(stripe_client)
    deliver_all(deployment, simulator)
    reconciliation.start()
    spoil(deployment, simulator, subscription.id, "canceled")
    reconciliation.start()
    assert status(deployment) == ("free", "canceled")
    pretend(deployment, full_sync_at=datetime.now(UTC) - FULL_SYNC_INTERVAL)
    reconciliation.start()
    assert status(deployment) == ("pro", "active")


def test_unmatched_events_wait_for_their_account(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """An account that is created after its events gets their effect, and the events their outcome."""
    subscribe(stripe_client, "late")
    deliver_all(deployment, simulator)
    reconciliation.start()
    found = deployment.repository.find_markers([item["event_id"]["S"] for item in rows(deployment, "EVENT#")])
    assert EventOutcome.UNKNOWN_CUSTOMER in {marker.outcome for marker in found.values()}
    deployment.repository.create_account(Profile("late"))
    pretend(deployment, full_sync_at=None)
    reconciliation.start()
    account = deployment.repository.load_account("late")
    assert [each.status for each in account.subscriptions] == ["active"]
    outcomes = {marker.outcome for marker in deployment.repository.find_markers(found).values()}
    assert outcomes <= {EventOutcome.APPLIED, EventOutcome.NO_CHANGE, EventOutcome.IGNORED}


def test_what_belongs_to_nobody_is_left_alone(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """Another product's customers in the same Stripe account are recorded once as unknown_customer, and never again."""
    subscribe(stripe_client, None)
    reconciliation.start()
    before = rows(deployment, "")
    pretend(deployment, full_sync_at=None)
    reconciliation.start()
    after = rows(deployment, "")
    without_progress = [[row for row in each if row["pk"]["S"] != "RECONCILIATION"] for each in (before, after)]
    assert without_progress[0] == without_progress[1]
    assert rows(deployment, "SUB#") == rows(deployment, "INV#") == rows(deployment, "CUSTOMER#") == []


def test_it_leaves_room_for_everybody_else(reconciliation: Reconciliation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request that it makes waits for its turn, so that no checkout is refused for its sake."""
    waits: list[float] = []
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 0.001)
    monkeypatch.setattr(billing.adapters.stripe_gateway, "TokenBucket", partial(TokenBucket, sleep=waits.append))
    reconciliation.start()
    assert len(waits) == len(Phase)


# --- where it stops, and how it goes on -------------------------------------------------------------------------------


def test_it_goes_on_by_a_message(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that has no time for another page keeps its place and sends itself a message, until all is done."""
    monkeypatch.setattr(billing.adapters.stripe_gateway, "PAGE_SIZE", 3)
    for account_id in ("a1", "a2", "a3", "a4"):
        deployment.repository.create_account(Profile(account_id))
        subscribe(stripe_client, account_id)
    places = []
    reconciliation.start(Context(PAGE_SECONDS, PAGE_SECONDS - 1))
    while (progress := CheckpointRepository(deployment.repository._table).load()).phase:
        places.append((progress.phase, progress.after))
        reconciliation.go_on(Context(PAGE_SECONDS, PAGE_SECONDS - 1))
    assert len(places) == len(set(places)) > 3
    assert {phase for phase, _ in places} == set(Phase)
    assert reconciliation.waiting() == []
    assert [len(deployment.repository.load_account(each).subscriptions) for each in ("a1", "a2", "a3", "a4")] == [1] * 4


def test_a_failure_keeps_its_place(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stripe fails in the midst: the message is hidden for longer than a moment, and then the same page is next."""
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)
    subscribe(stripe_client)
    fault(simulator, "status:500", SUBSCRIPTIONS, count=3)
    with pytest.raises(StripeUnavailable):
        reconciliation.start()
    stopped = CheckpointRepository(deployment.repository._table).load()
    assert stopped.phase is Phase.SUBSCRIPTIONS
    assert reconciliation.waiting() == []
    assert stopped.run_id
    reconciliation.sqs.send_message(QueueUrl=reconciliation.url, MessageBody=json.dumps({"run": stopped.run_id}))
    reconciliation.go_on()
    ended = CheckpointRepository(deployment.repository._table).load()
    assert (ended.phase, ended.run_id, ended.full_sync_at) == (None, None, stopped.began)
    assert status(deployment) == ("pro", "active")


def test_a_failing_run_comes_back_later_each_time(
    reconciliation: Reconciliation, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as long as before, a quarter of an hour at most, and never sooner than Stripe says."""
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    monkeypatch.setattr(StripeUnavailable, "default_retry_after_seconds", 45)
    fault(simulator, "status:500")
    sent = {"MessageId": "m1", "Body": "{}", "ReceiptHandle": "handle"}
    with Stubber(billing.adapters.aws.client("sqs")) as sqs:
        for receives, seconds in (("1", 45), ("2", 60), ("3", 120), ("5", 480), ("6", 900)):
            hidden = {"QueueUrl": reconciliation.url, "ReceiptHandle": "handle", "VisibilityTimeout": seconds}
            sqs.add_response("change_message_visibility", {}, hidden)
            message = {**sent, "Attributes": {"ApproximateReceiveCount": receives}}
            with pytest.raises(StripeUnavailable):
                reconciliation.handler({"Records": [record(message)]}, Context(PAGE_SECONDS))
        sqs.assert_no_pending_responses()


def test_a_run_that_crashed_is_taken_up_after_its_lease(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """Nobody else may touch it before; then the next scheduled run goes on at the very page."""
    subscribe(stripe_client)
    now = datetime.now(UTC).replace(microsecond=0)
    crashed: dict[str, Any] = {
        "run_id": "crashed",
        "began": now,
        "since": now,
        "full_sync": True,
        "phase": Phase.INVOICES,
    }
    pretend(deployment, **crashed, page_at=now, leased_until=now + LEASE)
    reconciliation.start()
    assert CheckpointRepository(deployment.repository._table).load().run_id == "crashed"
    assert reconciliation.waiting() == []
    assert status(deployment) == ("free", None)
    pretend(deployment, leased_until=now - timedelta(seconds=1))
    reconciliation.start()
    assert (status(deployment), len(rows(deployment, "INV#"))) == (("free", None), 1)
    assert CheckpointRepository(deployment.repository._table).load().full_sync_at == now


def test_a_run_that_is_overtaken_leaves_the_rest_to_the_other(
    deployment: Deployment, reconciliation: Reconciliation
) -> None:
    """No failure that would alarm, no message that would go on with it, and the other's place is kept."""

    class Overtaken(Context):
        def get_remaining_time_in_millis(self) -> int:
            pretend(deployment, run_id="other", after="evt_9")
            return super().get_remaining_time_in_millis()

    reconciliation.start(Overtaken(PAGE_SECONDS))
    progress = CheckpointRepository(deployment.repository._table).load()
    assert (progress.run_id, progress.phase, progress.after) == ("other", Phase.EVENTS, "evt_9")
    assert reconciliation.waiting() == []


def test_a_run_from_long_ago_is_begun_anew(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """Where it stopped may be gone from Stripe's lists."""
    subscribe(stripe_client)
    long_ago = datetime.now(UTC).replace(microsecond=0) - STALE
    old = {"run_id": "old", "page_at": long_ago, "began": long_ago, "since": long_ago}
    pretend(deployment, **old, phase=Phase.INVOICES, after="in_gone")
    reconciliation.start()
    assert status(deployment) == ("pro", "active")


def test_a_page_that_stripe_refuses_is_not_asked_for_for_ever(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """The place was a draft that is deleted: the next run goes through the list from its beginning."""
    subscribe(stripe_client)
    now = datetime.now(UTC).replace(microsecond=0)
    pretend(deployment, page_at=now, began=now, since=now, full_sync=True, phase=Phase.INVOICES, after="in_gone")
    reconciliation.start()
    assert CheckpointRepository(deployment.repository._table).load().phase is None
    reconciliation.start()
    assert len(rows(deployment, "INV#")) == 1


def test_events_that_stripe_refuses_are_begun_anew(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """The place was an event that Stripe lists no more."""
    subscribe(stripe_client)
    now = datetime.now(UTC).replace(microsecond=0)
    long_ago = now - timedelta(days=30)
    pretend(deployment, page_at=now, began=now, since=long_ago, phase=Phase.EVENTS, after="evt_gone")
    with pytest.raises(StripeRefused):
        reconciliation.start()
    stopped = CheckpointRepository(deployment.repository._table).load()
    assert (stopped.phase, stopped.after) == (Phase.EVENTS, None)
    reconciliation.sqs.send_message(QueueUrl=reconciliation.url, MessageBody=json.dumps({"run": stopped.run_id}))
    reconciliation.go_on()
    assert status(deployment) == ("pro", "active")


@pytest.mark.parametrize("kind", ["status:429", "status:500", "reset", "nonsense"])
def test_two_runs_at_once_and_an_unreliable_stripe_do_no_harm(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same message is handed over thrice while Stripe fails: after one more run all is right, and told once."""
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    subscribe(stripe_client)
    fault(simulator, kind, "/v1/", count=3)
    event = {
        "Records": [
            {
                "messageId": "m1",
                "body": "{}",
                "receiptHandle": "none",
                "attributes": {"ApproximateReceiveCount": "1"},
            }
        ]
    }

    def run() -> None:
        with contextlib.suppress(Exception):  # whatever fails here, the next run has to make good
            reconciliation.handler(event, Context(PAGE_SECONDS))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    control(simulator, "DELETE", "faults")
    pretend(deployment, phase=None, run_id=None, full_sync_at=None)
    reconciliation.start()
    assert status(deployment) == ("pro", "active")
    assert outbox(deployment) == ["invoice.paid", "subscription.created"]


# --- one object that cannot be had ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["status:403", "status:500", "reset"])
def test_an_object_that_stripe_fails_on_stops_nobody_else(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """Its row stays as it is, the operator is alarmed, and the other account's row is mended."""
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    deployment.repository.create_account(Profile("globex"))
    refused, other = subscribe(stripe_client), subscribe(stripe_client, "globex")
    deliver_all(deployment, simulator)
    for subscription, account_id in ((refused, "acme"), (other, "globex")):
        spoil(deployment, simulator, subscription.id, "canceled", account_id)
    fault(simulator, kind, f"{SUBSCRIPTIONS}/{refused.id}")
    reconciliation.start()
    assert CheckpointRepository(deployment.repository._table).load().phase is None
    assert status(deployment) == ("free", "canceled")
    assert [each.status for each in deployment.repository.load_account("globex").subscriptions] == ["active"]
    assert '"EventFailed":[1.0]' in printed().replace(" ", "")


def test_what_stripe_fails_on_for_too_long_is_left_for_the_next_sweep(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page ends while the function lives, and the run; nothing is stuck on it."""
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)
    monkeypatch.setattr(billing.services.reconciler, "PAGE_TIME_BUDGET_SECONDS", -1)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    deployment.repository.create_account(Profile("globex"))
    subscriptions = {account_id: subscribe(stripe_client, account_id) for account_id in ("acme", "globex")}
    deliver_all(deployment, simulator)
    for account_id, subscription in subscriptions.items():
        spoil(deployment, simulator, subscription.id, "canceled", account_id)
    fault(simulator, "status:500", f"{SUBSCRIPTIONS}/{subscriptions['globex'].id}")
    reconciliation.start()
    assert CheckpointRepository(deployment.repository._table).load().phase is None
    assert status(deployment) == ("free", "canceled")
    control(simulator, "DELETE", "faults")
    pretend(deployment, full_sync_at=None)
    reconciliation.start()
    assert status(deployment) == ("pro", "active")
    assert [each.status for each in deployment.repository.load_account("globex").subscriptions] == ["active"]


def test_a_list_that_stripe_refuses_is_left_out(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    printed: Callable[[], str],
) -> None:
    """As with a key that may not read invoices: the rest is compared, and the next run full_sync again."""
    subscribe(stripe_client)
    pretend_events_are_over(deployment)
    fault(simulator, "status:403", "/v1/invoices")
    reconciliation.start()
    assert status(deployment) == ("pro", "active")
    progress = CheckpointRepository(deployment.repository._table).load()
    assert (progress.phase, progress.full_sync_at) == (None, None)
    assert '"EventFailed":[1.0]' in printed().replace(" ", "")
    control(simulator, "DELETE", "faults")
    reconciliation.start()
    assert len(rows(deployment, "INV#")) == 1
    assert CheckpointRepository(deployment.repository._table).load().full_sync_at


# --- two customers that name one account ------------------------------------------------------------------------------


def test_the_customer_of_a_living_subscription_is_linked(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """Though the other one's subscription is newer, as long as that has ended."""
    paying = subscribe(stripe_client)
    left = subscribe(stripe_client)
    stripe_client.v1.subscriptions.cancel(left.id)
    pretend_events_are_over(deployment)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == paying.customer
    assert status(deployment) == ("pro", "active")


def test_a_living_subscriptions_event_makes_the_link_first(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """Also where older events tell of another customer's, which has ended."""
    left = subscribe(stripe_client)
    stripe_client.v1.subscriptions.cancel(left.id)
    paying = subscribe(stripe_client)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == paying.customer


def test_the_end_of_the_customer_before_is_looked_at_first(
    deployment: Deployment, reconciliation: Reconciliation, stripe_client: stripe.StripeClient
) -> None:
    """While the webhook was down the account's customer was deleted, and another one subscribed for it."""
    gone = stripe_client.v1.customers.create({"metadata": {"account_id": "acme"}}).id
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, customer_id=gone), new_customer_id=gone)
    stripe_client.v1.customers.delete(gone)
    paying = subscribe(stripe_client)
    pretend(deployment, full_sync_at=datetime.now(UTC).replace(microsecond=0))
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == paying.customer
    assert status(deployment) == ("pro", "active")


def test_no_account_gets_a_customer_that_is_deleted(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
) -> None:
    """Neither by an event nor by a list; its events stay nobody's, which is no difference."""
    gone = subscribe(stripe_client)
    stripe_client.v1.customers.delete(str(gone.customer))
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id is None
    assert {each["outcome"]["S"] for each in rows(deployment, "EVENT#evt_")} == {"unknown_customer"}
    assert "found a difference" not in printed()
    paying = subscribe(stripe_client)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == paying.customer
    assert status(deployment) == ("pro", "active")


def test_another_customers_objects_are_told_of_each_day(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
) -> None:
    """Also where no event is left that could; nothing of them is written."""
    first, second = subscribe(stripe_client), subscribe(stripe_client)
    pretend_events_are_over(deployment)
    reconciliation.start()
    assert deployment.repository.load_account("acme").profile.customer_id == second.customer
    said = printed()
    told = [json.loads(line) for line in said.splitlines() if "found a difference" in line]
    customer_conflict = [each["object_id"] for each in told if each["outcome"] == "customer_conflict"]
    assert customer_conflict == [first.id, str(first.latest_invoice)]
    assert said.count('"CustomerMismatch":[1.0]') == len(customer_conflict)
    assert [each.id for each in deployment.repository.load_account("acme").subscriptions] == [second.id]


def test_events_of_a_mismatch_are_done_once_it_is_resolved(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    printed: Callable[[], str],
) -> None:
    """First nobody's, as their account is not stored; then another customer's, which alarms; then the account's own."""
    subscription = subscribe(stripe_client, "globex")
    reconciliation.start()
    assert {each["outcome"]["S"] for each in rows(deployment, "EVENT#evt_")} == {"unknown_customer"}
    deployment.repository.create_account(Profile("globex", customer_id="cus_other"))
    reconciliation.start()
    assert {each["outcome"]["S"] for each in rows(deployment, "EVENT#evt_")} == {"customer_conflict"}
    assert "CustomerMismatch" in printed()
    [profile] = deployment.repository.find_profiles(["globex"]).values()
    customer_id = str(subscription.customer)
    deployment.repository.save_profile(replace(profile, customer_id=customer_id), new_customer_id=customer_id)
    reconciliation.start()
    assert [each.status for each in deployment.repository.load_account("globex").subscriptions] == ["active"]
    assert {each["outcome"]["S"] for each in rows(deployment, "EVENT#evt_")} == {"applied", "no_change"}


def pretend_events_are_over(deployment: Deployment) -> None:
    """As if everything had happened so long ago that Stripe's list of events begins after it."""
    now = datetime.now(UTC).replace(microsecond=0)
    pretend(deployment, began=now, page_at=now, since=now, full_sync=True, phase=Phase.SUBSCRIPTIONS)


# --- one object that cannot be read -----------------------------------------------------------------------------------


def test_an_event_whose_object_cannot_be_read_stops_nobody_else(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is recorded as failed with the reason, and the rest of the run goes on to its end."""
    deployment.repository.create_account(Profile("globex"))
    subscribe(stripe_client)
    unreadable = subscribe(stripe_client, "globex").id
    fetch = StripeGateway.fetch

    def fetched(gateway: StripeGateway, target: ObjectRef, catalog: Catalog) -> FetchedObject | None:
        if target.id == unreadable:
            raise EventUnprocessable("lookup_key is not a string")
        return fetch(gateway, target, catalog)

    monkeypatch.setattr(StripeGateway, "fetch", fetched)
    monkeypatch.setattr("billing.stripe_events.ordering.MAX_SNAPSHOT_AGE", timedelta(seconds=-10))
    reconciliation.start()
    assert CheckpointRepository(deployment.repository._table).load().phase is None
    assert status(deployment) == ("pro", "active")
    reasons = {marker["reason"]["S"] for marker in rows(deployment, "EVENT#") if marker["outcome"]["S"] == "failed"}
    assert reasons == {f"what Stripe has of {unreadable}: lookup_key is not a string"}


def test_a_listed_object_that_cannot_be_read_is_alarmed(
    deployment: Deployment,
    reconciliation: Reconciliation,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
    printed: Callable[[], str],
) -> None:
    """Nobody can say whether its row is right."""
    listed = subscribe(stripe_client)

    def unreadable(_source: object, _catalog: Catalog) -> Subscription:
        raise EventUnprocessable("items.data is not a list")

    monkeypatch.setattr("billing.stripe_events.objects.read_subscription", unreadable)
    pretend_events_are_over(deployment)
    reconciliation.start()
    said = printed()
    [line] = [json.loads(each) for each in said.splitlines() if "Malformed object in Stripe list" in each]
    assert (line["object_id"], line["reason"]) == (listed.id, "items.data is not a list")
    assert '"EventFailed":[1.0]' in said.replace(" ", "")
