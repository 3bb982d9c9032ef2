"""Faults for API calls: what a test wants Stripe, or the way to it, to do wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

KINDS = "status:500, status:429 (or another status), timeout, reset, nonsense, slow:SECONDS"
SIMPLE_KINDS = {"timeout", "reset", "nonsense"}


@dataclass(slots=True)
class Fault:
    """One kind of trouble for the next calls that match.

    Attributes:
        kind: One of ``status:N``, ``timeout``, ``reset``, ``nonsense``, ``slow:SECONDS``.
        count: For how many calls.
        method: The HTTP method it is for; None is any.
        path_prefix: What the path begins with.
        when: ``before`` the operation, which then never happens, or ``after`` it, so that only the answer is lost.
    """

    kind: str
    count: int = 1
    method: str | None = None
    path_prefix: str = "/v1/"
    when: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        if self.kind not in SIMPLE_KINDS and not self._has_argument():
            raise ValueError(f"kind must be one of: {KINDS}")
        if self.when not in {"before", "after"}:
            raise ValueError("when must be before or after")

    def _has_argument(self) -> bool:
        name, _, argument = self.kind.partition(":")
        return (name == "status" and argument.isdigit()) or (name == "slow" and _is_number(argument))

    @property
    def argument(self) -> float:
        """The number in the kind."""
        return float(self.kind.partition(":")[2])

    def matches(self, method: str, path: str) -> bool:
        """Say whether a call is to suffer."""
        return self.count > 0 and self.method in {None, method} and path.startswith(self.path_prefix)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def read_fault(document: Mapping[str, object]) -> Fault:
    """Return the fault that a JSON document describes.

    Raises:
        ValueError: Its kind or moment is none.
        TypeError: It has unknown fields, or of another type.
    """
    match = document.get("match", {})
    if not isinstance(match, Mapping):
        raise TypeError("match must be an object")
    fields = {name: value for name, value in document.items() if name != "match"}
    return Fault(**{**match, **fields})


def take(faults: list[Fault], method: str, path: str) -> Fault | None:
    """Return the first fault that matches a call, used once more."""
    for fault in faults:
        if fault.matches(method, path):
            fault.count -= 1
            return fault
    return None
