"""`billing import`: create accounts for the customers of an existing Stripe account."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billing.adapters.repository import Repository
from billing.catalog import load_catalog
from billing.stripe_events.customer_links import LinkAction, LinkDecision
from billing.stripe_events.drift import EVENTS_KEPT
from cli.import_plan import (
    FileMapping,
    LinkRequests,
    LinkRules,
    collect_requests,
    plan_links,
    read_mapping,
    report_position,
    without_metadata,
    write_links,
    write_metadata,
)
from cli.options import DEFAULT_STACK, AsJson, DryRun, Region, StackName, TakeOver
from cli.output import NEEDS_ATTENTION, Output, ShowProgress, columns, command_output, suppress_logs
from cli.stack import Stack, find_stack

if TYPE_CHECKING:
    from billing.adapters.stripe_gateway import Listing, StripeGateway
    from billing.services.reconciler import Reconciler
    from cli.reconcile_runner import ReconcileSummary

SKIPPED_SHOWN_MAX = 100
WRITTEN = frozenset({LinkAction.CREATED, LinkAction.LINKED})

MappingFile = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        exists=True,
        dir_okay=False,
        readable=True,
        metavar="FILE",
        help="CSV file with the columns customer and account_id. It takes precedence over other customers' metadata.",
    ),
]


def import_customers(
    mapping: MappingFile = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    take_over: TakeOver = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Create accounts for the customers of a Stripe account, and load their subscriptions and invoices.

    The account id of a customer is taken from a CSV file, else from metadata.account_id in Stripe. If both name an
    account and differ, the customer is skipped without --take-over. Account and deployment are written into the
    customers' metadata in Stripe where they are absent. A second run changes nothing. The exit code is 3 if a customer
    was skipped.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        file_mapping = read_mapping(mapping)
        rules = LinkRules(deployed.deployment, take_over)
        with output.progress("Importing") as show:
            requests, decisions, summary = _run(deployed, file_mapping, rules, show, dry_run=dry_run)
        skipped = sorted((each for each in decisions if each.link is LinkAction.SKIPPED), key=report_position)
        data = {"stack": stack, "dry_run": dry_run, **_as_dict(decisions, skipped, requests)}
        text = _as_text(decisions, requests, dry_run=dry_run)
        output.result(data | summary.as_dict(), f"{text}\n\n{summary.as_text()}")
        _note_skipped(output, skipped)
    if skipped:
        raise typer.Exit(NEEDS_ATTENTION)


def _run(
    deployed: Stack, file_mapping: FileMapping, rules: LinkRules, show: ShowProgress, *, dry_run: bool
) -> tuple[LinkRequests, Sequence[LinkDecision], "ReconcileSummary"]:
    """Link the customers, reconcile, and write the customers' metadata. A dry run only compares."""
    # These modules import stripe.
    from cli.reconcile_runner import run_reconciler  # noqa: PLC0415
    from cli.stripe_connection import connect_gateway, map_stripe_errors  # noqa: PLC0415

    repository, gateway = deployed.repository(), connect_gateway(deployed)
    with suppress_logs(), map_stripe_errors():
        requests = collect_requests(partial(_list_customers, gateway), file_mapping, show, rules)
        decisions = plan_links(repository, requests)
        decisions = decisions if dry_run else write_links(repository, decisions, show)
        reconciler = _create_reconciler(deployed, repository, gateway, decisions, dry_run=dry_run)
        summary = run_reconciler(reconciler, datetime.now(UTC) - EVENTS_KEPT, show)
        if not dry_run:
            write_metadata(gateway, deployed.deployment.id, without_metadata(decisions), show)
    return requests, decisions, summary


def _list_customers(gateway: "StripeGateway", after: str | None) -> "Listing":
    from billing.services.reconciler import retry_stripe  # noqa: PLC0415 - imports stripe

    return retry_stripe(lambda: gateway.list_customers(after))


def _note_skipped(output: Output, skipped: Sequence[LinkDecision]) -> None:
    for each in skipped[:SKIPPED_SHOWN_MAX]:
        request = each.request
        output.note(f"Skipped: {request.origin}: {request.customer_id} for {request.account_id}: {each.reason}")
    if len(skipped) > SKIPPED_SHOWN_MAX:
        output.note(f"… and {len(skipped) - SKIPPED_SHOWN_MAX:,} more; --json shows all.")


def _create_reconciler(
    deployed: Stack,
    repository: Repository,
    gateway: "StripeGateway",
    decisions: Sequence[LinkDecision],
    *,
    dry_run: bool,
) -> "Reconciler":
    """Return a reconciler that assigns no customers. Created and linked customers match their accounts."""
    from billing.services.reconciler import LinkPolicy, ReconcileOptions, Reconciler  # noqa: PLC0415 - imports stripe

    planned = {each.request.customer_id: each.request.account_id for each in decisions if each.link in WRITTEN}
    options, links = ReconcileOptions(dry_run=dry_run), LinkPolicy(assigns_customers=False, planned=planned)
    return Reconciler(repository, gateway, load_catalog(), deployed.deployment, options, links)


def _as_dict(
    decisions: Sequence[LinkDecision], skipped: Sequence[LinkDecision], requests: LinkRequests
) -> dict[str, Any]:
    return {
        "customers": {
            "unchanged": sum(each.link is LinkAction.UNCHANGED for each in decisions),
            "unnamed": requests.unnamed,
            "other_deployments": requests.other_deployments,
            "metadata_written": len(without_metadata(decisions)),
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


def _as_text(decisions: Sequence[LinkDecision], requests: LinkRequests, *, dry_run: bool) -> str:
    counts = Counter(each.link for each in decisions)
    totals: list[tuple[str, int]] = [(link, counts[link]) for link in LinkAction]
    totals += [("without an account id", requests.unnamed), ("of another deployment", requests.other_deployments)]
    totals.append((f"metadata {'would be ' if dry_run else ''}written", len(without_metadata(decisions))))
    written = [
        (f"{'would be ' if dry_run else ''}{each.link}", each.request.account_id, each.request.customer_id)
        for each in decisions
        if each.link in WRITTEN
    ]
    return "\n\n".join(columns(rows) for rows in (totals, written) if rows)
