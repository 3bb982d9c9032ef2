"""Which Stripe customer is whose, where somebody says so: what has to be written, and what contradicts itself."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from billing.domain.accounts import Profile


class Link(StrEnum):
    """What becomes of a customer."""

    CREATED = "created"
    """Its account is new."""
    LINKED = "linked"
    """Its account was there, without a customer."""
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Wish:
    """A Stripe customer that is to be an account's. `origin` says who wants it: a line of a file, or its metadata."""

    customer_id: str
    account_id: str
    email: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a wish, and for a conflict why."""

    wish: Wish
    link: Link
    reason: str | None = None


def decide(wish: Wish, owner: str | None, profile: Profile | None, rivals: Collection[str]) -> Decision:
    """What becomes of a wish: never another account's customer, never a second customer, never a guess.

    `owner` is whose the customer is by now, `profile` that of the account that is to have it, `rivals` are all the
    customers that this account is to have.
    """
    if owner is not None and owner != wish.account_id:
        return _conflict(wish, f"it belongs to the account {owner}")
    if owner is not None and profile is not None and profile.customer_id is not None:
        return Decision(wish, Link.UNCHANGED)
    if profile is not None and profile.customer_id is not None:
        return _conflict(wish, f"the account {wish.account_id} has the customer {profile.customer_id}")
    others = sorted({*rivals} - {wish.customer_id})
    if others:
        return _conflict(wish, f"the account {wish.account_id} is also to have {', '.join(others)}")
    return Decision(wish, Link.CREATED if profile is None else Link.LINKED)


def _conflict(wish: Wish, reason: str) -> Decision:
    return Decision(wish, Link.CONFLICT, reason)
