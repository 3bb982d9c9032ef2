"""Budgets of each function: imported modules, requests to AWS and Stripe, and rows read. `make bench` measures time."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest

from bench.deliveries import DEPLOYMENT, WEBHOOK_SECRET, LambdaEvent, status_request, subscription_updated
from bench.probe import Cost
from billing.adapters.outbox import put_outbound
from billing.adapters.repository import Commit, KeyRecord, ProcessedEvent, Repository
from billing.adapters.webhook_repository import WebhookRepository
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.domain.accounts import Profile
from billing.domain.outbound_events import OutboundEvent, OutboundEventType, event_id
from billing.domain.webhook_endpoints import EndpointList, SigningSecret, WebhookEndpoint
from billing.stripe_events.event_types import EventOutcome
from billing.stripe_events.ordering import StoredObject
from local.sample_events import read_sample
from local.stack import ROOT
from tests.api.contracts.test_bad_requests import ISSUER, SHARED_SECRET, token
from tests.samples import INVOICE

HEAVY = {"boto3", "cryptography", "pydantic", "stripe"}
LIGHT_FUNCTIONS = (
    "plans",
    "stripe_webhook",
    "subscription",
    "unknown_route",
    "usage",
    "list_webhook_endpoints",
    "get_webhook_endpoint",
    "delete_webhook_endpoint",
    "rotate_webhook_secret",
    "send_test_event",
    "redeliver",
)
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))
PYTHONPATH = os.pathsep.join([str(ROOT / "layers/billing"), sysconfig.get_path("purelib")])
NOW = datetime.now(UTC)

IMPORT_PROBE = """
import json, sys
import app
from billing.adapters import aws
from billing.bootstrap import app as application
created = [aws.session.cache_info().currsize, len(aws._clients), len(application.__dict__)]
print(json.dumps({"created": created, "modules": list(sys.modules)}))
"""


@dataclass(frozen=True, slots=True)
class Report:
    """Output of bench/probe.py.

    Attributes:
        costs: The cost of each event.
        modules: The modules that were imported after the last event.
    """

    costs: list[Cost]
    modules: set[str]


@dataclass(frozen=True, slots=True)
class Account:
    """An account on the engine, with the environment of the functions that serve it."""

    id: str
    key: str
    repository: Repository
    environment: Mapping[str, str]

    def costs_of_delivery(self, number: int) -> list[Cost]:
        """Return the cost of the account's event `number`, in a process that has handled the previous one."""
        deliveries = [subscription_updated(self.id, each) for each in (number - 1, number)]
        return self.report("stripe_webhook", deliveries).costs[1:]

    def costs_of_status(self) -> list[Cost]:
        """Return the cost of the account's status in a new process.

        The requests are sorted, because concurrent requests have no fixed order.
        """
        costs = self.report("subscription", [status_request(self.key)]).costs
        return [replace(cost, requests=sorted(cost.requests)) for cost in costs]

    def costs_of_invoices(self) -> list[Cost]:
        """Return the cost of a page of five invoices in a new process."""
        page = {**sample_request("invoices", self.key), "rawQueryString": "limit=5"}
        costs = self.report("invoices", [page]).costs
        return [replace(cost, requests=sorted(cost.requests)) for cost in costs]

    def report(self, function: str, events: Sequence[LambdaEvent]) -> Report:
        """Return the cost of the events in one new process. Each response must be 200."""
        done = subprocess.run(  # noqa: S603 - runs our own function
            [sys.executable, "-S", str(ROOT / "bench/probe.py"), str(ROOT / "functions" / function)],
            input=json.dumps(events),
            env={**self.environment, "PYTHONPATH": PYTHONPATH},
            capture_output=True,
            text=True,
            check=True,
        )
        output = json.loads(done.stderr)
        assert [cost["status"] for cost in output["costs"]] == [200] * len(events)
        return Report([Cost(**cost) for cost in output["costs"]], set(output["modules"]))


