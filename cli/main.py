"""`billing`, the operator's command: everything that is typed once, before or beside the running service."""

from importlib.metadata import version
from typing import Annotated

import typer

from cli import accounts, events, keys, sessions
from cli.reconcile import reconcile
from cli.setup import setup
from cli.stripe_import import stripe_import

# A traceback must not show what is in local variables: keys are.
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Set up and operate a serverless-billing deployment.",
    epilog="AWS credentials and region come from where the AWS CLI takes them. docs/guides/operate.md shows each task.",
)
app.command()(setup)
app.command("import")(stripe_import)
app.command()(reconcile)
app.add_typer(accounts.app, name="accounts")
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
app.add_typer(sessions.app, name="sessions")


def _print_version(value: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if value:
        typer.echo(version("serverless-billing"))
        raise typer.Exit


@app.callback()
def _billing(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...
