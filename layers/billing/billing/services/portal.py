"""Billing portal: Stripe's page for plan, payment method, invoices and cancellation."""

from dataclasses import dataclass

from billing.adapters.stripe_gateway import StripeGateway
from billing.domain.accounts import Account
from billing.domain.errors import CustomerGone, StripeRefused


@dataclass(frozen=True, slots=True)
class Portal:
    """Creates billing portal sessions."""

    gateway: StripeGateway

    def open(self, account: Account, return_url: str, idempotency_key: str | None) -> str:
        """Return the URL of a billing portal session.

        A customer that was deleted in Stripe is skipped. The event of its deletion may have been lost.

        Raises:
            NeverSubscribed: The account never had a subscription.
            CustomerGone: Stripe no longer has a customer of the account.
            StripeUnavailable: Stripe is unavailable.
            StripeRefused: Stripe rejected the request for a customer that exists.
        """
        for customer_id in account.customers_with_history():
            try:
                return self.gateway.create_portal_session(customer_id, return_url, idempotency_key)
            except StripeRefused:
                if not self.gateway.is_customer_deleted(customer_id):
                    raise
        raise CustomerGone
