"""Endpoints: operations with the routes, field names and envelopes of the contracts that serve them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from billing.api.contracts.contract import Contract, Route, render
from billing.api.declaration import JsonSchema, OperationDeclaration
from billing.domain.credentials import CredentialKind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

type ResponseData = Mapping[str, Any] | DataclassInstance
"""Response data of an operation: a mapping with exactly the declared fields, or a dataclass with at least those."""


class ResponseMismatch(Exception):
    """The response data does not have the fields that the operation declares. One of the two is wrong."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operation as one contract serves it."""

    contract: Contract
    route: Route
    operation: OperationDeclaration

    @property
    def credentials(self) -> frozenset[CredentialKind]:
        """Accepted kinds of credentials; empty if the endpoint needs none."""
        return self.operation.credentials & self.contract.credentials

    @property
    def takes_body(self) -> bool:
        """True if the request fields are in the body, False if they are in the query string."""
        return self.route.method in {"POST", "PATCH"}

    @property
    def is_partial_update(self) -> bool:
        """True if the request changes only the fields in its body."""
        return self.route.method == "PATCH"

    @property
    def accepts_idempotency_key(self) -> bool:
        """True if the endpoint honors an `Idempotency-Key` header."""
        return self.route.method == "POST" and bool(self.credentials)

    # --- Request ------------------------------------------------------------------------------------------------------

    @property
    def request_fields(self) -> Mapping[str, str]:
        """The operation's names of request fields, by the contract's names."""
        model, omitted = self.operation.request, self.route.request.omit
        return {self._request_name(name): name for name in model.model_fields if name not in omitted} if model else {}

    @property
    def required_request_fields(self) -> tuple[str, ...]:
        """The contract's names of the required request fields."""
        model, required = self.operation.request, self.route.request.required
        fields = model.model_fields if model else {}
        return tuple(self._request_name(name) for name in fields if name in required or fields[name].is_required())

    def _request_name(self, name: str) -> str:
        return self.route.request.rename.get(name) or self.contract.case(name)

    # --- Response -----------------------------------------------------------------------------------------------------

    def response_body(self, data: ResponseData) -> Any:  # noqa: ANN401 - JSON
        """Return the body of a successful response. Raises ResponseMismatch."""
        renamed = self._rename_values(self.operation.response, data)
        return render(self.contract.envelope, {"data": renamed}) if self.operation.has_envelope else renamed

    @property
    def data_schema(self) -> JsonSchema:
        """Schema of the response data, with the contract's field names."""
        return self._rename_properties(self.operation.response)

    # `path` is the place of a schema in the response: "" at the top, "invoices." for the elements of that list.

    def _rename_values(self, schema: JsonSchema, value: Any, path: str = "") -> Any:  # noqa: ANN401 - JSON
        if "properties" in schema:
            values = _declared_values(schema, value, f"{self.operation.name}.{path}")
            constants = {} if path else self.route.response.constants
            return {**constants} | {
                renamed: self._rename_values(schema["properties"][name], each, f"{path}{name}.")
                for name, each in values.items()
                if (renamed := self.response_name(path + name))
            }
        if "properties" in schema.get("items", {}):
            return [self._rename_values(schema["items"], each, path) for each in value]
        return value

    def _rename_properties(self, schema: JsonSchema, path: str = "") -> JsonSchema:
        if "properties" in schema:
            names = {name: renamed for name in schema["properties"] if (renamed := self.response_name(path + name))}
            constants = {} if path else self.route.response.constants
            properties = {name: {"const": value} for name, value in constants.items()} | {
                renamed: self._rename_properties(schema["properties"][name], f"{path}{name}.")
                for name, renamed in names.items()
            }
            required = [*constants, *(renamed for name, renamed in names.items() if name in schema["required"])]
            return schema | {"properties": properties, "required": required}
        if "properties" in schema.get("items", {}):
            return schema | {"items": self._rename_properties(schema["items"], path)}
        return schema

    def response_name(self, path: str) -> str | None:
        """Return the contract's name of a response field; None if the route omits the field."""
        fields = self.route.response
        if path in fields.omit:
            return None
        return fields.rename.get(path) or self.contract.case(path.rpartition(".")[2])


def read_field(data: ResponseData, name: str) -> Any:  # noqa: ANN401 - JSON
    """Return a field of response data."""
    return data[name] if isinstance(data, Mapping) else getattr(data, name)


def _declared_values(schema: JsonSchema, data: ResponseData, place: str) -> Mapping[str, Any]:
    """Return the values of a schema's properties, in the schema's order. Raises ResponseMismatch."""
    properties = schema["properties"]
    constants = {name: inner["const"] for name, inner in properties.items() if "const" in inner}
    declared = properties.keys() - constants.keys()
    if isinstance(data, Mapping):
        values = dict(data)
    else:
        values = {name: getattr(data, name) for name in declared if hasattr(data, name)}
    missing, undeclared = set(schema["required"]) - constants.keys() - values.keys(), values.keys() - declared
    if missing or undeclared:
        raise ResponseMismatch(f"{place} missing: {sorted(missing)}, undeclared: {sorted(undeclared)}")
    values |= constants
    return {name: values[name] for name in properties if name in values}
