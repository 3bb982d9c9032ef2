"""The subscription contract: bare answers, and codes in lower case as its own four are."""

from billing.api.contracts.contract import Contract, ErrorMapping, Field, ListField, Operation, Route
from billing.domain import errors
from billing.domain.credentials import NO_CREDENTIAL

SUBSCRIPTION = Contract(
    name="subscription",
    base_path="/subscription",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            "/subscription",
            not_found_if_null="status",
            response={
                "plan": Field("plan"),
                "status": Field("status"),
                "currentPeriodEnd": Field("current_period_end"),
                "cancelAtPeriodEnd": Field("cancel_at_period_end"),
            },
        ),
        Operation.PORTAL: Route(
            "POST",
            "/subscription/portal",
            input={"returnUrl": "return_url"},
            response={"url": Field("url")},
        ),
        Operation.INVOICES: Route(
            "GET",
            "/subscription/invoices",
            input={"limit": "limit", "status": "status", "cursor": "cursor"},
            response={
                "invoices": ListField(
                    "invoices",
                    {
                        "id": Field("id"),
                        "number": Field("number"),
                        "status": Field("status"),
                        "currency": Field("currency"),
                        "total": Field("total"),
                        "amountDue": Field("amount_due"),
                        "amountPaid": Field("amount_paid"),
                        "amountRemaining": Field("amount_remaining"),
                        "created": Field("created"),
                        "periodStart": Field("period_start"),
                        "periodEnd": Field("period_end"),
                        "hostedInvoiceUrl": Field("hosted_invoice_url"),
                        "invoicePdf": Field("invoice_pdf"),
                    },
                ),
                "nextCursor": Field("next_cursor"),
            },
        ),
        Operation.USAGE: Route(
            "GET",
            "/subscription/usage",
            response={
                "plan": Field("plan"),
                "periodStart": Field("period_start"),
                "periodEnd": Field("period_end"),
                "usage": ListField(
                    "usage",
                    {
                        "metric": Field("metric"),
                        "used": Field("used"),
                        "limit": Field("limit"),
                        "remaining": Field("remaining"),
                    },
                ),
            },
        ),
        Operation.OPENAPI: Route(
            "GET", "/subscription/openapi.json", response=Field("document"), credentials=NO_CREDENTIAL
        ),
    },
    error={
        "error": {
            "code": Field("code"),
            "message": Field("message"),
            "details": Field("details", optional=True),
        }
    },
    error_mappings={
        errors.RequestInvalid: ErrorMapping(400, "invalid_request"),
        errors.IdempotencyKeyInvalid: ErrorMapping(400, "INVALID_IDEMPOTENCY_KEY"),
        errors.Unauthenticated: ErrorMapping(401, "unauthorized"),
        errors.Forbidden: ErrorMapping(403, "forbidden"),
        errors.NeverSubscribed: ErrorMapping(404, "no_subscription"),
        errors.RouteUnknown: ErrorMapping(404, "not_found"),
        errors.MethodNotAllowed: ErrorMapping(405, "invalid_request"),
        errors.StillRunning: ErrorMapping(409, "IDEMPOTENCY_KEY_REUSE"),
        errors.IdempotencyKeyReused: ErrorMapping(422, "IDEMPOTENCY_KEY_REUSE"),
        errors.RateLimited: ErrorMapping(429, "rate_limited"),
        errors.StripeFailed: ErrorMapping(502, "portal_error"),
        errors.StripeUnavailable: ErrorMapping(503, "portal_error"),
        errors.TryAgainLater: ErrorMapping(503, "internal_error"),
    },
    internal_error=ErrorMapping(500, "internal_error"),
)
