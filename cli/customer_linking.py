"""Customer links of an account: link, take over and unlink a Stripe customer."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.adapters.repository import ProcessedEvent, Repository, VersionConflict
from billing.domain.accounts import Profile
from billing.stripe_events.customer_links import (
    OPERATOR_ID_PREFIX,
    StripeCustomer,
    find_other_account,
    find_other_deployment,
)
from billing.stripe_events.event_types import EventOutcome, Snapshot
from billing.stripe_events.ordering import StoredObject
from cli.errors import CommandFailed
from cli.output import suppress_logs
from cli.stack import Stack, load_existing_account

LINKED = "operator.customer_linked"
"""Type of the audit entry of a link."""
UNLINKED = "operator.customer_unlinked"
"""Type of the audit entry of an unlinking."""


@dataclass(frozen=True, slots=True)
class AccountLink:
    """Request to link a Stripe customer to an account.

    Attributes:
        profile: Profile of the account.
        takes_over: True if the customer is linked although its metadata names another account. It also ends the
            conflicts of subscriptions whose metadata names another account.
    """

    stack: Stack
    profile: Profile
    customer_id: str
    takes_over: bool

    @classmethod
    def load(cls, stack: Stack, account_id: str, customer_id: str, *, takes_over: bool) -> "AccountLink":
        """Load the account of a request. Raises CommandFailed if the account does not exist."""
        profile = load_existing_account(stack.repository(), account_id).profile
        return cls(stack, profile, customer_id, takes_over)

    def outcome(self) -> str:
        """Return what the request changes.

        Returns:
            `linked`, `confirmed` if only the confirmation is new, or `unchanged`.

        Raises:
            CommandFailed: The customer belongs to another account or deployment, does not exist, was deleted, or names
                another account without `takes_over`.
        """
        owner = _find_owner(self.stack.repository(), self.customer_id)
        if owner not in {None, self.profile.account_id}:
            raise CommandFailed(
                "customer_taken",
                f"The customer {self.customer_id} belongs to the account {owner}: to move it, first run "
                f"`billing accounts unlink {owner} {self.customer_id}`.",
            )
        if owner is not None and self.profile.customer_id == self.customer_id:
            is_new = self.takes_over and self.customer_id not in self.profile.confirmed_customers
            return "confirmed" if is_new else "unchanged"
        self._require_linkable(_find_customer(self.stack, self.customer_id), is_own=owner is not None)
        return "linked"

    def save(self) -> None:
        """Write the link with its audit entry. Raises CommandFailed if the account changed meanwhile."""
        linked = self.profile.with_customer(self.customer_id, confirmed=self.takes_over)
        takes_over = "; taken over, whatever its metadata says" if self.takes_over else ""
        reason = f"linked by an operator; the customer before: {self.profile.customer_id or 'none'}{takes_over}"
        entry = audit_entry(self.profile.account_id, self.customer_id, LINKED, reason)
        try:
            self.stack.repository().save_profile(linked, new_customer_id=self.customer_id, audit_entry=entry)
        except VersionConflict as error:
            raise _account_changed(self.profile.account_id) from error

    def _require_linkable(self, customer: StripeCustomer, *, is_own: bool) -> None:
        elsewhere = find_other_deployment(customer, self.stack.deployment)
        if elsewhere:
            raise CommandFailed(
                "customer_of_other_deployment",
                f"The customer {customer.id} cannot be linked: {elsewhere}. If that is wrong, correct "
                "metadata.billing_deployment in Stripe.",
            )
        contradiction = find_other_account(customer, self.profile.account_id)
        is_confirmed = self.takes_over or is_own or customer.id in self.profile.confirmed_customers
        if contradiction and customer.account_id and not is_confirmed:
            repository = self.stack.repository()
            named = _describe_account(repository, customer.account_id)
            wanted = _describe_account(repository, self.profile.account_id)
            raise CommandFailed(
                "customer_of_other_account",
                f"The customer {customer.id} was not linked: {contradiction}. {named} {wanted} Correct "
                "metadata.account_id in Stripe, or use --take-over to link it to "
                f"{self.profile.account_id} all the same.",
            )


@dataclass(frozen=True, slots=True)
class AccountUnlink:
    """Request to unlink a customer from an account.

    Attributes:
        profile: Profile of the account.
        rows: The customer's subscriptions and invoices that are stored for the account.
        is_linked: False if an earlier run removed the link and was interrupted before it deleted all rows.
    """

    stack: Stack
    profile: Profile
    customer_id: str
    rows: Sequence[StoredObject[Snapshot]]
    is_linked: bool

    @classmethod
    def load(cls, stack: Stack, account_id: str, customer_id: str) -> "AccountUnlink":
        """Load what a request changes. Raises CommandFailed if the customer is not the account's."""
        repository = stack.repository()
        profile = load_existing_account(repository, account_id).profile
        owner = _find_owner(repository, customer_id)
        if owner != account_id and (owner is not None or customer_id not in profile.unlinked_customers):
            of_other = f": it belongs to {owner}" if owner else ""
            raise CommandFailed(
                "customer_not_linked",
                f"The customer {customer_id} is not linked to the account {account_id}{of_other}. "
                f"See `billing accounts show {account_id}`.",
            )
        rows = repository.find_rows_of_customer(account_id, customer_id)
        return cls(stack, profile, customer_id, rows, is_linked=owner == account_id)

    def save(self) -> None:
        """Remove the link, then the rows. Raises CommandFailed if the account changed meanwhile.

        The account's open Checkout Session is expired first, because its payment would have no account.
        """
        repository, account_id = self.stack.repository(), self.profile.account_id
        reason = f"unlinked by an operator; removed subscriptions and invoices: {len(self.rows)}"
        entry = audit_entry(account_id, self.customer_id, UNLINKED, reason)
        try:
            if self.is_linked:
                self._expire_checkout()
                unlinked = self.profile.without_customer(self.customer_id, {row.content.id for row in self.rows})
                repository.unlink_customer(unlinked, self.customer_id, entry)
            # Rows that were written meanwhile are included.
            repository.delete_rows(account_id, repository.find_rows_of_customer(account_id, self.customer_id))
        except VersionConflict as error:
            raise _account_changed(account_id) from error

    def _expire_checkout(self) -> None:
        checkout = self.profile.open_checkout
        if checkout is None or self.profile.customer_id != self.customer_id:
            return
        from cli.stripe_connection import connect_gateway, map_stripe_errors  # noqa: PLC0415 - imports stripe

        with suppress_logs(), map_stripe_errors():
            connect_gateway(self.stack).expire_checkout_session(checkout.session_id)


