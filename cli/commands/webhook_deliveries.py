"""`billing webhooks deliveries`, `redeliver`, `replay` and `redrive`: the delivery log, and what was not delivered."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import batched, islice
from typing import Annotated, Any

import typer

from billing.adapters.outbox import OUTBOX_RETENTION
from billing.domain.errors import ObjectUnknown
from billing.domain.timestamps import iso
from billing.domain.webhook_deliveries import Delivery, DeliveryStatus, parse_delivery_id
from billing.domain.webhook_endpoints import WebhookEndpoint
from billing.services.webhook_redelivery import REPLAY_EVENTS_MAX
from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AsJson, EndpointId, Region, StackName, WebhookAccount, parse_past_time
from cli.output import NEEDS_ATTENTION, columns, command_output, suppress_logs
from cli.stack import find_stack
from cli.webhook_owner import WebhookOwner
from cli.webhook_redrive import WebhookRedrive

PAGE_SIZE = 100

StatusFilter = Annotated[DeliveryStatus | None, typer.Option("--status", help="Only deliveries with this status.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, metavar="COUNT", help="Maximum number of deliveries.")]
DeliveryId = Annotated[
    str, typer.Argument(metavar="DELIVERY", help="Id of the delivery: dlv_…, as in `billing webhooks deliveries`.")
]
ReplaySince = Annotated[
    datetime,
    typer.Option(
        "--since",
        parser=parse_past_time,
        metavar="TIME",
        help="Start: a time such as 2026-11-21T14:00Z, or an age such as 90m, 6h or 2d. Events are kept for 35 days.",
    ),
]

app = typer.Typer()


@app.command()
def deliveries(
    endpoint_id: EndpointId,
    status: StatusFilter = None,
    limit: Limit = 50,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the deliveries to an endpoint, the latest event first. They are kept for 30 days.

    `bus` as the endpoint lists the deliveries to the EventBridge bus.
    """
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        endpoint = owner.find_endpoint(endpoint_id)
        with output.working("Reading deliveries"):
            found = list(islice(_list_deliveries(owner, endpoint, status), limit + 1))
        shown = found[:limit]
        data = {"deliveries": [_as_dict(each) for each in shown], "has_more": len(found) > limit}
        header = ("id", "created", "type", "account", "status", "attempts", "last result", "next attempt")
        rows = [header, *map(_as_row, shown)]
        output.result(data, columns(rows) if shown else "No deliveries found.")
        if data["has_more"]:
            output.note("There are more deliveries: raise --limit.")


@app.command()
def redeliver(
    delivery_id: DeliveryId,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Request a delivery again, whatever its status is. It is attempted at once, with a new schedule of retries."""
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        parsed = parse_delivery_id(delivery_id)
        not_found = CommandFailed(
            "delivery_not_found",
            f"There is no delivery {delivery_id}: see `billing webhooks deliveries ENDPOINT{owner.option}`.",
        )
        if parsed is None:
            raise not_found
        owner.find_enabled_endpoint(parsed[0])
        with owner.map_refusals(parsed[0]), suppress_logs():
            try:
                delivery = owner.redelivery().redeliver(delivery_id, datetime.now(UTC))
            except ObjectUnknown as error:
                raise not_found from error
        output.result(_as_dict(delivery), f"Requested {delivery_id}.")
        output.note(f"See its attempts: billing webhooks deliveries {parsed[0]}{owner.option}")


@app.command()
def replay(
    endpoint_id: EndpointId,
    since: ReplaySince,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Send an endpoint the events since a time that it did not receive: failed, pending and never requested ones.

    An interrupted replay can be repeated: events that arrived meanwhile are not sent again.
    """
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        endpoint = owner.find_enabled_endpoint(endpoint_id)
        start = max(since, datetime.now(UTC) - OUTBOX_RETENTION)
        requested = 0
        with output.progress("Replaying") as show, owner.map_refusals(endpoint_id), suppress_logs():
            for count in _replay_pages(owner, endpoint, start):
                requested += count
                show(f"{requested:,} requested")
        data = {"endpoint_id": endpoint_id, "since": iso(start), "requested": requested}
        noun = "delivery" if requested == 1 else "deliveries"
        output.result(data, f"Requested {requested:,} {noun} to {endpoint_id}.")
        output.note(f"See them: billing webhooks deliveries {endpoint_id}{owner.option}")


@app.command()
def redrive(stack: StackName = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """Process both dead-letter queues of outbound events: request the deliveries again, and delete the messages.

    The exit code is 3 if a message stays in its queue.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        with output.progress("Processing dead letters") as show, suppress_logs():
            summary = WebhookRedrive.connect(deployed).run(show)
        output.result(summary.as_dict(), summary.as_text())
    if summary.kept:
        raise typer.Exit(NEEDS_ATTENTION)


def _list_deliveries(
    owner: WebhookOwner, endpoint: WebhookEndpoint, status: DeliveryStatus | None
) -> Iterator[Delivery]:
    repository, after = owner.stack.webhook_repository(), None
    while True:
        page = repository.list_deliveries(endpoint.id, PAGE_SIZE, after)
        yield from (each for each in page.deliveries if status in {None, each.status})
        after = page.continues_after
        if after is None:
            return


def _replay_pages(owner: WebhookOwner, endpoint: WebhookEndpoint, since: datetime) -> Iterator[int]:
    """Request what an endpoint did not receive. Yields the number of deliveries of each page of events."""
    redelivery = owner.redelivery()
    if owner.account_id is None:
        events = redelivery.repository.list_all_events(since, datetime.now(UTC))
        for page in batched(events, REPLAY_EVENTS_MAX, strict=False):
            yield redelivery.request_missing(endpoint, page, datetime.now(UTC))
        return
    after: str | None = None
    while True:
        result = redelivery.replay(endpoint.id, since, datetime.now(UTC), after)
        yield result.requested
        after = result.continues_after
        if after is None:
            return


def _as_dict(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "endpoint_id": delivery.endpoint_id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "account_id": delivery.account_id,
        "status": delivery.status,
        "created": iso(delivery.created),
        "attempts": [
            {
                "started": iso(each.started),
                "status_code": each.status_code,
                "latency_ms": each.latency_ms,
                "error": each.error,
            }
            for each in delivery.attempts
        ],
        "next_attempt_at": iso(delivery.next_attempt_at),
        "reason": delivery.reason,
        "response_body": delivery.response_body,
    }


def _as_row(delivery: Delivery) -> tuple[object, ...]:
    last = delivery.attempts[-1] if delivery.attempts else None
    result = delivery.reason or (last and (last.status_code or last.error))
    return (
        delivery.id,
        iso(delivery.created),
        delivery.event_type,
        delivery.account_id,
        delivery.status,
        len(delivery.attempts),
        result,
        iso(delivery.next_attempt_at),
    )
