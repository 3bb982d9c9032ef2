"""`billing events`: find, inspect and replay Stripe events. See docs/guides/inspect-and-replay-events.md."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import batched, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billing.domain.identifiers import is_id
from billing.stripe_events.event_types import EVENT_PARSERS, THIN_V1_PREFIX
from cli.accounts import load_existing
from cli.deployment import Deployment, find_deployment
from cli.event_log import OPEN, Entry, Found, Question, recorded
from cli.failures import refuse
from cli.options import DEFAULT_STACK, AsJson, DryRun, OneAccount, Region, Since, Stack, moment
from cli.output import FOUND_SOMETHING, columns, reporting

if TYPE_CHECKING:
    from cli.event_replay import Replayer

LISTED = timedelta(days=30)
"""For how long Stripe has an event: https://docs.stripe.com/api/events."""
GONE = "gone"
"""Stripe does not have the event any more."""
REPLAYED = (*OPEN, Found.ABSENT)
"""What there is a reason to process again."""
SETTLED = frozenset({"applied", "no_change", "ignored", "duplicate"})
"""Outcomes after which nobody has to look again."""


def _type(value: str | None) -> str | None:
    if value is not None and value.removeprefix(THIN_V1_PREFIX) not in EVENT_PARSERS:
        raise typer.BadParameter(f"{value} is not a type that is handled")
    return value


def _event_id(value: str) -> str:
    if not is_id(value):
        raise typer.BadParameter("an event's id has 1 to 255 visible ASCII characters, as in evt_…")
    return value


def _event_ids(values: list[str] | None) -> list[str] | None:
    return values and [_event_id(value) for value in values]


Until = Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="The same. (default: now)")]
Type = Annotated[str | None, typer.Option(metavar="TYPE", callback=_type, help="Such as invoice.paid.")]
OneOutcome = Annotated[Found | None, typer.Option("--outcome", help="What became of it; absent: it never came.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, the latest first.")]
EventId = Annotated[str, typer.Argument(metavar="EVENT", callback=_event_id, help="The id of an event: evt_…")]
EventIds = Annotated[
    list[str] | None, typer.Argument(metavar="[EVENT]…", callback=_event_ids, help="Ids of events: evt_…")
]

app = typer.Typer(help="Find, understand and replay Stripe's events.", no_args_is_help=True)


