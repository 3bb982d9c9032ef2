"""Customer links on request: which account gets which Stripe customer, and which requests are in conflict."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from billing.domain.accounts import Profile
from billing.domain.deployment import Deployment

OPERATOR_ID_PREFIX = "operator_"
"""Prefix of the event ids of operators' actions. No event of Stripe has it."""
METADATA = "metadata"
"""Origin of a request that comes from the customer's metadata in Stripe. Every other origin has precedence."""


@dataclass(frozen=True, slots=True)
class StripeCustomer:
    """Customer in Stripe, as far as it matters for its account.

    Attributes:
        account_id: Account in its metadata.
        deployment_id: Deployment in its metadata.
        is_deleted: True if the customer was deleted. Its metadata is then unknown.
        missing_metadata: Keys of account and deployment for which its metadata has no value.
    """

    id: str
    account_id: str | None
    deployment_id: str | None
    is_deleted: bool = False
    missing_metadata: tuple[str, ...] = ()


class LinkAction(StrEnum):
    """Action on a customer."""

    CREATED = "created"
    """The account is created with the customer."""
    LINKED = "linked"
    """The account exists without a customer, and gets this one."""
    UNCHANGED = "unchanged"
    """The account already has the customer."""
    SKIPPED = "skipped"
    """The request conflicts with a stored link or with another request."""


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """Request to link a Stripe customer to an account.

    Attributes:
        customer_id: Stripe customer.
        account_id: Account that is to have the customer.
        email: E-mail address of the customer.
        origin: Source of the request: a line of a file, or METADATA.
        confirmed: True if the customer is linked whatever its metadata says.
        missing_metadata: Keys of account and deployment for which the customer's metadata has no value.
    """

    customer_id: str
    account_id: str
    email: str | None
    origin: str
    confirmed: bool = False
    missing_metadata: tuple[str, ...] = ()

    def conflicts_with(self, other: "LinkRequest") -> bool:
        """Return True if this request prevents `other`, which is for the same account.

        A request from metadata does not prevent one from a file.
        """
        return self.customer_id != other.customer_id and (self.origin != METADATA or other.origin == METADATA)


@dataclass(frozen=True, slots=True)
class LinkDecision:
    """Decision on a request; `reason` explains a skipped one."""

    request: LinkRequest
    link: LinkAction
    reason: str | None = None


def decide_link(
    request: LinkRequest, owner: str | None, profile: Profile | None, others: Iterable[LinkRequest]
) -> LinkDecision:
    """Decide on a request. No customer changes its account, and no account gets a second customer.

    Args:
        request: Request to decide on.
        owner: Account to which the customer is linked now.
        profile: Profile of the requested account; None if it is not stored.
        others: All requests for the same account.
    """
    if owner is not None and owner != request.account_id:
        return skip(request, f"it belongs to the account {owner}")
    if owner is not None and profile is not None and profile.customer_id is not None:
        return LinkDecision(request, LinkAction.UNCHANGED)
    if profile is not None and profile.customer_id is not None:
        return skip(request, f"the account {request.account_id} has the customer {profile.customer_id}")
    if request.origin == METADATA and profile is not None and request.customer_id in profile.unlinked_customers:
        return skip(request, f"an operator unlinked it from the account {request.account_id}")
    rivals = sorted({other.customer_id for other in others if other.conflicts_with(request)})
    if rivals:
        return skip(request, f"the account {request.account_id} is also requested for {', '.join(rivals)}")
    return LinkDecision(request, LinkAction.CREATED if profile is None else LinkAction.LINKED)


def find_other_deployment(customer: StripeCustomer, deployment: Deployment) -> str | None:
    """Return why a customer cannot be linked: it belongs to another deployment. None if it does not."""
    if not deployment.excludes(customer.deployment_id):
        return None
    return f"its metadata names the deployment {customer.deployment_id}"


def find_other_account(customer: StripeCustomer, account_id: str) -> str | None:
    """Return why a customer is linked only if an operator insists: its metadata names another account. Else None."""
    if customer.account_id in {None, account_id}:
        return None
    return f"its metadata names the account {customer.account_id}"


def skip(request: LinkRequest, reason: str) -> LinkDecision:
    """Return the decision to skip a request."""
    return LinkDecision(request, LinkAction.SKIPPED, reason)
