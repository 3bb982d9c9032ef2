"""Injected faults of API calls: error statuses, timeouts, broken connections, malformed responses, wrong clocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

KINDS = "status:500, status:429 (or another status), timeout, reset, nonsense, slow:SECONDS, date:SECONDS"
SIMPLE_KINDS = {"timeout", "reset", "nonsense"}


@dataclass(slots=True)
class Fault:
    """A fault for the next matching API calls.

    ================  ==============================================================
    kind              effect on the caller
    ================  ==============================================================
    ``status:N``      error response with HTTP status N
    ``timeout``       no response; the connection stays open
    ``reset``         the connection is reset
    ``nonsense``      status 200 with a body that is not JSON
    ``slow:SECONDS``  the normal response after a delay
    ``date:SECONDS``  the normal response with a ``Date`` that is ahead, or behind if SECONDS is negative
    ================  ==============================================================

    Attributes:
        kind: The kind of fault.
        count: Number of calls that fail.
        method: The HTTP method to match; None matches any.
        path_prefix: Prefix of the path to match.
        when: ``before``: the operation does not run. ``after``: it takes effect and only the response is lost.
        stored: Store the error response of ``status:N`` under the request's idempotency key. Stripe does this with
            every response to a request whose processing began, and replays it for 24 hours.
        code: Stripe's code in the error response of ``status:N``, such as ``api_key_expired``.
    """

    kind: str
    count: int = 1
    method: str | None = None
    path_prefix: str = "/v1/"
    when: Literal["before", "after"] = "before"
    stored: bool = False
    code: str | None = None

    def __post_init__(self) -> None:
        if (self.stored or self.code) and not self.kind.startswith("status:"):
            raise ValueError("stored and code require the kind status:N")
        if self.kind not in SIMPLE_KINDS and not self._has_valid_argument():
            raise ValueError(f"kind must be one of: {KINDS}")
        if self.when not in {"before", "after"}:
            raise ValueError("when must be before or after")

    def _has_valid_argument(self) -> bool:
        name, _, argument = self.kind.partition(":")
        return (
            (name == "status" and argument.isdigit())
            or (name == "slow" and _is_number(argument))
            or (name == "date" and argument.removeprefix("-").isdigit())
        )

    @property
    def argument(self) -> float:
        """The number in ``kind``."""
        return float(self.kind.partition(":")[2])

    def matches(self, method: str, path: str) -> bool:
        """Return True if the fault applies to a call."""
        return self.count > 0 and self.method in {None, method} and path.startswith(self.path_prefix)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def parse_fault(document: Mapping[str, object]) -> Fault:
    """Return the fault of a JSON request body.

    Raises:
        ValueError: ``kind`` or ``when`` has an unknown value.
        TypeError: A field is unknown or of another type.
    """
    match = document.get("match", {})
    if not isinstance(match, Mapping):
        raise TypeError("match must be an object")
    fields = {name: value for name, value in document.items() if name != "match"}
    return Fault(**{**match, **fields})


def take_matching_fault(faults: list[Fault], method: str, path: str) -> Fault | None:
    """Return the first fault that matches a call and reduce its count."""
    for fault in faults:
        if fault.matches(method, path):
            fault.count -= 1
            return fault
    return None
