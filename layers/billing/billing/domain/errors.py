"""Errors, named after what happened. Each API contract maps them to a status and a code.

BillingError
├── RequestRefused                the caller has to change the request
│   ├── RequestInvalid            body, header or parameter is invalid
│   │   └── IdempotencyKeyInvalid
│   ├── IdempotencyKeyReused      the key belongs to a request with another body
│   ├── WebhookUrlRefused         an endpoint's URL is not a public https URL
│   ├── Unauthenticated           no valid credential
│   ├── Forbidden                 a valid credential without access
│   │   └── CredentialKindForbidden
│   ├── RouteUnknown              no operation has this path
│   ├── ObjectUnknown             the account has no object with this id
│   ├── MethodNotAllowed          the path has operations, but not for this method
│   ├── SubscriptionExists        checkout while the account has a live subscription
│   │   └── SubscriptionWithoutCustomer   its customer does not exist in Stripe
│   └── NoBillingHistory          the portal has nothing to show
│       ├── NeverSubscribed       no subscription of the account is stored
│       └── CustomerGone          Stripe no longer has the account's customer
├── TryAgainLater                 the same request can succeed later
│   ├── RateLimited               too many requests of a user, key or account
│   ├── StillRunning              the first request with this idempotency key has no response yet
│   ├── StripeFailed
│   │   ├── StripeUnavailable     Stripe is down, slow or limits the rate
│   │   └── StripeRefused         Stripe rejected the request, or its response is unusable
│   ├── StoreUnavailable          DynamoDB throttles, fails or does not respond
│   ├── SecretsUnavailable        Secrets Manager throttles, fails or does not respond
│   ├── QueueUnavailable          SQS throttles, fails or does not respond
│   └── IdentityProviderUnavailable   the signing keys of session tokens cannot be fetched
├── ConfigurationMissing          a setting or secret of the deployment is missing or invalid
├── SignatureInvalid              a webhook delivery has no valid signature
└── EventUnreadable
    ├── EventUnidentified         the payload has no id, so it cannot be recorded
    └── EventUnprocessable        the payload has an id, but cannot be parsed
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

PROBLEMS_MAX = 100


class BillingError(Exception):
    """Base class of all expected errors."""


# --- The caller has to change the request -----------------------------------------------------------------------------


class RequestRefused(BillingError):
    """The request cannot succeed without a change by the caller."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a request.

    Attributes:
        path: Field as the caller wrote it, for example "success_url"; "" for the whole body.
        message: Description that follows the path, for example "is required".
    """

    path: str
    message: str


class RequestInvalid(RequestRefused):
    """A body, header or parameter is invalid."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """List all problems; of more than 100 distinct ones the first 100."""
        self.problems = tuple(dict.fromkeys(problems))[:PROBLEMS_MAX]
        super().__init__(
            "; ".join(f"{each.path}: {each.message}" if each.path else each.message for each in self.problems)
        )

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """Return an error with one problem."""
        return cls([Problem(path, message)])


class IdempotencyKeyInvalid(RequestInvalid):
    """The `Idempotency-Key` header is malformed."""


class WebhookUrlRefused(RequestRefused):
    """The URL of a webhook endpoint is not a public https URL."""

    def __init__(self, reason: str) -> None:
        """Create the error.

        Args:
            reason: Predicate of the URL, for example "must use https"; a `UrlRefusal` or an `AddressRefusal`.
        """
        self.reason = reason
        super().__init__(f"The URL {reason}")


class IdempotencyKeyReused(RequestRefused):
    """The idempotency key was first used with another request body."""

    def __init__(self) -> None:
        super().__init__("This idempotency key was used with another request body; use a new key")


class Unauthenticated(RequestRefused):
    """The credential is missing, malformed, unknown, revoked or expired. The response does not say which."""

    def __init__(self, reason: str) -> None:
        """Create the error; only the log contains `reason`."""
        self.reason = reason
        super().__init__("Missing, invalid or expired credential")


class Forbidden(RequestRefused):
    """The credential is valid, but does not give access to the account or operation."""

    @classmethod
    def for_account(cls) -> "Forbidden":
        """Return the error for a path of another account, whether that account exists or not."""
        return cls("The credential does not give access to this account")

    @classmethod
    def for_role(cls) -> "Forbidden":
        """Return the error for a user without a billing role."""
        return cls("The user's role does not allow this")


class CredentialKindForbidden(Forbidden):
    """The operation requires another kind of credential."""

    def __init__(self) -> None:
        super().__init__("This kind of credential is not accepted here")


class RouteUnknown(RequestRefused):
    """No operation has the path of the request."""

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path}")


class ObjectUnknown(RequestRefused):
    """The account has no object with this id. An object of another account gets the same response."""

    def __init__(self, kind: str) -> None:
        """Create the error; `kind` names the object, for example "webhook endpoint"."""
        super().__init__(f"There is no {kind} with this id")


class MethodNotAllowed(RequestRefused):
    """The path has operations, but not for this method (RFC 9110, section 15.5.6)."""

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        """Create the error; `allowed` becomes the `Allow` header."""
        self.allowed = tuple(allowed)
        super().__init__(f"{method} is not allowed here; allowed: {', '.join(allowed)}")


class ActionRequired(StrEnum):
    """Action that the caller has to take before the request can succeed."""

    PAY_INVOICE = "pay_invoice"
    OPEN_PORTAL = "open_portal"


class SubscriptionExists(RequestRefused):
    """A checkout was requested while the account has a live subscription. A second one would be billed, too.

    Attributes:
        action: Action that makes the present subscription usable; None if there is none.
        action_url: Stripe-hosted page of the invoice to pay; None for another action.
    """

    def __init__(self, overdue_status: str | None = None, invoice_url: str | None = None) -> None:
        """Create the error.

        Args:
            overdue_status: Status of a subscription that is not in good standing.
            invoice_url: Stripe-hosted page of its open invoice.
        """
        self.action: ActionRequired | None = ActionRequired.PAY_INVOICE if invoice_url else ActionRequired.OPEN_PORTAL
        self.action_url = invoice_url
        if overdue_status is None:
            message = "This account already has a subscription; change or cancel it in the billing portal"
        elif invoice_url is None:
            # The portal cannot resume a paused subscription: https://docs.stripe.com/api/subscriptions/resume.
            action = (
                "add a payment method in the billing portal and ask support to resume it, or cancel it there"
                if overdue_status == "paused"
                else "update its payment method or cancel it in the billing portal"
            )
            message = f"This account has a subscription that is {overdue_status}; {action}"
        else:
            message = f"This account has a subscription that is {overdue_status}; pay its open invoice: {invoice_url}"
        super().__init__(message)


class SubscriptionWithoutCustomer(SubscriptionExists):
    """A subscription exists, and Stripe returns 404 for its customer, so that the portal cannot be opened."""

    def __init__(self) -> None:
        self.action = None
        self.action_url = None
        message = "This account already has a subscription, but the payment provider does not have its customer"
        RequestRefused.__init__(self, f"{message}; ask support")


class NoBillingHistory(RequestRefused):
    """The billing portal was requested, and Stripe has no customer with subscriptions of the account."""


class CustomerGone(NoBillingHistory):
    """The account had subscriptions, and Stripe no longer has their customer."""

    def __init__(self) -> None:
        super().__init__("The payment provider no longer has the customer of this account, nor its billing history")


class NeverSubscribed(NoBillingHistory):
    """No subscription of the account is stored: it never had one, or its customer was unlinked."""

    def __init__(self) -> None:
        super().__init__("This account has no billing history: it has no subscription here")


# --- The same request can succeed later -------------------------------------------------------------------------------


class TryAgainLater(BillingError):
    """The request can be repeated unchanged after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class RateLimited(TryAgainLater):
    """A user, key or account sent more requests than the deployment allows."""

    def __init__(self, limit: int, retry_after_seconds: int) -> None:
        """Create the error; `limit` is the number of requests that the exhausted window allows."""
        self.limit = limit
        super().__init__(f"Rate limit exceeded. Try again in {retry_after_seconds} seconds", retry_after_seconds)


