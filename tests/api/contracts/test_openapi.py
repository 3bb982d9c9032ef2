"""OpenAPI documents: valid, complete and equal to the data that they are generated from."""

import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, Envelope, Field
from billing.api.declaration import DEPLOYMENT_VALUES, DeploymentValues
from billing.api.openapi import deployment_values, envelope_schema, return_url_pattern
from billing.api.openapi_descriptions import ERROR_DESCRIPTIONS, ERROR_FIELDS
from billing.catalog import load_catalog
from billing.domain import errors
from tests.api.contracts.examples import PORTAL
from tests.api.contracts.openapi_support import (
    ORIGINS,
    WORKSHOP,
    body_schema,
    contract_named,
    document_of,
    endpoints_of,
    errors_of,
    operations_of,
    part_of,
    response_of,
    without_descriptions,
)

ALL = [*CONTRACTS, WORKSHOP]
ACCOUNT = contract_named("account")
ENDPOINT = "/v1/billing/webhook-endpoints/{endpointId}"
SUBSCRIBABLE = [
    "*",
    "subscription.created",
    "subscription.updated",
    "subscription.canceled",
    "invoice.paid",
    "invoice.payment_failed",
]
EVENT_TYPES = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": SUBSCRIBABLE}}
each_contract = pytest.mark.parametrize("contract", ALL, ids=lambda contract: contract.name)


# --- Valid and complete -----------------------------------------------------------------------------------------------


@each_contract
def test_document_is_valid_openapi(contract: Contract) -> None:
    OpenAPIV31SpecValidator(document_of(contract)).validate()


@each_contract
def test_document_has_exactly_the_contracts_routes(contract: Contract) -> None:
    described = dict(operations_of(document_of(contract)))
    assert described.keys() == {route.key for route in contract.routes.values()}
    ids = [operation["operationId"] for operation in described.values()]
    assert len(ids) == len(set(ids))


@each_contract
def test_document_has_exactly_the_contracts_errors(contract: Contract) -> None:
    described = {
        (int(status), code)
        for _, operation in operations_of(document_of(contract))
        for status, response in operation["responses"].items()
        if status != "200"
        for code in code_schema(contract.error_envelope, body_schema(response))["enum"]
    }
    mappings = [contract.error_mapping(error) for error in errors_of(contract)]
    assert described == {(mapping.status, mapping.code) for mapping in mappings}


