"""Is a JSON object one that Stripe could have answered? The official SDK's resource classes judge."""

import importlib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args, get_origin

from stripe import ListObject
from stripe._object_classes import OBJECT_CLASSES

from local.stripe_simulator.annotations import alternatives, is_resource, object_fields

DELETED_FIELDS = {"id", "object", "deleted"}
SCALARS: Mapping[type, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int)}


class ShapeViolation(Exception):
    """The simulator made an object that the SDK's types do not allow: a mistake of the simulator, never of its user."""


def check_object(value: Mapping[str, Any]) -> None:
    """Raise ShapeViolation, with the path of the offending field, unless the value is a Stripe object or a list."""
    name = value["object"]
    if name == "list":
        for index, member in enumerate(value["data"]):
            _check_fields(_resource_class(member["object"]), member, f"data[{index}]")
        return
    _check_fields(_resource_class(name), value, name)


def _resource_class(object_name: str) -> Any:  # noqa: ANN401 - a resource class
    module, name = OBJECT_CLASSES[object_name]
    return getattr(importlib.import_module(module), name)


def _check_fields(resource: Any, value: Any, path: str) -> None:  # noqa: ANN401 - a resource class; JSON
    if not isinstance(value, Mapping):
        raise ShapeViolation(f"{path}: expected a {resource.__name__}, got {value!r}")
    if value.get("deleted") is True and value.keys() == DELETED_FIELDS:
        return
    fields = object_fields(resource)
    for name in value.keys() - fields.keys():
        raise ShapeViolation(f"{path}.{name}: {resource.__name__} has no such field")
    for name, field in fields.items():
        if name in value:
            _check(field.annotation, value[name], f"{path}.{name}")
        elif field.required:
            raise ShapeViolation(f"{path}.{name}: {resource.__name__} must have this field")


def _check(annotation: Any, value: Any, path: str) -> None:  # noqa: ANN401 - JSON
    problems = []
    for alternative in alternatives(annotation):
        try:
            return _check_alternative(alternative, value, path)
        except ShapeViolation as violation:
            problems.append(str(violation))
    # The longest path is of the alternative that fitted best: the object behind an expandable field, not its id.
    raise ShapeViolation(max(problems, key=lambda problem: len(problem.partition(": ")[0])))


def _check_alternative(annotation: Any, value: Any, path: str) -> None:  # noqa: ANN401 - JSON
    origin = get_origin(annotation)
    if annotation is Any:
        return
    if is_resource(annotation):
        _check_fields(annotation, value, path)
    elif is_resource(origin):
        _check_generic(origin, get_args(annotation)[0], value, path)
    elif origin is list:
        _check_list(get_args(annotation)[0], value, path)
    elif not _is_scalar(annotation, value):
        raise ShapeViolation(f"{path}: expected {annotation}, got {value!r}")


def _check_generic(resource: Any, member: Any, value: Any, path: str) -> None:  # noqa: ANN401 - JSON
    if not isinstance(value, Mapping):
        raise ShapeViolation(f"{path}: expected an object, got {value!r}")
    if issubclass(resource, ListObject):
        if value.keys() - {"total_count"} != {"object", "data", "has_more", "url"} or value["object"] != "list":
            raise ShapeViolation(f"{path}: a list has object, data, has_more and url, not {sorted(value)}")
        _check_list(member, value["data"], f"{path}.data")
    else:
        for key, entry in value.items():
            _check(member, entry, f"{path}.{key}")


def _check_list(member: Any, value: Any, path: str) -> None:  # noqa: ANN401 - JSON
    if not isinstance(value, list):
        raise ShapeViolation(f"{path}: expected a list, got {value!r}")
    for index, entry in enumerate(value):
        _check(member, entry, f"{path}[{index}]")


def _is_scalar(annotation: Any, value: Any) -> bool:  # noqa: ANN401 - JSON
    if annotation is type(None):
        return value is None
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if annotation is bool or isinstance(value, bool):
        return annotation is bool and isinstance(value, bool)
    if annotation is Decimal:
        return isinstance(value, str) and _is_decimal(value)
    return isinstance(value, SCALARS.get(annotation, ()))


def _is_decimal(text: str) -> bool:
    try:
        Decimal(text)
    except InvalidOperation:
        return False
    return True
