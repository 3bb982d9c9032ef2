"""Customer links of an account: link, take over and unlink a Stripe customer."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from billing.adapters.repository import ProcessedEvent, Repository, VersionConflict
from billing.catalog import load_catalog
from billing.domain.accounts import OpenCheckout, Profile
from billing.domain.errors import StripeRefused
from billing.domain.subscriptions import Subscription
from billing.stripe_events.customer_links import (
    OPERATOR_ID_PREFIX,
    StripeCustomer,
    find_other_account,
    find_other_deployment,
)
from billing.stripe_events.event_types import EventOutcome, Snapshot
from billing.stripe_events.ordering import StoredObject
from cli.customer_metadata import add_missing_metadata
from cli.errors import CommandFailed
from cli.output import suppress_logs
from cli.stack import Stack, load_existing_account

if TYPE_CHECKING:
    from billing.adapters.stripe_gateway import StripeGateway
    from cli.reconcile_runner import LoadedObjects

LINKED = "operator.customer_linked"
"""Type of the audit entry of a link."""
UNLINKED = "operator.customer_unlinked"
"""Type of the audit entry of an unlinking."""
UNCHANGED = "unchanged"
"""Outcome of a command that had nothing to do."""


@dataclass(frozen=True, slots=True)
class AccountLink:
    """Link of a Stripe customer to an account.

    Every step can be repeated. If a run was interrupted, the next one continues.

    Attributes:
        profile: Profile of the account.
        customer: Customer in Stripe.
        takes_over: True if the customer is linked although its metadata names another account. It also ends the
            conflicts of subscriptions whose metadata names another account.
        outcome: `linked`, `confirmed` if only the confirmation is new, or `unchanged`.
        others: Live subscriptions of ours that the account has with other customers.
    """

    stack: Stack
    gateway: "StripeGateway"
    profile: Profile
    customer: StripeCustomer
    takes_over: bool
    outcome: str
    others: Sequence[Subscription]

    @classmethod
    def load(cls, stack: Stack, account_id: str, customer_id: str, *, takes_over: bool) -> "AccountLink":
        """Load the account and the customer, and decide what changes.

        Raises:
            CommandFailed: The account does not exist. Or the customer belongs to another account or deployment, does
                not exist, was deleted, or names another account without `takes_over`.
        """
        repository = stack.repository()
        account = load_existing_account(repository, account_id)
        profile = account.profile
        owner = _find_owner(repository, customer_id)
        if owner not in {None, account_id}:
            raise CommandFailed(
                "customer_taken",
                f"The customer {customer_id} belongs to the account {owner}: to move it, first run "
                f"`billing accounts unlink {owner} {customer_id}`.",
            )
        is_current = owner is not None and profile.customer_id == customer_id
        is_new = not is_current or (takes_over and customer_id not in profile.confirmed_customers)
        outcome = UNCHANGED if not is_new else "confirmed" if is_current else "linked"
        gateway, customer = _find_customer(stack, customer_id)
        live = _live_subscriptions(account.subscriptions)
        others = [each for each in live if each.customer_id != customer_id]
        link = cls(stack, gateway, profile, customer, takes_over, outcome, others)
        if not is_current:
            link._require_linkable(is_own=owner is not None)
        return link

    def save(self) -> None:
        """Write the link with its audit entry. The open Checkout Session of another customer is expired first.

        Raises:
            CommandFailed: The account changed meanwhile, or Stripe did not expire the session.
        """
        if self.outcome == UNCHANGED:
            return
        customer_id = self.customer.id
        checkout = _end_checkout(self.stack, self.profile, lambda owner: owner != customer_id, keeps_paid=True)
        linked = replace(self.profile.with_customer(customer_id, confirmed=self.takes_over), open_checkout=checkout)
        takes_over = "; taken over, whatever its metadata says" if self.takes_over else ""
        reason = f"linked by an operator; the customer before: {self.profile.customer_id or 'none'}{takes_over}"
        entry = audit_entry(self.profile.account_id, customer_id, LINKED, reason)
        try:
            self.stack.repository().save_profile(linked, new_customer_id=customer_id, audit_entry=entry)
        except VersionConflict as error:
            raise _account_changed(self.profile.account_id) from error

    def load_objects(self, *, dry_run: bool) -> "LoadedObjects":
        """Store the customer's subscriptions and invoices, so that checkout does not sell a second subscription.

        A dry run compares them as if the link was stored.

        Raises:
            CommandFailed: Stripe failed or rejected a list. The link is stored all the same.
        """
        from billing.services.reconciler import LinkPolicy, ReconcileOptions, Reconciler  # noqa: PLC0415 - imports stripe
        from cli.reconcile_runner import load_customer  # noqa: PLC0415 - imports stripe

        account_id, customer_id = self.profile.account_id, self.customer.id
        options = ReconcileOptions(account_id, dry_run=dry_run)
        links = LinkPolicy(assigns_customers=False, planned={customer_id: account_id})
        repository, deployment = self.stack.repository(), self.stack.deployment
        reconciler = Reconciler(repository, self.gateway, load_catalog(), deployment, options, links)
        try:
            loaded = load_customer(reconciler, customer_id)
        except CommandFailed as error:
            if dry_run:
                raise
            raise CommandFailed(
                "link_incomplete",
                f"The customer {customer_id} is linked to {account_id}, but its subscriptions and invoices could not "
                f"be loaded. {error.message} Then run the command again to continue.",
            ) from error
        if dry_run and self.takes_over:
            loaded.findings = [each for each in loaded.findings if each.outcome is not EventOutcome.CUSTOMER_CONFLICT]
        return loaded

    def write_metadata(self) -> None:
        """Write account and deployment into the customer's metadata where they are absent. Raises CommandFailed."""
        account_id, deployment_id = self.profile.account_id, self.stack.deployment.id
        missing = self.customer.missing_metadata
        with suppress_logs():
            add_missing_metadata(self.gateway, self.customer.id, account_id, deployment_id, missing)

    def _require_linkable(self, *, is_own: bool) -> None:
        customer = self.customer
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

    @property
    def outcome(self) -> str:
        """`unlinked`, or `unchanged` if an earlier run removed the link and all rows."""
        return "unlinked" if self.is_linked or self.rows else UNCHANGED

    @property
    def live_subscriptions(self) -> Sequence[Subscription]:
        """The customer's stored live subscriptions of ours, which Stripe keeps billing."""
        return _live_subscriptions(row.content for row in self.rows if isinstance(row.content, Subscription))

    def save(self) -> None:
        """Remove the link, then the rows. The customer's open Checkout Session is expired first.

        A payment of the session would have no account.

        Raises:
            CommandFailed: The account changed meanwhile, or Stripe did not expire the session.
        """
        repository, account_id = self.stack.repository(), self.profile.account_id
        reason = f"unlinked by an operator; removed subscriptions and invoices: {len(self.rows)}"
        entry = audit_entry(account_id, self.customer_id, UNLINKED, reason)
        try:
            if self.is_linked:
                customer_id = self.customer_id
                checkout = _end_checkout(self.stack, self.profile, lambda owner: owner == customer_id, keeps_paid=False)
                unlinked = self.profile.without_customer(customer_id, {row.content.id for row in self.rows})
                repository.unlink_customer(replace(unlinked, open_checkout=checkout), customer_id, entry)
            # Rows that were written meanwhile are included.
            repository.delete_rows(account_id, repository.find_rows_of_customer(account_id, self.customer_id))
        except VersionConflict as error:
            raise _account_changed(account_id) from error


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


