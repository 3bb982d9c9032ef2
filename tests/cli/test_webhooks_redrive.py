"""Tests of `billing webhooks redrive`, with the emulator's queues."""

import json
from datetime import timedelta
from typing import Any

import pytest

import cli.dead_letters
from billing.domain.timestamps import iso
from billing.domain.webhook_deliveries import DeliveryStatus
from billing.services.webhook_queue import DeliveryRequest
from tests.cli.support import DeployedStack, RunBilling, aws, json_error, json_output, stack_outputs
from tests.cli.webhook_support import (
    NOW,
    PUBLIC_URL,
    attempt,
    break_event,
    commit_event,
    mend_event,
    receive,
    requested,
    save_delivery,
    webhooks_of,
)
from tests.wire import Wire

pytestmark = pytest.mark.engine

DELIVERIES, EVENTS = "DeliveryDeadLetters", "DispatchDeadLetters"
NOTHING = {"deliveries": 0, "events": 0, "expired": 0, "kept": []}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.dead_letters, "WAIT_SECONDS", 0)


@pytest.fixture
def endpoint_id(run_billing: RunBilling) -> str:
    """Endpoint of the deployment for all events."""
    return str(json_output(run_billing("webhooks", "create", PUBLIC_URL, "--json"))["id"])


def bury(stack: DeployedStack, queue: str, body: object, group: str = "whe_1") -> str:
    """Put a message into a dead-letter queue, and return its id."""
    fifo = {"MessageGroupId": group, "MessageDeduplicationId": json.dumps(body)[-100:].replace(" ", "")}
    text = body if isinstance(body, str) else json.dumps(body)
    sent = aws("sqs", stack.endpoint_url).send_message(
        QueueUrl=stack_outputs(stack)[f"{queue}Url"], MessageBody=text, **(fifo if queue == DELIVERIES else {})
    )
    return str(sent["MessageId"])


def message_count(stack: DeployedStack, queue: str) -> int:
    """Return the number of messages in a queue, also of those that are being processed."""
    counts = aws("sqs", stack.endpoint_url).get_queue_attributes(
        QueueUrl=stack_outputs(stack)[f"{queue}Url"], AttributeNames=["All"]
    )["Attributes"]
    return int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])


