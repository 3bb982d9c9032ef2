"""Stripe tells what happened."""

from billing.catalog import load_catalog
from billing.contracts.contract import Operation
from billing.domain.stripe_events import Target
from billing.endpoint import Call, Facts, operation
from billing.event_processor import EventProcessor, Fetched
from billing.parsing import parse_json
from billing.settings import load_settings, load_stripe_secrets
from billing.store import open_store
from billing.webhook_signature import verify


@operation(Operation.STRIPE_WEBHOOK)
def handler(call: Call) -> Facts:
    """Accept what Stripe signed, and answer 200 only once it is durable."""
    verify(call.raw_body, call.headers.get("stripe-signature"), load_stripe_secrets().webhook_secrets, call.now)
    processor = EventProcessor(open_store(), load_catalog(), _fetch, load_settings().livemode)
    return {"outcome": processor.process(parse_json(call.raw_body))}


def _fetch(target: Target) -> Fetched | None:
    from billing.payments import connect_payments  # noqa: PLC0415 - imports stripe, which few events need

    return connect_payments().fetch(target, load_catalog())
