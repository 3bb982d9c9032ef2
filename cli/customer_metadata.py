"""Metadata of linked customers in Stripe: account and deployment, by which other deployments leave them alone."""

from typing import TYPE_CHECKING

from billing.domain.errors import StripeFailed
from billing.stripe_events.objects import identity_metadata
from cli.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from billing.adapters.stripe_gateway import StripeGateway


def add_missing_metadata(
    gateway: "StripeGateway", customer_id: str, account_id: str, deployment_id: str, missing: "Iterable[str]"
) -> None:
    """Write the missing keys of account and deployment. Values that the customer has are kept.

    Raises:
        CommandFailed: Stripe failed or rejected the request.
    """
    from billing.services.reconciler import retry_stripe  # noqa: PLC0415 - imports stripe
    from cli.stripe_connection import describe_failure  # noqa: PLC0415 - imports stripe

    identity = identity_metadata(account_id, deployment_id)
    metadata = {key: identity[key] for key in missing}
    if not metadata:
        return
    try:
        retry_stripe(lambda: gateway.add_customer_metadata(customer_id, metadata))
    except StripeFailed as error:
        raise CommandFailed(
            "customer_not_marked",
            f"The customer {customer_id} is linked to {account_id}, but its metadata could not be written "
            f"({', '.join(f'{key}={value}' for key, value in metadata.items())}). {describe_failure(error)} "
            "Then run the command again to continue.",
        ) from error
