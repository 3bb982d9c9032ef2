"""What `billing setup` found and did, one line a thing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

type Outcome = Literal["created", "updated", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that has to be there. `warning` says what is left for the operator to do."""

    kind: str
    name: str
    id: str
    outcome: Outcome
    warning: str | None = None


def includes(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether what is there says everything that is wanted. It may say more, and lists in another order."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(includes(found.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        same_length = isinstance(found, list) and len(found) == len(wanted)
        return same_length and all(any(includes(each, item) for each in found) for item in wanted)
    return bool(found == wanted)
