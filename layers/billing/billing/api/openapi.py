"""A contract as an OpenAPI document, made from the tables that the functions answer from: never written by hand.

Routes, shapes, refusals and credentials come from the contract, bodies and parameters from the operations' models,
plans, metrics and prices from the catalog, return URLs from the deployment; types and words from `openapi_terms`.
https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from billing import __version__
from billing.api.contracts.contract import Contract, Field, ListField, Operation, ResponseTemplate, Route
from billing.api.openapi_descriptions import (
    ACCOUNT_PARAMETER,
    ERROR_DESCRIPTIONS,
    FIELDS,
    HEADERS,
    IDEMPOTENCY_KEY,
    OPERATIONS,
    PROBLEM,
    PROPERTY_SCHEMAS,
    RATE_LIMIT_HEADERS,
    SECURITY_SCHEMES,
    Json,
)
from billing.domain import errors
from billing.domain.credentials import ANY_CREDENTIAL
from billing.domain.plans import Catalog

OPENAPI_VERSION = "3.1.1"
DOCUMENT_VERSION = __version__
JSON = "application/json"
SCHEMAS = "#/components/schemas/"
NULL: Json = {"type": "null"}
VISIBLE = r"[!-\[\]-~]"  # ASCII without the backslash, which browsers take for a slash

ALWAYS = (errors.RequestInvalid, errors.ConfigurationMissing)
CREDENTIALED = (errors.Unauthenticated, errors.RateLimited, errors.StoreUnavailable)
KEYED = (errors.IdempotencyKeyInvalid, errors.IdempotencyKeyReused, errors.StillRunning)
UNCOUNTED = (errors.Unauthenticated, errors.Forbidden)
"""What is raised before a request is counted: answers to it carry no rate limit."""

type Kind = type[errors.BillingError]


@dataclass(frozen=True, slots=True)
class Terms:
    """The schemas that hold in one deployment: of each fact that it answers, and of each field that it takes."""

    facts: Mapping[str, Json]
    fields: Mapping[str, Json]


def openapi_document(contract: Contract, catalog: Catalog, allowed_origins: Sequence[str]) -> Json:
    """The document of a contract in a deployment that sells this catalog. Raises KeyError for a fact without a type."""
    terms = Terms(property_schemas(catalog), field_schemas(catalog, allowed_origins))
    paths: dict[str, Json] = {}
    for operation, route in contract.routes.items():
        item = paths.setdefault(route.path, _path_item(contract, route.path))
        item[route.method.lower()] = _operation(contract, operation, terms)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": f"Billing: the {contract.name} API",
            "version": DOCUMENT_VERSION,
            "description": "Times are ISO 8601 in UTC, amounts are integers in the currency's minor unit.",
        },
        # Relative to where the document is served, which is the API itself.
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": _components(contract, terms),
    }


def _components(contract: Contract, terms: Terms) -> Json:
    schemas: dict[str, Json] = {"Problem": PROBLEM}
    for operation, route in contract.routes.items():
        schemas |= _schemas(operation, route, terms)
    kinds = sorted({kind for route in contract.routes.values() for kind in route.credentials})
    return {
        "schemas": schemas,
        "parameters": {"IdempotencyKey": IDEMPOTENCY_KEY},
        "headers": dict(HEADERS),
        "securitySchemes": {
            str(kind): {"type": "http", "scheme": "bearer", "description": SECURITY_SCHEMES[kind]} for kind in kinds
        },
    }


# --- What only this deployment knows ----------------------------------------------------------------------------------


def property_schemas(catalog: Catalog) -> dict[str, Json]:
    """By fact: its schema, with the ids that the catalog has for it."""
    plans = [plan.id for plan in catalog.plans]
    known = {"plan": plans, "plans.id": plans, "usage.metric": _metrics(catalog)}
    return {**PROPERTY_SCHEMAS, **{source: PROPERTY_SCHEMAS[source] | {"enum": ids} for source, ids in known.items()}}


def field_schemas(catalog: Catalog, allowed_origins: Sequence[str]) -> dict[str, Json]:
    """By field, as the operations name it: what it is for, and what this deployment takes for it."""
    url = {"pattern": return_url_pattern(allowed_origins)}
    prices = [price.lookup_key for plan in catalog.for_sale for price in plan.prices]
    known: Mapping[str, Json] = {
        "tier": {"enum": [plan.id for plan in catalog.for_sale]},
        "price_id": {
            "anyOf": [{"type": "string", "enum": prices}, {"type": "string", "pattern": "^price_[A-Za-z0-9]+$"}]
        },
        "metric": {"enum": _metrics(catalog)},
        "success_url": url,
        "cancel_url": url,
        "return_url": url,
    }
    return {name: {"description": words} | known.get(name, {}) for name, words in FIELDS.items()}


def return_url_pattern(allowed_origins: Sequence[str]) -> str:
    """What `resolve_return_url` takes, as a regular expression of ECMA 262; it takes origins in upper case as well."""
    origins = "|".join(re.sub(r"[.\[\]]", r"\\\g<0>", origin) for origin in allowed_origins)
    return rf"^((?:{origins})([/?#]{VISIBLE}*)?|(?!//|[A-Za-z][A-Za-z0-9+.-]*:){VISIBLE}+)$"


def _metrics(catalog: Catalog) -> list[str]:
    return [metric.id for metric in catalog.metrics]


# --- Operations -------------------------------------------------------------------------------------------------------


def _path_item(contract: Contract, path: str) -> Json:
    names = re.findall(r"\{(\w+)\}", path)
    return {"parameters": [_path_parameter(name, contract) for name in names]} if names else {}


def _path_parameter(name: str, contract: Contract) -> Json:
    words = {"description": ACCOUNT_PARAMETER} if name == contract.account_parameter else {}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} | words


def _operation(contract: Contract, operation: Operation, terms: Terms) -> Json:
    about, route = OPERATIONS[operation], contract.routes[operation]
    described: Json = {
        "operationId": about.id,
        "summary": about.summary,
        "description": about.description,
        "responses": {"200": _success(operation, route)} | _refused(contract, operation, terms),
    }
    parameters = [*about.parameters, *_parameters(operation, route, terms)]
    if parameters:
        described["parameters"] = parameters
    if route.method == "POST":
        body = about.body or {"$ref": f"{SCHEMAS}{_name(operation)}Request"}
        described["requestBody"] = {
            "required": bool(route.required or about.body),
            "content": {JSON: {"schema": body}},
        }
    if route.credentials:
        described["security"] = [{str(kind): []} for kind in sorted(route.credentials)]
    return described


def _name(operation: Operation) -> str:
    return "".join(word.capitalize() for word in operation.split("_"))


def _parameters(operation: Operation, route: Route, terms: Terms) -> Iterator[Json]:
    if route.method == "GET":
        fields, _ = _inputs(operation, route, terms)
        for name, schema in fields.items():
            yield {"name": name, "in": "query", "required": name in route.required, "schema": schema}
    if _takes_idempotency_key(route):
        yield {"$ref": "#/components/parameters/IdempotencyKey"}


def _takes_idempotency_key(route: Route) -> bool:
    return route.method == "POST" and bool(route.credentials)


# --- What is sent -----------------------------------------------------------------------------------------------------


def _inputs(operation: Operation, route: Route, terms: Terms) -> tuple[dict[str, Json], dict[str, Json]]:
    """The fields of a route by the document's names, and the models within them by their own."""
    model = OPERATIONS[operation].input
    if model is None:
        return {}, {}
    found = model.model_json_schema(ref_template=SCHEMAS + "{model}")
    fields = {
        theirs: _field(found["properties"][ours], terms.fields[ours], nullable=_takes_null(route, theirs))
        for theirs, ours in route.input.items()
    }
    return fields, {name: _model(schema, terms) for name, schema in found.get("$defs", {}).items()}


