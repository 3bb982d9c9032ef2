"""`billing reconcile`: is the table in Stripe's state, and if not, bring it there."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from billing.catalog import load_catalog
from billing.domain.accounts import Account
from billing.stripe_events.drift import EVENTS_KEPT
from cli.accounts import load_existing
from cli.deployment import find_deployment
from cli.options import DEFAULT_STACK, AsJson, DryRun, OneAccount, Region, Since, Stack
from cli.output import FOUND_SOMETHING, reporting

EndMissing = Annotated[
    bool,
    typer.Option(
        "--end-missing",
        help="Write living subscriptions that Stripe does not have as canceled, which ends what they granted. "
        "Careful: with another Stripe account's key that is every one. Look with --dry-run first.",
    ),
]


def reconcile(
    account: OneAccount = None,
    since: Since = None,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    end_missing: EndMissing = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Compare Stripe's events, subscriptions and invoices with the table, and mend what differs.

    The exit code is 0 if nothing differed, 3 if something did, mended or not.
    """
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        repository = deployment.repository()
        known = load_existing(repository, account) if account else None
        with output.progress("Reconciling") as show:
            from billing.services.reconciler import ReconcileOptions, Reconciler  # noqa: PLC0415 - imports stripe
            from cli.comparison import compare, connect, silenced  # noqa: PLC0415 - imports stripe

            comparer = Reconciler(
                repository,
                connect(deployment),
                load_catalog(),
                deployment.livemode,
                ReconcileOptions(account_id=account, dry_run=dry_run, end_missing=end_missing),
            )
            since = since or datetime.now(UTC) - EVENTS_KEPT
            with silenced():
                summary = compare(comparer, since, show, customer_ids=_customers(known))
        output.result({"stack": stack, "account": account, "dry_run": dry_run, **summary.facts}, summary.shown)
    if summary.drift:
        raise typer.Exit(FOUND_SOMETHING)


def _customers(account: Account | None) -> Sequence[str | None]:
    """The Stripe customers that an account has and had; while it has none, anybody's may become its own in this run."""
    if account is None or account.profile.customer_id is None:
        return [None]
    return sorted({each.customer_id for each in account.subscriptions} | {account.profile.customer_id})
