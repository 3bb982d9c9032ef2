"""What can go wrong, named for what happened. Which status and code each becomes is a contract's table.

BillingError
├── RequestRefused
│   ├── RequestInvalid          the request itself is wrong; says what and where
│   │   └── IdempotencyKeyInvalid
│   ├── IdempotencyKeyReused    the key of another request
│   ├── Unauthenticated         no credential that counts
│   ├── Forbidden               a credential that counts, for something else
│   │   └── CredentialKindForbidden
│   ├── RouteUnknown            nothing answers at this path
│   ├── MethodNotAllowed        the path exists, with other methods
│   ├── SubscriptionExists      checkout while a subscription grants
│   └── NeverSubscribed         portal without billing history
├── TryAgainLater
│   ├── RateLimited             too many requests of this user, key or account
│   ├── StillRunning            the first request with this idempotency key
│   ├── StripeFailed
│   │   ├── StripeUnavailable   down, slow, rate-limiting: soon worth another try
│   │   └── StripeRefused       answered, and the answer is no use: somebody may have to mend something
│   ├── StoreUnavailable        DynamoDB throttles or does not answer
│   ├── SecretsUnavailable  Secrets Manager throttles or does not answer
│   ├── QueueUnavailable    SQS throttles or does not answer
│   └── IdentityProviderUnavailable   a session token cannot be checked: the keys never came
├── ConfigurationMissing        the deployment lacks something that it cannot work without
├── SignatureInvalid            a webhook delivery that Stripe did not sign, or not now
└── EventUnreadable
    ├── EventUnidentified       no JSON object with an id: nothing can be recorded
    └── EventUnprocessable      an id, but an object that no later try will understand
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

PROBLEMS_MAX = 100


class BillingError(Exception):
    """Everything this product raises on purpose."""


class RequestRefused(BillingError):
    """The caller has to change something before the same request can succeed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request: `path` as the caller wrote it ("success_url"), "" for the whole body."""

    path: str
    message: str


class RequestInvalid(RequestRefused):
    """A body, header or parameter that cannot be accepted."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Take every problem found, not only the first; of very many, the first hundred, each once."""
        self.problems = tuple(dict.fromkeys(problems))[:PROBLEMS_MAX]
        told = (f"{each.path}: {each.message}" if each.path else each.message for each in self.problems)
        super().__init__("; ".join(told))

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """One problem at one place."""
        return cls([Problem(path, message)])


class IdempotencyKeyInvalid(RequestInvalid):
    """An `Idempotency-Key` header that is none."""


class IdempotencyKeyReused(RequestRefused):
    """The key stands for a request with other content; answering that one would not be what was asked."""

    def __init__(self) -> None:
        super().__init__("This idempotency key was used with another request body; use a new key")


class Unauthenticated(RequestRefused):
    """The credential is missing, malformed, unknown, revoked or expired: which of them is never told."""

    def __init__(self, reason: str) -> None:
        """`reason` is for the operator's log alone."""
        self.reason = reason
        super().__init__("Missing, invalid or expired credential")


class Forbidden(RequestRefused):
    """The credential counts, and not for this: another account's path, or the wrong kind of credential."""

    @classmethod
    def for_account(cls) -> "Forbidden":
        """The path names another account than the credential's; whether that one exists is not told."""
        return cls("The credential does not give access to this account")

    @classmethod
    def for_role(cls) -> "Forbidden":
        """The user's role is none of those that may pay."""
        return cls("The user's role does not allow this")


class CredentialKindForbidden(Forbidden):
    """Another kind of credential is needed here."""

    def __init__(self) -> None:
        super().__init__("This kind of credential is not accepted here")


class RouteUnknown(RequestRefused):
    """Nothing is served at this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path}")


class MethodNotAllowed(RequestRefused):
    """The path is served, with other methods (RFC 9110, 15.5.6)."""

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        """`allowed` goes into the `Allow` header."""
        self.allowed = tuple(allowed)
        super().__init__(f"{method} is not allowed here; allowed: {', '.join(allowed)}")


class SubscriptionExists(RequestRefused):
    """A second checkout would be a second subscription, and a second bill."""

    def __init__(self) -> None:
        super().__init__("This account already has a subscription; change or cancel it in the billing portal")


class NeverSubscribed(RequestRefused):
    """There is nothing to show in the portal."""

    def __init__(self) -> None:
        super().__init__("This account has no billing history: it never had a subscription")


class TryAgainLater(BillingError):
    """Nothing was half-done; the same request can succeed after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class RateLimited(TryAgainLater):
    """More requests than the deployment allows a user, a key or an account."""

    def __init__(self, limit: int, retry_after_seconds: int) -> None:
        """`limit`: how many requests the exhausted window has."""
        self.limit = limit
        super().__init__(f"Rate limit exceeded. Try again in {retry_after_seconds} seconds", retry_after_seconds)


class StillRunning(TryAgainLater):
    """The first request with an idempotency key has not been answered yet."""

    def __init__(self) -> None:
        super().__init__("A request with this idempotency key is still running", retry_after_seconds=1)


class StripeFailed(TryAgainLater):
    """A call to Stripe did not bring what was asked for."""

    message = "The payment provider failed"
    default_retry_after_seconds = 30

    def __init__(self, retry_after_seconds: int | None = None) -> None:
        """`retry_after_seconds` is Stripe's own word where it gave one."""
        super().__init__(self.message, retry_after_seconds or self.default_retry_after_seconds)


class StripeUnavailable(StripeFailed):
    """Stripe is unreachable, too slow, or limits our rate."""

    message = "The payment provider cannot be reached at the moment; try again shortly"
    default_retry_after_seconds = 5


class StripeRefused(StripeFailed):
    """Stripe refused our request or answered what cannot be used. The cause is logged, not shown."""

    message = "The payment provider did not accept the request; it has been reported"


class StoreUnavailable(TryAgainLater):
    """DynamoDB throttles, fails or does not answer; nothing was half-written."""

    def __init__(self) -> None:
        super().__init__("The service is busy at the moment; try again shortly", retry_after_seconds=2)


class SecretsUnavailable(TryAgainLater):
    """Secrets Manager throttles or does not answer."""

    def __init__(self) -> None:
        super().__init__("The service is busy; try again shortly", retry_after_seconds=5)


class QueueUnavailable(TryAgainLater):
    """SQS throttles or does not answer."""

    def __init__(self) -> None:
        super().__init__("The service is busy; try again shortly", retry_after_seconds=5)


class IdentityProviderUnavailable(TryAgainLater):
    """The keys that session tokens are signed with cannot be had: whether this one counts is not known."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("Session tokens cannot be checked at the moment; try again shortly", retry_after_seconds)


class ConfigurationMissing(BillingError):
    """Named for the operator; callers see only an internal error."""


class SignatureInvalid(BillingError):
    """Deliberately the same for every way in which a signature can be wrong, but for the words."""


class EventUnreadable(BillingError):
    """A delivery that is signed, and still is no event that can be understood."""


class EventUnidentified(EventUnreadable):
    """There is no id under which anything could be recorded."""


class EventUnprocessable(EventUnreadable):
    """An event whose object has impossible types or lacks what its kind must have."""
