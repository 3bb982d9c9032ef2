"""`billing import`: make the customers of an existing Stripe account known, with all that they subscribed to."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billing.adapters.repository import Repository
from billing.catalog import load_catalog
from billing.stripe_events.customer_links import LinkAction, LinkDecision
from billing.stripe_events.drift import EVENTS_KEPT
from cli.customers import find_wishes, place, plan_links, read_mapping, write_links
from cli.deployment import Deployment, find_deployment
from cli.options import DEFAULT_STACK, AsJson, DryRun, Region, Stack
from cli.output import FOUND_SOMETHING, columns, reporting

if TYPE_CHECKING:
    from billing.adapters.stripe_gateway import StripeGateway
    from billing.services.reconciler import Reconciler

SKIPPED_SHOWN_MAX = 100
WRITTEN = frozenset({LinkAction.CREATED, LinkAction.LINKED})

Mapping = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        exists=True,
        dir_okay=False,
        readable=True,
        help="A CSV file with the columns customer and account_id. It counts more than metadata in Stripe.",
    ),
]


def stripe_import(
    mapping: Mapping = None,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Create accounts for the customers of a Stripe account, and take over their subscriptions and invoices.

    A customer's account is what a CSV file says, or its metadata in Stripe under account_id. Run it as often as you
    like: what is there stays as it is. The exit code is 3 if a customer could not be taken over.
    """
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        mapped = read_mapping(mapping)
        with output.progress("Importing") as show:
            from billing.services.reconciler import retry_stripe  # noqa: PLC0415 - imports stripe
            from cli.comparison import compare, connect, silenced, stripe_explained  # noqa: PLC0415 - imports stripe

            repository, gateway = deployment.repository(), connect(deployment)
            with silenced(), stripe_explained():
                requests = find_wishes(lambda after: retry_stripe(lambda: gateway.list_customers(after)), mapped, show)
                decisions = plan_links(repository, requests)
                decisions = decisions if dry_run else write_links(repository, decisions, show)
                comparer = _reconciler(deployment, repository, gateway, decisions, dry_run=dry_run)
                summary = compare(comparer, datetime.now(UTC) - EVENTS_KEPT, show)
        skipped = sorted((each for each in decisions if each.link is LinkAction.SKIPPED), key=place)
        links = {"stack": stack, "dry_run": dry_run, **_facts(decisions, skipped, requests.unnamed)}
        output.result(
            links | summary.facts, f"{_shown(decisions, requests.unnamed, dry_run=dry_run)}\n\n{summary.shown}"
        )
        for each in skipped[:SKIPPED_SHOWN_MAX]:
            request = each.request
            output.note(f"Skipped: {request.origin}: {request.customer_id} for {request.account_id}: {each.reason}")
        if len(skipped) > SKIPPED_SHOWN_MAX:
            output.note(f"… and {len(skipped) - SKIPPED_SHOWN_MAX:,} more, which --json tells.")
    if skipped:
        raise typer.Exit(FOUND_SOMETHING)


def _reconciler(
    deployment: Deployment,
    repository: Repository,
    gateway: "StripeGateway",
    decisions: Sequence[LinkDecision],
    *,
    dry_run: bool,
) -> "Reconciler":
    """Return a reconciler that assigns no customers but the planned ones."""
    from billing.services.reconciler import LinkPolicy, ReconcileOptions, Reconciler  # noqa: PLC0415 - imports stripe

    planned = {each.request.customer_id: each.request.account_id for each in decisions if each.link in WRITTEN}
    options, policy = ReconcileOptions(dry_run=dry_run), LinkPolicy(assigns_customers=False, planned=planned)
    return Reconciler(repository, gateway, load_catalog(), deployment.livemode, options, policy)


def _facts(decisions: Sequence[LinkDecision], skipped: Sequence[LinkDecision], unnamed: int) -> dict[str, Any]:
    return {
        "customers": {
            "unchanged": sum(each.link is LinkAction.UNCHANGED for each in decisions),
            "unnamed": unnamed,
            "linked": [
                {"customer": each.request.customer_id, "account_id": each.request.account_id, "link": each.link}
                for each in decisions
                if each.link in WRITTEN
            ],
            "skipped": [
                {
                    "origin": each.request.origin,
                    "customer": each.request.customer_id,
                    "account_id": each.request.account_id,
                    "reason": each.reason,
                }
                for each in skipped
            ],
        }
    }


def _shown(decisions: Sequence[LinkDecision], unnamed: int, *, dry_run: bool) -> str:
    counts = Counter(each.link for each in decisions)
    table = [(link, counts[link]) for link in LinkAction] + [("without an account id", unnamed)]
    written = [
        (f"{'would be ' if dry_run else ''}{each.link}", each.request.account_id, each.request.customer_id)
        for each in decisions
        if each.link in WRITTEN
    ]
    return "\n\n".join(columns(rows) for rows in (table, written) if rows)
