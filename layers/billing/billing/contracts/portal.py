"""The portal contract: one route, and a catalogue of error codes."""

from billing.contracts.contract import Contract, Field, Operation, Refusal, Route
from billing.domain import errors

REFERENCE = "https://orbitkit.io/api/errors/#"


def _refusal(status: int, code: str, message: str | None = None) -> Refusal:
    return Refusal(status, code, message, doc_url=REFERENCE + code.lower())


PORTAL = Contract(
    name="portal",
    base_path="/api/billing-portal",
    routes={
        Operation.PORTAL: Route(
            "POST",
            "/api/billing-portal",
            response={"url": Field("url")},
        ),
    },
    error={
        "error": {
            "code": Field("code"),
            "message": Field("message"),
            "docUrl": Field("doc_url", optional=True),
            "details": Field("details", optional=True),
        }
    },
    refusals={
        errors.RequestInvalid: _refusal(400, "VALIDATION_FAILED"),
        errors.Unauthenticated: _refusal(401, "UNAUTHORIZED", "Invalid or expired token"),
        errors.Forbidden: _refusal(403, "FORBIDDEN"),
        # The document's example of this one has no docUrl.
        errors.NeverSubscribed: Refusal(404, "NOT_FOUND", "No billing account found"),
        errors.RouteUnknown: _refusal(404, "NOT_FOUND"),
        errors.MethodNotAllowed: _refusal(405, "VALIDATION_FAILED"),
        errors.StripeRefused: _refusal(502, "PAYMENT_ERROR"),
        errors.StripeUnavailable: _refusal(503, "PAYMENT_ERROR"),
        errors.StoreUnavailable: _refusal(503, "INTERNAL_ERROR"),
    },
    internal_error=_refusal(500, "INTERNAL_ERROR"),
)
