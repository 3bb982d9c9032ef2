"""`billing accounts`: create, inspect and link accounts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from billing.adapters.repository import Repository, VersionConflict
from billing.api.request_models import MEASURED_MAX
from billing.catalog import load_catalog
from billing.domain.accounts import TEAM_MEMBERS, Account, Profile
from billing.domain.plans import Catalog
from billing.domain.subscriptions import AccessPolicy, PendingChange
from billing.domain.timestamps import iso
from billing.stripe_events.event_types import RelatedObject
from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AccountId, AsJson, CustomerId, DryRun, Email, Region, StackName
from cli.output import columns, command_output, suppress_logs
from cli.stack import Stack, find_stack, load_existing_account
from cli.subscription_terms import subscription_terms

MemberCount = Annotated[
    int | None,
    typer.Argument(metavar="COUNT", min=0, max=MEASURED_MAX, help="Number of members, from 0. Omit it to show it."),
]

app = typer.Typer(help="Create, inspect and link accounts.", no_args_is_help=True)


@app.command()
def create(
    account_id: AccountId,
    email: Email = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create an account. It is on the free plan until its first checkout."""
    with command_output(as_json=as_json) as output:
        profile = Profile(account_id, email=email, created=datetime.now(UTC))
        try:
            find_stack(stack, region).repository().create_account(profile)
        except VersionConflict as error:
            message = f"The account {account_id} already exists: see `billing accounts show {account_id}`."
            raise CommandFailed("account_exists", message) from error
        data = {"account_id": account_id, "email": email, "created": iso(profile.created)}
        output.result(data, f"Created the account {account_id}. Create its first key: billing keys create {account_id}")


@app.command()
def show(
    account_id: AccountId, stack: StackName = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False
) -> None:
    """Show an account's plan, status, Stripe customer and subscriptions."""
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        repository = deployed.repository()
        account = load_existing_account(repository, account_id)
        keys = [key for key in repository.list_keys(account_id) if key.revoked is None]
        data = _as_dict(account, load_catalog(), deployed.access_policy, len(keys))
        output.result(data, _as_text(data))


@app.command()
def members(
    account_id: AccountId,
    count: MemberCount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Set the number of members of an account's team, or show it if COUNT is omitted."""
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        current = load_existing_account(deployed.repository(), account_id).member_count
        if count is not None:
            deployed.usage_repository().set_gauge(account_id, TEAM_MEMBERS, count)
        data = {"account_id": account_id, "members": current if count is None else count}
        output.result(data, columns(list(data.items())))


@app.command()
def link(
    account_id: AccountId,
    customer_id: CustomerId,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Link another Stripe customer to an account, for example if two customers name it in their metadata.

    Checkout and portal use this customer from then on. Earlier customers stay the account's own, with their
    subscriptions.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        repository = deployed.repository()
        profile = load_existing_account(repository, account_id).profile
        is_linked = _is_linked(repository, profile, customer_id)
        if not is_linked:
            with output.working("Reading the customer from Stripe"):
                _require_customer(deployed, customer_id)
        writes = not is_linked and not dry_run
        if writes:
            _save_link(repository, profile, customer_id)
        outcome, before = "unchanged" if is_linked else "linked", profile.customer_id
        data = {"account_id": account_id, "customer": customer_id, "before": before, "outcome": outcome}
        prefix = "would be " if dry_run and not is_linked else ""
        suffix = "" if is_linked else f"  (before: {before or '-'})"
        output.result({"dry_run": dry_run, **data}, f"{prefix}{outcome}  {account_id}  {customer_id}{suffix}")
        if writes:
            output.note(f"Load its subscriptions and invoices: billing reconcile --account {account_id}")


def _is_linked(repository: Repository, profile: Profile, customer_id: str) -> bool:
    """Return True if it is the account's current customer. Raises CommandFailed if it is another account's."""
    owner = repository.find_owners([customer_id]).get(customer_id)
    if owner not in {None, profile.account_id}:
        raise CommandFailed(
            "customer_taken",
            f"The customer {customer_id} belongs to the account {owner} permanently: choose another customer.",
        )
    return owner is not None and profile.customer_id == customer_id


def _require_customer(stack: Stack, customer_id: str) -> None:
    from cli.stripe_connection import connect_gateway, map_stripe_errors  # noqa: PLC0415 - imports stripe

    with suppress_logs(), map_stripe_errors():
        customer = connect_gateway(stack).look_up(RelatedObject("customer", customer_id))
    if customer is None:
        mode = "live" if stack.livemode else "test"
        raise CommandFailed(
            "customer_not_found",
            f"Stripe has no customer {customer_id} in {mode} mode: check the id and the mode of the Stripe key.",
        )
    if customer.get("deleted"):
        raise CommandFailed(
            "customer_deleted", f"The customer {customer_id} was deleted in Stripe: choose another customer."
        )


def _save_link(repository: Repository, profile: Profile, customer_id: str) -> None:
    try:
        repository.save_profile(replace(profile, customer_id=customer_id), new_customer_id=customer_id)
    except VersionConflict as error:
        message = f"The account {profile.account_id} changed while the command ran: run the command again."
        raise CommandFailed("account_changed", message) from error


def _as_dict(account: Account, catalog: Catalog, policy: AccessPolicy, keys: int) -> dict[str, Any]:
    profile, now = account.profile, datetime.now(UTC)
    status = account.status(catalog, now, policy)
    shown = account.shown_subscription(catalog, now, policy)
    return {
        "account_id": profile.account_id,
        "email": profile.email,
        "created": iso(profile.created),
        "plan": status.plan,
        "status": status.status,
        "current_period_end": iso(status.current_period_end),
        "cancel_at_period_end": status.cancel_at_period_end,
        "customer": profile.customer_id,
        "trial_used": profile.trial_used,
        "members": account.member_count,
        "keys": keys,
        "subscriptions": [
            {
                "id": each.id,
                "plan": each.plan,
                "status": each.status,
                "shown": each is shown,
                "granting": each.granting(catalog, now, policy),
                "ours": each.ours(catalog),
                "current_period_end": iso(each.current_period_end),
                "cancel_at_period_end": each.is_cancelling,
                **subscription_terms(each),
                **_pending_change(each.pending_change),
            }
            for each in account.subscriptions
        ],
    }


def _pending_change(change: PendingChange | None) -> dict[str, Any]:
    return {
        "pending_plan": change.plan if change else None,
        "pending_price_id": change.price_id if change else None,
        "pending_quantity": change.quantity if change else None,
        "pending_at": iso(change.effective_at) if change else None,
    }


def _as_text(data: Mapping[str, Any]) -> str:
    account = columns([(name, value) for name, value in data.items() if name != "subscriptions"])
    return "\n\n".join([account, *(columns(list(each.items())) for each in data["subscriptions"])])
