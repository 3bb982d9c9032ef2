"""`billing webhooks`: endpoints that receive the outbound events. See docs/guides/operate-webhooks.md."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from billing.domain.timestamps import iso
from billing.domain.webhook_deliveries import AttemptResult
from billing.domain.webhook_endpoints import ALL_EVENTS, ROTATION_PERIOD, WebhookEndpoint
from billing.services.webhook_endpoints import EndpointChange
from cli.commands import webhook_deliveries, webhook_listener
from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AsJson, EndpointId, EventTypes, Region, StackName, WebhookAccount
from cli.output import NEEDS_ATTENTION, columns, command_output, printable, suppress_logs
from cli.stack import find_stack
from cli.webhook_owner import WebhookOwner

DESCRIPTION_LENGTH_MAX = 500
RESPONSE_LINE_MAX = 200


def _check_description(value: str | None) -> str | None:
    if value is not None and (len(value) > DESCRIPTION_LENGTH_MAX or not value.isprintable()):
        raise typer.BadParameter(f"a description has at most {DESCRIPTION_LENGTH_MAX} printable characters")
    return value


Url = Annotated[str, typer.Argument(metavar="URL", help="Public https URL of the server that receives the events.")]
NewUrl = Annotated[str | None, typer.Option("--url", metavar="URL", help="New URL.")]
Description = Annotated[
    str | None,
    typer.Option("--description", metavar="TEXT", callback=_check_description, help="Note for operators."),
]
Enable = Annotated[
    bool | None,
    typer.Option("--enable/--disable", help="Send events, or send none. Disabling fails the pending deliveries."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]

app = typer.Typer(help="Manage webhook endpoints and their deliveries.", no_args_is_help=True)


@app.command()
def create(
    url: Url,
    events: EventTypes = None,
    description: Description = None,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create an endpoint and print its signing secret. The secret is shown only once.

    An endpoint of the deployment receives the events of all accounts. With --account, it receives that account's.
    """
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        with owner.map_refusals():
            checked = owner.endpoints().create(url, events or [ALL_EVENTS], description or "", datetime.now(UTC))
        created = checked.endpoint
        output.note(f"{created.id} receives {', '.join(created.events)}. Store its secret: it cannot be shown again.")
        _warn(output.note, checked.warning)
        data = {**_as_dict(created, account), "secret": _current_secret(created), "warning": checked.warning}
        output.result(data, _current_secret(created))


@app.command(name="list")
def list_all(
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the endpoints of the deployment, or those of an account."""
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        endpoints = owner.endpoints().list()
        output.result({"endpoints": [_as_dict(each, account) for each in endpoints]}, _as_text(owner, endpoints))


@app.command()
def update(
    endpoint_id: EndpointId,
    url: NewUrl = None,
    events: EventTypes = None,
    description: Description = None,
    enabled: Enable = None,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Change an endpoint. The options that are given replace the stored values."""
    change = EndpointChange(url, events, description, enabled)
    if change == EndpointChange():
        raise typer.BadParameter("name a change: --url, --event, --description, --enable or --disable")
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        with owner.map_refusals(endpoint_id):
            checked = owner.endpoints().update(endpoint_id, change, datetime.now(UTC))
        data = {**_as_dict(checked.endpoint, account), "warning": checked.warning}
        output.result(data, _as_text(owner, [checked.endpoint]))
        _warn(output.note, checked.warning)
        if enabled:
            output.note(
                "It receives events from now on. Send it what it missed: "
                f"billing webhooks replay {endpoint_id} --since TIME{owner.option}"
            )


@app.command()
def rotate(
    endpoint_id: EndpointId,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Replace the signing secret and print the new one. The old one signs beside it for 24 hours."""
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        now = datetime.now(UTC)
        with owner.map_refusals(endpoint_id):
            rotated = owner.endpoints().rotate_secret(endpoint_id, now)
        expires = iso(now + ROTATION_PERIOD)
        output.note(f"New secret of {endpoint_id}. The old one also signs until {expires}. Store the new one now.")
        data = {**_as_dict(rotated, account), "secret": _current_secret(rotated), "old_secret_expires": expires}
        output.result(data, _current_secret(rotated))


@app.command()
def delete(
    endpoint_id: EndpointId,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete an endpoint. Its pending deliveries fail, and its delivery log is no longer shown."""
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        with owner.map_refusals(endpoint_id):
            found = owner.endpoints().find(endpoint_id)
            if not yes:
                _confirm(f"Delete {endpoint_id} ({found.url})?")
            owner.endpoints().delete(endpoint_id)
        output.result(_as_dict(found, account), f"Deleted {endpoint_id}.")


@app.command(name="test")
def send_test(
    endpoint_id: EndpointId,
    account: WebhookAccount = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Send a signed test event from this machine, and print status, latency and first line of the response.

    The exit code is 3 if the endpoint does not accept the event.
    """
    with command_output(as_json=as_json) as output:
        owner = WebhookOwner.load(find_stack(stack, region), account)
        with output.working("Sending a test event"), owner.map_refusals(endpoint_id), suppress_logs():
            result = owner.endpoints().send_test(endpoint_id, datetime.now(UTC))
        line = _first_line(result.body)
        data = {
            "endpoint_id": endpoint_id,
            "status_code": result.status_code,
            "latency_ms": result.latency_ms,
            "error": result.error,
            "message": result.error_message,
            "response": line,
        }
        output.result(data, _result_text(result, line))
    if not result.is_success:
        raise typer.Exit(NEEDS_ATTENTION)


# Commands of the group in files of their own.
app.add_typer(webhook_deliveries.app)
app.add_typer(webhook_listener.app)


def _confirm(question: str) -> None:
    """Ask for confirmation on a terminal. Raises CommandFailed if it is refused or if there is no terminal."""
    if not sys.stdin.isatty():
        raise CommandFailed("confirmation_missing", "There is no terminal to ask for confirmation: use --yes.")
    if not typer.confirm(question, err=True):
        raise CommandFailed("not_confirmed", "Nothing was deleted: answer y, or use --yes.")


def _warn(show: Callable[[str], None], warning: str | None) -> None:
    if warning:
        show(f"Note: {warning}.")


def _current_secret(endpoint: WebhookEndpoint) -> str:
    return endpoint.secrets[0].value


def _as_dict(endpoint: WebhookEndpoint, account_id: str | None) -> dict[str, Any]:
    """Return an endpoint without its secrets."""
    return {
        "id": endpoint.id,
        "account_id": account_id,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "disabled_at": iso(endpoint.disabled_at),
        "created": iso(endpoint.created),
    }


def _as_text(owner: WebhookOwner, endpoints: Sequence[WebhookEndpoint]) -> str:
    if not endpoints:
        return f"There are no webhook endpoints. Create one: billing webhooks create URL{owner.option}"
    rows = [
        (
            each.id,
            each.url,
            ",".join(each.events),
            "enabled" if each.enabled else f"disabled ({each.disabled_reason}, {iso(each.disabled_at)})",
            printable(each.description) or None,
        )
        for each in endpoints
    ]
    return columns([("id", "url", "events", "state", "description"), *rows])


def _first_line(body: str) -> str | None:
    """Return the first line of a response, as far as it fits."""
    lines = body.splitlines()
    return printable(lines[0][:RESPONSE_LINE_MAX]) if lines else None


def _result_text(result: AttemptResult, line: str | None) -> str:
    status = result.error_message if result.status_code is None else f"HTTP {result.status_code}"
    return "\n".join(filter(None, [f"{status} in {result.latency_ms} ms", line]))
