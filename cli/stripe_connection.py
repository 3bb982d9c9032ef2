"""Connection of a command to the stack's Stripe account, and Stripe's errors as errors of the command."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from urllib.parse import urlsplit

import stripe
from requests import RequestException

from billing.adapters.stripe_gateway import StripeGateway, connect, error_code, rate_limited_gateway
from billing.domain.errors import StripeFailed
from cli.errors import CommandFailed
from cli.stack import Stack
from cli.stripe_key import choose_stripe_key

NOT_FOUND = 404
REASON_LENGTH_MAX = 300
"""In characters. A server that is not Stripe may return a whole page."""
QUERY = re.compile(r"\?[^'\s]*")

# Subclasses before their base classes; the last entry is for error types that Stripe adds.
ERROR_OF_TYPE: tuple[tuple[type[stripe.StripeError], str, str], ...] = (
    (
        stripe.AuthenticationError,
        "stripe_key",
        "Stripe does not know this API key, or it was deleted: check STRIPE_API_KEY.",
    ),
    (stripe.PermissionError, "stripe_permission", "This API key lacks a permission: {reason}"),
    (stripe.RateLimitError, "stripe_throttled", "Stripe is limiting the rate of calls: try again in a minute."),
    (
        stripe.APIConnectionError,
        "stripe_unreachable",
        "Stripe cannot be reached: check the network and STRIPE_API_BASE. ({reason})",
    ),
    (stripe.InvalidRequestError, "stripe_refused", "Stripe rejected a request: {reason}"),
    (stripe.StripeError, "stripe_failed", "Stripe failed: run the command again to continue. ({reason})"),
)

ERROR_OF_CODE = {
    "api_key_expired": CommandFailed(
        "stripe_key_expired",
        "This Stripe API key has expired: create a key in Stripe's Dashboard, set STRIPE_API_KEY to it and run "
        "`billing setup`.",
    ),
    "secret_key_required": CommandFailed(
        "stripe_key", "Stripe needs a secret or restricted key (sk_…, rk_…) in STRIPE_API_KEY, not a publishable key."
    ),
}
ERROR_OF_CODE["platform_api_key_expired"] = ERROR_OF_CODE["api_key_expired"]


def api_base(stack: Stack) -> str | None:
    """Return the address of another Stripe: STRIPE_API_BASE, else the stack's; None for Stripe itself."""
    return os.environ.get("STRIPE_API_BASE") or stack.stripe_api_base


def connect_client(stack: Stack) -> stripe.StripeClient:
    """Return a client of the stack's Stripe account. Raises CommandFailed."""
    return connect(_key(stack), api_base(stack))


def connect_gateway(stack: Stack) -> StripeGateway:
    """Return a gateway that leaves most of Stripe's rate limit to the deployment. Raises CommandFailed."""
    return rate_limited_gateway(_key(stack), api_base(stack))


def _key(stack: Stack) -> str:
    return choose_stripe_key(stack, stack.load_secret(stack.stripe_secret_arn))


@contextmanager
def map_stripe_errors() -> Iterator[None]:
    """Raise CommandFailed for each error of Stripe."""
    try:
        yield
    except stripe.StripeError as error:
        raise map_stripe_error(error) from error
    except StripeFailed as error:
        raise _map_failure(error) from error


def describe_failure(error: StripeFailed) -> str:
    """Return the message of the command's error for a failed call."""
    return _map_failure(error).message


def _map_failure(error: StripeFailed) -> CommandFailed:
    if isinstance(error.__cause__, stripe.StripeError):
        return map_stripe_error(error.__cause__)
    return CommandFailed("stripe_failed", "Stripe sent an invalid response: check STRIPE_API_BASE.")


def map_stripe_error(error: stripe.StripeError) -> CommandFailed:
    """Return the command's error for an error of the SDK: by Stripe's code, else by class."""
    if known := ERROR_OF_CODE.get(error_code(error) or ""):
        return known
    code, message = next((code, message) for kind, code, message in ERROR_OF_TYPE if isinstance(error, kind))
    reason = _network_reason(error) if isinstance(error, stripe.APIConnectionError) else error.user_message or error
    return CommandFailed(code, message.format(reason=shorten(str(reason), REASON_LENGTH_MAX, placeholder="…")))


def _network_reason(error: stripe.APIConnectionError) -> str:
    """Return the host and the cause. The SDK's own message has the whole query and the address of Stripe's support."""
    if not isinstance(error.__cause__, RequestException):
        return str(error.user_message or error)
    [cause, *_] = (*error.__cause__.args, "")
    reason = QUERY.sub("", str(getattr(cause, "reason", cause)).rpartition("): ")[2])
    request = error.__cause__.request
    return f"{urlsplit(str(request.url)).netloc}: {reason}" if request else reason