def code_schema(envelope: Envelope, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the error code, wherever the error envelope has it."""
    assert isinstance(envelope, dict)
    [found] = [
        schema["properties"][name] if isinstance(inner, Field) else code_schema(inner, schema["properties"][name])
        for name, inner in envelope.items()
        if "code" in placeholders(inner)
    ]
    return dict(found)


def placeholders(envelope: Envelope) -> set[str]:
    """Return the names of an envelope's placeholders."""
    if isinstance(envelope, Field):
        return {envelope.source}
    return (
        {name for inner in envelope.values() for name in placeholders(inner)} if isinstance(envelope, dict) else set()
    )


@each_contract
def test_every_error_row_of_a_contract_applies_to_an_error(contract: Contract) -> None:
    possible = {*errors_of(contract), errors.RouteUnknown, errors.MethodNotAllowed, errors.CredentialKindForbidden}
    assert [row for row in contract.errors if not any(issubclass(error, row) for error in possible)] == []


def test_every_declared_error_has_a_description() -> None:
    declared = {error for contract in CONTRACTS for each in endpoints_of(contract) for error in each.operation.errors}
    assert declared <= ERROR_DESCRIPTIONS.keys()


def test_every_error_field_is_in_an_envelope() -> None:
    assert {name for contract in CONTRACTS for name in placeholders(contract.error_envelope)} == ERROR_FIELDS.keys()


@each_contract
def test_every_property_has_a_description(contract: Contract) -> None:
    assert undescribed(document_of(contract)) == []


def undescribed(schema: Any, place: str = "") -> list[str]:
    """Return the places of properties and of path and query parameters without a description."""
    if isinstance(schema, list):
        return [each for inner in schema for each in undescribed(inner, place)]
    if not isinstance(schema, dict):
        return []
    properties = dict(schema.get("properties", {}))
    if schema.get("in") == "query":
        properties[schema["name"]] = schema["schema"]
    if schema.get("in") == "path":
        properties[schema["name"]] = schema
    leaves = {
        name: inner if "description" in inner else inner.get("anyOf", [inner])[0] for name, inner in properties.items()
    }
    enough = {"description", "const", "properties", "items"}
    found = [name for name, leaf in leaves.items() if not enough & leaf.keys() and leaf != {"type": "null"}]
    return [f"{place}.{name}" for name in found] + [
        each for name, inner in schema.items() for each in undescribed(inner, f"{place}.{name}")
    ]


def test_deployment_values_are_filled_in() -> None:
    assert deployment_values(load_catalog(), ORIGINS).keys() == set(DeploymentValues)
    assert [each.name for each in ALL if DEPLOYMENT_VALUES in str(document_of(each))] == []


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_checkout_body_has_the_plans_for_sale_and_the_allowed_return_urls() -> None:
    text = {"type": "string", "minLength": 1, "maxLength": 2048}
    url = text | {"pattern": return_url_pattern(ORIGINS)}
    assert without_descriptions(response_of("account", "CheckoutRequest")) == {
        "type": "object",
        "properties": {
            "tier": text | {"enum": ["pro", "team"]},
            "interval": {"anyOf": [text | {"enum": ["month"]}, {"type": "null"}]},
            "currency": {"anyOf": [text | {"enum": ["usd"]}, {"type": "null"}]},
            "success_url": {"anyOf": [url, {"type": "null"}]},
            "cancel_url": {"anyOf": [url, {"type": "null"}]},
            "quantity": {"type": "integer", "minimum": 1, "maximum": 999_999, "default": 1},
        },
        "additionalProperties": False,
        "required": ["tier"],
    }


def test_checkout_body_accepts_a_lookup_key_or_a_stripe_price_id() -> None:
    body = response_of("organization", "CheckoutRequest")
    assert body["required"] == ["priceId"]
    assert body["properties"]["priceId"]["anyOf"] == [
        {"type": "string", "enum": ["pro_monthly", "team_monthly"]},
        {"type": "string", "pattern": "^price_[A-Za-z0-9]+$"},
    ]


def test_query_parameters_are_optional_with_their_defaults_and_never_null() -> None:
    operation = part_of(contract_named("subscription"), "paths", "/subscription/invoices", "get")
    parameters = operation["parameters"]
    assert [(each["name"], each["in"], each["required"]) for each in parameters] == [
        ("limit", "query", False),
        ("status", "query", False),
        ("cursor", "query", False),
    ]
    limit, status, _ = (each["schema"] for each in parameters)
    assert without_descriptions(limit) == {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}
    assert set(status["enum"]) == {"paid", "open", "void", "uncollectible"}


def test_body_is_required_only_if_a_field_is_required() -> None:
    required = {
        route: operation["requestBody"]["required"]
        for contract in CONTRACTS
        for route, operation in operations_of(document_of(contract))
        if "requestBody" in operation
    }
    assert [required[f"POST {path}"] for path, _ in PORTAL.values()] == [False] * len(PORTAL)
    others = ("/v1/billing/checkout", "/api/billing/checkout", "/v1/billing/usage", "/v1/billing/webhooks")
    assert [required[f"POST {path}"] for path in others] == [True] * len(others)


def test_update_body_has_at_least_one_field_and_no_null() -> None:
    update = part_of(ACCOUNT, "paths", ENDPOINT, "patch")
    assert update["requestBody"]["required"] is True
    assert without_descriptions(response_of("account", "UpdateWebhookEndpointRequest")) == {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 2048},
            "events": EVENT_TYPES,
            "description": {"type": "string", "maxLength": 500},
            "enabled": {"type": "boolean"},
        },
        "additionalProperties": False,
        "minProperties": 1,
    }


