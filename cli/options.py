"""The arguments and options that several commands take."""

import re
from typing import Annotated

import typer

from billing.domain.stripe_objects import is_id

DEFAULT_STACK = "serverless-billing-dev"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing: say what would be done.")]
Email = Annotated[
    str | None, typer.Option("--email", callback=_email, help="Where Stripe sends receipts and invoices.")
]
