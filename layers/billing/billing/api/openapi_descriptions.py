"""What an OpenAPI document says beside the contracts' tables: a type for every fact, and words for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.api.contracts.contract import Operation
from billing.api.request_models import CheckoutRequest, InvoicesRequest, PortalRequest, RecordUsageRequest, RequestModel
from billing.domain import errors
from billing.domain.credentials import CredentialKind
from billing.domain.usage import MeasurementOutcome

type Json = dict[str, Any]

TIME: Json = {"format": "date-time"}
URI: Json = {"format": "uri"}


def term(kind: str | list[str], description: str, **keywords: object) -> Json:
    """A JSON schema: its type, what it means, and whatever else of the vocabulary."""
    return {"type": kind, "description": description} | keywords


@dataclass(frozen=True, slots=True)
class OperationDoc:
    """What the contracts' tables do not say of an operation: words, its input, and what errors it alone raises.

    `body` is the schema of a body that no model parses, `parameters` are headers that no contract names.
    """

    id: str
    summary: str
    description: str
    input: type[RequestModel] | None = None
    raises: tuple[type[errors.BillingError], ...] = ()
    parameters: tuple[Json, ...] = ()
    body: Json | None = None


OPERATIONS: Mapping[Operation, OperationDoc] = {
    Operation.SUBSCRIPTION: OperationDoc(
        "getSubscription",
        "Which plan is the account on?",
        "Answered from what Stripe has told. An account whose subscription grants nothing is on the free plan.",
    ),
    Operation.CHECKOUT: OperationDoc(
        "createCheckout",
        "Start a subscription",
        "Opens a page of Stripe's on which the account can pay. The same request gets the same page while it is open; "
        "another request closes that page.",
        CheckoutRequest,
        (errors.SubscriptionExists, errors.StripeRefused, errors.StripeUnavailable),
    ),
    Operation.PORTAL: OperationDoc(
        "createPortal",
        "Open the billing portal",
        "Opens Stripe's own page for plan, payment method, invoices and cancellation.",
        PortalRequest,
        (errors.NeverSubscribed, errors.StripeRefused, errors.StripeUnavailable),
    ),
    Operation.INVOICES: OperationDoc(
        "listInvoices", "List the account's invoices", "The newest first, page by page; no drafts.", InvoicesRequest
    ),
    Operation.USAGE: OperationDoc(
        "getUsage",
        "How much of its plan has the account used?",
        "Every metric of the catalog, for the period that the account pays for, or else for the month.",
    ),
    Operation.RECORD_USAGE: OperationDoc(
        "recordUsage",
        "Record what was used",
        "Each measurement counts once, by its id, however often it is sent. One that asks to `consume` is counted only "
        "if the plan's limit has room for all of it.",
        RecordUsageRequest,
    ),
    Operation.PLANS: OperationDoc("listPlans", "What is for sale?", "The catalog, from the least plan to the most."),
    Operation.STRIPE_WEBHOOK: OperationDoc(
        "receiveStripeEvent",
        "Take an event from Stripe",
        "For Stripe alone, which signs the body. Answered once the event is durable; a duplicate changes nothing.",
        raises=(
            errors.SignatureInvalid,
            errors.EventUnidentified,
            errors.StripeRefused,
            errors.StripeUnavailable,
            errors.StoreUnavailable,
        ),
        parameters=(
            {
                "name": "Stripe-Signature",
                "in": "header",
                "required": True,
                "description": "A time and signatures of it with the body: https://docs.stripe.com/webhooks/signature.",
                "schema": {
                    "type": "string",
                    "maxLength": 4096,
                    "pattern": "^t=[0-9]{1,12},v1=[0-9a-f]{64}(,v[0-9]=[0-9a-f]{64})*$",
                },
            },
        ),
        body={"type": "object", "description": "A Stripe Event object, byte for byte as it was signed."},
    ),
    Operation.OPENAPI: OperationDoc(
        "getOpenapi", "This document", "OpenAPI 3.1, made from what the functions answer from."
    ),
}


# The type of every fact that a shape may name. A fact of a list's items is named after the list.
PROPERTY_SCHEMAS: Mapping[str, Json] = {
    "plan": term("string", "The id of the plan that the account is on."),
    "status": term(["string", "null"], "Stripe's status of the subscription; null if there never was one."),
    "current_period_end": term(
        ["string", "null"], "When the period that is paid for ends; null if there never was one.", **TIME
    ),
    "cancel_at_period_end": term(
        ["boolean", "null"], "Whether the subscription ends by itself; null if there never was one."
    ),
    "member_count": term("integer", "How many members the account has.", minimum=0),
    "url": term("string", "Where to send the browser. The page is for this account alone and does not last.", **URI),
    "next_cursor": term(["string", "null"], "The `cursor` of the next page; null on the last one."),
    "invoices.id": term("string", "Stripe's id of the invoice."),
    "invoices.number": term(["string", "null"], "The number printed on it."),
    "invoices.status": term("string", "Stripe's status of the invoice.", examples=["open", "paid", "void"]),
    "invoices.currency": term("string", "ISO 4217, in lower case."),
    "invoices.total": term("integer", "What it comes to, in the currency's minor unit; negative for a credit."),
    "invoices.amount_due": term("integer", "What was to be paid, in the currency's minor unit."),
    "invoices.amount_paid": term("integer", "What has been paid, in the currency's minor unit."),
    "invoices.amount_remaining": term("integer", "What is still to be paid, in the currency's minor unit."),
    "invoices.created": term("string", "When it was made.", **TIME),
    "invoices.period_start": term(["string", "null"], "From when it is for.", **TIME),
    "invoices.period_end": term(["string", "null"], "Until when it is for.", **TIME),
    "invoices.hosted_invoice_url": term(["string", "null"], "Stripe's page to see and pay it.", **URI),
    "invoices.invoice_pdf": term(["string", "null"], "The invoice as a PDF.", **URI),
    "period_start": term("string", "Since when counters count.", **TIME),
    "period_end": term("string", "When they begin anew.", **TIME),
    "usage.metric": term("string", "What is counted."),
    "usage.used": term("integer", "How much is used: of a counter in this period, of a gauge now.", minimum=0),
    "usage.limit": term(["integer", "null"], "How much the plan allows; null is unlimited.", minimum=0),
    "usage.remaining": term(["integer", "null"], "How much is left, never below 0; null is unlimited.", minimum=0),
    "results.id": term("string", "The measurement's id."),
    "results.outcome": term("string", "What became of it.", enum=[*MeasurementOutcome]),
    "results.used": term("integer", "How much is used; told where the limit was reached.", minimum=0),
    "results.limit": term(["integer", "null"], "How much the plan allows; told where that was reached.", minimum=0),
    "plans.id": term("string", "What `tier` and `plan` say."),
    "plans.name": term("string", "What a page of prices says."),
    "plans.trial_days": term("integer", "Days before the first payment, once per account.", minimum=0),
    "plans.contact": term(["string", "null"], "Whom to ask for a plan that is sold by agreement."),
    "plans.prices.lookup_key": term("string", "Stripe's lookup key of the price."),
    "plans.prices.unit_amount": term("integer", "In the currency's minor unit, for each interval.", minimum=0),
    "plans.prices.currency": term("string", "ISO 4217, in lower case."),
    "plans.prices.interval": term("string", "How often it is paid."),
    "plans.prices.per_seat": term("boolean", "Whether it is paid for each seat."),
    "plans.features": term(
        "object", "What the plan brings, by name.", additionalProperties={"type": ["boolean", "string"]}
    ),
    "plans.limits": term(
        "object",
        "How much of each metric the plan allows; null is unlimited.",
        additionalProperties={"type": ["integer", "null"], "minimum": 0},
    ),
    "outcome": term("string", "What became of the event."),
    "document": term("object", "An OpenAPI document."),
    "code": term("string", "What went wrong, for programs."),
    "message": term("string", "What went wrong, for people. May change."),
    "type": term("string", "Which sort of error it is."),
    "doc_url": term("string", "Where the error is explained.", **URI),
    "request_id": term("string", "What to quote when asking for help; also in X-Request-Id."),
    "timestamp": term("string", "When the error was answered.", **TIME),
    "details": {
        "type": "array",
        "description": "Everything that is wrong with the request.",
        "items": {"$ref": "#/components/schemas/Problem"},
    },
}

PROBLEM: Json = {
    "type": "object",
    "properties": {
        "path": term("string", "The field, parameter or header; empty for the whole body."),
        "message": term("string", "What is wrong there."),
    },
    "required": ["path", "message"],
    "additionalProperties": False,
}

# What a caller may send, by the operations' own names of it.
FIELDS: Mapping[str, str] = {
    "tier": "The plan to subscribe to.",
    "price_id": "A price of the catalog: its lookup key, or its id in Stripe.",
    "quantity": "Seats. More than 1 only for a plan that is priced per seat.",
    "success_url": "Where the browser goes after paying: on an allowed origin, or relative to the first of them.",
    "cancel_url": "Where the browser goes without paying: on an allowed origin, or relative to the first of them.",
    "return_url": "Where the portal leads back to: on an allowed origin, or relative to the first of them.",
    "limit": "How many to list.",
    "status": "Only those with this status.",
    "cursor": "The `next_cursor` of the page before.",
    "measurements": "What was used, in the order in which it is to be decided on. No two with the same id.",
    "id": "Makes the measurement count once, for 35 days.",
    "metric": "What was used.",
    "value": "How much more of a counter, how much in all of a gauge.",
    "action": "`track` always counts; `consume` counts only if the plan's limit has room.",
}

# Why an operation is refused, by the class that is raised.
ERROR_DESCRIPTIONS: Mapping[type[errors.BillingError], str] = {
    errors.RequestInvalid: "The request is not what this document says; the details say what is wrong, and where",
    errors.IdempotencyKeyInvalid: "The idempotency key is none",
    errors.SignatureInvalid: "Stripe did not sign this body, or not now",
    errors.EventUnidentified: "There is no id under which the event could be recorded",
    errors.Unauthenticated: "The credential is missing, malformed, unknown, revoked or expired; which is never told",
    errors.Forbidden: "The credential counts, but not for this account, or not for this operation",
    errors.NeverSubscribed: "The account never had a subscription",
    errors.SubscriptionExists: "The account already has a subscription",
    errors.StillRunning: "The first request with this idempotency key is still running",
    errors.IdempotencyKeyReused: "The idempotency key was used for another request",
    errors.RateLimited: "Too many requests of this user or key, or of its account",
    errors.StripeRefused: "Stripe refused the request; this has been reported",
    errors.StripeUnavailable: "Stripe cannot be reached at the moment",
    errors.StoreUnavailable: "The service is busy at the moment",
    errors.ConfigurationMissing: "A fault on this side; it has been reported",
}

SECURITY_SCHEMES: Mapping[CredentialKind, str] = {
    CredentialKind.SECRET_KEY: "A secret key, `sk_live_…` or `sk_test_…`: acts for its whole account. For servers.",
    CredentialKind.PUBLISHABLE_KEY: "A publishable key, `pk_live_…` or `pk_test_…`: may be in a page, sees the plans.",
    CredentialKind.SESSION_TOKEN: "A user's session token: a JWT of the product's own sign-in.",
}

ACCOUNT_PARAMETER = "The account; it must be the credential's own."

IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes it safe to send the request again: for 24 hours the first answer is given again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}

_COUNT: Json = {"type": "integer", "minimum": 0}
HEADERS: Mapping[str, Json] = {
    "X-Request-Id": {
        "description": "Names the request in the logs.",
        "required": True,
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "Which credentials are asked for.",
        "required": True,
        "schema": {"const": "Bearer"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit-Limit": {"description": "Requests in the window that has least left.", "schema": _COUNT},
    "RateLimit-Remaining": {"description": "What is left in that window.", "schema": _COUNT},
    "RateLimit-Reset": {"description": "Seconds until it is whole again.", "schema": _COUNT},
    "Idempotent-Replayed": {
        "description": "There if the answer is that of an earlier request with this idempotency key.",
        "schema": {"const": "true"},
    },
}
RATE_LIMIT_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