def audit_entry(account_id: str, customer_id: str, event_type: str, reason: str) -> ProcessedEvent:
    """Return the entry about an operator's action in the account's events."""
    now = datetime.now(UTC)
    return ProcessedEvent(
        event_id=f"{OPERATOR_ID_PREFIX}{secrets.token_hex(8)}",
        type=event_type,
        outcome=EventOutcome.APPLIED,
        processed=now,
        created=now,
        account_id=account_id,
        customer_id=customer_id,
        reason=reason,
    )


def _find_owner(repository: Repository, customer_id: str) -> str | None:
    return repository.find_owners([customer_id]).get(customer_id)


def _find_customer(stack: Stack, customer_id: str) -> StripeCustomer:
    """Return a customer that exists in Stripe. Raises CommandFailed."""
    from cli.stripe_connection import connect_gateway, map_stripe_errors  # noqa: PLC0415 - imports stripe

    with suppress_logs(), map_stripe_errors():
        customer = connect_gateway(stack).find_customer(customer_id)
    if customer is None:
        mode = "live" if stack.livemode else "test"
        raise CommandFailed(
            "customer_not_found",
            f"Stripe has no customer {customer_id} in {mode} mode: check the id and the mode of the Stripe key.",
        )
    if customer.is_deleted:
        raise CommandFailed(
            "customer_deleted", f"The customer {customer_id} was deleted in Stripe: choose another customer."
        )
    return customer


def _describe_account(repository: Repository, account_id: str) -> str:
    """Return one sentence about an account: its customer and its subscriptions."""
    account = repository.load_account(account_id)
    if account.profile.version == 0:
        return f"{account_id} does not exist."
    live = [each.id for each in account.subscriptions if not each.has_ended]
    subscriptions = f"live subscriptions: {', '.join(live)}" if live else "no live subscription"
    return f"{account_id} has {_customer(account.profile)} and {subscriptions}."


def _customer(profile: Profile) -> str:
    return f"the customer {profile.customer_id}" if profile.customer_id else "no customer"


def _account_changed(account_id: str) -> CommandFailed:
    return CommandFailed(
        "account_changed", f"The account {account_id} changed while the command ran: run the command again."
    )
