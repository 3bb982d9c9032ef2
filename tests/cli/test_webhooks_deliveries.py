"""Tests of `billing webhooks deliveries`, `redeliver` and `replay`."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from billing.adapters.dynamodb import delete
from billing.adapters.outbox import OUTBOX_RETENTION, outbox_key
from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.outbound_events import OutboundEvent, OutboundEventType
from billing.domain.timestamps import iso
from billing.domain.webhook_deliveries import DeliveryStatus, delivery_id
from billing.services.webhook_redelivery import REPLAY_EVENTS_MAX
from tests.cli.support import DeployedStack, RunBilling, aws, json_error, json_output, stack_outputs, table_items
from tests.cli.webhook_support import (
    NOW,
    PUBLIC_URL,
    attempt,
    break_event,
    commit_event,
    receive,
    requested,
    save_delivery,
    table_of,
    webhooks_of,
)
from tests.wire import Answer, Wire

pytestmark = pytest.mark.engine

DELIVERED, PENDING, FAILED = DeliveryStatus.DELIVERED, DeliveryStatus.PENDING, DeliveryStatus.FAILED


@pytest.fixture
def endpoint_id(run_billing: RunBilling) -> str:
    """Endpoint of the deployment for all events."""
    return str(json_output(run_billing("webhooks", "create", PUBLIC_URL, "--json"))["id"])


@pytest.fixture
def account_endpoint_id(run_billing: RunBilling) -> str:
    """Endpoint of acme for paid invoices."""
    run_billing("accounts", "create", "acme")
    words = ("--account", "acme", "--event", "invoice.paid", "--json")
    return str(json_output(run_billing("webhooks", "create", PUBLIC_URL, *words))["id"])


# --- deliveries -------------------------------------------------------------------------------------------------------


def test_deliveries_lists_the_latest_event_first_with_its_attempts(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    old = commit_event(stack, number=1, age=timedelta(hours=2))
    new = commit_event(stack, number=2, age=timedelta(hours=1))
    save_delivery(stack, endpoint_id, old, DELIVERED)
    save_delivery(stack, endpoint_id, new, PENDING)
    listed = json_output(run_billing("webhooks", "deliveries", endpoint_id, "--json"))
    assert listed["has_more"] is False
    assert [each["event_id"] for each in listed["deliveries"]] == [new.id, old.id]
    assert listed["deliveries"][0] == {
        "id": delivery_id(endpoint_id, new.id),
        "endpoint_id": endpoint_id,
        "event_id": new.id,
        "event_type": "invoice.paid",
        "account_id": "acme",
        "status": "pending",
        "created": iso(NOW),
        "attempts": [{"started": iso(NOW), "status_code": 500, "latency_ms": 40, "error": None}],
        "next_attempt_at": iso(NOW + timedelta(seconds=5)),
        "reason": None,
        "response_body": "broken",
    }
    lines = run_billing("webhooks", "deliveries", endpoint_id).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["id", *(each["id"] for each in listed["deliveries"])]
    assert "500" in lines[1]


def test_deliveries_filters_by_status_and_reports_more(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    statuses = [DELIVERED, FAILED, PENDING, FAILED]
    for number, status in enumerate(statuses):
        save_delivery(stack, endpoint_id, commit_event(stack, number=number), status)
    for status in DeliveryStatus:
        found = json_output(run_billing("webhooks", "deliveries", endpoint_id, "--status", status, "--json"))
        assert [each["status"] for each in found["deliveries"]] == [status] * statuses.count(status)
    part = json_output(run_billing("webhooks", "deliveries", endpoint_id, "--limit", "3", "--json"))
    assert (len(part["deliveries"]), part["has_more"]) == (3, True)
    assert "raise --limit" in run_billing("webhooks", "deliveries", endpoint_id, "--limit", "3").stderr


def test_deliveries_reads_further_pages(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.commands.webhook_deliveries.PAGE_SIZE", 2)
    events = [commit_event(stack, number=each, age=timedelta(minutes=each)) for each in range(5)]
    for event in events:
        save_delivery(stack, endpoint_id, event, FAILED if event is events[4] else DELIVERED)
    listed = json_output(run_billing("webhooks", "deliveries", endpoint_id, "--json"))["deliveries"]
    assert [each["event_id"] for each in listed] == [event.id for event in events]
    failed = json_output(run_billing("webhooks", "deliveries", endpoint_id, "--status", "failed", "--json"))
    assert [each["event_id"] for each in failed["deliveries"]] == [events[4].id]


def test_deliveries_without_entries_says_so(run_billing: RunBilling, endpoint_id: str) -> None:
    assert run_billing("webhooks", "deliveries", endpoint_id).stdout == "No deliveries found.\n"


def test_deliveries_with_unknown_status_is_a_usage_error(run_billing: RunBilling) -> None:
    assert run_billing("webhooks", "deliveries", "whe_1", "--status", "lost").exit_code == 2


# --- redeliver --------------------------------------------------------------------------------------------------------


def test_redeliver_requests_a_failed_delivery_which_then_arrives(
    run_on_loopback: RunBilling, loopback_stack: DeployedStack, wire: Wire
) -> None:
    """From the first attempt to the second one, with the delivery function's service and a real endpoint."""
    stack = loopback_stack
    endpoint_id = json_output(run_on_loopback("webhooks", "create", f"{wire.url}/hooks", "--json"))["id"]
    event = commit_event(stack)
    wire.answer(Answer(500))
    attempt(stack, endpoint_id, [event])
    [listed] = json_output(run_on_loopback("webhooks", "deliveries", endpoint_id, "--json"))["deliveries"]
    assert [each["status_code"] for each in listed["attempts"]] == [500]
    receive(stack, "RetryQueue")

    again = json_output(run_on_loopback("webhooks", "redeliver", listed["id"], "--json"))
    assert (again["id"], again["status"]) == (listed["id"], "pending")
    assert requested(stack) == [(endpoint_id, event.id)]
    wire.answer(Answer(204))
    attempt(stack, endpoint_id, [event])
    [delivered] = json_output(run_on_loopback("webhooks", "deliveries", endpoint_id, "--json"))["deliveries"]
    assert delivered["status"] == "delivered"
    assert [each["status_code"] for each in delivered["attempts"]] == [500, 204]


