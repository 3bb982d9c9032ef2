"""Account matching: the account of an event, and the event's effect on the account's profile."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from billing.domain.accounts import Profile
from billing.domain.deployment import Deployment
from billing.domain.plans import Catalog
from billing.domain.subscriptions import Subscription
from billing.stripe_events.customer_links import StripeCustomer
from billing.stripe_events.event_types import EventOutcome, ParsedEvent, Snapshot


@dataclass(frozen=True, slots=True)
class AccountMatch:
    """The account that an event belongs to.

    Attributes:
        profile: Profile of the account.
        assigns_customer: True if the event's customer becomes the account's first one.
        metadata_conflicts: True if the metadata names another account. An operator has to correct it.
        named: Profile of that other account; None if it is not stored.
    """

    profile: Profile
    assigns_customer: bool = False
    metadata_conflicts: bool = False
    named: Profile | None = None


def match_account(parsed: ParsedEvent, owner: str | None, profile: Profile | None) -> AccountMatch | EventOutcome:
    """Return the account that an event belongs to.

    The stored link of the customer has precedence. Metadata is only a hint, because everybody with access to the Stripe
    Dashboard can edit it. docs/reference/event-outcomes.md#account-matching lists the cases.

    `owner` and `profile` are not read at the same moment. If the profile has the customer but `owner` is None, the link
    was created in between.

    Args:
        parsed: Content of the event.
        owner: Account to which the customer is linked.
        profile: Profile of `owner`, or else of the account in the metadata; None if it is not stored.

    Returns:
        The account, or the outcome of an event that belongs to none.
    """
    if profile is None:
        return EventOutcome.UNKNOWN_CUSTOMER
    if owner is not None or profile.customer_id == parsed.customer_id:
        is_confirmed = parsed.customer_id in profile.confirmed_customers
        names_another = parsed.account_id not in {None, profile.account_id}
        return AccountMatch(profile, metadata_conflicts=names_another and not is_confirmed)
    if parsed.customer_deleted or parsed.customer_id in profile.unlinked_customers:
        return EventOutcome.UNKNOWN_CUSTOMER
    if profile.customer_id is not None:
        return EventOutcome.CUSTOMER_CONFLICT
    return AccountMatch(profile, assigns_customer=True)


def names_unlinked_customer(matched: AccountMatch | EventOutcome) -> bool:
    """Return True if an object names an account, and its customer would be linked to it or is in conflict with it."""
    assigns_customer = isinstance(matched, AccountMatch) and matched.assigns_customer
    return assigns_customer or matched is EventOutcome.CUSTOMER_CONFLICT


def requires_customer(parsed: ParsedEvent, matched: AccountMatch | EventOutcome) -> bool:
    """Return True if the customer in Stripe has to be read, because it may belong to another deployment.

    An object that names no deployment, for example from Stripe's Dashboard, may belong to another deployment's
    customer. A customer that an account already has does not.
    """
    return parsed.deployment_id is None and names_unlinked_customer(matched)


def find_unlinkable_outcome(customer: StripeCustomer | None, deployment: Deployment) -> EventOutcome | None:
    """Return the outcome of an object whose customer cannot be linked; None if the customer can be linked.

    A deleted customer has no metadata, so it may have been another deployment's. Its subscriptions have ended. The same
    is true of a customer that Stripe does not have.

    Args:
        customer: Customer in Stripe; None if Stripe returns 404.
        deployment: Deployment that processes the object.
    """
    if customer is None or customer.is_deleted:
        return EventOutcome.UNKNOWN_CUSTOMER
    return EventOutcome.IGNORED if deployment.excludes(customer.deployment_id) else None


def find_conflict(
    matched: AccountMatch, subscription: Subscription, account_id: str | None, stored: Snapshot | None
) -> str | None:
    """Return the other account that a subscription may belong to, so that its plan is not granted.

    A conflict that was stored lasts while the metadata names the same account, even if that account gets a customer.

    Args:
        matched: Account of the subscription's customer, and the account that the metadata names.
        subscription: State from Stripe.
        account_id: Account in the subscription's own metadata.
        stored: Content of the row; None if no row is stored.

    Returns:
        The id of the other account. None if there is no conflict, or if an operator confirmed the customer.
    """
    owner = matched.profile
    if account_id in {None, owner.account_id} or subscription.customer_id in owner.confirmed_customers:
        return None
    if isinstance(stored, Subscription) and stored.conflicting_account_id == account_id:
        return account_id
    has_no_customer = matched.named is not None and matched.named.customer_id is None
    return account_id if has_no_customer else None


def profile_after(matched: AccountMatch, parsed: ParsedEvent, written: Sequence[Snapshot], catalog: Catalog) -> Profile:
    """Return the account's profile after an event.

    A deleted customer always causes a write, even of an unchanged profile. The profile may have been read just before
    the customer was linked.

    Args:
        matched: Account of the event.
        parsed: Content of the event.
        written: Content of the rows that the event changes.
        catalog: Plans, which decide the subscriptions of ours.

    Returns:
        The new profile, or the same object if it is not to be written.
    """
    profile = matched.profile
    if matched.assigns_customer:
        profile = replace(profile, customer_id=parsed.customer_id)
    if parsed.customer_deleted:
        is_current = profile.customer_id == parsed.customer_id
        profile = replace(profile, customer_id=None if is_current else profile.customer_id)
    if profile.open_checkout and profile.open_checkout.session_id == parsed.ended_checkout_id:
        profile = replace(profile, open_checkout=None)
    subscriptions = [each for each in written if isinstance(each, Subscription)]
    if not profile.trial_used and any(each.trial_end and each.ours(catalog) for each in subscriptions):
        profile = replace(profile, trial_used=True)
    live_ids = _live_subscription_ids(profile, subscriptions, catalog)
    # An end is always written: the profile may have been read before another event stored the subscription as live.
    if live_ids != profile.live_subscription_ids or not all(each.live for each in subscriptions):
        profile = replace(profile, live_subscription_ids=live_ids)
    return profile


def _live_subscription_ids(profile: Profile, written: Sequence[Subscription], catalog: Catalog) -> tuple[str, ...]:
    others = {*profile.live_subscription_ids} - {each.id for each in written}
    return tuple(sorted(others | {each.id for each in written if each.live and each.ours(catalog)}))
