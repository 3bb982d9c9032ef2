"""Organization contract: billing of the user's organization, for a front end."""

from billing.api.contracts.contract import DATA, Contract, Field, RequestFields, ResponseFields, Route, camel_case
from billing.api.contracts.error_table import ErrorRow
from billing.domain import errors

ORGANIZATION = Contract(
    name="organization",
    base_path="/api/billing",
    case=camel_case,
    routes={
        "subscription": Route("GET", "/api/billing/subscription", response=ResponseFields(omit=("member_count",))),
        "checkout": Route(
            "POST",
            "/api/billing/checkout",
            request=RequestFields(omit=("tier", "interval", "currency"), required=("price_id",)),
        ),
        "portal": Route("POST", "/api/billing/portal"),
        "usage": Route("GET", "/api/billing/usage"),
        "openapi": Route("GET", "/api/billing/openapi.json"),
    },
    envelope={"success": True, "data": DATA, "error": None},
    error_envelope={
        "success": False,
        "data": None,
        "error": {
            "code": Field("code"),
            "message": Field("message"),
            "details": Field("details", optional=True),
        },
    },
    errors={
        errors.RequestInvalid: ErrorRow(code="BAD_REQUEST"),
        errors.Unauthenticated: ErrorRow(message="Authentication required"),
        errors.MethodNotAllowed: ErrorRow(code="METHOD_NOT_ALLOWED"),
        errors.TryAgainLater: ErrorRow(code="SERVICE_UNAVAILABLE"),
    },
)
