"""Validation of objects against the resource classes of Stripe's SDK.

Each annotation is compiled once into a check: a function that returns a problem or None. A problem starts with the
remaining path to the field (``.items.data[0].price: …``). Paths are built only for invalid values, for speed.
"""

import importlib
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin

from stripe import ListObject
from stripe._object_classes import OBJECT_CLASSES

from stripe_simulator.sdk_types import is_resource_class, object_fields, union_members

Check = Callable[[Any], str | None]

DELETED_FIELDS = {"id", "object", "deleted"}
LIST_FIELDS = {"object", "data", "has_more", "url"}


class InvalidObject(Exception):
    """An object does not match the SDK's resource class: a bug of the simulator, never of its user."""


def check_object(value: Mapping[str, Any]) -> None:
    """Validate a Stripe object or list.

    Raises:
        InvalidObject: A field is unknown, missing or of another type. The message contains its path.
    """
    members = value["data"] if value["object"] == "list" else [value]
    for member in members:
        problem = _check_resource(_resource_class(member["object"]), member)
        if problem:
            raise InvalidObject(member["object"] + problem)


def sdk_fields(object_name: str) -> frozenset[str]:
    """Return the names of the fields that the SDK's resource class of a type has."""
    return frozenset(object_fields(_resource_class(object_name))) if object_name in OBJECT_CLASSES else frozenset()


@cache
def _resource_class(object_name: str) -> Any:  # noqa: ANN401 - a resource class
    module, name = OBJECT_CLASSES[object_name]
    return getattr(importlib.import_module(module), name)


def _check_resource(resource: Any, value: Any) -> str | None:  # noqa: ANN401 - a resource class; JSON
    if not isinstance(value, dict):
        return f": expected a {resource.__name__}, got {value!r}"
    if value.get("deleted") is True and value.keys() == DELETED_FIELDS:
        return None
    checks, required = _field_checks(resource)
    for name, member in value.items():
        check = checks.get(name)
        if check is None:
            return f".{name}: {resource.__name__} has no such field"
        problem = check(member)
        if problem:
            return f".{name}{problem}"
    missing = required - value.keys()
    return f".{min(missing)}: {resource.__name__} must have this field" if missing else None


@cache
def _field_checks(resource: Any) -> tuple[dict[str, Check], frozenset[str]]:  # noqa: ANN401 - a resource class
    """Return the check of each field of a resource class, and the names of the required fields."""
    fields = object_fields(resource)
    checks = {name: _compile(field.annotation) for name, field in fields.items()}
    return checks, frozenset(name for name, field in fields.items() if field.required)


def _compile(annotation: Any) -> Check:  # noqa: ANN401 - annotations are any type form
    checks = [_compile_member(member) for member in union_members(annotation)]
    return checks[0] if len(checks) == 1 else partial(_check_any, checks)


def _check_any(checks: list[Check], value: Any) -> str | None:  # noqa: ANN401 - JSON
    problems = []
    for check in checks:
        problem = check(value)
        if problem is None:
            return None
        problems.append(problem)
    # Report the longest path: its union member matches best (the object of an expandable field, not the id).
    return max(problems, key=lambda problem: len(problem.partition(": ")[0]))


def _compile_member(annotation: Any) -> Check:  # noqa: ANN401 - annotations are any type form
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_resource_class(annotation):
        return partial(_check_resource, annotation)
    if is_resource_class(origin):
        return partial(_check_list_object if issubclass(origin, ListObject) else _check_mapping, _compile(arguments[0]))
    if origin is list:
        return partial(_check_list, _compile(arguments[0]))
    if origin is Literal:
        return partial(_check_enumerated, frozenset(arguments))
    return SCALARS[annotation]


def _check_list_object(check_member: Check, value: Any) -> str | None:  # noqa: ANN401 - JSON
    if not isinstance(value, dict) or value.keys() != LIST_FIELDS or value["object"] != "list":
        return f": expected a list object, got {value!r}"
    problem = _check_list(check_member, value["data"])
    return problem and f".data{problem}"


def _check_mapping(check_member: Check, value: Any) -> str | None:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return f": expected an object, got {value!r}"
    for key, entry in value.items():
        problem = check_member(entry)
        if problem:
            return f".{key}{problem}"
    return None


def _check_list(check_member: Check, value: Any) -> str | None:  # noqa: ANN401 - JSON
    if not isinstance(value, list):
        return f": expected a list, got {value!r}"
    for index, entry in enumerate(value):
        problem = check_member(entry)
        if problem:
            return f"[{index}]{problem}"
    return None


def _check_enumerated(allowed: frozenset[object], value: Any) -> str | None:  # noqa: ANN401 - JSON
    valid = not isinstance(value, dict | list) and value in allowed
    return None if valid else f": expected one of {sorted(map(str, allowed))}, got {value!r}"


def _check_type(name: str, types: tuple[type, ...], value: Any) -> str | None:  # noqa: ANN401 - JSON
    valid = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    return None if valid else f": expected {name}, got {value!r}"


def _check_decimal(value: Any) -> str | None:  # noqa: ANN401 - JSON
    try:
        Decimal(value if isinstance(value, str) else "not a string")
    except InvalidOperation:
        return f": expected a decimal string, got {value!r}"
    return None


SCALARS: Mapping[Any, Check] = {
    Any: lambda _: None,
    bool: partial(_check_type, "a boolean", (bool,)),
    Decimal: _check_decimal,
    float: partial(_check_type, "a number", (float, int)),
    int: partial(_check_type, "an integer", (int,)),
    str: partial(_check_type, "a string", (str,)),
    type(None): partial(_check_type, "null", (type(None),)),
}
