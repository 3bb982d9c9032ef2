"""Which Stripe customer is whose, where somebody says so: what has to be written, and what contradicts itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from billing.domain.accounts import Profile

METADATA = "metadata"
"""The origin of what a customer's metadata in Stripe says. Every other origin counts more."""


class Link(StrEnum):
    """What becomes of a customer."""

    CREATED = "created"
    """Its account is new."""
    LINKED = "linked"
    """Its account was there, without a customer."""
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    """What is wanted contradicts something, or cannot be."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A Stripe customer that is to be an account's. `origin` says who wants it: a line of a file, or METADATA."""

    customer_id: str
    account_id: str
    email: str | None
    origin: str

    def counts_against(self, other: "Wish") -> bool:
        """Whether the other one, for the same account, cannot come true. What only metadata says outdoes no file."""
        return self.customer_id != other.customer_id and (self.origin != METADATA or other.origin == METADATA)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a wish; for one that is skipped, why."""

    wish: Wish
    link: Link
    reason: str | None = None


def decide(wish: Wish, owner: str | None, profile: Profile | None, others: Iterable[Wish]) -> Decision:
    """What becomes of a wish: never another account's customer, never a second customer, never a guess.

    `owner` is whose the customer is by now, `profile` that of the account that is to have it, `others` are all wishes
    for this account.
    """
    if owner is not None and owner != wish.account_id:
        return skip(wish, f"it belongs to the account {owner}")
    if owner is not None and profile is not None and profile.customer_id is not None:
        return Decision(wish, Link.UNCHANGED)
    if profile is not None and profile.customer_id is not None:
        return skip(wish, f"the account {wish.account_id} has the customer {profile.customer_id}")
    rivals = sorted({other.customer_id for other in others if other.counts_against(wish)})
    if rivals:
        return skip(wish, f"the account {wish.account_id} is also to have {', '.join(rivals)}")
    return Decision(wish, Link.CREATED if profile is None else Link.LINKED)


def skip(wish: Wish, reason: str) -> Decision:
    """The decision that a wish does not come true."""
    return Decision(wish, Link.SKIPPED, reason)
