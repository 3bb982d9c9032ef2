"""Typer application of the `billing` command. Register each command here."""

from importlib.metadata import version
from typing import Annotated

import typer

from cli.commands import accounts, events, import_customers, keys, reconcile, sessions, setup, webhooks

app = typer.Typer(
    no_args_is_help=True,
    # Reflows the paragraphs of a docstring to the terminal's width.
    rich_markup_mode="markdown",
    # A traceback would show local variables, which hold keys.
    pretty_exceptions_enable=False,
    help="Set up and operate a serverless-billing deployment.",
    epilog="AWS credentials and region are resolved as by the AWS CLI. See docs/guides/operate.md for each task.",
)
app.command("setup")(setup.setup)
app.command("import")(import_customers.import_customers)
app.command("reconcile")(reconcile.reconcile)
app.add_typer(accounts.app, name="accounts")
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
app.add_typer(sessions.app, name="sessions")
app.add_typer(webhooks.app, name="webhooks")


def _print_version(value: bool) -> None:  # noqa: FBT001 - Typer's signature of a callback
    if value:
        typer.echo(version("serverless-billing"))
        raise typer.Exit


@app.callback()
def _billing(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...
