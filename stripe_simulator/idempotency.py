"""Idempotency keys: the answer to a POST is kept, and given again to the same request."""

from collections.abc import Mapping
from dataclasses import dataclass

from stripe_simulator.errors import IdempotencyError

KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API: status, JSON body, and headers of its own."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Use:
    request: tuple[str, str, object]
    since: int
    answer: Answer | None = None


class IdempotencyKeys:
    """The keys of the last 24 hours with the requests that they came with and their answers."""

    def __init__(self) -> None:
        self._uses: dict[str, _Use] = {}

    def begin(self, key: str, request: tuple[str, str, object], now: int) -> Answer | None:
        """Take a key for a request, or return the answer to replay.

        Args:
            key: The Idempotency-Key header.
            request: Method, path and parameters.
            now: Epoch seconds.

        Raises:
            IdempotencyError: The key belongs to another request, or to one that still runs.
        """
        use = self._uses.get(key)
        if use is None or now - use.since > KEPT_SECONDS:
            self._uses[key] = _Use(request, now)
            return None
        if use.request[:2] != request[:2]:
            raise IdempotencyError(
                f"Keys for idempotent requests can only be used for the same endpoint they were first used for "
                f"('{use.request[1]}' vs '{request[1]}'). Try using a key other than '{key}' if you meant to execute a "
                "different request."
            )
        if use.request != request:
            raise IdempotencyError(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. Try "
                f"using a key other than '{key}' if you meant to execute a different request."
            )
        if use.answer is None:
            raise IdempotencyError(
                f"There is currently another in-progress request using this Idempotent Key: {key}. Please try again "
                "later.",
                status=409,
                code="idempotency_key_in_use",
            )
        return use.answer

    def finish(self, key: str, answer: Answer) -> None:
        """Keep the answer of the request that took the key."""
        self._uses[key].answer = answer

    def release(self, key: str) -> None:
        """Give a key back: its request was refused before anything began."""
        self._uses.pop(key, None)
