"""Errors of Stripe's API, with its messages and HTTP statuses.

StripeError
├── InvalidRequest       400: invalid request
│   ├── NoSuchObject     404 for an id in the path, 400 for an id in a parameter
│   ├── UnknownUrl       404
│   └── NotSimulated     400: an operation or parameter that Stripe has and the simulator lacks
├── NotAuthenticated     401
├── CardError            402: card declined or authentication required
└── IdempotencyError     400 for another request, 409 while the first request is in progress
"""

from collections.abc import Mapping

JSON = dict[str, object]


class StripeError(Exception):
    """An error response of Stripe's API.

    Attributes:
        status: The HTTP status.
        type: Stripe's error type, such as ``invalid_request_error``.
    """

    status = 400
    type = "invalid_request_error"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, details: Mapping[str, object] = {}
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.details = details

    def body(self, request_log_url: str) -> JSON:
        """Return the response body, without null fields."""
        fields = {
            **self.details,
            "code": self.code,
            "doc_url": self.code and f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}",
            "message": self.message,
            "param": self.param,
            "request_log_url": request_log_url,
            "type": self.type,
        }
        return {"error": {name: value for name, value in fields.items() if value is not None}}


class InvalidRequest(StripeError):
    """An invalid request."""


class NoSuchObject(InvalidRequest):
    """An id without an object of its type."""

    def __init__(self, noun: str, identifier: str, *, param: str, status: int = 404) -> None:
        super().__init__(f"No such {noun}: '{identifier}'", code="resource_missing", param=param)
        self.status = status


class UnknownUrl(InvalidRequest):
    """A method and path without an API operation."""

    status = 404

    def __init__(self, method: str, path: str) -> None:
        super().__init__(
            f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing "
            "slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier in "
            "your code. Please see https://stripe.com/docs or we can help at https://support.stripe.com/."
        )


class NotSimulated(InvalidRequest):
    """An operation, parameter, value or property that Stripe has and the simulator lacks."""

    def __init__(self, param: str) -> None:
        super().__init__(f"The Stripe simulator does not implement this: {param}", code="not_simulated", param=param)


class NotAuthenticated(StripeError):
    """A missing or invalid API key."""

    status = 401


class CardError(StripeError):
    """A declined card, or one that requires authentication."""

    status = 402
    type = "card_error"


class IdempotencyError(StripeError):
    """An idempotency key used for another request, or while its request is in progress."""

    type = "idempotency_error"

    def __init__(self, message: str, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