def failed_batch(first: str, last: str) -> dict[str, Any]:
    """Return Lambda's record of a failed batch of the stream.

    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    """
    return {
        "requestContext": {
            "requestId": "316aa6d0-8154-4b1c-9af7-85d5f4a6bc81",
            "functionArn": "arn:aws:lambda:eu-west-1:123456789012:function:dispatch_events",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 1,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": last,
        "DDBStreamBatchInfo": {
            "shardId": "shardId-00000001573689847184-864758bb",
            "startSequenceNumber": "800000000003126276362",
            "endSequenceNumber": "800000000003126276999",
            "approximateArrivalOfFirstRecord": first,
            "approximateArrivalOfLastRecord": last,
            "batchSize": 2,
            "streamArn": "arn:aws:dynamodb:eu-west-1:123456789012:table/billing/stream/2026-11-14T00:04:06.328",
        },
    }


def item_key(event_id: str, reason: str = "impossible value") -> dict[str, str]:
    """Return the dispatcher's message about an outbox item of acme."""
    return {"pk": "ACCOUNT#acme", "sk": f"OUT#{event_id}", "reason": reason}


def test_redrive_of_empty_queues_does_nothing(run_billing: RunBilling) -> None:
    assert json_output(run_billing("webhooks", "redrive", "--json")) == NOTHING


# --- Deliveries -------------------------------------------------------------------------------------------------------


def test_redrive_requests_dead_deliveries_again(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    requests = [DeliveryRequest.of_event(None, endpoint_id, commit_event(stack, number=number)) for number in range(12)]
    for each in requests:
        bury(stack, DELIVERIES, each.body, endpoint_id)
    redriven = json_output(run_billing("webhooks", "redrive", "--json"))
    assert redriven == NOTHING | {"deliveries": 12}
    bodies = receive(stack, "DeliveryQueue")
    assert bodies == [each.body for each in requests]
    assert message_count(stack, DELIVERIES) == 0


def test_redrive_delivers_each_event_once(
    run_on_loopback: RunBilling, loopback_stack: DeployedStack, wire: Wire
) -> None:
    """An event that arrived meanwhile is not sent again, whoever requests it."""
    endpoint_id = json_output(run_on_loopback("webhooks", "create", f"{wire.url}/hooks", "--json"))["id"]
    event = commit_event(loopback_stack)
    attempt(loopback_stack, endpoint_id, [event])
    bury(loopback_stack, DELIVERIES, DeliveryRequest.of_event(None, endpoint_id, event).body, endpoint_id)
    bury(loopback_stack, EVENTS, failed_batch(iso(NOW) or "", iso(NOW) or ""))
    redriven = json_output(run_on_loopback("webhooks", "redrive", "--json"))
    assert (redriven["deliveries"], redriven["events"]) == (1, 1)
    assert set(requested(loopback_stack)) == {(endpoint_id, event.id)}
    attempt(loopback_stack, endpoint_id, [event])
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "[]",
        {},
        {"owner": None, "endpoint": None, "account": None, "event": "msg_1", "version": 0},
        {"owner": None, "endpoint": "whe_ 1", "account": None, "event": "msg_1", "version": 0},
        {"owner": None, "endpoint": "bus", "account": None, "event": "msg_xyz", "version": 0},
    ],
)
def test_redrive_keeps_and_reports_what_is_no_delivery_request(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str, body: object
) -> None:
    kept = bury(stack, DELIVERIES, body)
    event = commit_event(stack)
    bury(stack, DELIVERIES, DeliveryRequest.of_event(None, endpoint_id, event).body)
    redriven = json_output(run_billing("webhooks", "redrive", "--json"), exit_code=3)
    assert redriven["deliveries"] == 1
    [message] = redriven["kept"]
    assert (message["queue"], message["message_id"]) == (DELIVERIES, kept)
    assert message["reason"].startswith("The message is not ")
    assert message_count(stack, DELIVERIES) == 1


# --- Outbox items that could not be read ------------------------------------------------------------------------------


