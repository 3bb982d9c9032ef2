"""Output of the commands: results on stdout, notes, progress and errors on stderr.

With --json, stdout has one JSON object. If the command fails, stdout is empty and the last line of stderr is
{"error": {"code", "message"}}.
"""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from billing.domain.errors import ConfigurationMissing, QueueUnavailable, StoreUnavailable
from cli.errors import CommandFailed, map_aws_error, map_service_error

NEEDS_ATTENTION = 3
"""Exit code of a command that succeeded and found something that needs an operator."""

type ShowProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Output:
    """Results and messages of one command. Lines are neither wrapped nor cut, so that ids can be copied."""

    as_json: bool
    stderr: Console

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """Print the result: `data` with --json, else `text`."""
        typer.echo(json.dumps(data) if self.as_json else text)

    def note(self, text: str) -> None:
        """Print a hint for the operator. With --json nothing is printed: the result has the same information."""
        if not self.as_json:
            self.stderr.print(text, soft_wrap=True, markup=False, highlight=False)

    def working(self, task: str) -> AbstractContextManager[object]:
        """Show a spinner on a terminal."""
        return self.stderr.status(task)

    @contextmanager
    def progress(self, task: str) -> Iterator[ShowProgress]:
        """Show a spinner on a terminal, with the text that is passed to the returned function."""
        with self.stderr.status(task) as status:
            yield lambda text: status.update(f"{task}: {text}")

    def error(self, failure: CommandFailed) -> None:
        """Print why the command failed."""
        if self.as_json:
            error = {"error": {"code": failure.code, "message": failure.message}}
            typer.echo(json.dumps(error), err=True)
        else:
            self.stderr.print(f"Error: {failure.message}", style="red", soft_wrap=True, markup=False, highlight=False)


@contextmanager
def command_output(*, as_json: bool) -> Iterator[Output]:
    """Return the output of a command. An error of the command or of AWS is printed, with exit code 1."""
    output = Output(as_json, Console(stderr=True, quiet=as_json))
    try:
        yield output
    except CommandFailed as error:
        failure = error
    except (StoreUnavailable, QueueUnavailable) as error:
        failure = map_service_error(error)
    except ConfigurationMissing as error:
        if not isinstance(error.__cause__, ClientError):
            raise
        failure = map_aws_error(error.__cause__)
    except (BotoCoreError, ClientError) as error:
        failure = map_aws_error(error)
    else:
        return
    output.error(failure)
    raise typer.Exit(1)


@contextmanager
def suppress_logs() -> Iterator[None]:
    """Suppress logs and metrics of the `billing` package. They are written for CloudWatch."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def columns(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as lines of aligned columns. None is shown as a dash."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in texts)
    return "\n".join(line.rstrip() for line in lines)


def printable(text: str) -> str:
    """Return a text of others without control characters, which would reach the terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
