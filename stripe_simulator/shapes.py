"""Is a JSON object one that Stripe could have answered? The official SDK's resource classes judge.

Each annotation is compiled once into a check: a function that returns what is wrong with a value, or None. A problem
begins with the rest of the path to it (``.items.data[0].price: …``), so that paths cost nothing while all is well.
"""

import importlib
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin

from stripe import ListObject
from stripe._object_classes import OBJECT_CLASSES

from stripe_simulator.annotations import alternatives, is_resource, object_fields

Check = Callable[[Any], str | None]

DELETED_FIELDS = {"id", "object", "deleted"}
LIST_FIELDS = {"object", "data", "has_more", "url"}


class ShapeViolation(Exception):
    """The simulator made an object that the SDK's types do not allow: a mistake of the simulator, never of its user."""


def check_object(value: Mapping[str, Any]) -> None:
    """Raise ShapeViolation, with the path of the offending field, unless the value is a Stripe object or a list."""
    members = value["data"] if value["object"] == "list" else [value]
    for member in members:
        problem = _check_resource(_resource_class(member["object"]), member)
        if problem:
            raise ShapeViolation(member["object"] + problem)


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
    """Return the check of each field of a resource class, and the names of those that must be there."""
    fields = object_fields(resource)
    checks = {name: _compiled(field.annotation) for name, field in fields.items()}
    return checks, frozenset(name for name, field in fields.items() if field.required)


def _compiled(annotation: Any) -> Check:  # noqa: ANN401 - annotations are any type form
    checks = [_compiled_alternative(alternative) for alternative in alternatives(annotation)]
    return checks[0] if len(checks) == 1 else partial(_check_any, checks)


def _check_any(checks: list[Check], value: Any) -> str | None:  # noqa: ANN401 - JSON
    problems = []
    for check in checks:
        problem = check(value)
        if problem is None:
            return None
        problems.append(problem)
    # The longest path is of the alternative that fitted best: the object behind an expandable field, not its id.
    return max(problems, key=lambda problem: len(problem.partition(": ")[0]))


def _compiled_alternative(annotation: Any) -> Check:  # noqa: ANN401 - annotations are any type form
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_resource(annotation):
        return partial(_check_resource, annotation)
    if is_resource(origin):
        return partial(
            _check_list_object if issubclass(origin, ListObject) else _check_mapping, _compiled(arguments[0])
        )
    if origin is list:
        return partial(_check_list, _compiled(arguments[0]))
    if origin is Literal:
        return partial(_check_enumerated, frozenset(arguments))
    return SCALARS[annotation]


def _check_list_object(member: Check, value: Any) -> str | None:  # noqa: ANN401 - JSON
    if not isinstance(value, dict) or value.keys() != LIST_FIELDS or value["object"] != "list":
        return f": expected a list object, got {value!r}"
    problem = _check_list(member, value["data"])
    return problem and f".data{problem}"


def _check_mapping(member: Check, value: Any) -> str | None:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return f": expected an object, got {value!r}"
    for key, entry in value.items():
        problem = member(entry)
        if problem:
            return f".{key}{problem}"
    return None


def _check_list(member: Check, value: Any) -> str | None:  # noqa: ANN401 - JSON
    if not isinstance(value, list):
        return f": expected a list, got {value!r}"
    for index, entry in enumerate(value):
        problem = member(entry)
        if problem:
            return f"[{index}]{problem}"
    return None


def _check_enumerated(allowed: frozenset[object], value: Any) -> str | None:  # noqa: ANN401 - JSON
    fits = not isinstance(value, dict | list) and value in allowed
    return None if fits else f": expected one of {sorted(map(str, allowed))}, got {value!r}"


def _check_type(name: str, types: tuple[type, ...], value: Any) -> str | None:  # noqa: ANN401 - JSON
    fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    return None if fits else f": expected {name}, got {value!r}"


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
