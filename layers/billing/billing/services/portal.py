"""Billing portal: Stripe's page for plan, payment method, invoices and cancellation."""

from contextlib import nullcontext
from dataclasses import dataclass

from billing.adapters.repository import Repository
from billing.adapters.stripe_gateway import StripeGateway
from billing.domain.accounts import Account
from billing.domain.errors import CustomerGone, StripeFailed, StripeRefused
from billing.services.idempotency_keys import next_key_after_error


@dataclass(frozen=True, slots=True)
class Portal:
    """Creates billing portal sessions."""

    repository: Repository
    gateway: StripeGateway

    def open(self, account: Account, return_url: str, request_key: str | None, configuration: str | None = None) -> str:
        """Return the URL of a billing portal session.

        A customer that was deleted in Stripe is skipped. The event of its deletion may have been lost.

        Args:
            account: Account whose billing history is shown.
            return_url: Address that the portal links back to.
            request_key: `Idempotency-Key` of the request, if it has one. Stripe's key is derived from it.
            configuration: Id of the portal configuration; None for the default one.

        Raises:
            NeverSubscribed: No subscription of the account is stored.
            CustomerGone: Stripe no longer has a customer of the account.
            StripeUnavailable: Stripe is unavailable.
            StripeRefused: Stripe rejected the request for a customer that exists.
        """
        profile = account.profile
        key = f"{profile.version}-{request_key}" if request_key else None
        with next_key_after_error(self.repository, profile) if key else nullcontext():
            for customer_id in account.customers_with_history():
                try:
                    return self.gateway.create_portal_session(customer_id, return_url, key, configuration)
                except StripeRefused:
                    if not self._is_known_as_deleted(customer_id):
                        raise
        raise CustomerGone

    def _is_known_as_deleted(self, customer_id: str) -> bool:
        """Return True if Stripe shows that a customer was deleted. If Stripe fails, the refusal before it stands."""
        try:
            return self.gateway.is_customer_deleted(customer_id)
        except StripeFailed:
            return False
