"""`billing reconcile`: compare the table with Stripe and repair it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from billing.catalog import load_catalog
from billing.domain.accounts import Account
from billing.stripe_events.drift import EVENTS_KEPT
from cli.options import DEFAULT_STACK, AccountFilter, AsJson, DryRun, Region, Since, StackName
from cli.output import NEEDS_ATTENTION, command_output, suppress_logs
from cli.stack import find_stack, load_existing_account

EndMissing = Annotated[
    bool,
    typer.Option(
        "--end-missing",
        help="Write subscriptions that Stripe does not have as canceled, which ends their access. "
        "Careful: with another Stripe account's key, every subscription is missing. Use --dry-run first.",
    ),
]


def reconcile(
    account: AccountFilter = None,
    since: Since = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    end_missing: EndMissing = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Compare Stripe's events, subscriptions and invoices with the table, and repair discrepancies.

    The exit code is 0 if there were no discrepancies, and 3 if there were, repaired or not.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        repository = deployed.repository()
        stored = load_existing_account(repository, account) if account else None
        with output.progress("Reconciling") as show:
            # These modules import stripe.
            from billing.services.reconciler import ReconcileOptions, Reconciler  # noqa: PLC0415
            from cli.reconcile_runner import run_reconciler  # noqa: PLC0415
            from cli.stripe_connection import connect_gateway  # noqa: PLC0415

            reconciler = Reconciler(
                repository,
                connect_gateway(deployed),
                load_catalog(),
                deployed.deployment,
                ReconcileOptions(account_id=account, dry_run=dry_run, end_missing=end_missing),
            )
            since = since or datetime.now(UTC) - EVENTS_KEPT
            with suppress_logs():
                summary = run_reconciler(reconciler, since, show, customer_ids=_customer_ids(stored))
        data = {"stack": stack, "account": account, "dry_run": dry_run, **summary.as_dict()}
        output.result(data, summary.as_text())
    if summary.drift:
        raise typer.Exit(NEEDS_ATTENTION)


def _customer_ids(account: Account | None) -> Sequence[str | None]:
    """Return the account's present and earlier customers.

    If it has no customer, all are compared, because any customer can be linked to it in this run.
    """
    if account is None or account.profile.customer_id is None:
        return [None]
    return sorted({each.customer_id for each in account.subscriptions} | {account.profile.customer_id})
