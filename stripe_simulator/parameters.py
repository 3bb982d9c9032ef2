"""Parsing and validation of form-encoded request parameters, with Stripe's error messages.

``items[0][price]=price_1&expand[]=customer`` becomes ``{"items": [{"price": "price_1"}], "expand": ["customer"]}``.
The SDK's ``TypedDict`` of the operation defines names and types.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args, get_origin

from stripe_simulator.errors import InvalidRequest
from stripe_simulator.sdk_types import is_params_type, parameter_fields, union_members

Form = dict[str, Any]

KEY_PARTS = re.compile(r"[^\[\]]+|\[\]")
INTEGER = re.compile(r"-?\d{1,18}")
BOOLEANS = {"true": True, "false": False}


def parse_form(pairs: Iterable[tuple[str, str]]) -> Form:
    """Convert form pairs to nested dictionaries. ``[]`` becomes the next index.

    Raises:
        InvalidRequest: A key has both a value and nested keys.
    """
    form: Form = {}
    for key, value in pairs:
        parts = KEY_PARTS.findall(key)
        parent = form
        for part in parts[:-1]:
            parent = parent.setdefault(_index(part, parent), {})
            if not isinstance(parent, dict):
                raise InvalidRequest(f"Invalid object: {key}", param=parts[0])
        if parts:
            parent[_index(parts[-1], parent)] = value
    return form


def _index(part: str, parent: Form) -> str:
    return str(len(parent)) if part == "[]" else part


def read_parameters(parameters: Any, form: Form, path: str = "") -> dict[str, Any]:  # noqa: ANN401 - a TypedDict class
    """Return the typed parameters of a request.

    Args:
        parameters: The SDK's ``TypedDict`` of the operation.
        form: Nested form values; all values are strings.
        path: Path of the form in the request, for error messages: ``items[0]``.

    Raises:
        InvalidRequest: A parameter is unknown, missing or of another type.
    """
    fields = parameter_fields(parameters)
    unknown = [name for name in form if name not in fields]
    if unknown:
        raise _unknown_error(unknown, list(fields), path)
    missing = [name for name, field in fields.items() if field.required and name not in form]
    if missing:
        param = _param_path(path, missing[0])
        raise InvalidRequest(f"Missing required param: {param}.", code="parameter_missing", param=param)
    return {name: _read(fields[name].annotation, value, _param_path(path, name)) for name, value in form.items()}


def _unknown_error(unknown: list[str], known: list[str], path: str) -> InvalidRequest:
    params = [_param_path(path, name) for name in unknown]
    plural = "s" if len(params) > 1 else ""
    message = f"Received unknown parameter{plural}: {', '.join(params)}"
    similar = difflib.get_close_matches(unknown[0], known, n=1)
    if similar and not plural:
        message += f". Did you mean {_param_path(path, similar[0])}?"
    return InvalidRequest(message, code="parameter_unknown", param=params[0])


def _param_path(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _read(annotation: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - typed by the annotation
    types = union_members(annotation)
    if isinstance(value, dict):
        return _read_nested(types, value, path)
    if value == "":
        return _read_empty(types, path)
    for type_ in types:
        result = _scalar(type_, value)
        if result is not None:
            return result
    raise _type_error(types, value, path)


def _read_nested(types: tuple[Any, ...], value: Form, path: str) -> Any:  # noqa: ANN401 - typed by the types
    for type_ in types:
        origin = get_origin(type_)
        if origin is list and all(key.isdigit() for key in value):
            member = get_args(type_)[0]
            ordered = sorted(value.items(), key=lambda item: int(item[0]))
            return [_read(member, entry, _param_path(path, key)) for key, entry in ordered]
        if is_params_type(type_):
            return read_parameters(type_, value, path)
        if origin is dict:
            member = get_args(type_)[1]
            return {key: entry and _read(member, entry, _param_path(path, key)) for key, entry in value.items()}
    expected = "array" if any(get_origin(type_) is list for type_ in types) else "string"
    raise InvalidRequest(f"Invalid {expected}: {path}", param=path)


def _read_empty(types: tuple[Any, ...], path: str) -> str:
    if any(get_origin(type_) is Literal and "" in get_args(type_) for type_ in types):
        return ""
    raise InvalidRequest(
        f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; however "
        f"'{path}' cannot be unset. You should remove '{path}' from your request or supply a non-empty value.",
        code="parameter_invalid_empty",
        param=path,
    )


def _scalar(annotation: Any, text: str) -> Any:  # noqa: ANN401 - typed by the annotation
    """Return the text converted to a scalar type, or None if it is not a value of that type."""
    if annotation is str:
        return text
    if annotation is bool:
        return BOOLEANS.get(text)
    if annotation is int:
        return int(text) if INTEGER.fullmatch(text) else None
    if annotation in {float, Decimal}:
        return _number(annotation, text)
    if get_origin(annotation) is Literal and text in get_args(annotation):
        return text
    return None


def _number(kind: type[float] | type[Decimal], text: str) -> float | Decimal | None:
    try:
        return kind(text)
    except (ValueError, InvalidOperation):
        return None


def _type_error(types: tuple[Any, ...], value: str, path: str) -> InvalidRequest:
    listed = [text for type_ in types if get_origin(type_) is Literal for text in get_args(type_) if text]
    if listed and int not in types:
        return InvalidRequest(f"Invalid {path}: must be {_enumeration(listed)}", param=path)
    expected, code = next((TYPE_NAMES[type_] for type_ in types if type_ in TYPE_NAMES), ("object", None))
    if expected == "object" and any(get_origin(type_) is list for type_ in types):
        expected = "array"
    return InvalidRequest(f"Invalid {expected}: {value}", code=code, param=path)


# Name of a type in Stripe's error message, and the error code.
TYPE_NAMES: Mapping[Any, tuple[str, str | None]] = {
    int: ("integer", "parameter_invalid_integer"),
    bool: ("boolean", None),
    float: ("decimal", None),
    Decimal: ("decimal", None),
}


def _enumeration(values: list[str]) -> str:
    if len(values) == 1:
        return values[0]
    if len(values) == 2:
        return f"one of {values[0]} or {values[1]}"
    return f"one of {', '.join(values[:-1])}, or {values[-1]}"
