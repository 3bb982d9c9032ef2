"""Idempotency keys: store the response to a POST and replay it for the same request."""

from collections.abc import Mapping
from dataclasses import dataclass

from stripe_simulator.errors import IdempotencyError

KEY_LIFETIME_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class SimulatedResponse:
    """An API response: status, JSON body, and the headers besides the common ones."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str]


@dataclass(slots=True)
class _StoredRequest:
    request: tuple[str, str, object]
    created: int
    response: SimulatedResponse | None = None


class IdempotencyKeys:
    """Idempotency keys of the last 24 hours, with their requests and responses."""

    def __init__(self) -> None:
        self._requests: dict[str, _StoredRequest] = {}

    def begin(self, key: str, request: tuple[str, str, object], now: int) -> SimulatedResponse | None:
        """Store a new key with its request, or return the response to replay.

        Args:
            key: The Idempotency-Key header.
            request: Method, path and parameters.
            now: The current time in epoch seconds.

        Raises:
            IdempotencyError: The key belongs to another request, or its request is in progress.
        """
        stored = self._requests.get(key)
        if stored is None or now - stored.created > KEY_LIFETIME_SECONDS:
            self._requests[key] = _StoredRequest(request, now)
            return None
        if stored.request[:2] != request[:2]:
            raise IdempotencyError(
                f"Keys for idempotent requests can only be used for the same endpoint they were first used for "
                f"('{stored.request[1]}' vs '{request[1]}'). Try using a key other than '{key}' if you meant to "
                "execute a different request."
            )
        if stored.request != request:
            raise IdempotencyError(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. Try "
                f"using a key other than '{key}' if you meant to execute a different request."
            )
        if stored.response is None:
            raise IdempotencyError(
                f"There is currently another in-progress request using this Idempotent Key: {key}. Please try again "
                "later.",
                status=409,
                code="idempotency_key_in_use",
            )
        return stored.response

    def finish(self, key: str, response: SimulatedResponse) -> None:
        """Store the response of the key's request."""
        self._requests[key].response = response

    def release(self, key: str) -> None:
        """Delete a key whose request was rejected before its operation ran."""
        self._requests.pop(key, None)
