"""Routes of API operations, pagination and shared parameter helpers.

An operation is a function ``(state, *ids, **parameters)``. Its keyword-only arguments are the parameters that it
simulates. Any other parameter of Stripe's API returns the error ``not_simulated``; none is ignored.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from itertools import islice
from typing import Any

from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.state import Object

PAGINATION_PARAMETERS = {"limit", "starting_after", "ending_before"}
PAGE_LIMIT_MAX = 100


@dataclass(frozen=True)
class ResourceRoute:
    """An API operation.

    Attributes:
        method: The HTTP method.
        path: The path, with ``{}`` for each id.
        parameters: The SDK's ``TypedDict`` of the parameters.
        operation: Returns an object or, for a list, all matching objects, newest first.
    """

    method: str
    path: str
    parameters: Any
    operation: Callable[..., Any]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Regular expression of the path, with a group for each id."""
        return re.compile(
            "".join("([^/]+)" if part == "{}" else re.escape(part) for part in re.split(r"({})", self.path))
        )

    @cached_property
    def simulated(self) -> set[str]:
        """Names of the parameters that the operation simulates."""
        arguments = signature(self.operation).parameters.values()
        return {argument.name for argument in arguments if argument.kind is Parameter.KEYWORD_ONLY}

    def run(self, state: object, ids: Iterable[str], parameters: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Run the operation.

        Raises:
            StripeError: The operation fails, or a parameter is not simulated.
        """
        for name in parameters:
            if name not in self.simulated:
                raise NotSimulated(name)
        return self.operation(state, *ids, **parameters)


def require_simulated(value: Mapping[str, Any], path: str, *names: str) -> None:
    """Require that all fields of a nested parameter are simulated.

    Args:
        value: The nested parameter.
        path: Its path, for the error message.
        names: The simulated fields.

    Raises:
        NotSimulated: A field is not among the names.
    """
    for name in value:
        if name not in names:
            raise NotSimulated(f"{path}[{name}]")


def provided(**parameters: Any) -> Object:  # noqa: ANN401 - JSON
    """Return the parameters that are not None, with an empty string as null."""
    return {name: None if value == "" else value for name, value in parameters.items() if value is not None}


def merge_metadata(current: Mapping[str, str], update: Mapping[str, str] | str | None) -> dict[str, str]:
    """Return metadata after an update. An empty value deletes a key; an empty string deletes all keys."""
    if update is None:
        return dict(current)
    if isinstance(update, str):
        return {}
    return {key: value for key, value in {**current, **update}.items() if value != ""}


def matches_range(value: int, condition: int | Mapping[str, int] | None) -> bool:
    """Return True if a time is in a range such as ``{"gte": 1, "lt": 9}``, or equals an integer filter."""
    if condition is None:
        return True
    if isinstance(condition, int):
        return value == condition
    return all(COMPARISONS[name](value, bound) for name, bound in condition.items())


COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def paginate(
    objects: Iterable[Object], parameters: Mapping[str, Any], creation_order: Mapping[str, int]
) -> tuple[list[Object], bool]:
    """Return one page of a list, newest first, and ``has_more``.

    Args:
        objects: All objects of the list, newest first. Objects after the page are not consumed.
        parameters: ``limit`` (1 to 100, default 10) and ``starting_after`` or ``ending_before``.
        creation_order: Increasing number by id. The cursor may be the id of an object that a filter excludes.

    Raises:
        InvalidRequest: The limit is out of range, both cursors are set, or the cursor does not exist.
    """
    limit = parameters.get("limit", 10)
    if not 1 <= limit <= PAGE_LIMIT_MAX:
        bound = "greater than or equal to 1" if limit < 1 else f"less than or equal to {PAGE_LIMIT_MAX}"
        raise InvalidRequest(f"Invalid integer: limit must be {bound}", code="parameter_invalid_integer", param="limit")
    cursors = [name for name in ("starting_after", "ending_before") if name in parameters]
    if len(cursors) > 1:
        raise InvalidRequest(
            "You cannot parameterize both `starting_after` and `ending_before`.", param="ending_before"
        )
    if not cursors:
        return _take(objects, limit)
    cursor = creation_order.get(parameters[cursors[0]])
    if cursor is None:
        raise InvalidRequest(f"No such object: '{parameters[cursors[0]]}'", code="resource_missing", param=cursors[0])
    if cursors[0] == "starting_after":
        return _take((obj for obj in objects if creation_order[obj["id"]] < cursor), limit)
    newer = [obj for obj in objects if creation_order[obj["id"]] > cursor]
    return newer[-limit:], len(newer) > limit


def _take(objects: Iterable[Object], limit: int) -> tuple[list[Object], bool]:
    """Return the first objects and True if there are more. Consume at most one more."""
    found = list(islice(objects, limit + 1))
    return found[:limit], len(found) > limit
