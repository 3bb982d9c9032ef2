"""What an event changes besides the rows it is about: whose it is, and what the account itself remembers of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from billing.domain.accounts import Profile
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import EventOutcome, ParsedEvent, Snapshot


@dataclass(frozen=True, slots=True)
class AccountMatch:
    """Whose an event is. `links_customer`: the account gets its first customer by it. `disagrees`: for the operator."""

    profile: Profile
    assigns_customer: bool = False
    metadata_conflicts: bool = False


def match_account(parsed: ParsedEvent, owner: str | None, profile: Profile | None) -> AccountMatch | EventOutcome:
    """The account an event belongs to, or the outcome of an event that belongs to none.

    `owner` is the account its customer is stored with, `profile` that of `owner`, or else of the account it names.
    The stored customer counts; metadata is a hint that anybody with a Stripe login can edit. `owner` and `profile` are
    not read at one moment: a profile that has the customer tells of a link made in between.
    """
    if profile is None:
        return EventOutcome.UNKNOWN_CUSTOMER
    if owner is not None or profile.customer_id == parsed.customer_id:
        return AccountMatch(profile, metadata_conflicts=parsed.account_id not in {None, profile.account_id})
    if parsed.customer_deleted:
        return EventOutcome.UNKNOWN_CUSTOMER
    if profile.customer_id is not None:
        return EventOutcome.CUSTOMER_CONFLICT
    return AccountMatch(profile, assigns_customer=True)


def profile_after(matched: AccountMatch, parsed: ParsedEvent, written: Iterable[Snapshot]) -> Profile:
    """The account's profile after an event; the same object if the event says nothing of it.

    That a customer is gone is always written: the profile may have been read just before that customer was linked.
    """
    profile = matched.profile
    if matched.assigns_customer:
        profile = replace(profile, customer_id=parsed.customer_id)
    if parsed.customer_deleted:
        is_its_own = profile.customer_id == parsed.customer_id
        profile = replace(profile, customer_id=None if is_its_own else profile.customer_id)
    if profile.open_checkout and profile.open_checkout.session_id == parsed.ends_checkout:
        profile = replace(profile, open_checkout=None)
    if not profile.trial_used and any(isinstance(each, Subscription) and each.trial_end for each in written):
        profile = replace(profile, trial_used=True)
    return profile
