"""Stripe's errors, as its API words them.

StripeError
├── InvalidRequest       the request is wrong: 400
│   ├── NoSuchObject     the id names nothing: 404 in the path, 400 in a parameter
│   ├── UnknownUrl       404
│   └── NotSimulated     Stripe can do this, the simulator cannot: 400, rather than to ignore a parameter silently
├── NotAuthenticated     401
├── CardError            the bank said no: 402
└── IdempotencyError     400 for other parameters, 409 while the first request still runs
"""

from collections.abc import Mapping

JSON = dict[str, object]


class StripeError(Exception):
    """An answer of Stripe's API that is not a success.

    Attributes:
        status: The HTTP status of the answer.
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
        """Return the JSON that Stripe answers, without the fields that do not apply."""
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
    """The request cannot be served as it is."""


class NoSuchObject(InvalidRequest):
    """An id names no object of its type."""

    def __init__(self, noun: str, identifier: str, *, param: str, status: int = 404) -> None:
        super().__init__(f"No such {noun}: '{identifier}'", code="resource_missing", param=param)
        self.status = status


class UnknownUrl(InvalidRequest):
    """No operation of the API has this method and path."""

    status = 404

    def __init__(self, method: str, path: str) -> None:
        super().__init__(
            f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing "
            "slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier in "
            "your code. Please see https://stripe.com/docs or we can help at https://support.stripe.com/."
        )


class NotSimulated(InvalidRequest):
    """Stripe knows this parameter; the simulator says so instead of ignoring it."""

    def __init__(self, param: str) -> None:
        super().__init__(f"The Stripe simulator does not implement this: {param}", code="not_simulated", param=param)


class NotAuthenticated(StripeError):
    """The API key is missing or not one of this Stripe."""

    status = 401


class CardError(StripeError):
    """The card was declined, or needs its owner."""

    status = 402
    type = "card_error"


class IdempotencyError(StripeError):
    """An idempotency key was used in a way that cannot be replayed."""

    type = "idempotency_error"

    def __init__(self, message: str, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
