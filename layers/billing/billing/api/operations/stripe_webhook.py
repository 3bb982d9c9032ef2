"""POST webhooks: receive Stripe events."""

from billing.api.declaration import OperationDeclaration, object_of, string
from billing.domain.credentials import NO_CREDENTIAL
from billing.domain.errors import (
    EventUnidentified,
    SignatureInvalid,
    StoreUnavailable,
    StripeRefused,
    StripeUnavailable,
)

STRIPE_WEBHOOK = OperationDeclaration(
    name="stripe_webhook",
    operation_id="receiveStripeEvent",
    summary="Receive a Stripe event",
    description="Webhook endpoint for Stripe, which signs the body. The response is sent once the event is durable. "
    "A duplicate has no effect.",
    response=object_of({"received": {"const": True}, "outcome": string("Outcome of the event.")}),
    credentials=NO_CREDENTIAL,
    errors=(SignatureInvalid, EventUnidentified, StripeRefused, StripeUnavailable, StoreUnavailable),
    parameters=(
        {
            "name": "Stripe-Signature",
            "in": "header",
            "required": True,
            "description": "Timestamp and signatures of the body: https://docs.stripe.com/webhooks/signature.",
            "schema": {
                "type": "string",
                "maxLength": 4096,
                "pattern": "^t=[0-9]{1,12},v1=[0-9a-f]{64}(,v[0-9]=[0-9a-f]{64})*$",
            },
        },
    ),
    body={"type": "object", "description": "Stripe Event object, exactly as signed."},
)
