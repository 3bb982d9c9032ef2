"""Declaration of an API operation: request model, response schema, credentials, errors and descriptions.

Schemas are plain JSON Schema: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from billing.domain.credentials import ACTING_CREDENTIALS, CredentialKind
from billing.domain.errors import BillingError

if TYPE_CHECKING:
    from billing.api.request_models import RequestModel

type JsonSchema = dict[str, Any]

TIME: Mapping[str, str] = {"format": "date-time"}
URI: Mapping[str, str] = {"format": "uri"}

DEPLOYMENT_VALUES = "x-deployment-values"
"""Keyword of a property with values that depend on the deployment. OpenAPI documents contain the values instead."""


class DeploymentValues(StrEnum):
    """Values that depend on the catalog or the settings of a deployment."""

    PLANS = "plans"
    PLANS_FOR_SALE = "plans_for_sale"
    PRICES = "prices"
    INTERVALS = "intervals"
    CURRENCIES = "currencies"
    METRICS = "metrics"
    RETURN_URLS = "return_urls"

    @property
    def keyword(self) -> JsonSchema:
        """The keyword, to add to a property's schema."""
        return {DEPLOYMENT_VALUES: self.value}


@dataclass(frozen=True, slots=True)
class PathId:
    """Id of an object in the path of a route.

    Attributes:
        object_name: Name of the object in errors, for example "webhook endpoint".
    """

    object_name: str
    description: str


@dataclass(frozen=True, slots=True)
class OperationDeclaration:
    """An API operation, independent of the contracts that serve it.

    Attributes:
        name: Name of the operation's module and of its folder in `functions/`.
        operation_id: `operationId` in OpenAPI documents.
        response: Schema of the response data, with the operation's own field names.
        request: Model of the request body (POST, PATCH) or query string (GET).
        path_ids: Ids in the path, by the name of the path parameter.
        credentials: Accepted kinds of credentials; a contract can accept fewer.
        needs_billing_role: Only users with a billing role have access, if the deployment configures such roles.
        has_envelope: The response has the contract's envelope; False for a response with a format of its own.
        errors: Errors besides those of every operation.
        parameters: OpenAPI parameters that the handler reads itself.
        body: Schema of a request body that the handler reads itself.
    """

    name: str
    operation_id: str
    summary: str
    description: str
    response: JsonSchema
    request: "type[RequestModel] | None" = None
    path_ids: Mapping[str, PathId] = field(default_factory=dict)
    credentials: frozenset[CredentialKind] = ACTING_CREDENTIALS
    needs_billing_role: bool = False
    has_envelope: bool = True
    errors: tuple[type[BillingError], ...] = ()
    parameters: tuple[JsonSchema, ...] = ()
    body: JsonSchema | None = None


# --- Schemas ----------------------------------------------------------------------------------------------------------


def string(description: str, **keywords: object) -> JsonSchema:
    """Return the schema of a string property."""
    return {"type": "string", "description": description} | keywords


def integer(description: str, **keywords: object) -> JsonSchema:
    """Return the schema of an integer property."""
    return {"type": "integer", "description": description} | keywords


def boolean(description: str) -> JsonSchema:
    """Return the schema of a boolean property."""
    return {"type": "boolean", "description": description}


def map_of(values: JsonSchema, description: str) -> JsonSchema:
    """Return the schema of an object with arbitrary keys."""
    return {"type": "object", "description": description, "additionalProperties": values}


def nullable(schema: JsonSchema) -> JsonSchema:
    """Return a property's schema with null as a further value."""
    return schema | {"type": [schema["type"], "null"]}


def object_of(properties: Mapping[str, JsonSchema], optional: Sequence[str] = ()) -> JsonSchema:
    """Return the schema of an object with these properties and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "additionalProperties": False, "required": required}


def open_object(properties: Mapping[str, JsonSchema]) -> JsonSchema:
    """Return the schema of an object with these properties, and perhaps others in the future."""
    return {"type": "object", "properties": dict(properties), "required": [*properties]}


def list_of(properties: Mapping[str, JsonSchema], optional: Sequence[str] = ()) -> JsonSchema:
    """Return the schema of a list of objects with these properties."""
    return {"type": "array", "items": object_of(properties, optional)}
