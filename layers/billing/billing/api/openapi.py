"""OpenAPI document of a contract, generated from the data that the functions use.

| part | source |
|---|---|
| paths, field names, envelopes, error codes | contract |
| schemas, descriptions, credentials, errors | operation declarations |
| webhooks | `webhook_events` |
| plans, metrics, prices, return URLs | catalog and settings of the deployment |
| descriptions of errors, headers and credentials | `openapi_descriptions` |

https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from billing import __version__
from billing.api.contracts.contract import Contract, Envelope, Field
from billing.api.declaration import DEPLOYMENT_VALUES, DeploymentValues, JsonSchema
from billing.api.endpoint import Endpoint
from billing.api.openapi_descriptions import (
    ACCOUNT_PARAMETER,
    ERROR_DESCRIPTIONS,
    ERROR_FIELDS,
    HEADERS,
    IDEMPOTENCY_KEY,
    PROBLEM,
    RATE_LIMIT_HEADERS,
    SECURITY_SCHEMES,
)
from billing.api.operations import load_operation
from billing.api.webhook_events import WEBHOOK_EVENTS, WEBHOOK_HEADERS, WEBHOOK_RESPONSES, WebhookEventDeclaration
from billing.domain import errors
from billing.domain.credentials import ANY_CREDENTIAL
from billing.domain.plans import Catalog

OPENAPI_VERSION = "3.1.1"
DOCUMENT_VERSION = __version__
JSON = "application/json"
SCHEMAS = "#/components/schemas/"
NULL: JsonSchema = {"type": "null"}
VISIBLE = r"[!-\[\]-~]"  # ASCII without the backslash, which browsers treat as a slash

COMMON_ERRORS = (errors.RequestInvalid, errors.ConfigurationMissing)
CREDENTIAL_ERRORS = (errors.Unauthenticated, errors.RateLimited, errors.StoreUnavailable)
IDEMPOTENCY_ERRORS = (errors.IdempotencyKeyInvalid, errors.IdempotencyKeyReused, errors.StillRunning)
WEBHOOK_OPERATION = "create_webhook_endpoint"
"""Operation of the contracts that describe the webhooks."""
UNCOUNTED_ERRORS = (errors.Unauthenticated, errors.Forbidden)
"""Errors before a request is counted; their responses have no rate limit headers."""

type ErrorType = type[errors.BillingError]


def openapi_document(contract: Contract, catalog: Catalog, allowed_origins: Sequence[str]) -> JsonSchema:
    """Return the OpenAPI document of a contract for a deployment."""
    endpoints = [Endpoint(contract, route, load_operation(name)) for name, route in contract.routes.items()]
    paths: dict[str, JsonSchema] = {}
    schemas: dict[str, JsonSchema] = {"Problem": PROBLEM}
    for endpoint in endpoints:
        route = endpoint.route
        item = paths.setdefault(route.path, _path_item(contract, route.path))
        item[route.method.lower()] = _operation(endpoint)
        schemas |= _schemas(endpoint)
    has_webhooks = WEBHOOK_OPERATION in contract.routes
    kinds = sorted({kind for endpoint in endpoints for kind in endpoint.credentials})
    document: JsonSchema = {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": f"Billing: the {contract.name} API",
            "version": DOCUMENT_VERSION,
            "description": "Times are ISO 8601 in UTC. Amounts are integers in the currency's minor unit.",
        },
        # Relative to the URL of the document, so it is the API that served it.
        "servers": [{"url": "/"}],
        "paths": paths,
        **({"webhooks": _webhooks()} if has_webhooks else {}),
        "components": {
            "schemas": schemas | ({each.name: each.schema for each in WEBHOOK_EVENTS} if has_webhooks else {}),
            "parameters": {"IdempotencyKey": IDEMPOTENCY_KEY},
            "headers": dict(HEADERS),
            "securitySchemes": {
                str(kind): {"type": "http", "scheme": "bearer", "description": SECURITY_SCHEMES[kind]} for kind in kinds
            },
        },
    }
    return dict(_with_deployment_values(document, deployment_values(catalog, allowed_origins)))


# --- Values that depend on the deployment -----------------------------------------------------------------------------


def deployment_values(catalog: Catalog, allowed_origins: Sequence[str]) -> dict[DeploymentValues, JsonSchema]:
    """Return the schema keywords of a deployment's values."""
    prices = [price for plan in catalog.for_sale for price in plan.prices]
    lookup_keys = [price.lookup_key for price in prices]
    return {
        DeploymentValues.PLANS: {"enum": [plan.id for plan in catalog.plans]},
        DeploymentValues.PLANS_FOR_SALE: {"enum": [plan.id for plan in catalog.for_sale]},
        DeploymentValues.PRICES: {
            "anyOf": [{"type": "string", "enum": lookup_keys}, {"type": "string", "pattern": "^price_[A-Za-z0-9]+$"}]
        },
        DeploymentValues.INTERVALS: {"enum": list(dict.fromkeys(price.interval for price in prices))},
        DeploymentValues.CURRENCIES: {"enum": list(dict.fromkeys(price.currency for price in prices))},
        DeploymentValues.METRICS: {"enum": [metric.id for metric in catalog.metrics]},
        DeploymentValues.RETURN_URLS: {"pattern": return_url_pattern(allowed_origins)},
    }