@pytest.fixture(autouse=True)
def _recent_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Date the events five minutes back. bench.deliveries dates them at its import, which may be too old by now."""
    monkeypatch.setattr("bench.deliveries._STARTED", int(time.time()) - 300)


@pytest.fixture
def account(emulator_url: str, dynamodb: Any, table_name: str, repository: Repository) -> Account:
    """An account with a secret key. Its first event makes it a subscriber."""
    secret = {"api_key": "sk_test_budgets", "webhook_secrets": [WEBHOOK_SECRET]}
    created = boto3.client("secretsmanager", endpoint_url=emulator_url).create_secret(
        Name=f"stripe-{uuid.uuid4()}", SecretString=json.dumps(secret)
    )
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")} | {
        "AWS_ENDPOINT_URL": emulator_url,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.meta.endpoint_url,
        "TABLE_NAME": table_name,
        "DEPLOYMENT_ID": DEPLOYMENT.id,
        "STRIPE_SECRET_ID": created["ARN"],
        "ALLOWED_ORIGINS": "http://localhost:3000",
        "POWERTOOLS_SERVICE_NAME": "budgets",
    }
    key = new_key(KeyKind.SECRET, livemode=False)
    repository.create_account(Profile("acme"))
    repository.create_key(digest_of(key), KeyRecord("key_1", "acme", "secret", NOW, key[-4:]))
    return Account("acme", key, repository, environment)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_import_creates_no_client_and_reads_no_settings(function: str) -> None:
    """The environment is empty, so reading a setting would fail."""
    assert _import(function)["created"] == [0, 0, 0]


@pytest.mark.parametrize("function", LIGHT_FUNCTIONS)
def test_light_function_import_loads_no_heavy_package(function: str) -> None:
    assert not HEAVY & set(_import(function)["modules"])


@pytest.mark.engine
def test_event_costs_one_read_and_one_transaction(account: Account) -> None:
    """The Stripe SDK is not imported, so no request goes to Stripe. A new process also reads the secret once."""
    report = account.report("stripe_webhook", [subscription_updated(account.id, number) for number in range(3)])
    secret, *requests = report.costs[0].requests
    assert secret == "secrets-manager.GetSecretValue"
    assert requests == report.costs[1].requests == report.costs[2].requests
    assert requests == ["dynamodb.BatchGetItem", "dynamodb.TransactWriteItems"]
    assert not HEAVY & report.modules


@pytest.mark.engine
def test_status_costs_one_query_and_one_update(account: Account) -> None:
    """UpdateItem counts the request for the rate limit. The first request also reads its key with GetItem.

    tests/functions/test_rate_limits.py asserts that Query and UpdateItem run at the same time.
    """
    first, second = account.report("subscription", [status_request(account.key)] * 2).costs
    assert first.requests[0] == "dynamodb.GetItem"
    assert sorted(first.requests[1:]) == sorted(second.requests) == ["dynamodb.Query", "dynamodb.UpdateItem"]


@pytest.mark.engine
def test_status_with_a_session_token_costs_no_additional_request(account: Account, emulator_url: str) -> None:
    """A token signed with a shared secret needs no read of the table and no library. The secret is read once."""
    stored = boto3.client("secretsmanager", endpoint_url=emulator_url).create_secret(
        Name=f"session-{uuid.uuid4()}", SecretString=json.dumps({"shared_secrets": [SHARED_SECRET]})
    )
    session = {"SESSION_ISSUER": ISSUER, "SESSION_AUDIENCE": "billing", "SESSION_SECRET_ID": stored["ARN"]}
    user = replace(account, environment={**account.environment, **session})
    report = user.report("subscription", [status_request(token())] * 2)
    first, second = (sorted(cost.requests) for cost in report.costs)
    assert second == ["dynamodb.Query", "dynamodb.UpdateItem"]
    assert first == [*second, "secrets-manager.GetSecretValue"]
    assert not {*HEAVY, "jwt"} & report.modules


# Requests of a function to AWS, without the UpdateItem that counts the request for the rate limit.
REQUESTS = {
    "invoices": ["dynamodb.Query"],
    "usage": ["dynamodb.Query", "dynamodb.BatchGetItem"],
    "record_usage": ["dynamodb.Query", "dynamodb.TransactWriteItems"],
    "plans": [],
}


@pytest.mark.engine
@pytest.mark.parametrize("function", REQUESTS)
def test_other_functions_cost_at_most_two_requests_besides_the_rate_limit(account: Account, function: str) -> None:
    """The first request is not measured, because it also reads the key.

    For `record_usage`, the first request records the measurement and the others are duplicates of it.
    """
    costs = account.report(function, [sample_request(function, account.key)] * 3).costs
    expected = sorted([*REQUESTS[function], "dynamodb.UpdateItem"])
    assert [sorted(cost.requests) for cost in costs[1:]] == [expected, expected]


WEBHOOK_REQUESTS = {
    "list_webhook_endpoints": ["dynamodb.GetItem"],
    "get_webhook_endpoint": ["dynamodb.GetItem"],
    "update_webhook_endpoint": ["dynamodb.GetItem", "dynamodb.TransactWriteItems"],
    "rotate_webhook_secret": ["dynamodb.GetItem", "dynamodb.TransactWriteItems"],
    "list_webhook_deliveries": ["dynamodb.GetItem", "dynamodb.Query"],
}


@pytest.mark.engine
@pytest.mark.parametrize("function", WEBHOOK_REQUESTS)
def test_operations_on_webhook_endpoints_cost_at_most_two_requests_besides_the_rate_limit(
    account: Account, function: str
) -> None:
    add_webhook_endpoint(account)
    costs = account.report(function, [sample_request(function, account.key)] * 3).costs
    expected = sorted([*WEBHOOK_REQUESTS[function], "dynamodb.UpdateItem"])
    assert [sorted(cost.requests) for cost in costs[1:]] == [expected, expected]


@pytest.mark.engine
def test_replay_costs_one_write_for_each_event_and_one_message_for_ten(account: Account, emulator_url: str) -> None:
    add_webhook_endpoint(account)
    for number in range(20):
        event = replace(OUTBOUND_EVENT, id=event_id(NOW, account.id, f"in_{number}", 1))
        account.repository._table.write(put_outbound(event, NOW))
    queue = boto3.client("sqs", endpoint_url=emulator_url).create_queue(
        QueueName=f"budgets-{uuid.uuid4().hex}.fifo", Attributes={"FifoQueue": "true"}
    )
    urls = dict.fromkeys(("DELIVERY_QUEUE_URL", "RETRY_QUEUE_URL"), queue["QueueUrl"])
    server = replace(account, environment={**account.environment, **urls})
    costs = server.report("replay_events", [sample_request("replay_events", account.key)] * 2).costs
    reads = ["dynamodb.BatchGetItem", "dynamodb.GetItem", "dynamodb.Query"]
    writes = ["dynamodb.PutItem"] * 20 + ["dynamodb.UpdateItem"] + ["sqs.SendMessageBatch"] * 2
    assert sorted(costs[1].requests) == sorted(reads + writes)


def add_webhook_endpoint(account: Account) -> None:
    """Store the webhook endpoint of the sample events."""
    endpoint = WebhookEndpoint(
        id="whe_0123456789abcdef01234567",
        url="https://93.184.215.14/webhooks",
        events=("*",),
        description="",
        created=NOW,
        secrets=(SigningSecret("whsec_c2VjcmV0"),),
    )
    WebhookRepository(account.repository._table).save_endpoints(EndpointList(account.id).add(endpoint))


@pytest.mark.engine
def test_cost_is_independent_of_the_number_of_invoices_events_and_accounts(account: Account) -> None:
    """200 more invoices, and 25 other accounts with an event each, add no requests and no rows read."""
    delivery, status = account.costs_of_delivery(1), account.costs_of_status()
    _commit_invoices(account.repository, account.id, [f"in_first_{number:02}" for number in range(10)])
    page = account.costs_of_invoices()
    for batch in range(4):
        _commit_invoices(account.repository, account.id, [f"in_{batch}_page_{number:02}" for number in range(50)])
    for number in range(25):
        account.repository.create_account(Profile(f"other{number}"))
        _commit_invoices(account.repository, f"other{number}", [f"in_of_other{number}"])
    assert account.costs_of_delivery(3) == delivery
    assert account.costs_of_status() == status
    assert account.costs_of_invoices() == page


def sample_request(function: str, secret_key: str) -> LambdaEvent:
    """Return the function's sample event with a secret key."""
    return read_sample(ROOT / f"events/{function}.json", secret_key=secret_key, webhook_secret="", now=NOW)


@cache
def _import(function: str) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603 - runs our own function
        [sys.executable, "-S", "-c", IMPORT_PROBE],
        cwd=ROOT / "functions" / function,
        env={"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _commit_invoices(repository: Repository, account_id: str, invoice_ids: Sequence[str]) -> None:
    rows = [StoredObject(replace(PAID, id=invoice_id), NOW, NOW, version=1) for invoice_id in invoice_ids]
    marker = ProcessedEvent(f"evt_{invoice_ids[0]}", "invoice.paid", EventOutcome.APPLIED, NOW, account_id=account_id)
    repository.commit(Commit(marker, rows))


OUTBOUND_EVENT = OutboundEvent("", OutboundEventType.INVOICE_PAID, "acme", NOW, 1, {"id": "in_1"}, None)
PAID = replace(INVOICE, customer_id="cus_acme", subscription_id="sub_1acme")