def test_redrive_dispatches_an_outbox_item_that_can_be_read_again(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    event = commit_event(stack)
    break_event(stack, event)
    bury(stack, EVENTS, item_key(event.id))
    result = run_billing("webhooks", "redrive")
    assert result.exit_code == 3
    assert "messages kept         1" in result.stdout
    assert f"ACCOUNT#acme OUT#{event.id}: The outbox item has an impossible value" in result.stdout
    assert message_count(stack, EVENTS) == 1
    assert requested(stack) == []

    mend_event(stack, event)
    assert json_output(run_billing("webhooks", "redrive", "--json")) == NOTHING | {"events": 1}
    assert requested(stack) == [(endpoint_id, event.id)]
    assert message_count(stack, EVENTS) == 0


def test_redrive_deletes_the_message_of_an_expired_outbox_item(run_billing: RunBilling, stack: DeployedStack) -> None:
    bury(stack, EVENTS, item_key("msg_0000000000"))
    assert json_output(run_billing("webhooks", "redrive", "--json")) == NOTHING | {"expired": 1}
    assert message_count(stack, EVENTS) == 0


def test_redrive_dispatches_to_the_endpoints_of_account_and_deployment_and_to_the_bus(
    run_billing: RunBilling, deploy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = deploy(OutboundEventBus="partners")
    monkeypatch.setenv("BILLING_STACK", stack.name)
    run_billing("accounts", "create", "acme")
    owners: list[tuple[str, ...]] = [(), ("--account", "acme")]
    ids = {json_output(run_billing("webhooks", "create", PUBLIC_URL, *each, "--json"))["id"] for each in owners}
    event = commit_event(stack)
    bury(stack, EVENTS, item_key(event.id))
    assert json_output(run_billing("webhooks", "redrive", "--json"))["events"] == 1
    assert set(requested(stack)) == {(each, event.id) for each in (*ids, "bus")}


# --- Failed batches of the stream -------------------------------------------------------------------------------------


def test_redrive_dispatches_the_events_of_a_failed_batch_and_a_minute_around_it(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    seconds = {1: 4000, 2: 3660, 3: 3600, 4: 1800, 5: 1740, 6: 1700}
    events = {number: commit_event(stack, number=number, age=timedelta(seconds=age)) for number, age in seconds.items()}
    globex = commit_event(stack, "globex", age=timedelta(seconds=2000))
    bury(
        stack, EVENTS, failed_batch(iso(NOW - timedelta(seconds=3600)) or "", iso(NOW - timedelta(seconds=1800)) or "")
    )
    assert json_output(run_billing("webhooks", "redrive", "--json")) == NOTHING | {"events": 5}
    wanted = [events[2], events[3], globex, events[4], events[5]]
    assert requested(stack) == [(endpoint_id, event.id) for event in wanted]
    assert message_count(stack, EVENTS) == 0


def test_redrive_dispatches_an_event_of_several_batches_once(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    """Lambda divides a batch that fails, and records each part."""
    event = commit_event(stack)
    for milliseconds in range(3):
        time = f"{(iso(event.occurred_at) or '').removesuffix('Z')}.00{milliseconds}Z"
        bury(stack, EVENTS, failed_batch(time, time))
    assert json_output(run_billing("webhooks", "redrive", "--json")) == NOTHING | {"events": 1}
    assert requested(stack) == [(endpoint_id, event.id)]


def test_redrive_keeps_a_failed_batch_with_an_event_that_cannot_be_read(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    broken, whole = commit_event(stack, number=1), commit_event(stack, number=2)
    break_event(stack, broken)
    bury(stack, EVENTS, failed_batch(iso(broken.occurred_at) or "", iso(broken.occurred_at) or ""))
    redriven = json_output(run_billing("webhooks", "redrive", "--json"), exit_code=3)
    assert redriven["events"] == 1
    assert broken.id in redriven["kept"][0]["reason"]
    assert requested(stack) == [(endpoint_id, whole.id)]
    assert message_count(stack, EVENTS) == 1


@pytest.mark.parametrize(
    "body",
    ["no JSON", {}, {"pk": "ACCOUNT#acme"}, {"DDBStreamBatchInfo": {}}, failed_batch("yesterday", "today")],
    ids=["text", "empty", "half a key", "no times", "invalid times"],
)
def test_redrive_keeps_and_reports_messages_of_another_form(
    run_billing: RunBilling, stack: DeployedStack, body: object
) -> None:
    kept = bury(stack, EVENTS, body)
    redriven = json_output(run_billing("webhooks", "redrive", "--json"), exit_code=3)
    assert [(each["queue"], each["message_id"]) for each in redriven["kept"]] == [(EVENTS, kept)]
    assert message_count(stack, EVENTS) == 1


# --- Failures ---------------------------------------------------------------------------------------------------------


def test_redrive_keeps_all_messages_if_the_delivery_queue_fails(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    event = commit_event(stack)
    bury(stack, DELIVERIES, DeliveryRequest.of_event(None, endpoint_id, event).body)
    bury(stack, EVENTS, item_key(event.id))
    aws("sqs", stack.endpoint_url).delete_queue(QueueUrl=stack_outputs(stack)["DeliveryQueueUrl"])
    error = json_error(run_billing("webhooks", "redrive", "--json"))
    assert error["code"] == "aws_refused"
    assert (message_count(stack, DELIVERIES), message_count(stack, EVENTS)) == (1, 1)


def test_redrive_of_a_failed_delivery_leaves_it_failed(
    run_billing: RunBilling, stack: DeployedStack, endpoint_id: str
) -> None:
    """Its attempts are used up. `billing webhooks redeliver` gives it new ones."""
    event = commit_event(stack)
    before = save_delivery(stack, endpoint_id, event, DeliveryStatus.FAILED)
    bury(stack, DELIVERIES, DeliveryRequest.of_delivery(before).body)
    assert json_output(run_billing("webhooks", "redrive", "--json"))["deliveries"] == 1
    attempt(stack, endpoint_id, [event])
    assert webhooks_of(stack).find_delivery(endpoint_id, event.id) == before
