"""Where a command's words go: results to stdout, everything else to stderr.

With --json stdout carries one JSON object, or nothing where the command failed; the failure is then the last line of
stderr: {"error": {"code", "message"}}.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console, RenderableType

from billing.domain.errors import StoreUnavailable
from cli.failures import CommandFailed, explain_aws, explain_store


@dataclass(frozen=True, slots=True)
class Output:
    """A command's two streams, for people or for programs."""

    as_json: bool
    stdout: Console
    stderr: Console

    def result(self, facts: Mapping[str, Any], shown: RenderableType) -> None:
        """What the command brought: `facts` for programs, `shown` for people. Never wrapped where a line is copied."""
        if self.as_json:
            self.stdout.out(json.dumps(facts), highlight=False)
        else:
            self.stdout.print(shown, soft_wrap=isinstance(shown, str), markup=False, highlight=False)

    def note(self, text: str) -> None:
        """Something that a person should know; programs find it in the result."""
        if not self.as_json:
            self.stderr.print(text, soft_wrap=True, markup=False, highlight=False)

    def working(self, what: str) -> AbstractContextManager[object]:
        """Show on a terminal that something takes a while."""
        return self.stderr.status(what)

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
    output = Output(as_json, Console(), Console(stderr=True, quiet=as_json))
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