@app.command("list")
def list_events(
    account: OneAccount = None,
    type: Type = None,  # noqa: A002 - the option's name
    outcome: OneOutcome = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List events with what became of them, the latest first.

    By account, or by an outcome that is worth another look, the table knows them. Otherwise Stripe's own list is read
    beside it, so that events that never came are shown too.
    """
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        question = _question(deployment, since, until, account, type, outcome)
        with output.working("Looking through the events"):
            entries = _look(deployment, question, limit + 1)
        shown = entries[:limit]
        facts = {"events": [dict(entry.facts) for entry in shown], "has_more": len(entries) > limit}
        output.result(facts, columns([entry.row for entry in shown]) if shown else "No such event.")
        if facts["has_more"]:
            output.note("There are more: use --limit, or --until with the time of the last one.")


@app.command()
def show(event: EventId, stack: Stack = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """Show what is recorded of an event beside what Stripe has of it."""
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        marker = deployment.repository().find_markers([event]).get(event)
        with output.working("Asking Stripe"), _connected(deployment) as replayer:
            from cli.event_replay import summary  # noqa: PLC0415 - imports stripe

            found = replayer.find(event)
        if marker is None and found is None:
            refuse("event_not_found", f"Neither the table nor Stripe, which keeps events for 30 days, has {event}.")
        known, told = Entry.of(marker).facts if marker else None, summary(found) if found else None
        output.result({"recorded": known, "stripe": told}, _beside(known, told))


@app.command()
def replay(
    events: EventIds = None,
    account: OneAccount = None,
    type: Type = None,  # noqa: A002 - the option's name
    outcome: OneOutcome = None,
    since: Since = None,
    until: Until = None,
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fetch events from Stripe and process them again: those named, or all with an outcome that is not final.

    What was done is not done again. The exit code is 3 if one of them still needs somebody.
    """
    if (events is None) == (outcome is None) or outcome not in {None, *REPLAYED}:
        raise typer.BadParameter(f"name either events or one --outcome: {', '.join(REPLAYED)}")
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        question = _question(deployment, since, until, account, type, outcome)
        with output.progress("Replaying") as tell:
            entries = _open(deployment, question) if events is None else _named(deployment, events)
            done = [(entry, None) for entry in entries] if dry_run else _replayed(deployment, entries, tell)
        facts = [{**entry.facts, "before": entry.found, "outcome": after} for entry, after in done]
        rows = [(entry.id, entry.type, entry.found, after or "would be replayed") for entry, after in done]
        output.result({"dry_run": dry_run, "events": facts}, columns(rows) if rows else "No such event.")
    if any(after and after not in SETTLED for _, after in done):
        raise typer.Exit(FOUND_SOMETHING)


@app.command()
def redrive(stack: Stack = DEFAULT_STACK, region: Region = None, *, as_json: AsJson = False) -> None:
    """Process the events from EventBridge that lie in the dead-letter queue, and take them out of it."""
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        if deployment.dead_letters_url is None:
            refuse(
                "no_dead_letters",
                f"{deployment.stack_name} takes no events from EventBridge (docs/guides/eventbridge.md).",
            )
        with output.working("Redriving"), _connected(deployment) as replayer:
            done = list(replayer.redriven())
        facts = {"events": [{"id": event_id, "outcome": outcome} for event_id, outcome in done]}
        output.result(facts, columns(done) if done else "The dead-letter queue is empty.")
    if any(outcome not in SETTLED for _, outcome in done):
        raise typer.Exit(FOUND_SOMETHING)


def _question(
    deployment: Deployment,
    since: datetime | None,
    until: datetime | None,
    account_id: str | None,
    event_type: str | None,
    found: Found | None,
) -> Question:
    """What is asked for. Raises CommandFailed for an account that nobody created."""
    if account_id:
        load_existing(deployment.repository(), account_id)
    now = datetime.now(UTC)
    return Question(since or now - LISTED, until or now, account_id, event_type, found)


def _look(deployment: Deployment, question: Question, limit: int | None) -> list[Entry]:
    if not question.is_for_stripe:
        return list(islice(recorded(deployment.repository(), question), limit))
    with _connected(deployment) as replayer:
        return list(islice(replayer.listed(question), limit))


def _open(deployment: Deployment, question: Question) -> list[Entry]:
    return [entry for entry in _look(deployment, question, None) if not entry.is_mending]


def _named(deployment: Deployment, event_ids: Sequence[str]) -> list[Entry]:
    """The events of these ids, each once, with what is recorded of them. Raises CommandFailed."""
    repository, ids = deployment.repository(), list(dict.fromkeys(event_ids))
    markers = {
        name: marker
        for page in batched(ids, 100, strict=False)
        for name, marker in repository.find_markers(page).items()
    }
    entries = [Entry.of(markers[each]) if each in markers else Entry(each, "unknown", Found.ABSENT) for each in ids]
    for entry in entries:
        if entry.is_mending:
            account = entry.account_id or "ACCOUNT"
            refuse("no_event", f"{entry.id} is no event of Stripe's: use `billing reconcile --account {account}`.")
    return entries


def _replayed(
    deployment: Deployment, entries: Sequence[Entry], tell: Callable[[str], None]
) -> list[tuple[Entry, str | None]]:
    done: list[tuple[Entry, str | None]] = []
    with _connected(deployment) as replayer:
        for number, entry in enumerate(entries, start=1):
            tell(f"{number} of {len(entries)}")
            done.append((entry, replayer.replay(entry.id) or GONE))
    return done


@contextmanager
def _connected(deployment: Deployment) -> Iterator["Replayer"]:
    """The deployment's Stripe. Raises CommandFailed for what Stripe does not do."""
    from cli.comparison import silenced, stripe_explained  # noqa: PLC0415 - imports stripe, as does what follows
    from cli.event_replay import Replayer  # noqa: PLC0415

    with silenced(), stripe_explained():
        yield Replayer.connected(deployment)


def _beside(known: Mapping[str, Any] | None, told: Mapping[str, Any] | None) -> str:
    """Two lists of facts, one below the other."""
    parts = {"Recorded": known or {"outcome": Found.ABSENT}, "Stripe": told or {"outcome": GONE}}
    return "\n\n".join(f"{title}\n{columns(list(_flat(facts)))}" for title, facts in parts.items())


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in facts.items():
        match value:
            case Mapping():
                yield from ((f"{name}.{inner}", fact) for inner, fact in value.items())
            case list():
                yield name, ", ".join(map(str, value)) or None
            case _:
                yield name, value
