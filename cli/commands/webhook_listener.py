"""`billing webhooks listen`: print the outbound events of a stack on this machine."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock
from typing import Annotated, Any

import typer

from billing.domain.errors import ObjectUnknown, WebhookUrlRefused
from billing.domain.webhook_deliveries import AttemptResult
from billing.domain.webhook_endpoints import ALL_EVENTS, WebhookEndpoint
from billing.services.webhook_endpoints import WebhookEndpointService
from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AsJson, EventTypes, Region, StackName
from cli.output import Output, command_output
from cli.stack import Stack, find_stack
from cli.webhook_owner import WebhookOwner
from cli.webhook_receiver import LOOPBACK, WebhookReceiver, is_receiving

DESCRIPTION_PREFIX = "billing webhooks listen"
INTERRUPTED = 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ForwardTo = Annotated[
    str | None,
    typer.Option(
        "--forward-to",
        metavar="URL",
        help="Send each delivery unchanged to this URL, for example http://127.0.0.1:3000/webhooks. "
        "Its response is the response to the delivery.",
    ),
]

app = typer.Typer()


@app.command()
def listen(
    forward_to: ForwardTo = None,
    events: EventTypes = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Print each outbound event of all accounts until Ctrl-C: time, type, account, sequence and id.

    The command receives deliveries on 127.0.0.1. It registers an endpoint of the deployment and deletes it at the end.
    The stack needs AllowLoopbackWebhooks, as in `make run`. With --json, each event is one line.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        _require_loopback(deployed)
        _check_forward_url(deployed, forward_to)
        owner = WebhookOwner(deployed, None)
        for leftover in _delete_leftovers(owner.endpoints()):
            output.note(f"Deleted {leftover.id} of a listener that was killed ({leftover.description}).")
        stop = _Stop()
        with (
            stop.on_signals(),
            WebhookReceiver(_printer(output, stop), _rejection_printer(output), forward_to) as receiver,
            _registered(owner, receiver.url, events or [ALL_EVENTS]) as endpoint,
            receiver.serving(endpoint.secrets[0].value),
        ):
            output.note(f"Listening as {endpoint.id} until Ctrl-C.")
            stop.requested.wait()
    if stop.by_signal:
        raise typer.Exit(INTERRUPTED)


@dataclass(slots=True)
class _Stop:
    """Request to stop the listener."""

    requested: Event = field(default_factory=Event)
    by_signal: bool = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Stop at Ctrl-C, SIGTERM and SIGHUP. No signal interrupts the registration of the endpoint or its deletion."""
        # nohup starts the command with SIGHUP ignored.
        is_detached = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        numbers = [number for number in STOP_SIGNALS if not (number == signal.SIGHUP and is_detached)]
        previous = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle(self, *_: object) -> None:
        self.by_signal = True
        self.requested.set()


def _require_loopback(stack: Stack) -> None:
    if not stack.allows_loopback_webhooks:
        raise CommandFailed(
            "loopback_not_allowed",
            f"The functions of {stack.name} do not send events to this machine: use a stack with "
            "AllowLoopbackWebhooks=true, such as that of `make run`, or create an endpoint with a public https URL.",
        )


def _check_forward_url(stack: Stack, url: str | None) -> None:
    if url is None:
        return
    try:
        stack.webhook_sender().check(url)
    except WebhookUrlRefused as error:
        raise CommandFailed(
            "forward_url_refused",
            f"The URL of --forward-to {error.reason}: use one of this machine, such as http://127.0.0.1:3000/webhooks.",
        ) from error


def _delete_leftovers(endpoints: WebhookEndpointService) -> Iterator[WebhookEndpoint]:
    """Delete the endpoints of listeners that were killed, and yield them."""
    for each in endpoints.list():
        is_listener = each.description.startswith(DESCRIPTION_PREFIX) and each.url.startswith(f"http://{LOOPBACK}:")
        if is_listener and not is_receiving(each.url):
            with suppress(ObjectUnknown):
                endpoints.delete(each.id)
                yield each


@contextmanager
def _registered(owner: WebhookOwner, url: str, events: Sequence[str]) -> Iterator[WebhookEndpoint]:
    """Create the listener's endpoint, and delete it at the end. Raises CommandFailed."""
    description = f"{DESCRIPTION_PREFIX}, process {os.getpid()} on {socket.gethostname()}"
    with owner.map_refusals():
        created = owner.endpoints().create(url, events, description, datetime.now(UTC)).endpoint
    try:
        yield created
    finally:
        with suppress(ObjectUnknown):
            owner.endpoints().delete(created.id)


def _rejection_printer(output: Output) -> Callable[[str], None]:
    return lambda reason: output.note(f"Rejected a request: {reason}.")


def _printer(output: Output, stop: _Stop) -> Callable[[Mapping[str, Any], AttemptResult | None], None]:
    """Return a function that prints a delivery. If standard output is closed, it stops the listener."""
    lock = Lock()

    def show(event: Mapping[str, Any], forwarded: AttemptResult | None) -> None:
        data = {"event": event, "forwarded": _forwarded_as_dict(forwarded)}
        try:
            with lock:
                output.result(data, _as_line(event, forwarded))
        except BrokenPipeError:
            # The interpreter flushes standard output again when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            stop.requested.set()

    return show


def _as_line(event: Mapping[str, Any], forwarded: AttemptResult | None) -> str:
    fields = [event.get(name) for name in ("timestamp", "type", "account_id", "sequence", "id")]
    line = "  ".join("-" if value is None else str(value) for value in fields)
    if forwarded is None:
        return line
    return f"{line}  forwarded: {forwarded.status_code or forwarded.error} in {forwarded.latency_ms} ms"


def _forwarded_as_dict(forwarded: AttemptResult | None) -> Mapping[str, Any] | None:
    if forwarded is None:
        return None
    return {"status_code": forwarded.status_code, "latency_ms": forwarded.latency_ms, "error": forwarded.error}