def return_url_pattern(allowed_origins: Sequence[str]) -> str:
    """Return an ECMA 262 pattern for the URLs that `resolve_return_url` accepts, except origins in upper case."""
    origins = "|".join(re.sub(r"[.\[\]]", r"\\\g<0>", origin) for origin in allowed_origins)
    return rf"^((?:{origins})([/?#]{VISIBLE}*)?|(?!//|[A-Za-z][A-Za-z0-9+.-]*:){VISIBLE}+)$"


def _with_deployment_values(schema: Any, values: Mapping[DeploymentValues, JsonSchema]) -> Any:  # noqa: ANN401 - JSON
    """Replace each `DEPLOYMENT_VALUES` keyword of a document by the deployment's values."""
    if isinstance(schema, dict):
        replaced = {
            name: _with_deployment_values(inner, values) for name, inner in schema.items() if name != DEPLOYMENT_VALUES
        }
        return replaced | (values[schema[DEPLOYMENT_VALUES]] if DEPLOYMENT_VALUES in schema else {})
    if isinstance(schema, list | tuple):
        return [_with_deployment_values(inner, values) for inner in schema]
    return schema


# --- Operations -------------------------------------------------------------------------------------------------------


def _path_item(contract: Contract, path: str) -> JsonSchema:
    """Return the path item without operations; the account is a parameter of all of them."""
    name = contract.account_parameter
    return {"parameters": [_path_parameter(name, ACCOUNT_PARAMETER)]} if name and f"{{{name}}}" in path else {}


