"""Billing portal: sessions for a Stripe customer."""

from contextlib import nullcontext
from dataclasses import dataclass

from billing.adapters.repository import Repository
from billing.adapters.stripe_gateway import StripeGateway
from billing.domain.accounts import Profile
from billing.services.idempotency_keys import next_key_after_error


@dataclass(frozen=True, slots=True)
class Portal:
    """Creates billing portal sessions."""

    repository: Repository
    gateway: StripeGateway

    def open(
        self,
        profile: Profile,
        customer_id: str,
        return_url: str,
        request_key: str | None,
        configuration: str | None = None,
    ) -> str:
        """Return the URL of a portal session.

        Args:
            profile: Profile of the account.
            customer_id: Stripe customer of the account.
            return_url: Address that the portal links back to.
            request_key: `Idempotency-Key` of the request, if it has one. Stripe's key is derived from it.
            configuration: Id of the portal configuration; None for the default one.

        Raises:
            StripeUnavailable: Stripe is unavailable.
            StripeRefused: Stripe rejected the request.
        """
        key = f"{profile.version}-{request_key}" if request_key else None
        with next_key_after_error(self.repository, profile) if key else nullcontext():
            return self.gateway.create_portal_session(customer_id, return_url, key, configuration)
