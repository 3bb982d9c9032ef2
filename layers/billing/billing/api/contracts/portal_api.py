"""The portal contract: one route, and a catalogue of error codes."""

from billing.api.contracts.contract import Contract, ErrorMapping, Field, Operation, Route
from billing.domain import errors
from billing.domain.credentials import NO_CREDENTIAL

REFERENCE = "https://orbitkit.io/api/errors/#"


PORTAL = Contract(
    name="portal",
    base_path="/api/billing-portal",
    routes={
        Operation.PORTAL: Route(
            "POST",
            "/api/billing-portal",
            response={"url": Field("url")},
        ),
        Operation.OPENAPI: Route(
            "GET", "/api/billing-portal/openapi.json", response=Field("document"), credentials=NO_CREDENTIAL
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
    error_mappings={
        errors.RequestInvalid: ErrorMapping(400, "VALIDATION_FAILED", doc_url=f"{REFERENCE}validation_failed"),
        errors.IdempotencyKeyInvalid: ErrorMapping(
            400, "INVALID_IDEMPOTENCY_KEY", doc_url=f"{REFERENCE}invalid_idempotency_key"
        ),
        errors.Unauthenticated: ErrorMapping(
            401, "UNAUTHORIZED", "Invalid or expired token", doc_url=f"{REFERENCE}unauthorized"
        ),
        errors.Forbidden: ErrorMapping(403, "FORBIDDEN", doc_url=f"{REFERENCE}forbidden"),
        # The document's example of this one has no docUrl.
        errors.NeverSubscribed: ErrorMapping(404, "NOT_FOUND", "No billing account found"),
        errors.RouteUnknown: ErrorMapping(404, "NOT_FOUND", doc_url=f"{REFERENCE}not_found"),
        errors.MethodNotAllowed: ErrorMapping(405, "VALIDATION_FAILED", doc_url=f"{REFERENCE}validation_failed"),
        errors.StillRunning: ErrorMapping(409, "IDEMPOTENCY_KEY_REUSE", doc_url=f"{REFERENCE}idempotency_key_reuse"),
        errors.IdempotencyKeyReused: ErrorMapping(
            422, "IDEMPOTENCY_KEY_REUSE", doc_url=f"{REFERENCE}idempotency_key_reuse"
        ),
        errors.RateLimited: ErrorMapping(429, "RATE_LIMITED", doc_url=f"{REFERENCE}rate_limited"),
        errors.StripeRefused: ErrorMapping(502, "PAYMENT_ERROR", doc_url=f"{REFERENCE}payment_error"),
        errors.StripeUnavailable: ErrorMapping(503, "PAYMENT_ERROR", doc_url=f"{REFERENCE}payment_error"),
        errors.TryAgainLater: ErrorMapping(503, "INTERNAL_ERROR", doc_url=f"{REFERENCE}internal_error"),
    },
    internal_error=ErrorMapping(500, "INTERNAL_ERROR", doc_url=f"{REFERENCE}internal_error"),
)
