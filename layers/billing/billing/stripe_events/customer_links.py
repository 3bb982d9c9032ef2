"""Which Stripe customer is whose, where somebody says so: what has to be written, and what contradicts itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from billing.domain.accounts import Profile

METADATA = "metadata"
"""The origin of what a customer's metadata in Stripe says. Every other origin counts more."""


class LinkAction(StrEnum):
    """What becomes of a customer."""

    CREATED = "created"
    """Its account is new."""
    LINKED = "linked"
    """Its account was there, without a customer."""
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    """What is wanted contradicts something, or cannot be."""


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """A Stripe customer that is to be an account's. `origin` says who wants it: a line of a file, or METADATA."""

    customer_id: str
    account_id: str
    email: str | None
    origin: str

    def conflicts_with(self, other: "LinkRequest") -> bool:
        """Whether the other one, for the same account, cannot come true. What only metadata says outdoes no file."""
        return self.customer_id != other.customer_id and (self.origin != METADATA or other.origin == METADATA)


@dataclass(frozen=True, slots=True)
class LinkDecision:
    """What becomes of a wish; for one that is skipped, why."""

    request: LinkRequest
    link: LinkAction
    reason: str | None = None


def decide_link(
    request: LinkRequest, owner: str | None, profile: Profile | None, others: Iterable[LinkRequest]
) -> LinkDecision:
    """What becomes of a wish: never another account's customer, never a second customer, never a guess.

    `owner` is whose the customer is by now, `profile` that of the account that is to have it, `others` are all wishes
    for this account.
    """
    if owner is not None and owner != request.account_id:
        return skip(request, f"it belongs to the account {owner}")
    if owner is not None and profile is not None and profile.customer_id is not None:
        return LinkDecision(request, LinkAction.UNCHANGED)
    if profile is not None and profile.customer_id is not None:
        return skip(request, f"the account {request.account_id} has the customer {profile.customer_id}")
    rivals = sorted({other.customer_id for other in others if other.conflicts_with(request)})
    if rivals:
        return skip(request, f"the account {request.account_id} is also to have {', '.join(rivals)}")
    return LinkDecision(request, LinkAction.CREATED if profile is None else LinkAction.LINKED)


def skip(request: LinkRequest, reason: str) -> LinkDecision:
    """The decision that a wish does not come true."""
    return LinkDecision(request, LinkAction.SKIPPED, reason)