def test_redeliver_requests_a_delivered_event_again(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    delivery = save_delivery(stack, endpoint_id, commit_event(stack), DELIVERED)
    result = run_billing("webhooks", "redeliver", delivery.id)
    assert result.stdout == f"Requested {delivery.id}.\n"
    assert f"billing webhooks deliveries {endpoint_id}" in result.stderr
    assert requested(stack) == [(endpoint_id, delivery.event_id)]


def test_redeliver_to_the_event_bus_is_requested(
    run_billing: RunBilling, deploy: Callable[..., DeployedStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = deploy(OutboundEventBus="partners")
    monkeypatch.setenv("BILLING_STACK", stack.name)
    delivery = save_delivery(stack, "bus", commit_event(stack), FAILED)
    [listed] = json_output(run_billing("webhooks", "deliveries", "bus", "--json"))["deliveries"]
    assert listed["id"] == delivery.id
    assert json_output(run_billing("webhooks", "redeliver", delivery.id, "--json"))["status"] == "pending"
    assert requested(stack) == [("bus", delivery.event_id)]


@pytest.mark.parametrize(
    ("delivery", "code"),
    [
        ("nonsense", "delivery_not_found"),
        ("", "delivery_not_found"),
        ("dlv_{endpoint}_0000", "delivery_not_found"),
        ("dlv_1_2", "webhook_endpoint_not_found"),
    ],
)
def test_redeliver_unknown_delivery_fails(run_billing: RunBilling, endpoint_id: str, delivery: str, code: str) -> None:
    named = delivery.format(endpoint=endpoint_id.removeprefix("whe_"))
    error = json_error(run_billing("webhooks", "redeliver", named, "--json"))
    assert error["code"] == code
    assert "billing webhooks" in error["message"]


def test_redeliver_to_disabled_endpoint_fails_with_the_command_that_enables_it(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    delivery = save_delivery(stack, endpoint_id, commit_event(stack), FAILED)
    run_billing("webhooks", "update", endpoint_id, "--disable")
    for words in (("redeliver", delivery.id), ("replay", endpoint_id, "--since", "1h")):
        error = json_error(run_billing("webhooks", *words, "--json"))
        assert error["code"] == "webhook_endpoint_disabled"
        assert f"`billing webhooks update {endpoint_id} --enable`" in error["message"]
    assert requested(stack) == []


def test_redeliver_expired_event_fails(run_billing: RunBilling, stack: DeployedStack, endpoint_id: str) -> None:
    event = commit_event(stack)
    delivery = save_delivery(stack, endpoint_id, event, FAILED)
    _delete_event(stack, event.id)
    error = json_error(run_billing("webhooks", "redeliver", delivery.id, "--json"))
    assert error["code"] == "webhook_refused"
    assert "35 days" in error["message"]


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_requests_what_the_deployments_endpoint_did_not_receive(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    before = commit_event(stack, number=1, age=timedelta(hours=3))
    ages = {2: timedelta(minutes=50), 3: timedelta(minutes=40), 4: timedelta(minutes=30), 5: timedelta(minutes=20)}
    delivered, failed, pending, absent = (commit_event(stack, number=each, age=age) for each, age in ages.items())
    other_account = commit_event(stack, "globex", age=timedelta(minutes=10))
    of_deployment = commit_event(stack, None, event_type=OutboundEventType.ENDPOINT_DISABLED)
    for event, status in ((delivered, DELIVERED), (failed, FAILED), (pending, PENDING)):
        save_delivery(stack, endpoint_id, event, status)
    replayed = json_output(run_billing("webhooks", "replay", endpoint_id, "--since", "1h", "--json"))
    assert (replayed["endpoint_id"], replayed["requested"]) == (endpoint_id, 5)
    events = [failed, pending, absent, other_account, of_deployment]
    assert requested(stack) == [(endpoint_id, event.id) for event in events]
    assert webhooks_of(stack).find_delivery(endpoint_id, before.id) is None
    text = run_billing("webhooks", "replay", endpoint_id, "--since", "4h")
    assert text.stdout == f"Requested 6 deliveries to {endpoint_id}.\n"
    assert f"billing webhooks deliveries {endpoint_id}" in text.stderr


def test_replay_to_accounts_endpoint_pages_through_its_events_only(
    run_billing: RunBilling, stack: DeployedStack, account_endpoint_id: str
) -> None:
    """Events of other types are no part of a page of deliveries, but of a page of events."""
    events = [commit_event(stack, number=each, age=timedelta(seconds=300 - each)) for each in range(3)]
    for number in range(REPLAY_EVENTS_MAX):
        commit_event(stack, number=number + 10, event_type=OutboundEventType.SUBSCRIPTION_UPDATED)
    events.append(commit_event(stack, number=999, age=timedelta(seconds=1)))
    commit_event(stack, "globex")
    words = (account_endpoint_id, "--since", "1h", "--account", "acme", "--json")
    assert json_output(run_billing("webhooks", "replay", *words))["requested"] == len(events)
    assert requested(stack) == [(account_endpoint_id, event.id) for event in events]
    delivery = webhooks_of(stack).find_delivery(account_endpoint_id, events[0].id)
    assert delivery is not None
    assert (delivery.owner_id, delivery.account_id) == ("acme", "acme")


def test_replay_of_several_pages_reports_progress(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.commands.webhook_deliveries.REPLAY_EVENTS_MAX", 2)
    shown: list[str] = []
    monkeypatch.setattr("rich.status.Status.update", lambda _status, text: shown.append(text))
    events = [commit_event(stack, number=each, age=timedelta(minutes=10 - each)) for each in range(5)]
    assert json_output(run_billing("webhooks", "replay", endpoint_id, "--since", "1h", "--json"))["requested"] == 5
    assert requested(stack) == [(endpoint_id, event.id) for event in events]
    assert shown == [f"Replaying: {count} requested" for count in (2, 4, 5)]


def test_replay_to_the_event_bus_requests_every_event(
    run_billing: RunBilling, deploy: Callable[..., DeployedStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = deploy(OutboundEventBus="partners")
    monkeypatch.setenv("BILLING_STACK", stack.name)
    event = commit_event(stack)
    assert json_output(run_billing("webhooks", "replay", "bus", "--since", "1h", "--json"))["requested"] == 1
    assert requested(stack) == [("bus", event.id)]


def test_replay_skips_an_event_that_cannot_be_read(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    broken, whole = commit_event(stack, number=1), commit_event(stack, number=2)
    break_event(stack, broken)
    assert json_output(run_billing("webhooks", "replay", endpoint_id, "--since", "1h", "--json"))["requested"] == 1
    assert requested(stack) == [(endpoint_id, whole.id)]


def test_replay_reads_no_days_before_the_first_stored_event(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each day has eight index partitions, so 20 years would be 60,000 queries."""
    list_all_events = WebhookRepository.list_all_events

    def check(self: WebhookRepository, since: datetime, until: datetime) -> Iterator[OutboundEvent]:
        assert since >= NOW - OUTBOX_RETENTION
        return list_all_events(self, since, until)

    monkeypatch.setattr(WebhookRepository, "list_all_events", check)
    event = commit_event(stack, age=OUTBOX_RETENTION - timedelta(hours=1))
    replayed = json_output(run_billing("webhooks", "replay", endpoint_id, "--since", "2006-01-01", "--json"))
    assert replayed["requested"] == 1
    assert requested(stack) == [(endpoint_id, event.id)]


@pytest.mark.parametrize("since", ["yesterday", "2990-01-01"])
def test_replay_with_invalid_since_is_a_usage_error(run_billing: RunBilling, since: str) -> None:
    assert run_billing("webhooks", "replay", "whe_1", "--since", since).exit_code == 2


def test_replay_without_since_is_a_usage_error(run_billing: RunBilling) -> None:
    result = run_billing("webhooks", "replay", "whe_1", COLUMNS="200")
    assert result.exit_code == 2
    assert "--since" in result.stderr


def test_replay_without_queue_fails_with_the_error_of_sqs(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    commit_event(stack)
    aws("sqs", stack.endpoint_url).delete_queue(QueueUrl=stack_outputs(stack)["DeliveryQueueUrl"])
    error = json_error(run_billing("webhooks", "replay", endpoint_id, "--since", "1h", "--json"))
    assert error["code"] == "aws_refused"
    assert "SendMessageBatch" in error["message"]


def test_replay_prints_no_logs_or_metrics(run_billing: RunBilling, stack: DeployedStack, endpoint_id: str) -> None:
    commit_event(stack)
    result = run_billing("webhooks", "replay", endpoint_id, "--since", "1h")
    assert "_aws" not in result.stdout + result.stderr
    assert "level" not in result.stdout + result.stderr
    assert len(table_items(stack)) == 3  # endpoints, event and delivery


def _delete_event(stack: DeployedStack, event_id: str) -> None:
    table_of(stack).write(delete(outbox_key("acme", event_id)))
