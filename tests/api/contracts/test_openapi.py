"""Each contract's OpenAPI document: valid, complete, and of the same mind as the tables that it is made from."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, ErrorMapping, Field, ListField, Operation, ResponseTemplate, Route
from billing.api.openapi import answer_schema, openapi_document, return_url_pattern
from billing.api.openapi_descriptions import ERROR_DESCRIPTIONS, FIELDS, OPERATIONS, PROPERTY_SCHEMAS
from billing.catalog import load_catalog
from billing.domain import errors
from billing.domain.credentials import SECRET_KEY_ONLY
from billing.domain.errors import RequestInvalid
from billing.domain.return_urls import resolve_return_url
from local.stack import ROOT
from tests.api.contracts.test_documents import NEVER_SUBSCRIBED, NO_PORTAL, PORTAL, STATUS, SUBSCRIBED, UNAUTHENTICATED
from tests.functions.support import FunctionHarness as Deployment

ORIGINS = ("http://localhost:3000", "https://app.example.com")
METHODS = {"get", "post"}
OF_NO_OPERATION = {errors.RouteUnknown, errors.MethodNotAllowed}

WORKSHOP = Contract(
    name="workshop",
    base_path="/workshop/{bench}",
    account_parameter="bench",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            "/workshop/{bench}/plan",
            not_found_if_null="status",
            credentials=SECRET_KEY_ONLY,
            response={"v": 1, "nothing": None, "state": Field("status"), "until": Field("current_period_end")},
        ),
        Operation.INVOICES: Route(
            "GET",
            "/workshop/{bench}/bills",
            input={"max": "limit", "after": "cursor"},
            required=("max",),
            response=ListField("invoices", {"bill": Field("id")}),
        ),
    },
    error={"wrong": Field("code"), "where": Field("details", optional=True)},
    error_mappings={
        errors.RequestInvalid: ErrorMapping(418, "teapot"),
        errors.NeverSubscribed: ErrorMapping(418, "empty"),
    },
    internal_error=ErrorMapping(599, "broken"),
)
"""A contract that nobody serves."""

ALL = [*CONTRACTS, WORKSHOP]
each_contract = pytest.mark.parametrize("contract", ALL, ids=lambda contract: contract.name)


def document_of(contract: Contract) -> dict[str, Any]:
    """As a deployment with the catalog of this repository serves it."""
    return openapi_document(contract, load_catalog(), ORIGINS)


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation under its route key."""
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method.upper()} {path}", item[method]


def schema_of(name: str, *path: str) -> dict[str, Any]:
    """A part of a contract's document."""
    found: Any = document_of(next(each for each in ALL if each.name == name))
    for step in path:
        found = found[step]
    return dict(found)


def check(body: object, contract: str, method: str, path: str, status: int) -> None:
    """Hold a body against what the contract's document says of that answer. Raises ValidationError."""
    document = document_of(next(each for each in CONTRACTS if each.name == contract))
    steps = ["paths", path, method, "responses", str(status), "content", "application/json", "schema"]
    pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in steps)
    OAS31Validator({**document, "$ref": f"#/{pointer}"}, format_checker=oas31_format_checker).validate(body)


def as_dict(shape: ResponseTemplate, within: str = "") -> set[str]:
    """Every fact that a shape names, as `FACTS` names it."""
    if isinstance(shape, Field):
        return {within + shape.source}
    if isinstance(shape, ListField):
        return as_dict(shape.shape, f"{within}{shape.source}.")
    if isinstance(shape, dict):
        return {source for inner in shape.values() for source in as_dict(inner, within)}
    return set()


# --- valid and complete -----------------------------------------------------------------------------------------------


@each_contract
def test_a_document_is_valid(contract: Contract) -> None:
    """By OpenAPI's own schema, also for a contract that was made up."""
    OpenAPIV31SpecValidator(document_of(contract)).validate()


@each_contract
def test_every_route_is_described_and_no_other(contract: Contract) -> None:
    """Under names of their own."""
    described = dict(operations_of(document_of(contract)))
    assert described.keys() == {route.key for route in contract.routes.values()}
    ids = [operation["operationId"] for operation in described.values()]
    assert len(ids) == len(set(ids))


