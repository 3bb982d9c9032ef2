"""`billing events`: find, inspect and replay Stripe events. See docs/guides/inspect-and-replay-events.md."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import batched, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billing.domain.identifiers import is_id
from billing.stripe_events.event_types import EVENT_PARSERS, THIN_V1_PREFIX, EventOutcome
from cli.errors import CommandFailed
from cli.event_log import ABSENT, OPEN_OUTCOMES, OUTCOMES, EventEntry, EventFilter, list_recorded_events
from cli.options import DEFAULT_STACK, AccountFilter, AsJson, DryRun, Region, Since, StackName, parse_time
from cli.output import NEEDS_ATTENTION, ShowProgress, columns, command_output, suppress_logs
from cli.stack import Stack, find_stack, load_existing_account

if TYPE_CHECKING:
    from cli.event_replay import EventReplayer

DEFAULT_PERIOD = timedelta(days=30)
"""Stripe keeps events for this long: https://docs.stripe.com/api/events."""
GONE = "gone"
"""Outcome of a replay if Stripe no longer has the event."""
REPLAYABLE_OUTCOMES = (*OPEN_OUTCOMES, ABSENT)
MARKERS_PER_READ = 100


def _check_type(value: str | None) -> str | None:
    if value is not None and value.removeprefix(THIN_V1_PREFIX) not in EVENT_PARSERS:
        raise typer.BadParameter(f"{value} is not a handled event type")
    return value


def _parse_outcome(value: str) -> str:
    if value not in OUTCOMES:
        raise typer.BadParameter(f"{value} is not one of {', '.join(OUTCOMES)}")
    return value


def _check_event_id(value: str) -> str:
    if not is_id(value):
        raise typer.BadParameter("an event id has 1 to 255 visible ASCII characters, for example evt_1Q2w3E")
    return value


def _check_event_ids(values: list[str] | None) -> list[str] | None:
    return values and [_check_event_id(value) for value in values]


Until = Annotated[
    datetime | None, typer.Option(parser=parse_time, metavar="TIME", help="End, as for --since. [default: now]")
]
TypeFilter = Annotated[
    str | None, typer.Option(metavar="TYPE", callback=_check_type, help="Event type, for example invoice.paid.")
]
OutcomeFilter = Annotated[
    str | None,
    typer.Option(
        "--outcome",
        parser=_parse_outcome,
        autocompletion=lambda: [str(outcome) for outcome in OUTCOMES],
        metavar="OUTCOME",
        help=f"Only this outcome: {', '.join(OUTCOMES)}. Absent events never arrived.",
    ),
]
ReasonFilter = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help='Only events whose reason contains this, for example "metadata".'),
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, metavar="COUNT", help="Maximum number of events.")]
EventId = Annotated[str, typer.Argument(metavar="EVENT", callback=_check_event_id, help="Id of the event: evt_…")]
EventIds = Annotated[
    list[str] | None, typer.Argument(metavar="EVENT", callback=_check_event_ids, help="Ids of the events: evt_…")
]

app = typer.Typer(help="Find, inspect and replay Stripe events.", no_args_is_help=True)