def test_create_body_has_the_event_types_and_defaults() -> None:
    assert without_descriptions(response_of("account", "CreateWebhookEndpointRequest")) == {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 2048},
            "events": EVENT_TYPES | {"default": ["*"]},
            "description": {"type": "string", "maxLength": 500, "default": ""},
        },
        "additionalProperties": False,
        "required": ["url"],
    }


def test_replay_body_has_a_time_in_utc() -> None:
    since = response_of("account", "ReplayEventsRequest")["properties"]["since"]
    assert since["format"] == "date-time"
    assert [re.search(since["pattern"], text) is not None for text in TIMES] == [True, True, False, False, False]


TIMES = (
    "2026-11-21T14:00:00Z",
    "2026-11-21T14:00:00.25Z",
    "2026-11-21T14:00:00",
    "2026-11-21T14:00:00+00:00",
    "at 2026-11-21T14:00:00Z",
)


def test_body_without_fields_accepts_none() -> None:
    assert response_of("account", "RotateWebhookSecretRequest") == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_delete_has_a_described_path_parameter_and_no_body() -> None:
    delete = part_of(ACCOUNT, "paths", ENDPOINT, "delete")
    assert "requestBody" not in delete
    assert delete["parameters"] == [
        {
            "name": "endpointId",
            "in": "path",
            "required": True,
            "description": "Id of the webhook endpoint.",
            "schema": {"type": "string", "minLength": 1},
        }
    ]
    assert [*delete["responses"]] == ["200", "400", "401", "403", "404", "429", "500", "503"]


def test_post_with_a_path_parameter_also_has_an_idempotency_key() -> None:
    parameters = part_of(ACCOUNT, "paths", "/v1/billing/deliveries/{deliveryId}/redeliver", "post")["parameters"]
    assert parameters[0]["name"] == "deliveryId"
    assert parameters[1:] == [{"$ref": "#/components/parameters/IdempotencyKey"}]


def test_metrics_are_the_catalogs_in_requests_and_responses() -> None:
    metrics = ["projects", "api_calls", "agent_invocations", "team_members"]
    schemas = part_of(ACCOUNT, "components", "schemas")
    assert schemas["MeasurementRequest"]["properties"]["metric"]["enum"] == metrics
    assert schemas["UsageResponse"]["properties"]["usage"]["items"]["properties"]["metric"]["enum"] == metrics


# --- Responses --------------------------------------------------------------------------------------------------------


def test_response_is_closed_with_its_constants_and_nullable_types() -> None:
    response = response_of("organization", "SubscriptionResponse")
    assert response["properties"]["success"] == {"const": True}
    assert response["properties"]["error"] == {"type": "null"}
    data = response["properties"]["data"]
    assert data["additionalProperties"] is False
    assert set(data["required"]) == {"plan", "status", "currentPeriodEnd", "cancelAtPeriodEnd"}
    assert data["properties"]["currentPeriodEnd"]["type"] == ["string", "null"]
    assert data["properties"]["currentPeriodEnd"]["format"] == "date-time"


def test_response_field_that_returns_404_if_null_is_not_nullable() -> None:
    response = response_of("subscription", "SubscriptionResponse")
    assert response["properties"]["status"]["type"] == "string"
    assert response["properties"]["currentPeriodEnd"]["type"] == ["string", "null"]


def test_optional_response_fields_are_not_required() -> None:
    item = response_of("account", "RecordUsageResponse")["properties"]["results"]["items"]
    assert set(item["properties"]) == {"id", "outcome", "used", "limit", "recorded", "differences"}
    assert item["required"] == ["id", "outcome"]


