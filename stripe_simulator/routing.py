"""The form of an API operation, and the small rules that all of them share.

An operation is a function ``(world, *ids, **parameters)``: its keyword arguments are the parameters that it simulates.
What Stripe allows and no argument names is refused aloud (``not_simulated``) instead of being ignored.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from itertools import islice
from typing import Any

from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.world import Object

PAGING = {"limit", "starting_after", "ending_before"}
PAGE_LIMIT = 100


@dataclass(frozen=True)
class Route:
    """One operation of the API.

    Attributes:
        method: The HTTP method.
        path: The path, with ``{}`` for each id.
        parameters: The SDK's TypedDict of its parameters.
        operation: Returns the object, or for a list all matching objects, newest first.
    """

    method: str
    path: str
    parameters: Any
    operation: Callable[..., Any]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches a path and captures its ids."""
        return re.compile(
            "".join("([^/]+)" if part == "{}" else re.escape(part) for part in re.split(r"({})", self.path))
        )

    @cached_property
    def simulated(self) -> set[str]:
        """The names of the parameters that the operation knows."""
        arguments = signature(self.operation).parameters.values()
        return {argument.name for argument in arguments if argument.kind is Parameter.KEYWORD_ONLY}

    def run(self, world: object, ids: Iterable[str], parameters: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Perform the operation.

        Raises:
            StripeError: What Stripe would answer, or a parameter that is not simulated.
        """
        for name in parameters:
            if name not in self.simulated:
                raise NotSimulated(name)
        return self.operation(world, *ids, **parameters)


def only(value: Mapping[str, Any], path: str, *names: str) -> None:
    """Refuse the fields of a nested parameter that are not simulated.

    Raises:
        NotSimulated: One is not among the names.
    """
    for name in value:
        if name not in names:
            raise NotSimulated(f"{path}[{name}]")


def given(**parameters: Any) -> Object:  # noqa: ANN401 - JSON
    """Return the parameters that were given, the emptied ones as null."""
    return {name: None if value == "" else value for name, value in parameters.items() if value is not None}


def merged_metadata(current: Mapping[str, str], change: Mapping[str, str] | str | None) -> dict[str, str]:
    """Return metadata after an update: an emptied key goes, an emptied whole clears all."""
    if change is None:
        return dict(current)
    if isinstance(change, str):
        return {}
    return {key: value for key, value in {**current, **change}.items() if value != ""}


def in_range(value: int, wanted: int | Mapping[str, int] | None) -> bool:
    """Say whether a time lies in a range such as ``{"gte": 1, "lt": 9}``, or equals a given one."""
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return value == wanted
    return all(COMPARISONS[name](value, bound) for name, bound in wanted.items())


COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def page_of(
    objects: Iterable[Object], parameters: Mapping[str, Any], position: Mapping[str, int]
) -> tuple[list[Object], bool]:
    """Return one page of a list and whether there is more, newest first.

    Args:
        objects: All objects of the list, newest first; after the page no more are taken.
        parameters: ``limit`` (1 to 100, 10), and one of ``starting_after`` and ``ending_before``.
        position: By id, a number that grows with every object; the cursor may name one that the list leaves out.

    Raises:
        InvalidRequest: A limit out of range, both cursors, or a cursor that names nothing.
    """
    limit = parameters.get("limit", 10)
    if not 1 <= limit <= PAGE_LIMIT:
        bound = "greater than or equal to 1" if limit < 1 else f"less than or equal to {PAGE_LIMIT}"
        raise InvalidRequest(f"Invalid integer: limit must be {bound}", code="parameter_invalid_integer", param="limit")
    cursors = [name for name in ("starting_after", "ending_before") if name in parameters]
    if len(cursors) > 1:
        raise InvalidRequest(
            "You cannot parameterize both `starting_after` and `ending_before`.", param="ending_before"
        )
    if not cursors:
        return _first(objects, limit)
    cursor = position.get(parameters[cursors[0]])
    if cursor is None:
        raise InvalidRequest(f"No such object: '{parameters[cursors[0]]}'", code="resource_missing", param=cursors[0])
    if cursors[0] == "starting_after":
        return _first((subject for subject in objects if position[subject["id"]] < cursor), limit)
    newer = [subject for subject in objects if position[subject["id"]] > cursor]
    return newer[-limit:], len(newer) > limit


def _first(objects: Iterable[Object], limit: int) -> tuple[list[Object], bool]:
    """Return the first objects and whether there are more, without looking at those."""
    found = list(islice(objects, limit + 1))
    return found[:limit], len(found) > limit
