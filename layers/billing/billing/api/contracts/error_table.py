"""Error tables: HTTP status and code of each error, shared by all contracts unless a contract has a row of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from billing.domain import errors
from billing.domain.errors import BillingError


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Row of an error table. An attribute that is None comes from another row, see `resolve_error`.

    Attributes:
        message: Message in place of the error's own.
        doc_url: URL of the documentation, with "{code}" for the code in lower case; "" for none.
    """

    status: int | None = None
    code: str | None = None
    message: str | None = None
    type: str | None = None
    doc_url: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """Status and body of an error in a contract.

    Attributes:
        message: Message in place of the error's own; None for the error's own.
        is_internal: No table has a row for the error.
    """

    status: int
    code: str
    message: str | None
    type: str | None
    doc_url: str | None
    is_internal: bool


DEFAULT_ERRORS: Mapping[type[BillingError], ErrorRow] = {
    errors.RequestInvalid: ErrorRow(400, "VALIDATION_FAILED"),
    errors.SignatureInvalid: ErrorRow(400, "VALIDATION_FAILED"),
    errors.EventUnreadable: ErrorRow(400, "VALIDATION_FAILED"),
    errors.IdempotencyKeyInvalid: ErrorRow(400, "INVALID_IDEMPOTENCY_KEY"),
    errors.Unauthenticated: ErrorRow(401, "UNAUTHORIZED"),
    errors.Forbidden: ErrorRow(403, "FORBIDDEN"),
    errors.NoBillingHistory: ErrorRow(404, "NOT_FOUND"),
    errors.RouteUnknown: ErrorRow(404, "NOT_FOUND"),
    errors.ObjectUnknown: ErrorRow(404, "NOT_FOUND"),
    errors.MethodNotAllowed: ErrorRow(405, "VALIDATION_FAILED"),
    errors.SubscriptionExists: ErrorRow(409, "SUBSCRIPTION_EXISTS"),
    errors.StillRunning: ErrorRow(409, "IDEMPOTENCY_KEY_REUSE"),
    errors.IdempotencyKeyReused: ErrorRow(422, "IDEMPOTENCY_KEY_REUSE"),
    errors.RateLimited: ErrorRow(429, "RATE_LIMITED"),
    errors.StripeFailed: ErrorRow(502, "PAYMENT_ERROR"),
    errors.StripeUnavailable: ErrorRow(503),
    errors.TryAgainLater: ErrorRow(503, "INTERNAL_ERROR"),
}

INTERNAL_ERROR = ErrorRow(500, "INTERNAL_ERROR", "Internal server error")
"""Row of every error that is in no table."""


def resolve_error(
    error: type[Exception], table: Mapping[type[BillingError], ErrorRow], internal_error: ErrorRow
) -> ErrorMapping:
    """Return the status and body of an error in a contract.

    Each attribute comes from the first row that sets it. Rows apply in this order: the error's class before its base
    classes, for each class the contract's row before the default row. `BillingError`, the base of all, comes last.

    Args:
        error: Class of the error.
        table: The contract's rows.
        internal_error: The contract's row for errors that are in no table.
    """
    rows = list(_rows(error, table))
    is_internal = all(row.status is None for row in rows)
    if is_internal:
        rows = [internal_error, INTERNAL_ERROR, *_rows(BillingError, table)]
    status = next(row.status for row in rows if row.status is not None)
    code = next(row.code for row in rows if row.code is not None)
    message = next((row.message for row in rows if row.message is not None), None)
    error_type = next((row.type for row in rows if row.type is not None), None)
    doc_url = next((row.doc_url for row in rows if row.doc_url is not None), None)
    doc_url = doc_url.format(code=code.lower()) if doc_url else None
    return ErrorMapping(status, code, message, error_type, doc_url, is_internal)


def _rows(error: type[Exception], table: Mapping[type[BillingError], ErrorRow]) -> Iterator[ErrorRow]:
    for each in error.__mro__:
        if issubclass(each, BillingError):
            yield from (rows[each] for rows in (table, DEFAULT_ERRORS) if each in rows)
