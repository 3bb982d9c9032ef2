"""Form-encoded request parameters, read as Stripe reads them: strictly, with its own messages.

``items[0][price]=price_1&expand[]=customer`` becomes ``{"items": [{"price": "price_1"}], "expand": ["customer"]}``,
typed by the official SDK's ``TypedDict`` of the operation.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args, get_origin

from stripe_simulator.annotations import alternatives, is_parameters, parameter_fields
from stripe_simulator.errors import InvalidRequest

Form = dict[str, Any]

KEY_PARTS = re.compile(r"[^\[\]]+|\[\]")
INTEGER = re.compile(r"-?\d{1,18}")
BOOLEANS = {"true": True, "false": False}


def nest(pairs: Iterable[tuple[str, str]]) -> Form:
    """Turn form pairs into nested dictionaries; ``[]`` counts up from 0.

    Raises:
        InvalidRequest: A key holds both a value and further keys.
    """
    form: Form = {}
    for key, value in pairs:
        parts = KEY_PARTS.findall(key)
        holder = form
        for part in parts[:-1]:
            holder = holder.setdefault(_index(part, holder), {})
            if not isinstance(holder, dict):
                raise InvalidRequest(f"Invalid object: {key}", param=parts[0])
        if parts:
            holder[_index(parts[-1], holder)] = value
    return form


def _index(part: str, holder: Form) -> str:
    return str(len(holder)) if part == "[]" else part


def read_parameters(parameters: Any, form: Form, path: str = "") -> dict[str, Any]:  # noqa: ANN401 - a TypedDict class
    """Return the typed parameters of a request.

    Args:
        parameters: The SDK's ``TypedDict`` for the operation.
        form: Nested form values, all strings.
        path: Where in the request the form is, for messages: ``items[0]``.

    Raises:
        InvalidRequest: An unknown, missing or mistyped parameter, with Stripe's message, code and param.
    """
    fields = parameter_fields(parameters)
    unknown = [name for name in form if name not in fields]
    if unknown:
        raise _unknown(unknown, list(fields), path)
    missing = [name for name, field in fields.items() if field.required and name not in form]
    if missing:
        param = _join(path, missing[0])
        raise InvalidRequest(f"Missing required param: {param}.", code="parameter_missing", param=param)
    return {name: _read(fields[name].annotation, value, _join(path, name)) for name, value in form.items()}


def _unknown(unknown: list[str], known: list[str], path: str) -> InvalidRequest:
    params = [_join(path, name) for name in unknown]
    plural = "s" if len(params) > 1 else ""
    message = f"Received unknown parameter{plural}: {', '.join(params)}"
    similar = difflib.get_close_matches(unknown[0], known, n=1)
    if similar and not plural:
        message += f". Did you mean {_join(path, similar[0])}?"
    return InvalidRequest(message, code="parameter_unknown", param=params[0])


def _join(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _read(annotation: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - typed by the annotation
    choices = alternatives(annotation)
    if isinstance(value, dict):
        return _read_nested(choices, value, path)
    if value == "":
        return _read_empty(choices, path)
    for choice in choices:
        result = _scalar(choice, value)
        if result is not None:
            return result
    raise _mistyped(choices, value, path)


def _read_nested(choices: tuple[Any, ...], value: Form, path: str) -> Any:  # noqa: ANN401 - typed by the choices
    for choice in choices:
        origin = get_origin(choice)
        if origin is list and all(key.isdigit() for key in value):
            member = get_args(choice)[0]
            ordered = sorted(value.items(), key=lambda item: int(item[0]))
            return [_read(member, entry, _join(path, key)) for key, entry in ordered]
        if is_parameters(choice):
            return read_parameters(choice, value, path)
        if origin is dict:
            member = get_args(choice)[1]
            return {key: entry and _read(member, entry, _join(path, key)) for key, entry in value.items()}
    wanted = "array" if any(get_origin(choice) is list for choice in choices) else "string"
    raise InvalidRequest(f"Invalid {wanted}: {path}", param=path)


def _read_empty(choices: tuple[Any, ...], path: str) -> str:
    if any(get_origin(choice) is Literal and "" in get_args(choice) for choice in choices):
        return ""
    raise InvalidRequest(
        f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; however "
        f"'{path}' cannot be unset. You should remove '{path}' from your request or supply a non-empty value.",
        code="parameter_invalid_empty",
        param=path,
    )


def _scalar(annotation: Any, text: str) -> Any:  # noqa: ANN401 - typed by the annotation
    """Return the value that a text stands for, or None where it stands for none."""
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


def _mistyped(choices: tuple[Any, ...], value: str, path: str) -> InvalidRequest:
    listed = [text for choice in choices if get_origin(choice) is Literal for text in get_args(choice) if text]
    if listed and int not in choices:
        return InvalidRequest(f"Invalid {path}: must be {_one_of(listed)}", param=path)
    wanted, code = next((WANTED[choice] for choice in choices if choice in WANTED), ("object", None))
    if wanted == "object" and any(get_origin(choice) is list for choice in choices):
        wanted = "array"
    return InvalidRequest(f"Invalid {wanted}: {value}", code=code, param=path)


WANTED: Mapping[Any, tuple[str, str | None]] = {
    int: ("integer", "parameter_invalid_integer"),
    bool: ("boolean", None),
    float: ("decimal", None),
    Decimal: ("decimal", None),
}


def _one_of(values: list[str]) -> str:
    if len(values) == 1:
        return values[0]
    if len(values) == 2:
        return f"one of {values[0]} or {values[1]}"
    return f"one of {', '.join(values[:-1])}, or {values[-1]}"
