"""What the official SDK's annotations say about requests and objects.

The SDK is generated from Stripe's OpenAPI document: its ``TypedDict`` parameters and resource classes are that
document in Python. They are read lazily, type by type, since resources refer to each other without end.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace, UnionType
from typing import Any, ForwardRef, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from stripe import RequestOptions, StripeObject
from typing_extensions import is_typeddict


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request or an object: its annotation, and whether it must be there."""

    annotation: Any
    required: bool


@cache
def parameter_fields(parameters: Any) -> dict[str, Field]:  # noqa: ANN401 - a TypedDict class has no better type
    """Return the fields of a ``TypedDict`` of request parameters, without the SDK's own transport options."""
    own = parameters.__annotations__
    if "stripe_version" in own:
        own = {name: annotation for name, annotation in own.items() if name not in RequestOptions.__annotations__}
    names = vars(sys.modules[parameters.__module__])
    return {
        name: Field(annotation, name in parameters.__required_keys__)
        for name, annotation in _evaluate(own, names).items()
    }


@cache
def object_fields(resource: Any) -> dict[str, Field]:  # noqa: ANN401 - mypy's Hashable rejects the SDK's classes
    """Return the fields of a resource class or of a class nested in one.

    The SDK writes ``Optional`` both for what may be null and for what may be absent, so neither is required.
    """
    hints = _evaluate(resource.__annotations__, _names_in(resource.__module__))
    return {
        name: Field(annotation, type(None) not in get_args(annotation))
        for name, annotation in hints.items()
        if not name.isupper() and not name.startswith("_")
    }


@cache
def alternatives(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - annotations are any type form
    """Return the members of a union, or the annotation alone.

    The SDK writes enumerations as ``Literal[...] | str``, so that it survives new values. A judge must not be that
    lenient: ``str`` beside listed values is left out. ``Literal[""]`` lists no values, it allows to unset.
    """
    if get_origin(annotation) in {NotRequired, Required}:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) not in {Union, UnionType}:
        return (annotation,)
    members = tuple(alternative for member in get_args(annotation) for alternative in alternatives(member))
    enumerated = any(get_origin(member) is Literal and get_args(member) != ("",) for member in members)
    return tuple(member for member in members if not (enumerated and member is str))


def is_parameters(annotation: Any) -> bool:  # noqa: ANN401 - annotations are any type form
    """Say whether an annotation is a ``TypedDict`` of request parameters."""
    return is_typeddict(annotation)


def is_resource(annotation: Any) -> bool:  # noqa: ANN401 - annotations are any type form
    """Say whether an annotation is a class of the SDK that stands for a JSON object."""
    return inspect.isclass(annotation) and issubclass(annotation, StripeObject)


def _evaluate(annotations: Mapping[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return get_type_hints(SimpleNamespace(__annotations__=dict(annotations)), names, names)


@cache
def _names_in(module_name: str) -> dict[str, Any]:
    """Return a module's names together with those that it imports for type checkers only."""
    module = sys.modules[module_name]
    names = dict(vars(module))
    blocks = [block.body for block in ast.parse(inspect.getsource(module)).body if isinstance(block, ast.If)]
    for node in (statement for block in blocks for statement in block):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("stripe.params"):
            source = importlib.import_module(node.module)
            names.update({alias.asname or alias.name: getattr(source, alias.name, ForwardRef) for alias in node.names})
    return names
