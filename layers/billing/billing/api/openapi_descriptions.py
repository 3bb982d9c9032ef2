"""Parts of OpenAPI documents that operations share: error fields, and descriptions of errors and headers."""

from collections.abc import Mapping

from billing.api.declaration import TIME, URI, JsonSchema, string
from billing.domain import errors
from billing.domain.credentials import CredentialKind

ERROR_FIELDS: Mapping[str, JsonSchema] = {
    "code": string("Error code, for programs."),
    "message": string("Error message, for people. It can change."),
    "type": string("Category of the error."),
    "doc_url": string("URL of the error's documentation.", **URI),
    "request_id": string("Request id, for support; also in X-Request-Id."),
    "timestamp": string("Time of the response.", **TIME),
    "details": {
        "type": "array",
        "description": "All problems of the request.",
        "items": {"$ref": "#/components/schemas/Problem"},
    },
    "action": string("What to do about the account's subscription.", enum=[*errors.ActionRequired]),
    "action_url": string("Stripe-hosted page of the invoice to pay, if that is the action.", **URI),
}

PROBLEM: JsonSchema = {
    "type": "object",
    "properties": {
        "path": string("Path of the invalid field, parameter or header; empty for the whole body."),
        "message": string("Description of the problem."),
    },
    "required": ["path", "message"],
    "additionalProperties": False,
}

ERROR_DESCRIPTIONS: Mapping[type[errors.BillingError], str] = {
    errors.RequestInvalid: "Invalid request; `details` lists every problem",
    errors.IdempotencyKeyInvalid: "Malformed Idempotency-Key header",
    errors.SignatureInvalid: "Missing, invalid or expired Stripe signature",
    errors.EventUnidentified: "Event without an id",
    errors.Unauthenticated: "Missing, malformed, unknown, revoked or expired credential",
    errors.Forbidden: "Valid credential without access to the account or operation",
    errors.NeverSubscribed: "No subscription of the account is stored",
    errors.CustomerGone: "Stripe no longer has the account's customer",
    errors.ObjectUnknown: "The account has no object with this id",
    errors.SubscriptionExists: "The account already has a subscription",
    errors.StillRunning: "The first request with this idempotency key is still running",
    errors.IdempotencyKeyReused: "The idempotency key was used for another request",
    errors.RateLimited: "Rate limit of the user, key or account exceeded",
    errors.StripeRefused: "Stripe rejected the request",
    errors.StripeUnavailable: "Stripe is unavailable",
    errors.StoreUnavailable: "The service is temporarily unavailable",
    errors.QueueUnavailable: "The queue of deliveries is temporarily unavailable",
    errors.ConfigurationMissing: "Internal server error",
}

SECURITY_SCHEMES: Mapping[CredentialKind, str] = {
    CredentialKind.SECRET_KEY: "Secret key, `sk_live_…` or `sk_test_…`, with full access to one account. For servers.",
    CredentialKind.PUBLISHABLE_KEY: "Publishable key, `pk_live_…` or `pk_test_…`, for web pages. It lists the plans.",
    CredentialKind.SESSION_TOKEN: "Session token of a user: a JWT from the product's identity provider.",
}

ACCOUNT_PARAMETER = "Account id; it must be the credential's account."

IDEMPOTENCY_KEY: JsonSchema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes retries safe: for 24 hours, a repeated request returns the first response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}

_COUNT: JsonSchema = {"type": "integer", "minimum": 0}
HEADERS: Mapping[str, JsonSchema] = {
    "X-Request-Id": {
        "description": "Request id, as in the logs.",
        "required": True,
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "Required authentication scheme.",
        "required": True,
        "schema": {"const": "Bearer"},
    },
    "Retry-After": {
        "description": "Seconds to wait before a retry.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit-Limit": {"description": "Limit of the window with the fewest requests left.", "schema": _COUNT},
    "RateLimit-Remaining": {"description": "Requests left in that window.", "schema": _COUNT},
    "RateLimit-Reset": {"description": "Seconds until that window ends.", "schema": _COUNT},
    "Idempotent-Replayed": {
        "description": "Present if this is the response to an earlier request with the same idempotency key.",
        "schema": {"const": "true"},
    },
}
RATE_LIMIT_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
