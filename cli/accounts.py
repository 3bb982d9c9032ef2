"""`billing accounts`: who may have a plan."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from billing.adapters.repository import Repository, VersionConflict
from billing.api.request_models import MEASURED_MAX
from billing.catalog import load_catalog
from billing.domain.accounts import TEAM_MEMBERS, Account, AccountStatus, Profile
from billing.domain.timestamps import iso
from billing.stripe_events.event_types import RelatedObject
from cli.deployment import Deployment, find_deployment
from cli.failures import refuse
from cli.options import DEFAULT_STACK, AccountId, AsJson, CustomerId, DryRun, Email, Region, Stack
from cli.output import columns, reporting

app = typer.Typer(help="Create and look at accounts.", no_args_is_help=True)


@app.command()
def create(
    account_id: AccountId,
    email: Email = None,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create an account. It is on the free plan until it goes through a checkout."""
    with reporting(as_json=as_json) as output:
        profile = Profile(account_id, email=email, created=datetime.now(UTC))
        try:
            find_deployment(stack, region).repository().create_account(profile)
        except VersionConflict:
            refuse("account_exists", f"The account {account_id} exists: see `billing accounts show {account_id}`.")
        facts = {"account_id": account_id, "email": email, "created": iso(profile.created)}
        output.result(facts, f"Created the account {account_id}. Give it a key: billing keys create {account_id}")


@app.command()
def show(
    account_id: AccountId, stack: Stack = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False
) -> None:
    """Show an account's plan, its Stripe customer and its subscriptions."""
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        repository = deployment.repository()
        account = load_existing(repository, account_id)
        status = account.status(load_catalog(), datetime.now(UTC), deployment.past_due_grace)
        keys = [key for key in repository.list_keys(account_id) if key.revoked is None]
        facts = _facts(account, status, len(keys))
        output.result(facts, _shown(facts))


@app.command()
def members(
    account_id: AccountId,
    count: Annotated[
        int | None, typer.Argument(metavar="COUNT", min=0, max=MEASURED_MAX, help="How many people its team has now.")
    ] = None,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Set how many members an account's team has; without COUNT, show it."""
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        known = load_existing(deployment.repository(), account_id).member_count
        if count is not None:
            deployment.usage_ledger().set_gauge(account_id, TEAM_MEMBERS, count)
        facts = {"account_id": account_id, "members": known if count is None else count}
        output.result(facts, columns(list(facts.items())))


@app.command()
def link(
    account_id: AccountId,
    customer_id: CustomerId,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a Stripe customer the account's own, where events could not decide it: two customers name the account.

    Its next checkout and its portal are that customer's. Customers that it had before stay its own, with all that they
    subscribed to.
    """
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        repository = deployment.repository()
        profile = load_existing(repository, account_id).profile
        is_linked = _is_linked(repository, profile, customer_id)
        if not is_linked:
            with output.working("Asking Stripe"):
                _refuse_absent_customer(deployment, customer_id)
        writes = not is_linked and not dry_run
        if writes:
            _save_link(repository, profile, customer_id)
        outcome, before = "unchanged" if is_linked else "linked", profile.customer_id
        facts = {"account_id": account_id, "customer": customer_id, "before": before, "outcome": outcome}
        would_be = "would be " if dry_run and not is_linked else ""
        instead = "" if is_linked else f"  (before: {before or '-'})"
        output.result({"dry_run": dry_run, **facts}, f"{would_be}{outcome}  {account_id}  {customer_id}{instead}")
        if writes:
            output.note(f"What this customer subscribed to comes with: billing reconcile --account {account_id}")


def _is_linked(repository: Repository, profile: Profile, customer_id: str) -> bool:
    """Whether it is the account's current customer. Raises CommandFailed if it is another account's."""
    owner = repository.find_owners([customer_id]).get(customer_id)
    if owner not in {None, profile.account_id}:
        refuse("customer_taken", f"The customer {customer_id} belongs to the account {owner}, for good.")
    return owner is not None and profile.customer_id == customer_id


def _refuse_absent_customer(deployment: Deployment, customer_id: str) -> None:
    from cli.comparison import connect, silenced, stripe_explained  # noqa: PLC0415 - imports stripe

    with silenced(), stripe_explained():
        customer = connect(deployment).look_up(RelatedObject("customer", customer_id))
    if customer is None:
        refuse("customer_not_found", f"Stripe has no customer {customer_id} in the mode of {deployment.stack_name}.")
    if customer.get("deleted"):
        refuse("customer_deleted", f"Stripe says that the customer {customer_id} was deleted.")


def _save_link(repository: Repository, profile: Profile, customer_id: str) -> None:
    try:
        repository.save_profile(replace(profile, customer_id=customer_id), new_customer_id=customer_id)
    except VersionConflict:
        refuse("account_changed", f"The account {profile.account_id} was changed meanwhile: run the command again.")


def load_existing(repository: Repository, account_id: str) -> Account:
    """The account, if somebody created it. Raises CommandFailed."""
    account = repository.load_account(account_id)
    if account.profile.version == 0:
        refuse(
            "account_not_found",
            f"There is no account {account_id}: create it with `billing accounts create {account_id}`.",
        )
    return account


def _facts(account: Account, status: AccountStatus, keys: int) -> dict[str, Any]:
    profile = account.profile
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
                "price_id": each.price_id,
                "quantity": each.quantity,
                "current_period_end": iso(each.current_period_end),
                "cancel_at_period_end": each.is_cancelling,
            }
            for each in account.subscriptions
        ],
    }


def _shown(facts: Mapping[str, Any]) -> str:
    account = columns([(name, value) for name, value in facts.items() if name != "subscriptions"])
    subscriptions = facts["subscriptions"]
    if not subscriptions:
        return account
    return f"{account}\n\n{columns([list(subscriptions[0]), *(list(each.values()) for each in subscriptions)])}"
