"""Schemas of outbound events: equal to the events that are really sent, and to the types that exist."""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from standardwebhooks import Webhook

from billing.adapters.webhook_repository import WebhookRepository
from billing.api.webhook_events import WEBHOOK_EVENTS, WEBHOOK_HEADERS
from billing.bootstrap import app
from billing.domain.invoices import Invoice
from billing.domain.outbound_events import OutboundEvent, OutboundEventType, event_object
from billing.domain.subscriptions import PendingChange, Subscription
from billing.services.webhook_queue import DeliveryRequest
from tests.api.contracts.openapi_support import contract_named, document_of
from tests.functions.events import event as stripe_event
from tests.functions.events import invoice, subscription
from tests.functions.support import FunctionHarness
from tests.functions.webhook_api.support import create, send, store_event
from tests.samples import INVOICE, NOW, SUBSCRIPTION
from tests.wire import Answer, Wire

ACCOUNT = document_of(contract_named("account"))
BY_TYPE = {event_type: each for each in WEBHOOK_EVENTS for event_type in each.types}
HOUR = timedelta(hours=1)
CHANGE = PendingChange("team", "price_2", 3, NOW, is_per_seat=True)


def schema_of(event_type: str) -> dict[str, Any]:
    """Return the schema that the document has for the body of an event."""
    content = ACCOUNT["webhooks"][event_type]["post"]["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].removeprefix("#/components/schemas/")
    return dict(ACCOUNT["components"]["schemas"][name])


def check_body(body: dict[str, Any]) -> None:
    """Check that a body matches the schema of its type, and that it has exactly the described fields."""
    schema = schema_of(body["type"])
    OAS31Validator(schema, format_checker=oas31_format_checker).validate(body)
    assert [*undescribed_or_missing(body, schema)] == []


def undescribed_or_missing(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield the fields that only the value or only the schema has. A field of `previous` may be missing."""
    properties = schema.get("properties", {})
    if not isinstance(value, dict):
        return
    differing = value.keys() ^ properties.keys() if "required" in schema else value.keys() - properties.keys()
    yield from (f"{place}.{name}" for name in differing)
    for name in value.keys() & properties.keys():
        yield from undescribed_or_missing(value[name], properties[name], f"{place}.{name}")


# --- Declarations -----------------------------------------------------------------------------------------------------


def test_every_type_of_event_has_one_schema() -> None:
    declared = [event_type for each in WEBHOOK_EVENTS for event_type in each.types]
    assert sorted(declared) == sorted(OutboundEventType)
    assert [*ACCOUNT["webhooks"]] == declared
    for event_type, item in ACCOUNT["webhooks"].items():
        assert item.keys() == {"post"}
        assert event_type in schema_of(event_type)["properties"]["type"]["enum"]


def test_schemas_have_the_names_that_clients_use() -> None:
    """The TypeScript client's union of events consists of them."""
    assert {event_type: each.name for event_type, each in BY_TYPE.items()} == {
        "subscription.created": "WebhookSubscriptionEvent",
        "subscription.updated": "WebhookSubscriptionEvent",
        "subscription.canceled": "WebhookSubscriptionEvent",
        "invoice.paid": "WebhookInvoiceEvent",
        "invoice.payment_failed": "WebhookInvoiceEvent",
        "webhook_endpoint.disabled": "WebhookEndpointDisabledEvent",
        "webhook_endpoint.test": "WebhookEndpointTestEvent",
    }


def test_object_of_an_event_has_exactly_the_described_fields() -> None:
    for stored, event_type in (
        (replace(SUBSCRIPTION, pending_change=CHANGE), "subscription.updated"),
        (INVOICE, "invoice.paid"),
    ):
        schema = schema_of(event_type)["properties"]["data"]["properties"]
        described = event_object(stored)
        assert described.keys() == schema["object"]["properties"].keys() == schema["previous"]["properties"].keys()
        assert [*undescribed_or_missing(described, schema["object"])] == []


@pytest.mark.parametrize("stored", [SUBSCRIPTION, replace(SUBSCRIPTION, pending_change=CHANGE), INVOICE])
def test_object_without_its_optional_values_matches_its_schema(stored: Subscription | Invoice) -> None:
    described = event_object(without_optional_values(stored))
    event_type = "invoice.paid" if isinstance(stored, Invoice) else "subscription.updated"
    data = schema_of(event_type)["properties"]["data"]
    for previous in (None, described, {}):
        OAS31Validator(data).validate({"object": described, "previous": previous})


def without_optional_values(stored: Any) -> Any:
    """Return a dataclass with None in each field that permits it, also in nested dataclasses."""
    types = get_type_hints(type(stored))
    values = {each.name: getattr(stored, each.name) for each in fields(stored)}
    nested = {name: without_optional_values(value) for name, value in values.items() if is_dataclass(value)}
    optional = {name: None for name in values if NoneType in get_args(types[name])}
    return replace(stored, **(optional | nested))


def test_schemas_are_open_so_that_fields_can_be_added() -> None:
    assert [each.name for each in WEBHOOK_EVENTS if "additionalProperties" in str(each.schema)] == []


@pytest.mark.parametrize("event_type", [*OutboundEventType])
def test_webhook_is_described_with_headers_and_responses(event_type: str) -> None:
    operation = ACCOUNT["webhooks"][event_type]["post"]
    assert operation["requestBody"]["required"] is True
    assert [each["name"] for each in operation["parameters"]] == [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]
    assert [*operation["responses"]] == ["2XX", "410", "default"]


@pytest.mark.parametrize("name", ["teams", "organization", "subscription", "portal"])
def test_only_contracts_with_webhook_endpoints_describe_webhooks(name: str) -> None:
    document = document_of(contract_named(name))
    assert "webhooks" not in document
    assert [schema for schema in document["components"]["schemas"] if schema.startswith("Webhook")] == []


# --- Real events ------------------------------------------------------------------------------------------------------


def stored_bodies(deployment: FunctionHarness) -> list[dict[str, Any]]:
    """Return the bodies of acme's outbound events as they are sent, in order."""
    events = WebhookRepository(deployment.table).list_account_events("acme", datetime.now(UTC) - HOUR, 100)
    return [json.loads(json.dumps(each.body)) for each in events]


def price(**changes: Any) -> dict[str, Any]:
    """Return the items of a subscription whose price has an amount and an interval."""
    recurring = {"interval": "month", "interval_count": 1}
    amounts = {"unit_amount": 1900, "currency": "usd", "recurring": recurring}
    item = subscription()["items"]["data"][0]
    return {"object": "list", "data": [item | {"price": item["price"] | amounts} | changes]}


@pytest.mark.engine
def test_events_of_a_subscription_match_their_schema(deployment: FunctionHarness) -> None:
    started = datetime.now(UTC) - timedelta(minutes=5)
    states: list[dict[str, Any]] = [
        {"status": "trialing", "trial_end": 1_893_456_000},
        {"items": price(quantity=2)},
        {"cancel_at": 1_893_456_000, "cancel_at_period_end": True, "pause_collection": {"behavior": "void"}},
        {"status": "past_due"},
        {"status": "canceled", "ended_at": int(started.timestamp()), "canceled_at": int(started.timestamp())},
    ]
    for number, changes in enumerate(states):
        event_type = "deleted" if changes.get("status") == "canceled" else "updated"
        created = started + timedelta(seconds=30 * number)
        deployment.deliver(
            stripe_event(f"customer.subscription.{event_type}", subscription(**changes), created=created)
        )
    bodies = stored_bodies(deployment)
    assert [each["type"] for each in bodies] == [
        "subscription.created",
        *["subscription.updated"] * 3,
        "subscription.canceled",
    ]
    assert [each["data"]["previous"] is None for each in bodies] == [True, False, False, False, False]
    assert bodies[1]["data"]["object"]["unit_amount"] == 1900
    for body in bodies:
        check_body(body)


@pytest.mark.engine
def test_events_of_invoices_match_their_schema(deployment: FunctionHarness) -> None:
    period: Any = {"period_start": 1_780_000_000, "period_end": 1_782_592_000}
    urls = {"hosted_invoice_url": "https://invoice.stripe.com/i/1", "invoice_pdf": "https://pay.stripe.com/1/pdf"}
    created = datetime.now(UTC) - timedelta(minutes=5)
    failed = invoice(status="open", amount_paid=0, amount_remaining=1900, attempt_count=1, **period)
    deployment.deliver(stripe_event("invoice.updated", failed, created=created))
    deployment.deliver(stripe_event("invoice.paid", invoice(**urls), created=created + timedelta(minutes=1)))
    deployment.deliver(stripe_event("invoice.paid", invoice("in_2", number=None)))
    bodies = stored_bodies(deployment)
    assert sorted(each["type"] for each in bodies) == ["invoice.paid", "invoice.paid", "invoice.payment_failed"]
    for body in bodies:
        check_body(body)


@pytest.mark.engine
@pytest.mark.usefixtures("delivery_queue")
def test_event_of_a_disabled_endpoint_matches_its_schema(deployment: FunctionHarness, wire: Wire) -> None:
    """The endpoint answers 410 to an event."""
    endpoint_id = create(deployment, wire.url)["id"]
    event = store_event(deployment, datetime.now(UTC))
    wire.answer(Answer(410))
    app.webhook_delivery().attempt(DeliveryRequest.of_event("acme", endpoint_id, event))
    [disabled] = [each for each in stored_bodies(deployment) if each["type"] == "webhook_endpoint.disabled"]
    assert disabled["data"]["object"]["disabled_reason"] == "gone"
    check_body(disabled)


@pytest.mark.engine
@pytest.mark.usefixtures("delivery_queue")
def test_test_event_and_its_headers_match_their_schema(deployment: FunctionHarness, wire: Wire) -> None:
    """After a rotation there are two signatures."""
    created = create(deployment, wire.url)
    send(deployment, "POST", created["id"], "/rotate-secret")
    send(deployment, "POST", created["id"], "/test")
    check_body(Webhook(created["secret"]).verify(wire.only.body, dict(wire.only.headers)))
    for header in WEBHOOK_HEADERS:
        OAS31Validator(header["schema"]).validate(wire.only.headers[header["name"]])
    assert len(wire.only.headers["webhook-signature"].split(" ")) == 2


@pytest.mark.parametrize("event_type", [OutboundEventType.ENDPOINT_DISABLED, OutboundEventType.ENDPOINT_TEST])
def test_event_about_an_endpoint_of_the_deployment_has_no_account(event_type: OutboundEventType) -> None:
    disabled = {"enabled": False, "disabled_reason": "failing", "disabled_at": "2026-11-21T14:00:00Z"}
    about = {"id": "whe_1", "url": "https://example.com/"} | (disabled if "disabled" in event_type else {})
    check_body(dict(OutboundEvent("msg_" + "0" * 26, event_type, None, NOW, 1, about, None).body))
