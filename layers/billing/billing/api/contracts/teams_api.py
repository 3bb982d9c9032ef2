"""The teams contract: one team's billing, for its own servers."""

from billing.api.contracts.contract import Contract, ErrorMapping, Field, Operation, Route
from billing.domain import errors
from billing.domain.credentials import NO_CREDENTIAL, SECRET_KEY_ONLY

REFERENCE = "https://www.cstar.help/developers/api-reference"
TEAM = "/api/v1/teams/{teamId}/billing"


TEAMS = Contract(
    name="teams",
    base_path=TEAM,
    account_parameter="teamId",
    routes={
        Operation.SUBSCRIPTION: Route(
            "GET",
            f"{TEAM}/subscription",
            credentials=SECRET_KEY_ONLY,
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
            credentials=SECRET_KEY_ONLY,
            input={"returnUrl": "return_url"},
            response={"success": True, "data": {"object": "billing_portal", "url": Field("url")}},
        ),
        Operation.OPENAPI: Route("GET", f"{TEAM}/openapi.json", response=Field("document"), credentials=NO_CREDENTIAL),
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
    error_mappings={
        errors.RequestInvalid: ErrorMapping(
            400, "invalid_request", type="invalid_request_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.IdempotencyKeyInvalid: ErrorMapping(
            400, "INVALID_IDEMPOTENCY_KEY", type="invalid_request_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.Unauthenticated: ErrorMapping(
            401,
            "authentication_required",
            "Invalid or expired API key",
            type="authentication_error",
            doc_url=f"{REFERENCE}#authentication",
        ),
        errors.Forbidden: ErrorMapping(
            403, "insufficient_permissions", type="authorization_error", doc_url=f"{REFERENCE}#authentication"
        ),
        errors.CredentialKindForbidden: ErrorMapping(
            403,
            "insufficient_permissions",
            "Secret key required for this endpoint",
            type="authorization_error",
            doc_url=f"{REFERENCE}#authentication",
        ),
        errors.NeverSubscribed: ErrorMapping(
            404, "resource_not_found", type="invalid_request_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.RouteUnknown: ErrorMapping(
            404, "resource_not_found", type="invalid_request_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.MethodNotAllowed: ErrorMapping(
            405, "method_not_allowed", type="invalid_request_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.StillRunning: ErrorMapping(
            409, "IDEMPOTENCY_KEY_REUSE", type="invalid_request_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.IdempotencyKeyReused: ErrorMapping(
            422, "IDEMPOTENCY_KEY_REUSE", type="invalid_request_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.RateLimited: ErrorMapping(
            429, "rate_limit_exceeded", type="rate_limit_error", doc_url=f"{REFERENCE}#rate-limiting"
        ),
        errors.StripeRefused: ErrorMapping(
            502, "payment_provider_error", type="api_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.StripeUnavailable: ErrorMapping(
            503, "payment_provider_unavailable", type="api_error", doc_url=f"{REFERENCE}#errors"
        ),
        errors.TryAgainLater: ErrorMapping(503, "service_unavailable", type="api_error", doc_url=f"{REFERENCE}#errors"),
    },
    internal_error=ErrorMapping(500, "internal_error", type="api_error", doc_url=f"{REFERENCE}#errors"),
)
