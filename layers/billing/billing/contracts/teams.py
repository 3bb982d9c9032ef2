"""The teams contract: one team's billing, for its own servers."""

from billing.contracts.contract import Contract, Field, Operation, Refusal, Route
from billing.domain import errors

REFERENCE = "https://www.cstar.help/developers/api-reference"
TEAM = "/api/v1/teams/{teamId}/billing"


def _refusal(status: int, kind: str, code: str, anchor: str = "errors", message: str | None = None) -> Refusal:
    return Refusal(status, code, message, type=kind, doc_url=f"{REFERENCE}#{anchor}")


INVALID = _refusal(400, "invalid_request_error", "invalid_request")

TEAMS = Contract(
    name="teams",
    base_path=TEAM,
    account_parameter="teamId",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            f"{TEAM}/subscription",
            response={
                "success": True,
                "data": {
                    "object": "subscription",
                    "status": Field("status"),
                    "plan": Field("plan"),
                    "memberCount": Field("member_count"),
                    "currentPeriodEnd": Field("current_period_end"),
                    "cancelAtPeriodEnd": Field("cancel_at_period_end"),
                },
            },
        ),
        Operation.PORTAL: Route(
            "POST",
            f"{TEAM}/portal",
            body={"returnUrl": "return_url"},
            response={"success": True, "data": {"object": "billing_portal", "url": Field("url")}},
        ),
    },
    error={
        "success": False,
        "error": {
            "type": Field("type"),
            "code": Field("code"),
            "message": Field("message"),
            "details": Field("details", optional=True),
            "doc_url": Field("doc_url"),
            "request_id": Field("request_id"),
        },
        "meta": {"timestamp": Field("timestamp")},
    },
    refusals={
        errors.RequestInvalid: INVALID,
        errors.Unauthenticated: _refusal(
            401,
            "authentication_error",
            "authentication_required",
            "authentication",
            "Invalid or expired API key",
        ),
        errors.Forbidden: _refusal(403, "authorization_error", "insufficient_permissions", "authentication"),
        errors.NeverSubscribed: _refusal(404, "invalid_request_error", "resource_not_found"),
        errors.RouteUnknown: _refusal(404, "invalid_request_error", "resource_not_found"),
        errors.MethodNotAllowed: _refusal(405, "invalid_request_error", "method_not_allowed"),
        errors.StripeRefused: _refusal(502, "api_error", "payment_provider_error"),
        errors.StripeUnavailable: _refusal(503, "api_error", "payment_provider_unavailable"),
        errors.StoreUnavailable: _refusal(503, "api_error", "service_unavailable"),
    },
    internal_error=_refusal(500, "api_error", "internal_error"),
)