def _takes_null(route: Route, name: str) -> bool:
    """A query string has no null, and a required field must not be it."""
    return route.method == "POST" and name not in route.required


def _model(schema: Json, terms: Terms) -> Json:
    fields = {
        name: _field(found, terms.fields[name], nullable=True) for name, found in schema.get("properties", {}).items()
    }
    return schema | ({"properties": fields} if fields else {})


def _field(found: Json, terms: Json, *, nullable: bool) -> Json:
    """Pydantic's schema of a field with what this deployment knows of it, and without null where that is not taken."""
    options = found.get("anyOf", [found])
    schemas = [
        {name: value for name, value in option.items() if name != "title"} | terms
        for option in options
        if option != NULL
    ]
    if nullable and NULL in options:
        schemas.append(NULL)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


# --- What is answered -------------------------------------------------------------------------------------------------


def _schemas(operation: Operation, route: Route, terms: Terms) -> dict[str, Json]:
    """The named schemas of an operation: its answer, its body, and the models within that."""
    facts = terms.facts
    if route.not_found_if_null is not None:
        facts = {**facts, route.not_found_if_null: _without_null(facts[route.not_found_if_null])}
    named = {f"{_name(operation)}Response": answer_schema(route.response, facts)}
    fields, inner = _inputs(operation, route, terms)
    if route.method == "POST" and OPERATIONS[operation].body is None:
        named[f"{_name(operation)}Request"] = _object(fields, route.required)
    return named | inner


