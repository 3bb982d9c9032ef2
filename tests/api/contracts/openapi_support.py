"""Helpers to read OpenAPI documents, and a contract that only the OpenAPI tests use."""

from collections.abc import Iterator
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, Field, RequestFields, ResponseFields, Route
from billing.api.contracts.error_table import ErrorRow
from billing.api.endpoint import Endpoint
from billing.api.openapi import errors_by_status, openapi_document
from billing.api.operations import load_operation
from billing.catalog import load_catalog
from billing.domain import errors
from billing.domain.credentials import SECRET_KEY_ONLY
from billing.domain.errors import BillingError

ORIGINS = ("http://localhost:3000", "https://app.example.com")
METHODS = {"get", "post", "patch", "delete"}

WORKSHOP = Contract(
    name="workshop",
    base_path="/workshop/{bench}",
    account_parameter="bench",
    credentials=SECRET_KEY_ONLY,
    routes={
        "subscription": Route(
            "GET",
            "/workshop/{bench}/plan",
            not_found_if_null="status",
            response=ResponseFields(
                omit=("plan", "member_count", "cancel_at_period_end"),
                rename={"status": "state", "current_period_end": "until"},
                constants={"v": 1},
            ),
        ),
        "invoices": Route(
            "GET",
            "/workshop/{bench}/bills",
            request=RequestFields(omit=("status",), rename={"limit": "max", "cursor": "after"}, required=("limit",)),
            response=ResponseFields(rename={"invoices": "bills", "invoices.id": "bill"}),
        ),
    },
    envelope={"nothing": None, "good": Field("data")},
    error_envelope={"wrong": Field("code"), "where": Field("details", optional=True)},
    errors={
        errors.RequestInvalid: ErrorRow(418, "teapot"),
        errors.NeverSubscribed: ErrorRow(418, "empty"),
    },
    internal_error=ErrorRow(599, "broken"),
)
"""A contract that no deployment serves."""


def document_of(contract: Contract) -> dict[str, Any]:
    """Return a contract's document for the catalog of this repository."""
    return openapi_document(contract, load_catalog(), ORIGINS)


def endpoints_of(contract: Contract) -> list[Endpoint]:
    """Return every endpoint of a contract."""
    return [Endpoint(contract, route, load_operation(name)) for name, route in contract.routes.items()]


def errors_of(contract: Contract) -> set[type[BillingError]]:
    """Return every error of a contract's endpoints."""
    return {error for each in endpoints_of(contract) for found in errors_by_status(each).values() for error in found}


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each operation of a document with its route key."""
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method.upper()} {path}", item[method]


def body_schema(response: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a response's body."""
    return dict(response["content"]["application/json"]["schema"])


def part_of(contract: Contract, *path: str) -> dict[str, Any]:
    """Return a part of a contract's document."""
    found: Any = document_of(contract)
    for name in path:
        found = found[name]
    return dict(found)


def response_of(contract_name: str, schema: str) -> dict[str, Any]:
    """Return a named schema of a served contract's document."""
    return part_of(contract_named(contract_name), "components", "schemas", schema)


def contract_named(name: str) -> Contract:
    """Return the served contract of that name."""
    return next(each for each in CONTRACTS if each.name == name)


def without_descriptions(schema: Any) -> Any:
    """Return a schema without its descriptions."""
    if isinstance(schema, dict):
        return {
            name: without_descriptions(inner)
            for name, inner in schema.items()
            if name != "description" or not isinstance(inner, str)
        }
    return [without_descriptions(inner) for inner in schema] if isinstance(schema, list) else schema


def validate_body(body: object, contract: Contract, route_key: str, status: int) -> None:
    """Validate a body against the contract's document. Raises ValidationError."""
    method, path = route_key.split(" ")
    names = ["paths", path, method.lower(), "responses", str(status), "content", "application/json", "schema"]
    pointer = "/".join(name.replace("~", "~0").replace("/", "~1") for name in names)
    schema = {**document_of(contract), "$ref": f"#/{pointer}"}
    OAS31Validator(schema, format_checker=oas31_format_checker).validate(body)
