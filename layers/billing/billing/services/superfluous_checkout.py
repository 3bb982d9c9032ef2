"""Superfluous Checkout Sessions: still open although the account has got a live subscription by another way.

If the customer paid on such a page, the account would be billed for two subscriptions.
"""

from typing import TYPE_CHECKING

from billing.domain.accounts import Profile

if TYPE_CHECKING:
    from billing.adapters.stripe_gateway import StripeGateway


def expire_superfluous_checkout(gateway: "StripeGateway", profile: Profile) -> bool:
    """Expire the superfluous Checkout Session of a profile.

    | session in Stripe | result |
    |---|---|
    | open | it is expired: True. If Stripe refuses, StripeRefused |
    | expired or unknown | True |
    | complete, and its subscription is one of the live ones | True |
    | complete, and its subscription is not stored yet | False: its own event removes the session |

    Returns:
        True if the profile no longer needs the session.

    Raises:
        StripeFailed: Stripe is unavailable or rejected a request. The session may still be open.
    """
    checkout = profile.superfluous_checkout
    if checkout is None:
        return False
    session = gateway.find_checkout_session(checkout.session_id)
    if session is not None and session.status == "open":
        session = gateway.expire_checkout_session(checkout.session_id)
    if session is None or session.status == "expired":
        return True
    return session.status == "complete" and session.subscription_id in profile.live_subscription_ids
