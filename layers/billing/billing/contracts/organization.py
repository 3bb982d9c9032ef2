"""The organization contract: what a front end asks with its user's session."""

from billing.contracts.contract import Contract, Field, Operation, Refusal, Route
from billing.domain import errors

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
            body={
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
            body={"returnUrl": "return_url"},
            response={"success": True, "data": {"url": Field("url")}, "error": None},
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
        errors.Unauthenticated: Refusal(401, "UNAUTHORIZED", "Authentication required"),
        errors.Forbidden: Refusal(403, "FORBIDDEN"),
        errors.NeverSubscribed: Refusal(404, "NOT_FOUND"),
        errors.RouteUnknown: Refusal(404, "NOT_FOUND"),
        errors.MethodNotAllowed: Refusal(405, "METHOD_NOT_ALLOWED"),
        errors.SubscriptionExists: Refusal(409, "SUBSCRIPTION_EXISTS"),
        errors.StripeRefused: Refusal(502, "PAYMENT_ERROR"),
        errors.StripeUnavailable: Refusal(503, "PAYMENT_ERROR"),
        errors.StoreUnavailable: Refusal(503, "SERVICE_UNAVAILABLE"),
    },
    internal_error=Refusal(500, "INTERNAL_ERROR"),
)
