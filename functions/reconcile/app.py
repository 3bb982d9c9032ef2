"""Stripe's lists are compared with the table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from billing.adapters.repository import open_store
from billing.adapters.sqs import message_of, open_queue
from billing.adapters.stripe_gateway import connect_paced_payments
from billing.catalog import load_catalog
from billing.services.reconciler import Reconciler
from billing.services.reconciliation_job import ReconciliationRun
from billing.settings import load_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: Mapping[str, Any], context: "LambdaContext") -> None:
    """Go on with the run that a message names, or start one."""
    settings = load_settings()
    reconciler = Reconciler(open_store(), connect_paced_payments(), load_catalog(), settings.livemode)
    run = ReconciliationRun(open_store(), reconciler, open_queue(settings.reconcile_queue_url))
    run.work(message_of(event), lambda: context.get_remaining_time_in_millis() / 1000)
