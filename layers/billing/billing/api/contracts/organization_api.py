"""The organization contract: what a front end asks with its user's session."""

from billing.api.contracts.contract import Contract, Field, Items, Operation, Refusal, Route
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
    refusals={
        errors.RequestInvalid: Refusal(400, "BAD_REQUEST"),
        errors.IdempotencyKeyInvalid: Refusal(400, "INVALID_IDEMPOTENCY_KEY"),
        errors.Unauthenticated: Refusal(401, "UNAUTHORIZED", "Authentication required"),
        errors.Forbidden: Refusal(403, "FORBIDDEN"),
        errors.NeverSubscribed: Refusal(404, "NOT_FOUND"),
        errors.RouteUnknown: Refusal(404, "NOT_FOUND"),
        errors.MethodNotAllowed: Refusal(405, "METHOD_NOT_ALLOWED"),
        errors.SubscriptionExists: Refusal(409, "SUBSCRIPTION_EXISTS"),
        errors.StillRunning: Refusal(409, "IDEMPOTENCY_KEY_REUSE"),
        errors.IdempotencyKeyReused: Refusal(422, "IDEMPOTENCY_KEY_REUSE"),
        errors.RateLimited: Refusal(429, "RATE_LIMITED"),
        errors.StripeRefused: Refusal(502, "PAYMENT_ERROR"),
        errors.StripeUnavailable: Refusal(503, "PAYMENT_ERROR"),
        errors.TryAgainLater: Refusal(503, "SERVICE_UNAVAILABLE"),
    },
    internal_error=Refusal(500, "INTERNAL_ERROR"),
)
