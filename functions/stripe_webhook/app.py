"""POST webhooks: receive Stripe events."""

from billing.adapters.secrets import SECRETS_AGE_SECONDS_MAX, SECRETS_REREAD_SECONDS_MIN
from billing.api.endpoint import ResponseData
from billing.api.operations.stripe_webhook import STRIPE_WEBHOOK
from billing.api.pipeline import ApiRequest
from billing.api.request_parsing import parse_json
from billing.bootstrap import app
from billing.domain.errors import SignatureInvalid
from billing.stripe_events.webhook_signature import verify


@app.operation(STRIPE_WEBHOOK)
def handler(request: ApiRequest) -> ResponseData:
    """Verify the signature and process the event. The response is 200 only once the effect is durable."""
    try:
        _verify(request, SECRETS_AGE_SECONDS_MAX)
    except SignatureInvalid:
        # The event may be signed with a secret that was added after this process read them.
        _verify(request, SECRETS_REREAD_SECONDS_MIN)
    return {"outcome": app.event_processor().process(parse_json(request.raw_body))}


def _verify(request: ApiRequest, age_seconds_max: int) -> None:
    secrets = app.stripe_secrets.get(age_seconds_max).webhook_secrets
    verify(request.raw_body, request.headers.get("stripe-signature"), secrets, request.now)