def answer_schema(shape: ResponseTemplate, facts: Mapping[str, Json], within: str = "") -> Json:
    """What `fill` makes of a shape from facts with these schemas. Raises KeyError for one that is not optional.

    `within` names the list whose items fill it, as "invoices.", and is "" outside of lists.
    """
    if isinstance(shape, Field):
        return facts[within + shape.source]
    if isinstance(shape, ListField):
        items = answer_schema(shape.shape, facts, f"{within}{shape.source}.")
        return {"type": "array", "items": items}
    if isinstance(shape, Mapping):
        optional = {name: inner.source for name, inner in shape.items() if isinstance(inner, Field) and inner.optional}
        properties = {
            name: answer_schema(inner, facts, within)
            for name, inner in shape.items()
            if name not in optional or within + optional[name] in facts
        }
        return _object(properties, [name for name in properties if name not in optional])
    return NULL if shape is None else {"const": shape}


def _object(properties: Mapping[str, Json], required: Sequence[str]) -> Json:
    described: Json = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return described | ({"required": list(required)} if required else {})


def _without_null(schema: Json) -> Json:
    [kind] = set(schema["type"]) - {"null"}
    return schema | {"type": kind}


def _success(operation: Operation, route: Route) -> Json:
    headers = ["X-Request-Id"]
    if route.credentials:
        headers += RATE_LIMIT_HEADERS
    if _takes_idempotency_key(route):
        headers.append("Idempotent-Replayed")
    return {
        "description": "What was asked for",
        "headers": {name: _header(name) for name in headers},
        "content": {JSON: {"schema": {"$ref": f"{SCHEMAS}{_name(operation)}Response"}}},
    }


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


# --- What is refused --------------------------------------------------------------------------------------------------


def error_mappings(contract: Contract, operation: Operation) -> dict[int, list[Kind]]:
    """Every error that an operation may meet in a contract, by the status that it is answered with."""
    route = contract.routes[operation]
    kinds: list[Kind] = [*ALWAYS, *OPERATIONS[operation].raises]
    if route.credentials:
        kinds += CREDENTIALED
        if route.credentials < ANY_CREDENTIAL or contract.account_parameter:
            kinds.append(errors.Forbidden)
    if _takes_idempotency_key(route):
        kinds += KEYED
    if route.not_found_if_null is not None:
        kinds.append(errors.NeverSubscribed)
    statuses = sorted({contract.error_mapping(kind).status for kind in kinds})
    return {status: [kind for kind in kinds if contract.error_mapping(kind).status == status] for status in statuses}


def _refused(contract: Contract, operation: Operation, terms: Terms) -> dict[str, Json]:
    is_limited = bool(contract.routes[operation].credentials)
    return {
        str(status): {
            "description": "; ".join(ERROR_DESCRIPTIONS[kind] for kind in kinds),
            "headers": _refusal_headers(kinds, is_limited=is_limited),
            "content": {JSON: {"schema": _error_schema(contract, kinds, terms)}},
        }
        for status, kinds in error_mappings(contract, operation).items()
    }


def _error_schema(contract: Contract, kinds: Sequence[Kind], terms: Terms) -> Json:
    found = [contract.error_mapping(kind) for kind in kinds]
    told = ["message", "request_id", "timestamp"]
    if any(issubclass(kind, errors.RequestInvalid) for kind in kinds):
        told.append("details")
    known: Mapping[str, list[str | None]] = {
        "code": [mapping.code for mapping in found],
        "type": [mapping.type for mapping in found],
        "doc_url": [mapping.doc_url for mapping in found],
    }
    facts = {source: terms.facts[source] for source in told}
    for source, values in known.items():
        if any(values):
            facts[source] = terms.facts[source] | {"enum": [value for value in dict.fromkeys(values) if value]}
    return answer_schema(contract.error, facts)


def _refusal_headers(kinds: Sequence[Kind], *, is_limited: bool) -> Json:
    headers = {"X-Request-Id": _header("X-Request-Id")}
    if errors.Unauthenticated in kinds:
        headers["WWW-Authenticate"] = _header("WWW-Authenticate")
    later = [issubclass(kind, errors.TryAgainLater) for kind in kinds]
    if any(later):
        headers["Retry-After"] = _header("Retry-After") if all(later) else HEADERS["Retry-After"] | {"required": False}
    if is_limited and not all(issubclass(kind, UNCOUNTED) for kind in kinds):
        headers |= {name: _header(name) for name in RATE_LIMIT_HEADERS}
    return headers
