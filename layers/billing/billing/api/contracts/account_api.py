"""The native contract: whatever the product can do is here first.

Its error codes are the catalogue that the portal contract's document lists; docs/reference/api.md
lists when each is returned.
"""

from billing.api.contracts.contract import Contract, ErrorMapping, Field, ListField, Operation, Route
from billing.domain import errors
from billing.domain.credentials import ANY_CREDENTIAL, NO_CREDENTIAL, SECRET_KEY_ONLY

ACCOUNT = Contract(
    name="account",
    base_path="/v1/billing",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            "/v1/billing",
            response={
                "plan": Field("plan"),
                "status": Field("status"),
                "current_period_end": Field("current_period_end"),
                "cancel_at_period_end": Field("cancel_at_period_end"),
            },
        ),
        Operation.CHECKOUT: Route(
            "POST",
            "/v1/billing/checkout",
            input={
                "tier": "tier",
                "success_url": "success_url",
                "cancel_url": "cancel_url",
                "quantity": "quantity",
            },
            required=("tier",),
            response={"checkout_url": Field("url")},
        ),
        Operation.PORTAL: Route(
            "POST",
            "/v1/billing/portal",
            input={"return_url": "return_url"},
            response={"portal_url": Field("url")},
        ),
        Operation.INVOICES: Route(
            "GET",
            "/v1/billing/invoices",
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
                        "amount_due": Field("amount_due"),
                        "amount_paid": Field("amount_paid"),
                        "amount_remaining": Field("amount_remaining"),
                        "created": Field("created"),
                        "period_start": Field("period_start"),
                        "period_end": Field("period_end"),
                        "hosted_invoice_url": Field("hosted_invoice_url"),
                        "invoice_pdf": Field("invoice_pdf"),
                    },
                ),
                "next_cursor": Field("next_cursor"),
            },
        ),
        Operation.USAGE: Route(
            "GET",
            "/v1/billing/usage",
            response={
                "plan": Field("plan"),
                "period_start": Field("period_start"),
                "period_end": Field("period_end"),
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
        Operation.RECORD_USAGE: Route(
            "POST",
            "/v1/billing/usage",
            input={"measurements": "measurements"},
            required=("measurements",),
            # Only the team's own servers: a browser could talk its user's consumption down.
            credentials=SECRET_KEY_ONLY,
            response={
                "results": ListField(
                    "results",
                    {
                        "id": Field("id"),
                        "outcome": Field("outcome"),
                        "used": Field("used", optional=True),
                        "limit": Field("limit", optional=True),
                    },
                )
            },
        ),
        Operation.PLANS: Route(
            "GET",
            "/v1/billing/plans",
            credentials=ANY_CREDENTIAL,
            response={
                "plans": ListField(
                    "plans",
                    {
                        "id": Field("id"),
                        "name": Field("name"),
                        "trial_days": Field("trial_days"),
                        "contact": Field("contact"),
                        "prices": ListField(
                            "prices",
                            {
                                "lookup_key": Field("lookup_key"),
                                "unit_amount": Field("unit_amount"),
                                "currency": Field("currency"),
                                "interval": Field("interval"),
                                "per_seat": Field("per_seat"),
                            },
                        ),
                        "features": Field("features"),
                        "limits": Field("limits"),
                    },
                )
            },
        ),
        Operation.OPENAPI: Route(
            "GET", "/v1/billing/openapi.json", response=Field("document"), credentials=NO_CREDENTIAL
        ),
        Operation.STRIPE_WEBHOOK: Route(
            "POST",
            "/v1/billing/webhooks",
            response={"received": True, "outcome": Field("outcome")},
            credentials=NO_CREDENTIAL,
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
        errors.RequestInvalid: ErrorMapping(400, "VALIDATION_FAILED"),
        errors.SignatureInvalid: ErrorMapping(400, "VALIDATION_FAILED"),
        errors.EventUnreadable: ErrorMapping(400, "VALIDATION_FAILED"),
        errors.IdempotencyKeyInvalid: ErrorMapping(400, "INVALID_IDEMPOTENCY_KEY"),
        errors.NeverSubscribed: ErrorMapping(400, "NO_STRIPE_CUSTOMER"),
        errors.Unauthenticated: ErrorMapping(401, "UNAUTHORIZED"),
        errors.Forbidden: ErrorMapping(403, "FORBIDDEN"),
        errors.RouteUnknown: ErrorMapping(404, "NOT_FOUND"),
        errors.MethodNotAllowed: ErrorMapping(405, "VALIDATION_FAILED"),
        errors.SubscriptionExists: ErrorMapping(409, "SUBSCRIPTION_EXISTS"),
        errors.StillRunning: ErrorMapping(409, "IDEMPOTENCY_KEY_REUSE"),
        errors.IdempotencyKeyReused: ErrorMapping(422, "IDEMPOTENCY_KEY_REUSE"),
        errors.RateLimited: ErrorMapping(429, "RATE_LIMITED"),
        errors.StripeRefused: ErrorMapping(502, "PAYMENT_ERROR"),
        errors.StripeUnavailable: ErrorMapping(503, "PAYMENT_ERROR"),
        errors.TryAgainLater: ErrorMapping(503, "INTERNAL_ERROR"),
    },
    internal_error=ErrorMapping(500, "INTERNAL_ERROR"),
)
