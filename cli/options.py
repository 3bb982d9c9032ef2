"""The arguments and options that several commands take."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from billing.domain.identifiers import is_id

DEFAULT_STACK = "serverless-billing-dev"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
AGO = re.compile(r"([0-9]{1,5})([mhd])", re.ASCII)
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def _account_id(value: str) -> str:
    if not is_id(value):
        raise typer.BadParameter("an account id has 1 to 255 visible ASCII characters, and no #")
    return value


def _customer_id(value: str) -> str:
    if not is_id(value):
        raise typer.BadParameter("a Stripe id has 1 to 255 visible ASCII characters, as in cus_…")
    return value


def _one_account(value: str | None) -> str | None:
    return value if value is None else _account_id(value)


def _email(value: str | None) -> str | None:
    if value is not None and not EMAIL.fullmatch(value):
        raise typer.BadParameter("this is no e-mail address")
    return value


def moment(value: str) -> datetime:
    """A time, or how long ago it was. Raises BadParameter."""
    ago = AGO.fullmatch(value)
    try:
        if ago:
            return datetime.now(UTC) - int(ago[1]) * UNITS[ago[2]]
        given = datetime.fromisoformat(value)
        return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("neither a time such as 2026-11-21T14:00Z nor an age such as 90m, 6h, 2d") from None


def _past(value: str) -> datetime:
    since = moment(value)
    if since > datetime.now(UTC):
        raise typer.BadParameter("this is in the future")
    return since


Stack = Annotated[str, typer.Option("--stack", envvar="BILLING_STACK", help="The CloudFormation stack to work on.")]
Region = Annotated[
    str | None, typer.Option("--region", help="Its AWS region. (default: what the AWS CLI would use)", metavar="NAME")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON object; errors too, on stderr.")]
AccountId = Annotated[
    str, typer.Argument(metavar="ACCOUNT", callback=_account_id, help="The account's id, as your product names it.")
]
CustomerId = Annotated[
    str, typer.Argument(metavar="CUSTOMER", callback=_customer_id, help="The id of a customer in Stripe: cus_…")
]
OneAccount = Annotated[
    str | None,
    typer.Option("--account", metavar="ACCOUNT", callback=_one_account, help="Look at one account only."),
]
Since = Annotated[
    datetime | None, typer.Option(parser=_past, metavar="TIME", help="2026-11-21, or 90m, 6h, 2d ago. (default: 30d)")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing: say what would be done.")]
Email = Annotated[
    str | None, typer.Option("--email", callback=_email, help="Where Stripe sends receipts and invoices.")
]
