"""Arguments and options that several commands share."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from billing.domain.identifiers import is_id, is_stripe_id
from billing.domain.outbound_events import DEPLOYMENT_EVENT_TYPES
from billing.domain.webhook_endpoints import ALL_EVENTS

DEFAULT_STACK = "serverless-billing-dev"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
AGE = re.compile(r"([0-9]{1,5})([mhd])", re.ASCII)
AGE_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def _check_account_id(value: str) -> str:
    if not is_id(value):
        raise typer.BadParameter("an account id has 1 to 255 visible ASCII characters without #")
    return value


def _check_customer_id(value: str) -> str:
    if not is_stripe_id(value):
        raise typer.BadParameter("a customer id has 1 to 255 letters, digits, _, - and ., for example cus_ABC")
    return value


def _check_optional_account_id(value: str | None) -> str | None:
    return value if value is None else _check_account_id(value)


def _check_email(value: str | None) -> str | None:
    if value is not None and not EMAIL.fullmatch(value):
        raise typer.BadParameter(f"{value} is not an e-mail address")
    return value


def _check_event_types(values: list[str] | None) -> list[str] | None:
    for value in values or ():
        if value not in {ALL_EVENTS, *DEPLOYMENT_EVENT_TYPES}:
            raise typer.BadParameter(f"{value} is not one of {', '.join(DEPLOYMENT_EVENT_TYPES)}")
    return values or None


def parse_time(value: str) -> datetime:
    """Parse a time or an age. Raises BadParameter."""
    age = AGE.fullmatch(value)
    try:
        if age:
            return datetime.now(UTC) - int(age[1]) * AGE_UNITS[age[2]]
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("use a time such as 2026-11-21T14:00Z, or an age such as 90m, 6h or 2d") from None


def parse_past_time(value: str) -> datetime:
    """Parse a time that is not in the future, or an age. Raises BadParameter."""
    time = parse_time(value)
    if time > datetime.now(UTC):
        raise typer.BadParameter("the time is in the future")
    return time


StackName = Annotated[
    str, typer.Option("--stack", envvar="BILLING_STACK", help="Name of the CloudFormation stack.", metavar="NAME")
]
Region = Annotated[
    str | None,
    typer.Option("--region", help="AWS region of the stack. [default: the AWS CLI's region]", metavar="NAME"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object. Errors are JSON on stderr.")]
AccountId = Annotated[
    str,
    typer.Argument(metavar="ACCOUNT", callback=_check_account_id, help="Id of the account, as in your own product."),
]
CustomerId = Annotated[
    str, typer.Argument(metavar="CUSTOMER", callback=_check_customer_id, help="Id of the Stripe customer: cus_…")
]
AccountFilter = Annotated[
    str | None,
    typer.Option("--account", metavar="ACCOUNT", callback=_check_optional_account_id, help="Only this account."),
]
Since = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_past_time,
        metavar="TIME",
        help="Start: a time such as 2026-11-21, or an age such as 90m, 6h or 2d. [default: 30d]",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing. Show what would be done.")]
TakeOver = Annotated[
    bool,
    typer.Option("--take-over", help="Link customers although their metadata names another account."),
]
Email = Annotated[
    str | None,
    typer.Option("--email", callback=_check_email, metavar="EMAIL", help="Address for Stripe's receipts and invoices."),
]
EndpointId = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="Id of the endpoint: whe_…, as in `billing webhooks list`.")
]
EventTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        metavar="TYPE",
        callback=_check_event_types,
        autocompletion=lambda: [str(event_type) for event_type in DEPLOYMENT_EVENT_TYPES],
        help="Event type to send, for example invoice.paid. Repeat it for several types. [default: all types]",
    ),
]
WebhookAccount = Annotated[
    str | None,
    typer.Option(
        "--account",
        metavar="ACCOUNT",
        callback=_check_optional_account_id,
        help="Endpoints of this account. [default: those of the deployment]",
    ),
]
