"""Subscription contract: responses without an envelope, error codes in lower case."""

from billing.api.contracts.contract import Contract, ResponseFields, Route, camel_case
from billing.api.contracts.error_table import ErrorRow
from billing.domain import errors

SUBSCRIPTION = Contract(
    name="subscription",
    base_path="/subscription",
    case=camel_case,
    routes={
        "subscription": Route(
            "GET", "/subscription", not_found_if_null="status", response=ResponseFields(omit=("member_count",))
        ),
        "portal": Route("POST", "/subscription/portal"),
        "invoices": Route("GET", "/subscription/invoices"),
        "usage": Route("GET", "/subscription/usage"),
        "openapi": Route("GET", "/subscription/openapi.json"),
    },
    errors={
        errors.RequestInvalid: ErrorRow(code="invalid_request"),
        errors.Unauthenticated: ErrorRow(code="unauthorized"),
        errors.Forbidden: ErrorRow(code="forbidden"),
        errors.NoBillingHistory: ErrorRow(code="no_subscription"),
        errors.RouteUnknown: ErrorRow(code="not_found"),
        errors.MethodNotAllowed: ErrorRow(code="invalid_request"),
        errors.RateLimited: ErrorRow(code="rate_limited"),
        errors.StripeFailed: ErrorRow(code="portal_error"),
        errors.TryAgainLater: ErrorRow(code="internal_error"),
    },
    internal_error=ErrorRow(code="internal_error"),
)
