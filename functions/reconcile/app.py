"""Scheduled reconciliation: compare Stripe's lists with the table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from billing.adapters.sqs import message_of
from billing.bootstrap import app

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: Mapping[str, Any], context: "LambdaContext") -> None:
    """Continue the run that a message names, or start one."""
    app.reconciliation_job().work(message_of(event), lambda: context.get_remaining_time_in_millis() / 1000)
