"""The native contract: whatever the product can do is here first.

Its error codes are the catalogue that the portal contract's document lists; the mapping is in docs/api.md.
"""

from billing.contracts.contract import Contract, Field, Operation, Refusal, Route
from billing.domain import errors

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
            body={
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
            body={"return_url": "return_url"},
            response={"portal_url": Field("url")},
        ),
        Operation.STRIPE_WEBHOOK: Route(
            "POST",
            "/v1/billing/webhooks",
            response={"received": True, "outcome": Field("outcome")},
            needs_credential=False,
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
        errors.RequestInvalid: Refusal(400, "VALIDATION_FAILED"),
        errors.SignatureInvalid: Refusal(400, "VALIDATION_FAILED"),
        errors.EventUnreadable: Refusal(400, "VALIDATION_FAILED"),
        errors.NeverSubscribed: Refusal(400, "NO_STRIPE_CUSTOMER"),
        errors.Unauthenticated: Refusal(401, "UNAUTHORIZED"),
        errors.RouteUnknown: Refusal(404, "NOT_FOUND"),
        errors.MethodNotAllowed: Refusal(405, "VALIDATION_FAILED"),
        errors.SubscriptionExists: Refusal(409, "SUBSCRIPTION_EXISTS"),
        errors.StripeRefused: Refusal(502, "PAYMENT_ERROR"),
        errors.StripeUnavailable: Refusal(503, "PAYMENT_ERROR"),
        errors.StoreUnavailable: Refusal(503, "INTERNAL_ERROR"),
    },
    internal_error=Refusal(500, "INTERNAL_ERROR"),
)