@each_contract
def test_every_refusal_of_the_table_is_described_and_no_other(contract: Contract) -> None:
    """Each status with its code is that of an error that some operation may meet, and every such error is there."""
    described = set()
    for _, operation in operations_of(document_of(contract)):
        for status, response in operation["responses"].items():
            schema = response["content"]["application/json"]["schema"]
            if status != "200":
                described |= {(int(status), code) for code in code_of(contract.error, schema)["enum"]}
    known = {mapping for kind, mapping in contract.error_mappings.items() if kind not in OF_NO_OPERATION}
    assert described == {(each.status, each.code) for each in known | {contract.internal_error}}


def code_of(shape: ResponseTemplate, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an error's code, wherever the contract's envelope has it."""
    assert isinstance(shape, dict)
    [found] = [
        schema["properties"][name] if isinstance(inner, Field) else code_of(inner, schema["properties"][name])
        for name, inner in shape.items()
        if "code" in as_dict(inner)
    ]
    return dict(found)


def test_every_fact_has_a_type_and_every_type_a_fact() -> None:
    """What no contract answers any more is not described either."""
    named = {source for contract in CONTRACTS for source in as_dict(contract.error)}
    named |= {
        source for contract in CONTRACTS for route in contract.routes.values() for source in as_dict(route.response)
    }
    assert named == PROPERTY_SCHEMAS.keys()


def test_every_field_has_words_and_every_operation_a_description() -> None:
    """A new one says what it is."""
    inputs = [about.input for about in OPERATIONS.values() if about.input]
    inner = [model for each in inputs for model in each.model_json_schema().get("$defs", {}).values()]
    fields = {name for each in inputs for name in each.model_fields}
    assert fields | {name for model in inner for name in model["properties"]} == FIELDS.keys()
    assert OPERATIONS.keys() == set(Operation)
    assert ERROR_DESCRIPTIONS.keys() >= {kind for about in OPERATIONS.values() for kind in about.raises}


@pytest.mark.parametrize("operation", Operation)
def test_the_described_input_is_what_the_function_parses(operation: Operation) -> None:
    """One model for both."""
    tree = ast.parse((ROOT / "functions" / operation / "app.py").read_text())
    [handler] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "handler"]
    [decorator] = [node for node in handler.decorator_list if isinstance(node, ast.Call)]
    parsed = {keyword.arg: ast.unparse(keyword.value) for keyword in decorator.keywords}.get("input")
    about = OPERATIONS[operation]
    assert parsed == (about.input.__name__ if about.input else None)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_a_body_by_tier() -> None:
    """The document's own field names, what is for sale, and where browsers may go."""
    url = {
        "description": FIELDS["success_url"],
        "type": "string",
        "minLength": 1,
        "maxLength": 2048,
        "pattern": return_url_pattern(ORIGINS),
    }
    assert schema_of("account", "components", "schemas", "CheckoutRequest") == {
        "type": "object",
        "properties": {
            "tier": {
                "description": FIELDS["tier"],
                "type": "string",
                "minLength": 1,
                "maxLength": 2048,
                "enum": ["pro", "team"],
            },
            "success_url": {"anyOf": [url, {"type": "null"}]},
            "cancel_url": {"anyOf": [url | {"description": FIELDS["cancel_url"]}, {"type": "null"}]},
            "quantity": {
                "description": FIELDS["quantity"],
                "type": "integer",
                "minimum": 1,
                "maximum": 999_999,
                "default": 1,
            },
        },
        "additionalProperties": False,
        "required": ["tier"],
    }


def test_a_body_by_price() -> None:
    """A price is named by its lookup key in the catalog or by its id in Stripe."""
    body = schema_of("organization", "components", "schemas", "CheckoutRequest")
    assert body["required"] == ["priceId"]
    assert body["properties"]["priceId"]["anyOf"] == [
        {"type": "string", "enum": ["pro_monthly", "team_monthly"]},
        {"type": "string", "pattern": "^price_[A-Za-z0-9]+$"},
    ]


def test_query_parameters() -> None:
    """Under the document's names, never null, with what the function takes where they are left out."""
    parameters = schema_of("subscription", "paths", "/subscription/invoices", "get")["parameters"]
    assert [(each["name"], each["in"], each["required"]) for each in parameters] == [
        ("limit", "query", False),
        ("status", "query", False),
        ("cursor", "query", False),
    ]
    limit, status, _ = (each["schema"] for each in parameters)
    assert limit == {
        "description": FIELDS["limit"],
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 10,
    }
    assert set(status["enum"]) == {"paid", "open", "void", "uncollectible"}


def test_an_answer_is_closed_and_says_what_may_be_null() -> None:
    """Constants are constants, and so is null."""
    answer = schema_of("organization", "components", "schemas", "SubscriptionResponse")
    assert answer["properties"]["success"] == {"const": True}
    assert answer["properties"]["error"] == {"type": "null"}
    data = answer["properties"]["data"]
    assert data["additionalProperties"] is False
    assert data["required"] == ["plan", "status", "currentPeriodEnd", "cancelAtPeriodEnd"]
    assert data["properties"]["currentPeriodEnd"]["type"] == ["string", "null"]
    assert data["properties"]["currentPeriodEnd"]["format"] == "date-time"


def test_what_an_operation_needs_is_not_null() -> None:
    """Where the document answers 404 without a subscription, there is a status."""
    answer = schema_of("subscription", "components", "schemas", "SubscriptionResponse")
    assert answer["properties"]["status"]["type"] == "string"
    assert answer["properties"]["currentPeriodEnd"]["type"] == ["string", "null"]


def test_optional_fields_are_not_required() -> None:
    """What was used is told only where the limit was reached."""
    answer = schema_of("account", "components", "schemas", "RecordUsageResponse")
    item = answer["properties"]["results"]["items"]
    assert set(item["properties"]) == {"id", "outcome", "used", "limit"}
    assert item["required"] == ["id", "outcome"]


def test_the_metrics_are_the_catalogs() -> None:
    """In what is sent and in what is answered."""
    metrics = ["projects", "api_calls", "agent_invocations", "team_members"]
    schemas = schema_of("account", "components", "schemas")
    assert schemas["MeasurementRequest"]["properties"]["metric"]["enum"] == metrics
    assert schemas["UsageResponse"]["properties"]["usage"]["items"]["properties"]["metric"]["enum"] == metrics


def test_credentials() -> None:
    """Each operation says which kinds it takes; two ask for none."""
    taken = {
        route: [kind for option in operation.get("security", ()) for kind in option]
        for route, operation in operations_of(document_of(CONTRACTS[0]))
    }
    acting = ["secret_key", "session_token"]
    assert taken == {
        "GET /v1/billing": acting,
        "POST /v1/billing/checkout": acting,
        "POST /v1/billing/portal": acting,
        "GET /v1/billing/invoices": acting,
        "GET /v1/billing/usage": acting,
        "POST /v1/billing/usage": ["secret_key"],
        "GET /v1/billing/plans": ["publishable_key", "secret_key", "session_token"],
        "GET /v1/billing/openapi.json": [],
        "POST /v1/billing/webhooks": [],
    }


def test_a_body_is_required_only_where_a_field_is() -> None:
    """The portal contract's example sends none."""
    required = {
        route: operation["requestBody"]["required"]
        for contract in CONTRACTS
        for route, operation in operations_of(document_of(contract))
        if "requestBody" in operation
    }
    assert {route for route, is_required in required.items() if not is_required} == {
        f"POST {path}" for path, _ in PORTAL.values()
    }


def test_headers() -> None:
    """Limits where a request was counted, when to try again, and what an idempotency key did."""
    responses = schema_of("account", "paths", "/v1/billing/checkout", "post", "responses")
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
    # An existing subscription does not go away by waiting.
    assert responses["409"]["headers"]["Retry-After"]["required"] is False


def test_details_are_told_only_of_what_was_sent() -> None:
    """Also where the same status has other reasons; elsewhere there are none."""
    responses = schema_of("account", "paths", "/v1/billing/portal", "post", "responses")
    errors_with_details = {
        status
        for status, response in responses.items()
        if "details" in str(response["content"]["application/json"]["schema"])
    }
    assert errors_with_details == {"400"}


def test_a_made_up_contract() -> None:
    """Nothing of it is known beforehand."""
    document = document_of(WORKSHOP)
    assert document["components"]["schemas"]["SubscriptionResponse"] == {
        "type": "object",
        "properties": {
            "v": {"const": 1},
            "nothing": {"type": "null"},
            "state": PROPERTY_SCHEMAS["status"] | {"type": "string"},
            "until": PROPERTY_SCHEMAS["current_period_end"],
        },
        "additionalProperties": False,
        "required": ["v", "nothing", "state", "until"],
    }
    bills = document["paths"]["/workshop/{bench}/bills"]
    assert [(each["name"], each["in"]) for each in bills["parameters"]] == [("bench", "path")]
    assert [(each["name"], each["required"]) for each in bills["get"]["parameters"]] == [
        ("max", True),
        ("after", False),
    ]
    assert list(bills["get"]["responses"]) == ["200", "418", "599"]


def test_a_fact_without_a_type_is_no_document() -> None:
    """It is missed when the document is made, not by a caller."""
    route = replace(WORKSHOP.routes[Operation.SUBSCRIPTION], response={"x": Field("invented")})
    with pytest.raises(KeyError, match="invented"):
        document_of(replace(WORKSHOP, routes={Operation.SUBSCRIPTION: route}))


def test_schemas_are_made_as_shapes_are_filled() -> None:
    """An optional field without a fact is left out of both."""
    shape = {"a": Field("x"), "b": Field("y", optional=True)}
    assert answer_schema(shape, {"x": {"type": "string"}})["properties"] == {"a": {"type": "string"}}


# --- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", SUBSCRIBED)
def test_the_documents_own_answers_are_described(contract: str) -> None:
    """The example bodies of the five documents."""
    path, _ = STATUS[contract]
    check(SUBSCRIBED[contract], contract, "get", path, 200)
    if contract in NEVER_SUBSCRIBED:
        check(NEVER_SUBSCRIBED[contract], contract, "get", path, 200)


@pytest.mark.parametrize("contract", PORTAL)
def test_the_documents_own_errors_are_described(contract: str) -> None:
    """In every envelope."""
    path, _ = PORTAL[contract]
    status, body = NO_PORTAL[contract]
    check(timed(UNAUTHENTICATED[contract]), contract, "post", path, 401)
    check(timed(body), contract, "post", path, status)


def timed(body: dict[str, Any]) -> dict[str, Any]:
    """The body with a time in it again."""
    return body | {"meta": {"timestamp": "2026-11-21T14:00:00Z"}} if "meta" in body else body


@pytest.mark.engine
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_it_is_served_to_everybody(deployment: Deployment, contract: Contract) -> None:
    """Without a credential, also where a path names the account."""
    route = contract.routes[Operation.OPENAPI]
    path = route.path.format(teamId="anyone")
    answer = deployment.call("GET", path, route=route.key, parameters={"teamId": "anyone"})
    assert (answer.status, answer.body) == (200, document_of(contract))


# --- return URLs ------------------------------------------------------------------------------------------------------


def is_accepted(url: str) -> bool:
    """Whether the function takes it."""
    try:
        resolve_return_url("return_url", url, "/", ORIGINS)
    except RequestInvalid:
        return False
    return True


@given(
    st.one_of(
        st.from_regex(return_url_pattern(ORIGINS).replace("$", r"\Z"), fullmatch=True),
        st.text(alphabet="/:?#.@\\a1[% é", min_size=1, max_size=8),
        st.builds(
            str.__add__,
            st.sampled_from(["//", "///", "a:", "1:", "http:", "https://app.example.com", "https://app-example.com"]),
            st.text(alphabet="/:?#.@\\a1[% ", max_size=4),
        ),
    )
)
def test_the_pattern_takes_what_the_function_takes(url: str) -> None:
    """Exactly, but for origins in upper case, which only the function takes."""
    assert bool(re.search(return_url_pattern(ORIGINS), url)) == is_accepted(url)
