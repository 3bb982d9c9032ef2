"""Fields of requests and objects, read from the type annotations of Stripe's SDK.

The SDK is generated from Stripe's OpenAPI document. Its ``TypedDict`` classes describe the request parameters, its
resource classes the objects. Annotations are evaluated one class at a time, because resource classes refer to each
other recursively.
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
class SdkField:
    """Annotation of a request parameter or an object's field."""

    annotation: Any
    required: bool


@cache
def parameter_fields(parameters: Any) -> dict[str, SdkField]:  # noqa: ANN401 - a TypedDict class has no better type
    """Return the fields of a ``TypedDict`` of request parameters, without the SDK's transport options."""
    annotations = parameters.__annotations__
    if "stripe_version" in annotations:
        annotations = {
            name: annotation for name, annotation in annotations.items() if name not in RequestOptions.__annotations__
        }
    names = vars(sys.modules[parameters.__module__])
    return {
        name: SdkField(annotation, name in parameters.__required_keys__)
        for name, annotation in _evaluate(annotations, names).items()
    }


@cache
def object_fields(resource: Any) -> dict[str, SdkField]:  # noqa: ANN401 - mypy's Hashable rejects the SDK's classes
    """Return the fields of a resource class or of a class nested in one.

    The SDK uses ``Optional`` for nullable fields and for fields that may be absent. Neither kind is required.
    """
    hints = _evaluate(resource.__annotations__, _names_in(resource.__module__))
    return {
        name: SdkField(annotation, type(None) not in get_args(annotation))
        for name, annotation in hints.items()
        if not name.isupper() and not name.startswith("_")
    }


@cache
def union_members(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - annotations are any type form
    """Return the members of a union, or a tuple of the annotation itself.

    The SDK types an enumeration as ``Literal[...] | str``, to accept future values. Validation is strict: the ``str``
    next to a ``Literal`` is omitted. ``Literal[""]`` is not an enumeration; it permits unsetting the value.
    """
    if get_origin(annotation) in {NotRequired, Required}:
        return union_members(get_args(annotation)[0])
    if get_origin(annotation) not in {Union, UnionType}:
        return (annotation,)
    members = tuple(nested for member in get_args(annotation) for nested in union_members(member))
    enumerated = any(get_origin(member) is Literal and get_args(member) != ("",) for member in members)
    return tuple(member for member in members if not (enumerated and member is str))


def is_params_type(annotation: Any) -> bool:  # noqa: ANN401 - annotations are any type form
    """Return True if an annotation is a ``TypedDict`` of request parameters."""
    return is_typeddict(annotation)


def is_resource_class(annotation: Any) -> bool:  # noqa: ANN401 - annotations are any type form
    """Return True if an annotation is an SDK class that represents a JSON object."""
    return inspect.isclass(annotation) and issubclass(annotation, StripeObject)


def _evaluate(annotations: Mapping[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return get_type_hints(SimpleNamespace(__annotations__=dict(annotations)), names, names)


@cache
def _names_in(module_name: str) -> dict[str, Any]:
    """Return a module's names, including those imported under ``if TYPE_CHECKING``."""
    module = sys.modules[module_name]
    names = dict(vars(module))
    blocks = [block.body for block in ast.parse(inspect.getsource(module)).body if isinstance(block, ast.If)]
    for node in (statement for block in blocks for statement in block):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("stripe.params"):
            source = importlib.import_module(node.module)
            names.update({alias.asname or alias.name: getattr(source, alias.name, ForwardRef) for alias in node.names})
    return names
