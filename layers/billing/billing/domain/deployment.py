"""Deployment: one stack, as it identifies itself in Stripe."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deployment:
    """Identity and scope of a deployment.

    Several deployments may use one Stripe account. Each one ignores the objects of the others.

    Attributes:
        id: Value of `metadata.billing_deployment` on the objects that the deployment creates in Stripe.
        livemode: True for Stripe's live mode, False for test mode.
        links_by_client_reference: True if the `client_reference_id` of a completed Checkout Session names the account
            of a new customer.
    """

    id: str
    livemode: bool
    links_by_client_reference: bool = False

    def excludes(self, deployment_id: str | None) -> bool:
        """Return True if an object whose metadata names `deployment_id` belongs to another deployment.

        An object without a name, for example from Stripe's Dashboard, is not excluded.
        """
        return deployment_id not in {None, self.id}
