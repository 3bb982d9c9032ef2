"""The subscription contract: bare answers, and codes in lower case as its own four are."""

from billing.contracts.contract import Contract, Field, Operation, Refusal, Route
from billing.domain import errors

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
            body={"returnUrl": "return_url"},
            response={"url": Field("url")},
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
        errors.Unauthenticated: Refusal(401, "unauthorized"),
        errors.Forbidden: Refusal(403, "forbidden"),
        errors.NeverSubscribed: Refusal(404, "no_subscription"),
        errors.RouteUnknown: Refusal(404, "not_found"),
        errors.MethodNotAllowed: Refusal(405, "invalid_request"),
        errors.StripeFailed: Refusal(502, "portal_error"),
        errors.StripeUnavailable: Refusal(503, "portal_error"),
        errors.StoreUnavailable: Refusal(503, "internal_error"),
    },
    internal_error=Refusal(500, "internal_error"),
)
