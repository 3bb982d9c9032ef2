"""The organization contract: what a front end asks with its user's session."""

from billing.api.contracts.contract import Contract, ErrorMapping, Field, ListField, Operation, Route
from billing.domain import errors
from billing.domain.credentials import NO_CREDENTIAL

ORGANIZATION = Contract(
    name="organization",
    base_path="/api/billing",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            "/api/billing/subscription",
            response={
                "success": True,
                "data": {
                    "plan": Field("plan"),
                    "status": Field("status"),
                    "currentPeriodEnd": Field("current_period_end"),
                    "cancelAtPeriodEnd": Field("cancel_at_period_end"),
                },
                "error": None,
            },
        ),
        Operation.CHECKOUT: Route(
            "POST",
            "/api/billing/checkout",
            input={
                "priceId": "price_id",
                "successUrl": "success_url",
                "cancelUrl": "cancel_url",
                "quantity": "quantity",
            },
            required=("priceId",),
            response={"success": True, "data": {"url": Field("url")}, "error": None},
        ),
        Operation.PORTAL: Route(
            "POST",
            "/api/billing/portal",
            input={"returnUrl": "return_url"},
            response={"success": True, "data": {"url": Field("url")}, "error": None},
        ),
        Operation.USAGE: Route(
            "GET",
            "/api/billing/usage",
            response={
                "success": True,
                "data": {
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
                "error": None,
            },
        ),
        Operation.OPENAPI: Route(
            "GET", "/api/billing/openapi.json", response=Field("document"), credentials=NO_CREDENTIAL
        ),
    },
    error={
        "success": False,
        "data": None,
        "error": {
            "code": Field("code"),
            "message": Field("message"),
            "details": Field("details", optional=True),
        },
    },
    error_mappings={
        errors.RequestInvalid: ErrorMapping(400, "BAD_REQUEST"),
        errors.IdempotencyKeyInvalid: ErrorMapping(400, "INVALID_IDEMPOTENCY_KEY"),
        errors.Unauthenticated: ErrorMapping(401, "UNAUTHORIZED", "Authentication required"),
        errors.Forbidden: ErrorMapping(403, "FORBIDDEN"),
        errors.NeverSubscribed: ErrorMapping(404, "NOT_FOUND"),
        errors.RouteUnknown: ErrorMapping(404, "NOT_FOUND"),
        errors.MethodNotAllowed: ErrorMapping(405, "METHOD_NOT_ALLOWED"),
        errors.SubscriptionExists: ErrorMapping(409, "SUBSCRIPTION_EXISTS"),
        errors.StillRunning: ErrorMapping(409, "IDEMPOTENCY_KEY_REUSE"),
        errors.IdempotencyKeyReused: ErrorMapping(422, "IDEMPOTENCY_KEY_REUSE"),
        errors.RateLimited: ErrorMapping(429, "RATE_LIMITED"),
        errors.StripeRefused: ErrorMapping(502, "PAYMENT_ERROR"),
        errors.StripeUnavailable: ErrorMapping(503, "PAYMENT_ERROR"),
        errors.TryAgainLater: ErrorMapping(503, "SERVICE_UNAVAILABLE"),
    },
    internal_error=ErrorMapping(500, "INTERNAL_ERROR"),
)
