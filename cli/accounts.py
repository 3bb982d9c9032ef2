"""`billing accounts`: who may have a plan."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from billing.catalog import load_catalog
from billing.domain.accounts import TEAM_MEMBERS, Account, AccountStatus, Profile
from billing.domain.outbound_events import iso
from billing.inputs import MEASURED_MAX
from billing.store import Store, VersionConflict
from cli.deployment import find_deployment
from cli.failures import refuse
from cli.options import DEFAULT_STACK, AccountId, AsJson, Email, Region, Stack
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
            find_deployment(stack, region).store().create_account(profile)
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
        store = deployment.store()
        account = load_existing(store, account_id)
        status = account.status(load_catalog(), datetime.now(UTC), deployment.past_due_grace)
        keys = [key for key in store.list_keys(account_id) if key.revoked is None]
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
        known = load_existing(deployment.store(), account_id).member_count
        if count is not None:
            deployment.usage_ledger().set_gauge(account_id, TEAM_MEMBERS, count)
        facts = {"account_id": account_id, "members": known if count is None else count}
        output.result(facts, columns(list(facts.items())))


def load_existing(store: Store, account_id: str) -> Account:
    """The account, if somebody created it. Raises CommandFailed."""
    account = store.load_account(account_id)
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
