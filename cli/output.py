"""Where a command's words go: results to stdout, everything else to stderr.

With --json stdout carries one JSON object, or nothing where the command failed; the failure is then the last line of
stderr: {"error": {"code", "message"}}.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from billing.domain.errors import StoreUnavailable
from cli.failures import CommandFailed, explain_aws, explain_store

FOUND_SOMETHING = 3
"""The exit code of a command that did its work, and found what an operator should look at."""


@dataclass(frozen=True, slots=True)
class Output:
    """A command's results and messages, for people or for programs. Lines are never wrapped or cut: ids are copied."""

    as_json: bool
    stderr: Console

    def result(self, facts: Mapping[str, Any], shown: str) -> None:
        """What the command brought: `facts` for programs, `shown` for people."""
        typer.echo(json.dumps(facts) if self.as_json else shown)

    def note(self, text: str) -> None:
        """Something that a person should know; programs find it in the result."""
        if not self.as_json:
            self.stderr.print(text, soft_wrap=True, markup=False, highlight=False)

    def working(self, what: str) -> AbstractContextManager[object]:
        """Show on a terminal that something takes a while."""
        return self.stderr.status(what)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show on a terminal how far something has come, by what the given function is called with."""
        with self.stderr.status(what) as status:
            yield lambda how_far: status.update(f"{what}: {how_far}")

    def failed(self, failure: CommandFailed) -> None:
        """Why the command could not do its work."""
        if self.as_json:
            error = {"error": {"code": failure.code, "message": failure.message}}
            typer.echo(json.dumps(error), err=True)
        else:
            self.stderr.print(f"Error: {failure.message}", style="red", soft_wrap=True, markup=False, highlight=False)


@contextmanager
def reporting(*, as_json: bool) -> Iterator[Output]:
    """The output of a command that runs inside; what keeps it from its work becomes one line and exit code 1."""
    output = Output(as_json, Console(stderr=True, quiet=as_json))
    try:
        yield output
    except CommandFailed as error:
        failure = error
    except StoreUnavailable as error:
        failure = explain_store(error)
    except (BotoCoreError, ClientError) as error:
        failure = explain_aws(error)
    else:
        return
    output.failed(failure)
    raise typer.Exit(1)


def columns(rows: Sequence[Sequence[object]]) -> str:
    """Rows as lines of aligned columns. What is not there shows as a dash."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in texts)
    return "\n".join(line.rstrip() for line in lines)


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
