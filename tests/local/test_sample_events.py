"""Sample events in events/: complete, valid and accepted."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing.api.contracts import CONTRACTS
from billing.stripe_events.event_types import EVENT_PARSERS
from billing.stripe_events.webhook_signature import verify
from local.sample_events import read_sample
from stripe_simulator.response_validation import check_object

EVENTS = Path(__file__).parents[2] / "events"
NOW = datetime(2026, 11, 21, 14, 0, 0, tzinfo=UTC)
SECRET = "whsec_test"


def test_sample_events_match_functions() -> None:
    functions = {path.parent.name for path in EVENTS.parent.glob("functions/*/app.py")}
    assert {path.stem for path in EVENTS.glob("*.json")} == functions


def test_sample_events_route_keys_are_routes_of_contracts() -> None:
    routes = {route.key for contract in CONTRACTS for route in contract.routes.values()} | {"$default"}
    samples = [json.loads(path.read_text()) for path in EVENTS.glob("*.json")]
    keys = {sample["routeKey"] for sample in samples if "Records" not in sample}
    assert keys <= routes


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