def test_envelope_schema_leaves_out_an_optional_field_without_a_value() -> None:
    envelope = {"a": Field("x"), "b": Field("y", optional=True)}
    assert envelope_schema(envelope, {"x": {"type": "string"}})["properties"] == {"a": {"type": "string"}}


def test_workshop_contract_has_its_names_constants_and_statuses() -> None:
    document = without_descriptions(document_of(WORKSHOP))
    assert document["components"]["schemas"]["SubscriptionResponse"]["properties"] == {
        "nothing": {"type": "null"},
        "good": {
            "type": "object",
            "properties": {
                "v": {"const": 1},
                "state": {"type": "string"},
                "until": {"type": ["string", "null"], "format": "date-time"},
            },
            "additionalProperties": False,
            "required": ["v", "state", "until"],
        },
    }
    bills = document["paths"]["/workshop/{bench}/bills"]
    assert [(each["name"], each["in"]) for each in bills["parameters"]] == [("bench", "path")]
    assert [(each["name"], each["required"]) for each in bills["get"]["parameters"]] == [
        ("max", True),
        ("after", False),
    ]
    assert list(bills["get"]["responses"]) == ["200", "401", "403", "418", "429", "503", "599"]
    items = document["components"]["schemas"]["InvoicesResponse"]["properties"]["good"]["properties"]["bills"]["items"]
    assert "bill" in items["properties"]


# --- Credentials, headers and errors ----------------------------------------------------------------------------------


def test_security_lists_the_credentials_of_each_operation() -> None:
    accepted = {
        route: [kind for option in operation.get("security", ()) for kind in option]
        for route, operation in operations_of(document_of(ACCOUNT))
    }
    acting = ["secret_key", "session_token"]
    expected = {
        "GET /v1/billing": acting,
        "POST /v1/billing/checkout": acting,
        "POST /v1/billing/portal": acting,
        "GET /v1/billing/invoices": acting,
        "GET /v1/billing/usage": acting,
        "POST /v1/billing/usage": ["secret_key"],
        "GET /v1/billing/plans": ["publishable_key", "secret_key", "session_token"],
        "GET /v1/billing/openapi.json": [],
        "POST /v1/billing/webhooks": [],
        "POST /v1/billing/webhook-endpoints": ["secret_key"],
        "GET /v1/billing/webhook-endpoints": ["secret_key"],
        f"GET {ENDPOINT}": ["secret_key"],
        f"PATCH {ENDPOINT}": ["secret_key"],
        f"DELETE {ENDPOINT}": ["secret_key"],
        f"POST {ENDPOINT}/rotate-secret": ["secret_key"],
        f"POST {ENDPOINT}/test": ["secret_key"],
        f"GET {ENDPOINT}/deliveries": ["secret_key"],
        f"POST {ENDPOINT}/replay": ["secret_key"],
        "POST /v1/billing/deliveries/{deliveryId}/redeliver": ["secret_key"],
    }
    assert accepted == expected


def test_headers_depend_on_the_status() -> None:
    responses = part_of(ACCOUNT, "paths", "/v1/billing/checkout", "post", "responses")
    limits = {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}
    expected = {
        "200": limits | {"Idempotent-Replayed"},
        "400": limits,
        "401": {"WWW-Authenticate"},
        "403": set(),
        "409": limits | {"Retry-After"},
        "422": limits,
        "429": limits | {"Retry-After"},
        "500": limits,
        "502": limits | {"Retry-After"},
        "503": limits | {"Retry-After"},
    }
    assert {status: set(response["headers"]) for status, response in responses.items()} == {
        status: {"X-Request-Id"} | headers for status, headers in expected.items()
    }
    # 409 has two reasons; a retry succeeds only for a request that is still running.
    assert responses["409"]["headers"]["Retry-After"]["required"] is False


def test_details_are_only_in_the_error_of_an_invalid_request() -> None:
    responses = part_of(ACCOUNT, "paths", "/v1/billing/portal", "post", "responses")
    assert {status for status, response in responses.items() if "details" in str(body_schema(response))} == {"400"}