def _end_checkout(
    stack: Stack, profile: Profile, ends: Callable[[str | None], bool], *, keeps_paid: bool
) -> OpenCheckout | None:
    """Expire the account's open Checkout Session if `ends` is true of its customer.

    Args:
        stack: Stack of the account.
        profile: Profile of the account.
        ends: True of a customer whose session is to end.
        keeps_paid: True if a session that was paid stays stored, so that its subscription is found by it.

    Returns:
        The session that stays stored; None if there is none.

    Raises:
        CommandFailed: Stripe failed, or refused to expire the session.
    """
    checkout = profile.open_checkout
    if checkout is None:
        return None
    from cli.stripe_connection import connect_gateway, describe_failure, map_stripe_errors  # noqa: PLC0415 - imports stripe

    with suppress_logs(), map_stripe_errors():
        gateway = connect_gateway(stack)
        session = gateway.find_checkout_session(checkout.session_id)
        if session is not None and not ends(session.customer_id):
            return checkout
        try:
            if session is not None and session.status == "open":
                session = gateway.expire_checkout_session(checkout.session_id)
        except StripeRefused as error:
            raise CommandFailed(
                "checkout_not_expired",
                f"The open checkout page {checkout.session_id} could not be expired, so nothing was changed. "
                f"{describe_failure(error)} Run the command again.",
            ) from error
    return checkout if keeps_paid and session is not None and session.status == "complete" else None


def _live_subscriptions(subscriptions: Iterable[Subscription]) -> Sequence[Subscription]:
    catalog = load_catalog()
    return [each for each in subscriptions if each.live and each.ours(catalog)]


def _find_owner(repository: Repository, customer_id: str) -> str | None:
    return repository.find_owners([customer_id]).get(customer_id)


def _find_customer(stack: Stack, customer_id: str) -> tuple["StripeGateway", StripeCustomer]:
    """Return the connection to Stripe, and a customer that exists there. Raises CommandFailed."""
    from cli.stripe_connection import connect_gateway, map_stripe_errors  # noqa: PLC0415 - imports stripe

    with suppress_logs(), map_stripe_errors():
        gateway = connect_gateway(stack)
        customer = gateway.find_customer(customer_id)
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
    return gateway, customer


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
