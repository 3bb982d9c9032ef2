"""Sample events in events/: complete, valid and accepted."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing.adapters.dynamodb import encode
from billing.adapters.outbox import decode_event, images_of_stream, put_outbound
from billing.adapters.sqs import messages_of
from billing.api.contracts import CONTRACTS
from billing.domain.outbound_events import event_id
from billing.services.webhook_queue import DeliveryRequest
from billing.stripe_events.event_types import EVENT_PARSERS
from billing.stripe_events.webhook_signature import verify
from local.sam_local import EVENT_SOURCE_RESPONSES
from local.sample_events import EVENTS, operation_of, read_sample
from stripe_simulator.response_validation import check_object
from tests.conftest import template

NOW = datetime(2026, 11, 21, 14, 0, 0, tzinfo=UTC)
SECRET = "whsec_test"


def test_sample_events_match_functions() -> None:
    functions = {path.parent.name for path in EVENTS.parent.glob("functions/*/app.py")}
    assert {operation_of(path) for path in EVENTS.glob("*.json")} == functions


def test_sample_events_route_keys_are_routes_of_contracts() -> None:
    routes = {route.key for contract in CONTRACTS for route in contract.routes.values()} | {"$default"}
    samples = [json.loads(path.read_text()) for path in EVENTS.glob("*.json")]
    keys = {sample["routeKey"] for sample in samples if "routeKey" in sample}
    assert keys <= routes


def test_sample_events_have_the_path_and_parameters_of_their_route() -> None:
    samples = [json.loads(path.read_text()) for path in EVENTS.glob("*.json")]
    for sample in [each for each in samples if each.get("routeKey", "$default") != "$default"]:
        method, path = sample["routeKey"].split(" ")
        filled = path.format(**sample.get("pathParameters", {}))
        http = sample["requestContext"]["http"]
        assert (sample["rawPath"], http["path"], http["method"]) == (filled, filled, method)
        assert sample["requestContext"]["routeKey"] == sample["routeKey"]
        assert set(sample.get("pathParameters", ())) == set(re.findall(r"\{(\w+)\}", path))


def test_sample_events_without_route_are_of_functions_with_an_event_source() -> None:
    """`make sam-local` compares their responses."""
    samples = {path: json.loads(path.read_text()) for path in EVENTS.glob("*.json")}
    assert {operation_of(path) for path, sample in samples.items() if "routeKey" not in sample} == {
        *EVENT_SOURCE_RESPONSES
    }


def test_sample_of_the_stream_is_an_outbox_item_that_the_template_selects() -> None:
    batch = json.loads((EVENTS / "dispatch_events.json").read_text())
    [item] = images_of_stream(batch)
    event = decode_event(item)
    committed = event.occurred_at
    assert put_outbound(event, committed)("table")["Put"]["Item"] == encode(item)
    assert event.id == event_id(committed, "sample", event.object["id"], event.sequence)
    source = template()["Resources"]["DispatchEventsFunction"]["Properties"]["Events"]["Stream"]["Properties"]
    pattern = json.loads(source["FilterCriteria"]["Filters"][0]["Pattern"])
    [record] = batch["Records"]
    assert record["eventName"] in pattern["eventName"]
    [prefix] = pattern["dynamodb"]["Keys"]["sk"]["S"]
    assert record["dynamodb"]["Keys"] == encode({"pk": item["pk"], "sk": item["sk"]})
    assert item["sk"].startswith(prefix["prefix"])


@pytest.mark.parametrize("name", ["deliver_events.json", "request_deliveries.queue.json"])
def test_samples_of_the_delivery_queues_are_requests(name: str) -> None:
    [message] = messages_of(json.loads((EVENTS / name).read_text()))
    request = DeliveryRequest.of_body(message.body)
    assert request.body == message.body
    assert request.account_id == "sample"


def test_stripe_sample_events_match_handled_event_types() -> None:
    assert {path.stem for path in EVENTS.glob("stripe/*.json")} == set(EVENT_PARSERS)


@pytest.mark.parametrize("path", sorted(EVENTS.glob("stripe/*.json")), ids=lambda path: path.stem)
def test_read_sample_stripe_event_is_valid_and_signed(path: Path) -> None:
    sample = json.loads(path.read_text())
    assert sample["type"] == path.stem
    check_object(sample["data"]["object"])
    event = read_sample(path, secret_key="sk_test_x", webhook_secret=SECRET, now=NOW)
    verify(event["body"].encode(), event["headers"]["stripe-signature"], [SECRET], NOW)
    assert json.loads(event["body"])["created"] == NOW.timestamp()


def test_read_sample_replaces_secret_key() -> None:
    event = read_sample(EVENTS / "checkout.json", secret_key="sk_test_x", webhook_secret=SECRET, now=NOW)
    assert event["headers"]["authorization"] == "Bearer sk_test_x"
