"""Outbound events on an EventBridge bus: the emulator's, and EventBridge's errors on the wire."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from billing.adapters.event_bus import EventBus
from billing.domain.outbound_events import OutboundEvent, event_id
from tests.samples import NOW
from tests.wire import Answer, Wire

EVENT = OutboundEvent(
    id=event_id(NOW, "acme", "sub_1", 1),
    type="subscription.created",
    account_id="acme",
    occurred_at=NOW,
    sequence=1,
    object={"id": "sub_1", "plan": "pro"},
    previous=None,
)
TARGET = "AWSEvents.PutEvents"


@pytest.fixture
def bus_with_queue(emulator_url: str) -> Iterator[tuple[str, Any, str]]:
    """A bus whose rule sends the product's events to a queue: name of the bus, SQS client, URL of the queue."""
    events, sqs = boto3.client("events", endpoint_url=emulator_url), boto3.client("sqs", endpoint_url=emulator_url)
    name = f"bus-{uuid.uuid4().hex}"
    events.create_event_bus(Name=name)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["serverless-billing"], "detail-type": ["subscription.created"]}
    events.put_rule(Name=name, EventBusName=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "queue", "Arn": arn}])
    yield name, sqs, url
    events.remove_targets(Rule=name, EventBusName=name, Ids=["queue"])
    events.delete_rule(Name=name, EventBusName=name)
    sqs.delete_queue(QueueUrl=url)
    events.delete_event_bus(Name=name)


@pytest.mark.engine
def test_event_matches_a_rule_by_source_and_detail_type(
    bus_with_queue: tuple[str, Any, str], emulator_url: str
) -> None:
    name, sqs, url = bus_with_queue
    result = EventBus(lambda: boto3.client("events", endpoint_url=emulator_url), name).send(EVENT)
    assert (result.is_success, result.error) == (True, None)
    [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    received = json.loads(message["Body"])
    assert (received["source"], received["detail-type"]) == ("serverless-billing", "subscription.created")
    assert received["detail"] == json.loads(json.dumps(EVENT.body))


def connected(wire: Wire) -> EventBus:
    """Return a bus behind a server whose answers the test sets."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=1)
    return EventBus(lambda: boto3.client("events", endpoint_url=wire.url, config=config), "arn:aws:events:…:bus/team")


def test_request_names_the_bus(wire: Wire) -> None:
    entries: Any = [{"EventId": "1"}]
    wire.answer(Answer(200, json.dumps({"FailedEntryCount": 0, "Entries": entries}).encode()))
    connected(wire).send(EVENT)
    [entry] = json.loads(wire.only.body)["Entries"]
    assert entry["EventBusName"] == "arn:aws:events:…:bus/team"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            Answer(
                200,
                json.dumps({"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}).encode(),
            ),
            "ThrottlingException",
        ),
        (Answer(400, b'{"__type": "ResourceNotFoundException"}'), "ResourceNotFoundException"),
        (Answer(400, b'{"__type": "AccessDeniedException"}'), "AccessDeniedException"),
        (Answer(500, b"{}"), "500"),
        (Answer(cut=True), "ConnectionClosedError"),
    ],
    ids=["failed entry", "no bus", "no permission", "server error", "no response"],
)
def test_failure_of_eventbridge_is_a_result_that_is_retried(wire: Wire, answer: Answer, error: str) -> None:
    wire.answer(answer)
    result = connected(wire).send(EVENT)
    assert (result.is_success, result.status_code, result.error) == (False, None, error)