class StillRunning(TryAgainLater):
    """The first request with the same idempotency key has no response yet."""

    def __init__(self) -> None:
        super().__init__("A request with this idempotency key is still running", retry_after_seconds=1)


class StripeFailed(TryAgainLater):
    """A call to Stripe failed.

    Attributes:
        is_answered: True if Stripe answered with an error that it may replay for the same idempotency key.
    """

    message = "The payment provider failed"
    default_retry_after_seconds = 30

    def __init__(self, retry_after_seconds: int | None = None, *, is_answered: bool = False) -> None:
        """Create the error; `retry_after_seconds` is the value of Stripe's `Retry-After` header, if there is one."""
        self.is_answered = is_answered
        super().__init__(self.message, retry_after_seconds or self.default_retry_after_seconds)


class StripeUnavailable(StripeFailed):
    """Stripe is unreachable, too slow, or limits the rate of calls."""

    message = "The payment provider is temporarily unavailable; try again shortly"
    default_retry_after_seconds = 5


class StripeRefused(StripeFailed):
    """Stripe rejected the request, or sent an unusable response. The log contains the cause, the response does not."""

    message = "The payment provider rejected the request; the error is logged"


class StoreUnavailable(TryAgainLater):
    """DynamoDB throttles, fails or does not respond, or other writers caused too many conflicts.

    No transaction was written in part.
    """

    def __init__(self) -> None:
        super().__init__("The service is temporarily unavailable; try again shortly", retry_after_seconds=2)


class SecretsUnavailable(TryAgainLater):
    """Secrets Manager throttles, fails or does not respond."""

    def __init__(self) -> None:
        super().__init__("The service is temporarily unavailable; try again shortly", retry_after_seconds=5)


class QueueUnavailable(TryAgainLater):
    """SQS throttles, fails or does not respond."""

    def __init__(self) -> None:
        super().__init__("The service is temporarily unavailable; try again shortly", retry_after_seconds=5)


class IdentityProviderUnavailable(TryAgainLater):
    """The signing keys of session tokens cannot be fetched, so a token can be neither accepted nor rejected."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("Session tokens cannot be verified at the moment; try again shortly", retry_after_seconds)


# --- The operator has to act ------------------------------------------------------------------------------------------


class ConfigurationMissing(BillingError):
    """A setting or secret of the deployment is missing or invalid. Callers get a generic internal error."""


# --- Deliveries of events ---------------------------------------------------------------------------------------------


class SignatureInvalid(BillingError):
    """The signature of a webhook delivery is missing, malformed, wrong or too far from the current time.

    All causes get the same response, except for the message.
    """


class EventUnreadable(BillingError):
    """A payload cannot be processed as an event."""


class EventUnidentified(EventUnreadable):
    """The payload has no usable id, so nothing can be recorded."""


class EventUnprocessable(EventUnreadable):
    """The event has an id, but a required field is missing or has an impossible value."""
