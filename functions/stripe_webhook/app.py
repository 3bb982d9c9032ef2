"""Stripe tells what happened."""

from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, operation
from billing.api.request_parsing import parse_json
from billing.bootstrap import open_event_processor
from billing.domain.errors import SignatureInvalid
from billing.settings import SECRETS_AGE_SECONDS_MAX, SECRETS_REREAD_SECONDS_MIN, load_stripe_secrets
from billing.stripe_events.webhook_signature import verify


@operation(Operation.STRIPE_WEBHOOK)
def handler(call: Call) -> Facts:
    """Accept what Stripe signed, and answer 200 only once it is durable."""
    try:
        _verify(call, SECRETS_AGE_SECONDS_MAX)
    except SignatureInvalid:
        # Perhaps signed with a secret that is newer than the ones that this process knows.
        _verify(call, SECRETS_REREAD_SECONDS_MIN)
    return {"outcome": open_event_processor().process(parse_json(call.raw_body))}


def _verify(call: Call, age_seconds_max: int) -> None:
    secrets = load_stripe_secrets(age_seconds_max).webhook_secrets
    verify(call.raw_body, call.headers.get("stripe-signature"), secrets, call.now)
