"""`billing accounts`: create, inspect and link accounts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billing.adapters.repository import VersionConflict
from billing.api.request_models import MEASURED_MAX
from billing.catalog import load_catalog
from billing.domain.accounts import TEAM_MEMBERS, Account, Profile
from billing.domain.invoices import Invoice
from billing.domain.plans import Catalog
from billing.domain.subscriptions import AccessPolicy, PendingChange, Subscription
from billing.domain.timestamps import iso
from billing.stripe_events.drift import Phase
from billing.stripe_events.event_types import EventOutcome
from cli.customer_linking import UNCHANGED, AccountLink, AccountUnlink
from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AccountId, AsJson, CustomerId, DryRun, Email, Region, StackName, TakeOver
from cli.output import NEEDS_ATTENTION, Output, columns, command_output
from cli.stack import find_stack, load_existing_account
from cli.subscription_terms import subscription_terms

if TYPE_CHECKING:
    from cli.reconcile_runner import LoadedObjects

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
    take_over: TakeOver = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Link a Stripe customer to an account, for example if two customers name it in their metadata.

    Checkout and portal use this customer from then on. Earlier customers stay the account's own, with their
    subscriptions.

    The customer's subscriptions and invoices are stored at once. Account and deployment are written into its metadata
    in Stripe where they are absent. The open checkout page of another customer expires. If the command was interrupted,
    run it again.

    A customer whose metadata names another account is refused without --take-over. `billing accounts unlink` is the way
    back. The exit code is 3 if an object could not be stored, or a subscription is in conflict with another account.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        with output.working("Linking the customer"):
            link = AccountLink.load(deployed, account_id, customer_id, takes_over=take_over)
            if not dry_run:
                link.save()
            loaded = link.load_objects(dry_run=dry_run)
            if not dry_run:
                link.write_metadata()
        data = _link_as_dict(link, loaded)
        output.result({"dry_run": dry_run, **data}, _link_as_text(data, dry_run=dry_run))
        _note_others(output, account_id, link.others)
        _note_findings(output, account_id, loaded)
    if loaded.findings:
        raise typer.Exit(NEEDS_ATTENTION)


def _link_as_dict(link: AccountLink, loaded: "LoadedObjects") -> dict[str, Any]:
    return {
        "account_id": link.profile.account_id,
        "customer": link.customer.id,
        "before": link.profile.customer_id,
        "outcome": link.outcome,
        "stored": {phase.value: loaded.stored[phase] for phase in (Phase.SUBSCRIPTIONS, Phase.INVOICES)},
        "metadata": list(link.customer.missing_metadata),
        "other_live_subscriptions": _ids(link.others),
        "findings": [{"list": each.phase, "id": each.id, "outcome": each.outcome} for each in loaded.findings],
    }


def _link_as_text(data: Mapping[str, Any], *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    details = [f"before: {data['before'] or '-'}"] if data["outcome"] == "linked" else []
    details.append(f"{would}stored: {_counts(data['stored'])}")
    if data["metadata"]:
        details.append(f"{would}written in Stripe: {', '.join(f'metadata.{key}' for key in data['metadata'])}")
    prefix = "" if data["outcome"] == UNCHANGED else would
    return f"{prefix}{data['outcome']}  {data['account_id']}  {data['customer']}  ({'; '.join(details)})"


def _ids(subscriptions: Sequence[Subscription]) -> list[dict[str, str]]:
    return [{"id": each.id, "customer": each.customer_id} for each in subscriptions]


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in numbers.items())


def _note_others(output: Output, account_id: str, subscriptions: Sequence[Subscription]) -> None:
    for each in subscriptions:
        output.note(
            f"{each.id} of the customer {each.customer_id} is live and still belongs to {account_id}. If nobody should "
            "pay for it, cancel it in Stripe."
        )


def _note_findings(output: Output, account_id: str, loaded: "LoadedObjects") -> None:
    for each in loaded.findings:
        if each.outcome is EventOutcome.CUSTOMER_CONFLICT:
            output.note(f"Plan not granted: {each.id} names another account. Correct its metadata, or use --take-over.")
        else:
            output.note(f"Not stored: {each.id} ({each.outcome}). Run `billing reconcile --account {account_id}`.")


@app.command()
def unlink(
    account_id: AccountId,
    customer_id: CustomerId,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take a Stripe customer from an account, with its stored subscriptions and invoices.

    Nothing changes in Stripe, except that the account's open checkout page expires. Metadata does not link the customer
    to this account again; `billing accounts link` does.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        request = AccountUnlink.load(deployed, account_id, customer_id)
        if not dry_run:
            with output.working("Unlinking the customer"):
                request.save()
        data = _unlink_as_dict(request)
        output.result({"dry_run": dry_run, **data}, _unlink_as_text(data, dry_run=dry_run))
        for each in request.live_subscriptions:
            output.note(
                f"{each.id} is live: Stripe keeps billing the customer {customer_id} for it. Cancel it in Stripe, or "
                "link the customer to its account."
            )
        if request.outcome != UNCHANGED and not dry_run:
            output.note(
                f"Link it to its own account: billing accounts link ACCOUNT {customer_id} "
                f"(with --take-over if its metadata in Stripe still names {account_id})"
            )


def _unlink_as_dict(request: AccountUnlink) -> dict[str, Any]:
    kinds = Counter(type(row.content) for row in request.rows)
    return {
        "account_id": request.profile.account_id,
        "customer": request.customer_id,
        "outcome": request.outcome,
        "removed": {"subscriptions": kinds[Subscription], "invoices": kinds[Invoice]},
        "live_subscriptions": _ids(request.live_subscriptions),
    }


def _unlink_as_text(data: Mapping[str, Any], *, dry_run: bool) -> str:
    line = f"{data['outcome']}  {data['account_id']}  {data['customer']}"
    if data["outcome"] == UNCHANGED:
        return line
    return f"{'would be ' if dry_run else ''}{line}  (removed: {_counts(data['removed'])})"


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
        "confirmed_customers": list(profile.confirmed_customers),
        "unlinked_customers": list(profile.unlinked_customers),
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
                "live": each.live,
                "grace_period_end": iso(each.grace_period_end(policy)),
                "current_period_end": iso(each.current_period_end),
                "cancel_at_period_end": each.is_cancelling,
                **subscription_terms(each),
                **_pending_change(each.pending_change),
                "conflicting_account": each.conflicting_account_id,
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
    account = columns([(name, _joined(value)) for name, value in data.items() if name != "subscriptions"])
    return "\n\n".join([account, *(columns(list(each.items())) for each in data["subscriptions"])])


def _joined(value: object) -> object:
    """Return a list as text; an empty one is shown as a dash."""
    return (", ".join(value) or None) if isinstance(value, list) else value