@app.command("list")
def list_events(
    account: AccountFilter = None,
    type: TypeFilter = None,  # noqa: A002 - the option's name
    outcome: OutcomeFilter = None,
    since: Since = None,
    until: Until = None,
    reason: ReasonFilter = None,
    limit: Limit = 50,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List events with their outcomes, newest first.

    With --account, or with an outcome that needs attention, the table is read. Otherwise Stripe's event list is read.
    It has handled types only, and it also shows events that never arrived.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        event_filter = replace(_filter(deployed, since, until, account, type, outcome), reason=reason)
        with output.working("Reading events"):
            entries = _find_entries(deployed, event_filter, limit + 1)
        shown = entries[:limit]
        data = {"events": [dict(entry.as_dict()) for entry in shown], "has_more": len(entries) > limit}
        output.result(data, columns([entry.as_row() for entry in shown]) if shown else "No events found.")
        if data["has_more"]:
            output.note("There are more events: raise --limit, or set --until to the time of the last event.")


@app.command()
def show(event: EventId, stack: StackName = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """Show an event's marker and what Stripe has of the event."""
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        marker = deployed.repository().find_markers([event]).get(event)
        with output.working("Reading the event from Stripe"), _connected(deployed) as replayer:
            from cli.event_replay import summarize_event  # noqa: PLC0415 - imports stripe

            found = replayer.find(event)
        if marker is None and found is None:
            raise CommandFailed(
                "event_not_found",
                f"Neither the table nor Stripe has the event {event}. Stripe keeps events for 30 days: "
                "use `billing reconcile --account ACCOUNT` to compare the objects themselves.",
            )
        recorded, summary = EventEntry.of(marker).as_dict() if marker else None, summarize_event(found or {})
        output.result(
            {"recorded": recorded, "stripe": summary if found else None},
            _as_text(recorded or {"outcome": ABSENT}, summary if found else {"outcome": GONE}),
        )


@app.command()
def replay(
    events: EventIds = None,
    account: AccountFilter = None,
    type: TypeFilter = None,  # noqa: A002 - the option's name
    outcome: OutcomeFilter = None,
    since: Since = None,
    until: Until = None,
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fetch events from Stripe and process them again: the named events, or all with one outcome that is not final.

    An event that was already processed is not processed twice. The exit code is 3 if an event still needs attention.
    """
    if (events is None) == (outcome is None) or outcome not in {None, *REPLAYABLE_OUTCOMES}:
        raise typer.BadParameter(f"name either events or one --outcome: {', '.join(REPLAYABLE_OUTCOMES)}")
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        event_filter = _filter(deployed, since, until, account, type, outcome)
        with output.progress("Replaying") as show_progress:
            entries = _find_replayable(deployed, event_filter) if events is None else _find_named(deployed, events)
            outcomes = {} if dry_run else _replay_each(deployed, entries, show_progress)
        data = [{**each.as_dict(), "before": each.outcome, "outcome": outcomes.get(each.id)} for each in entries]
        rows = [(each.id, each.type, each.outcome, outcomes.get(each.id, "would be replayed")) for each in entries]
        output.result({"dry_run": dry_run, "events": data}, columns(rows) if rows else "No events found.")
    if any(map(_needs_attention, outcomes.values())):
        raise typer.Exit(NEEDS_ATTENTION)


@app.command()
def redrive(stack: StackName = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """Process the events in the dead-letter queue of EventBridge, and remove them from it.

    The exit code is 3 if an event still needs attention.
    """
    with command_output(as_json=as_json) as output:
        deployed = find_stack(stack, region)
        if deployed.dead_letter_queue_url is None:
            message = f"{deployed.name} receives no events from EventBridge: see docs/guides/eventbridge.md."
            raise CommandFailed("no_dead_letters", message)
        with output.working("Processing dead letters"), _connected(deployed) as replayer:
            processed = list(replayer.redrive())
        data = {"events": [{"id": event_id, "outcome": outcome} for event_id, outcome in processed]}
        output.result(data, columns(processed) if processed else "The dead-letter queue is empty.")
    if any(_needs_attention(outcome) for _, outcome in processed):
        raise typer.Exit(NEEDS_ATTENTION)


def _filter(
    stack: Stack,
    since: datetime | None,
    until: datetime | None,
    account_id: str | None,
    event_type: str | None,
    outcome: str | None,
) -> EventFilter:
    """Return the filter of the command's options. Raises CommandFailed if the account does not exist."""
    if account_id:
        load_existing_account(stack.repository(), account_id)
    now = datetime.now(UTC)
    return EventFilter(since or now - DEFAULT_PERIOD, until or now, account_id, event_type, outcome)


def _find_entries(stack: Stack, event_filter: EventFilter, limit: int | None) -> list[EventEntry]:
    if not event_filter.needs_stripe_list:
        return list(islice(list_recorded_events(stack.repository(), event_filter), limit))
    with _connected(stack) as replayer:
        return list(islice(replayer.list_events(event_filter), limit))


def _find_replayable(stack: Stack, event_filter: EventFilter) -> list[EventEntry]:
    return [entry for entry in _find_entries(stack, event_filter, None) if not entry.is_repair]


def _find_named(stack: Stack, event_ids: Sequence[str]) -> list[EventEntry]:
    """Return the named events, each once. Raises CommandFailed."""
    repository, ids = stack.repository(), list(dict.fromkeys(event_ids))
    markers = {
        event_id: marker
        for page in batched(ids, MARKERS_PER_READ, strict=False)
        for event_id, marker in repository.find_markers(page).items()
    }
    entries = [EventEntry.of(markers[each]) if each in markers else EventEntry(each, "unknown", ABSENT) for each in ids]
    for entry in entries:
        if entry.is_repair:
            raise CommandFailed(
                "no_event",
                f"{entry.id} is a repair of the reconciliation, not a Stripe event: "
                f"use `billing reconcile --account {entry.account_id or 'ACCOUNT'}`.",
            )
        if entry.is_audit_entry:
            raise CommandFailed("no_event", f"{entry.id} is an operator's action, not a Stripe event.")
    return entries


def _replay_each(
    stack: Stack, entries: Sequence[EventEntry], show_progress: ShowProgress
) -> Mapping[str, EventOutcome | str]:
    """Replay each event. Returns the outcomes by event id."""
    outcomes: dict[str, EventOutcome | str] = {}
    with _connected(stack) as replayer:
        for number, entry in enumerate(entries, start=1):
            show_progress(f"{number} of {len(entries)}")
            outcomes[entry.id] = replayer.replay(entry.id) or GONE
    return outcomes


def _needs_attention(outcome: EventOutcome | str | None) -> bool:
    """Return True unless the outcome is final. None is a message without an event."""
    return not (isinstance(outcome, EventOutcome) and outcome.is_final)


@contextmanager
def _connected(stack: Stack) -> Iterator["EventReplayer"]:
    """Connect to the stack's Stripe account. Raises CommandFailed for Stripe's errors."""
    from cli.event_replay import EventReplayer  # noqa: PLC0415 - imports stripe
    from cli.stripe_connection import map_stripe_errors  # noqa: PLC0415 - imports stripe

    with suppress_logs(), map_stripe_errors():
        yield EventReplayer.connect(stack)


def _as_text(recorded: Mapping[str, Any], in_stripe: Mapping[str, Any]) -> str:
    """Return both sides of an event as two blocks of lines."""
    blocks = {"Recorded": recorded, "Stripe": in_stripe}
    return "\n\n".join(f"{title}\n{columns(list(_flatten(data)))}" for title, data in blocks.items())


def _flatten(data: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in data.items():
        match value:
            case Mapping():
                yield from ((f"{name}.{inner}", inner_value) for inner, inner_value in value.items())
            case list():
                yield name, ", ".join(map(str, value)) or None
            case _:
                yield name, value