def _path_parameter(name: str, description: str) -> JsonSchema:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _operation(endpoint: Endpoint) -> JsonSchema:
    declaration = endpoint.operation
    operation: JsonSchema = {
        "operationId": declaration.operation_id,
        "summary": declaration.summary,
        "description": declaration.description,
        "responses": {"200": _success(endpoint)} | _error_responses(endpoint),
    }
    parameters = [*declaration.parameters, *_parameters(endpoint)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.takes_body:
        body = declaration.body or {"$ref": f"{SCHEMAS}{_schema_name(endpoint)}Request"}
        is_required = endpoint.required_request_fields or declaration.body or endpoint.is_partial_update
        operation["requestBody"] = {
            "required": bool(is_required),
            "content": {JSON: {"schema": body}},
        }
    if endpoint.credentials:
        operation["security"] = [{str(kind): []} for kind in sorted(endpoint.credentials)]
    return operation


def _schema_name(endpoint: Endpoint) -> str:
    return "".join(word.capitalize() for word in endpoint.operation.name.split("_"))


def _parameters(endpoint: Endpoint) -> Iterator[JsonSchema]:
    for name, path_id in endpoint.operation.path_ids.items():
        yield _path_parameter(name, path_id.description)
    if not endpoint.takes_body:
        required = endpoint.required_request_fields
        for name, schema in _request_properties(endpoint).items():
            yield {"name": name, "in": "query", "required": name in required, "schema": schema}
    if endpoint.accepts_idempotency_key:
        yield {"$ref": "#/components/parameters/IdempotencyKey"}


# --- Requests ---------------------------------------------------------------------------------------------------------


def _request_properties(endpoint: Endpoint) -> dict[str, JsonSchema]:
    """Return the schemas of the request fields by the contract's names."""
    properties = _request_schema(endpoint).get("properties", {})
    return {
        name: _property(properties[own], nullable=_accepts_null(endpoint, name))
        for name, own in endpoint.request_fields.items()
    }


def _request_schema(endpoint: Endpoint) -> JsonSchema:
    model = endpoint.operation.request
    return model.model_json_schema(ref_template=SCHEMAS + "{model}") if model else {}


def _accepts_null(endpoint: Endpoint, name: str) -> bool:
    """Return True if null is accepted: not in a query string or PATCH, and not for a required field."""
    is_excluded = not endpoint.takes_body or endpoint.is_partial_update
    return not is_excluded and name not in endpoint.required_request_fields


def _nested_models(endpoint: Endpoint) -> dict[str, JsonSchema]:
    return {
        name: schema
        | {"properties": {field: _property(each, nullable=True) for field, each in schema["properties"].items()}}
        for name, schema in _request_schema(endpoint).get("$defs", {}).items()
    }


def _property(schema: JsonSchema, *, nullable: bool) -> JsonSchema:
    """Return pydantic's schema of a field, without its title, and without null unless `nullable`."""
    shared = {name: schema[name] for name in ("description", DEPLOYMENT_VALUES) if name in schema}
    options = [
        {name: value for name, value in option.items() if name != "title"} | shared
        for option in schema.get("anyOf", [schema])
        if option != NULL
    ]
    if nullable and NULL in schema.get("anyOf", ()):
        options.append(NULL)
    return options[0] if len(options) == 1 else {"anyOf": options}


# --- Responses --------------------------------------------------------------------------------------------------------


def _schemas(endpoint: Endpoint) -> dict[str, JsonSchema]:
    """Return the named schemas of an endpoint: its response, its request body, and the models nested in that."""
    name = _schema_name(endpoint)
    schemas = {f"{name}Response": _response_schema(endpoint)}
    if endpoint.takes_body and endpoint.operation.body is None:
        request = _object(_request_properties(endpoint), endpoint.required_request_fields)
        schemas[f"{name}Request"] = request | ({"minProperties": 1} if endpoint.is_partial_update else {})
    return schemas | _nested_models(endpoint)


def _response_schema(endpoint: Endpoint) -> JsonSchema:
    data = endpoint.data_schema
    if not endpoint.operation.has_envelope:
        return data
    field = endpoint.route.not_found_if_null
    if field is not None:
        name = endpoint.response_name(field)
        data = data | {"properties": data["properties"] | {name: _without_null(data["properties"][name])}}
    return envelope_schema(endpoint.contract.envelope, {"data": data})


def envelope_schema(envelope: Envelope, schemas: Mapping[str, JsonSchema]) -> JsonSchema:
    """Return the schema of a filled envelope.

    Args:
        envelope: The envelope.
        schemas: Schemas of the values by name. An optional placeholder without a schema is left out.
    """
    if isinstance(envelope, Field):
        return schemas[envelope.source]
    if isinstance(envelope, Mapping):
        optional = {
            name: inner.source for name, inner in envelope.items() if isinstance(inner, Field) and inner.optional
        }
        properties = {
            name: envelope_schema(inner, schemas)
            for name, inner in envelope.items()
            if name not in optional or optional[name] in schemas
        }
        return _object(properties, [name for name in properties if name not in optional])
    return NULL if envelope is None else {"const": envelope}


def _object(properties: Mapping[str, JsonSchema], required: Sequence[str]) -> JsonSchema:
    schema: JsonSchema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _without_null(schema: JsonSchema) -> JsonSchema:
    [remaining] = set(schema["type"]) - {"null"}
    return schema | {"type": remaining}


def _success(endpoint: Endpoint) -> JsonSchema:
    headers = ["X-Request-Id"]
    if endpoint.credentials:
        headers += RATE_LIMIT_HEADERS
    if endpoint.accepts_idempotency_key:
        headers.append("Idempotent-Replayed")
    return {
        "description": "Success",
        "headers": {name: _header(name) for name in headers},
        "content": {JSON: {"schema": {"$ref": f"{SCHEMAS}{_schema_name(endpoint)}Response"}}},
    }


def _header(name: str) -> JsonSchema:
    return {"$ref": f"#/components/headers/{name}"}


# --- Webhooks ---------------------------------------------------------------------------------------------------------


def _webhooks() -> dict[str, JsonSchema]:
    """Return a path item for each type of outbound event."""
    return {
        event_type: {"post": _webhook(summary, declaration)}
        for declaration in WEBHOOK_EVENTS
        for event_type, summary in declaration.types.items()
    }


def _webhook(summary: str, declaration: WebhookEventDeclaration) -> JsonSchema:
    schema = {"$ref": f"{SCHEMAS}{declaration.name}"}
    return {
        "summary": summary,
        "parameters": [*WEBHOOK_HEADERS],
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": {status: {"description": description} for status, description in WEBHOOK_RESPONSES.items()},
    }


# --- Errors -----------------------------------------------------------------------------------------------------------


def errors_by_status(endpoint: Endpoint) -> dict[int, list[ErrorType]]:
    """Return every error of an endpoint, by HTTP status."""
    contract = endpoint.contract
    found: list[ErrorType] = [*COMMON_ERRORS, *endpoint.operation.errors]
    if endpoint.credentials:
        found += CREDENTIAL_ERRORS
        if endpoint.credentials < ANY_CREDENTIAL or contract.account_parameter:
            found.append(errors.Forbidden)
    if endpoint.operation.path_ids:
        found.append(errors.ObjectUnknown)
    if endpoint.accepts_idempotency_key:
        found += IDEMPOTENCY_ERRORS
    if endpoint.route.not_found_if_null is not None:
        found.append(errors.NeverSubscribed)
    statuses = sorted({contract.error_mapping(error).status for error in found})
    return {status: [each for each in found if contract.error_mapping(each).status == status] for status in statuses}


def _error_responses(endpoint: Endpoint) -> dict[str, JsonSchema]:
    return {
        str(status): {
            "description": "; ".join(ERROR_DESCRIPTIONS[error] for error in found),
            "headers": _error_headers(found, is_limited=bool(endpoint.credentials)),
            "content": {JSON: {"schema": _error_schema(endpoint.contract, found)}},
        }
        for status, found in errors_by_status(endpoint).items()
    }


def _error_schema(contract: Contract, found: Sequence[ErrorType]) -> JsonSchema:
    mappings = [contract.error_mapping(error) for error in found]
    names = ["message", "request_id", "timestamp"]
    if any(issubclass(error, errors.RequestInvalid) for error in found):
        names.append("details")
    if errors.SubscriptionExists in found:
        names += ["action", "action_url"]
    schemas = {name: ERROR_FIELDS[name] for name in names}
    enumerated: Mapping[str, list[str | None]] = {
        "code": [mapping.code for mapping in mappings],
        "type": [mapping.type for mapping in mappings],
        "doc_url": [mapping.doc_url for mapping in mappings],
    }
    for name, values in enumerated.items():
        if any(values):
            schemas[name] = ERROR_FIELDS[name] | {"enum": [value for value in dict.fromkeys(values) if value]}
    return envelope_schema(contract.error_envelope, schemas)


def _error_headers(found: Sequence[ErrorType], *, is_limited: bool) -> JsonSchema:
    headers = {"X-Request-Id": _header("X-Request-Id")}
    if errors.Unauthenticated in found:
        headers["WWW-Authenticate"] = _header("WWW-Authenticate")
    temporary = [issubclass(error, errors.TryAgainLater) for error in found]
    if any(temporary):
        required = all(temporary)
        headers["Retry-After"] = _header("Retry-After") if required else HEADERS["Retry-After"] | {"required": False}
    if is_limited and not all(issubclass(error, UNCOUNTED_ERRORS) for error in found):
        headers |= {name: _header(name) for name in RATE_LIMIT_HEADERS}
    return headers
