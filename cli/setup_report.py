"""Report of `billing setup`: one line for each object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

type SetupOutcome = Literal["created", "updated", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class SetupChange:
    """An object that `billing setup` manages, and what it did with the object.

    Attributes:
        warning: Something that the operator has to do.
    """

    kind: str
    name: str
    id: str
    outcome: SetupOutcome
    warning: str | None = None


def includes(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - any JSON
    """Return True if `found` has every value of `wanted`. Further keys and the order of lists are ignored."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(includes(found.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        same_length = isinstance(found, list) and len(found) == len(wanted)
        return same_length and all(any(includes(each, item) for each in found) for item in wanted)
    return bool(found == wanted)
