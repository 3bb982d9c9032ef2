"""Portal contract: one operation, and a catalogue of documented error codes."""

from billing.api.contracts.contract import Contract, Field, RequestFields, Route, camel_case
from billing.api.contracts.error_table import ErrorRow
from billing.domain import errors

PORTAL = Contract(
    name="portal",
    base_path="/api/billing-portal",
    case=camel_case,
    routes={
        "portal": Route("POST", "/api/billing-portal", request=RequestFields(omit=("return_url",))),
        "openapi": Route("GET", "/api/billing-portal/openapi.json"),
    },
    error_envelope={
        "error": {
            "code": Field("code"),
            "message": Field("message"),
            "docUrl": Field("doc_url", optional=True),
            "details": Field("details", optional=True),
        }
    },
    errors={
        errors.BillingError: ErrorRow(doc_url="https://orbitkit.io/api/errors/#{code}"),
        errors.Unauthenticated: ErrorRow(message="Invalid or expired token"),
        # The document's example of this error has no docUrl.
        errors.NoBillingHistory: ErrorRow(message="No billing account found", doc_url=""),
    },
)
