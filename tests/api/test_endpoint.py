"""Endpoints: response data with a contract's names and envelope, and data that differ from the declaration."""

from dataclasses import dataclass
from typing import Any

import pytest

from billing.api.contracts import CONTRACTS
from billing.api.contracts.contract import Contract, Field, RequestFields, ResponseFields, Route, camel_case
from billing.api.declaration import OperationDeclaration, integer, list_of, nullable, object_of, string
from billing.api.endpoint import Endpoint, ResponseMismatch
from billing.api.operations import load_operation
from billing.api.operations.checkout import CHECKOUT
from billing.api.operations.record_usage import RECORD_USAGE

ORDERS = OperationDeclaration(
    name="orders",
    operation_id="listOrders",
    summary="List orders",
    description="Lists orders.",
    response=object_of(
        {
            "ok": {"const": True},
            "next_page": nullable(string("Next page.")),
            "orders": list_of({"order_id": string("Id."), "net_total": integer("Total.")}, optional=("net_total",)),
        }
    ),
)


@dataclass(frozen=True)
class Order:
    """An order with an attribute that is not declared."""

    order_id: str
    net_total: int
    internal_note: str = "not for customers"


def endpoint(
    operation: OperationDeclaration = ORDERS, response: ResponseFields | None = None, **contract: Any
) -> Endpoint:
    """Return an endpoint of a contract with these attributes."""
    route = Route("GET", "/orders", response=response or ResponseFields())
    return Endpoint(Contract("shop", "/orders", {operation.name: route}, **contract), route, operation)


DATA = {"next_page": None, "orders": [{"order_id": "1", "net_total": 5}]}


def test_response_body_without_differences_has_the_operations_names() -> None:
    assert endpoint().response_body(DATA) == {"ok": True, **DATA}


def test_response_body_has_the_contracts_case_and_envelope() -> None:
    shop = endpoint(case=camel_case, envelope={"data": Field("data"), "error": None})
    expected = {"ok": True, "nextPage": None, "orders": [{"orderId": "1", "netTotal": 5}]}
    assert shop.response_body(DATA) == {"data": expected, "error": None}


def test_response_body_has_the_routes_constants_names_and_omissions() -> None:
    fields = ResponseFields(omit=("ok", "orders.net_total"), rename={"orders.order_id": "id"}, constants={"v": 2})
    assert endpoint(response=fields).response_body(DATA) == {"v": 2, "next_page": None, "orders": [{"id": "1"}]}


def test_data_schema_has_the_properties_of_the_response_body() -> None:
    fields = ResponseFields(omit=("ok",), rename={"orders.order_id": "id"}, constants={"v": 2})
    schema = endpoint(response=fields, case=camel_case).data_schema
    assert (list(schema["properties"]), schema["required"]) == (
        ["v", "nextPage", "orders"],
        ["v", "nextPage", "orders"],
    )
    items = schema["properties"]["orders"]["items"]
    assert (list(items["properties"]), items["required"]) == (["id", "netTotal"], ["id"])


def test_dataclass_is_reduced_to_the_declared_fields() -> None:
    body = endpoint().response_body({"next_page": "2", "orders": [Order("1", 5)]})
    assert body["orders"] == [{"order_id": "1", "net_total": 5}]


def test_optional_field_without_a_value_is_left_out() -> None:
    assert endpoint().response_body({**DATA, "orders": [{"order_id": "1"}]})["orders"] == [{"order_id": "1"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"orders": []}, r"orders\. missing: \['next_page'\], undeclared: \[\]"),
        ({**DATA, "next_pgae": None}, r"orders\. missing: \[\], undeclared: \['next_pgae'\]"),
        ({**DATA, "orders": [{"order_id": "1", "netTotal": 5}]}, r"orders\.orders\. .* undeclared: \['netTotal'\]"),
        ({**DATA, "ok": False}, r"undeclared: \['ok'\]"),
        ({**DATA, "orders": [object()]}, r"orders\.orders\. missing: \['order_id'\]"),
    ],
)
def test_response_data_that_differ_from_the_declaration_raise(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ResponseMismatch, match=message):
        endpoint().response_body(data)


def test_request_fields_have_the_contracts_case_names_and_omissions() -> None:
    omitted = ("price_id", "tier", "interval", "currency")
    fields = RequestFields(omit=omitted, rename={"quantity": "seats"}, required=("quantity",))
    route = Route("POST", "/orders", request=fields)
    checkout = Endpoint(Contract("shop", "/orders", {"checkout": route}, case=camel_case), route, CHECKOUT)
    assert checkout.request_fields == {"successUrl": "success_url", "cancelUrl": "cancel_url", "seats": "quantity"}
    assert checkout.required_request_fields == ("seats",)


def test_field_that_the_request_model_requires_is_required() -> None:
    assert endpoint(RECORD_USAGE).required_request_fields == ("measurements",)


@pytest.mark.parametrize(
    ("contract", "name"),
    [(contract, name) for contract in CONTRACTS for name in contract.routes],
    ids=lambda value: getattr(value, "name", value),
)
def test_contract_names_only_fields_of_the_operation(contract: Contract, name: str) -> None:
    operation, route = load_operation(name), contract.routes[name]
    request_fields = set(operation.request.model_fields) if operation.request else set()
    assert {*route.request.omit, *route.request.rename, *route.request.required} <= request_fields
    response_fields = set(paths_of(operation.response))
    assert {*route.response.omit, *route.response.rename, *filter(None, [route.not_found_if_null])} <= response_fields


def paths_of(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the dotted paths of a schema's properties."""
    found = []
    for name, inner in schema.get("properties", {}).items():
        found += [
            f"{path}{name}",
            *paths_of(inner, f"{path}{name}."),
            *paths_of(inner.get("items", {}), f"{path}{name}."),
        ]
    return found
