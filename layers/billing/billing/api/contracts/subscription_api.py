"""The subscription contract: bare answers, and codes in lower case as its own four are."""

from billing.api.contracts.contract import Contract, Field, Items, Operation, Refusal, Route
from billing.domain import errors
from billing.domain.credentials import NO_CREDENTIAL

SUBSCRIPTION = Contract(
    name="subscription",
    base_path="/subscription",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            "/subscription",
            needs="status",
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
                "invoices": Items(
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
                "usage": Items(
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
    refusals={
        errors.RequestInvalid: Refusal(400, "invalid_request"),
        errors.IdempotencyKeyInvalid: Refusal(400, "INVALID_IDEMPOTENCY_KEY"),
        errors.Unauthenticated: Refusal(401, "unauthorized"),
        errors.Forbidden: Refusal(403, "forbidden"),
        errors.NeverSubscribed: Refusal(404, "no_subscription"),
        errors.RouteUnknown: Refusal(404, "not_found"),
        errors.MethodNotAllowed: Refusal(405, "invalid_request"),
        errors.StillRunning: Refusal(409, "IDEMPOTENCY_KEY_REUSE"),
        errors.IdempotencyKeyReused: Refusal(422, "IDEMPOTENCY_KEY_REUSE"),
        errors.RateLimited: Refusal(429, "rate_limited"),
        errors.StripeFailed: Refusal(502, "portal_error"),
        errors.StripeUnavailable: Refusal(503, "portal_error"),
        errors.TryAgainLater: Refusal(503, "internal_error"),
    },
    internal_error=Refusal(500, "internal_error"),
)
