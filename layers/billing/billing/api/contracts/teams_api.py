"""Teams contract: billing of one team, for the team's servers."""

from billing.api.contracts.contract import DATA, Contract, Field, ResponseFields, Route, camel_case
from billing.api.contracts.error_table import ErrorRow
from billing.domain import errors
from billing.domain.credentials import SECRET_KEY_ONLY

REFERENCE = "https://www.cstar.help/developers/api-reference"
TEAM = "/api/v1/teams/{teamId}/billing"

TEAMS = Contract(
    name="teams",
    base_path=TEAM,
    account_parameter="teamId",
    credentials=SECRET_KEY_ONLY,
    case=camel_case,
    routes={
        "subscription": Route(
            "GET", f"{TEAM}/subscription", response=ResponseFields(constants={"object": "subscription"})
        ),
        "portal": Route("POST", f"{TEAM}/portal", response=ResponseFields(constants={"object": "billing_portal"})),
        "openapi": Route("GET", f"{TEAM}/openapi.json"),
    },
    envelope={"success": True, "data": DATA},
    error_envelope={
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
    errors={
        errors.BillingError: ErrorRow(type="invalid_request_error", doc_url=f"{REFERENCE}#errors"),
        errors.RequestInvalid: ErrorRow(code="invalid_request"),
        errors.Unauthenticated: ErrorRow(
            code="authentication_required",
            message="Invalid or expired API key",
            type="authentication_error",
            doc_url=f"{REFERENCE}#authentication",
        ),
        errors.Forbidden: ErrorRow(
            code="insufficient_permissions", type="authorization_error", doc_url=f"{REFERENCE}#authentication"
        ),
        errors.CredentialKindForbidden: ErrorRow(message="Secret key required for this endpoint"),
        errors.NoBillingHistory: ErrorRow(code="resource_not_found"),
        errors.RouteUnknown: ErrorRow(code="resource_not_found"),
        errors.MethodNotAllowed: ErrorRow(code="method_not_allowed"),
        errors.StillRunning: ErrorRow(type="invalid_request_error"),
        errors.RateLimited: ErrorRow(
            code="rate_limit_exceeded", type="rate_limit_error", doc_url=f"{REFERENCE}#rate-limiting"
        ),
        errors.StripeFailed: ErrorRow(code="payment_provider_error"),
        errors.StripeUnavailable: ErrorRow(code="payment_provider_unavailable"),
        errors.TryAgainLater: ErrorRow(code="service_unavailable", type="api_error"),
    },
    internal_error=ErrorRow(code="internal_error", type="api_error"),
)
