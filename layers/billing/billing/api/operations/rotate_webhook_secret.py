"""POST webhook-endpoints/{endpointId}/rotate-secret: replace the secret of a webhook endpoint."""

from billing.api.declaration import TIME, OperationDeclaration, object_of, string
from billing.api.webhook_schemas import ENDPOINT_ID, SECRET, WEBHOOK_ENDPOINT
from billing.domain.credentials import SECRET_KEY_ONLY

ROTATE_WEBHOOK_SECRET = OperationDeclaration(
    name="rotate_webhook_secret",
    operation_id="rotateWebhookSecret",
    summary="Rotate the secret of a webhook endpoint",
    description="Gives an endpoint a new secret. For 24 hours, events are signed with the new and the previous secret. "
    "A secret before the previous one is no longer used.",
    path_ids=ENDPOINT_ID,
    response=object_of(
        {
            **WEBHOOK_ENDPOINT,
            "secret": SECRET,
            "previous_secret_expires_at": string("Time from which the previous secret is no longer used.", **TIME),
        }
    ),
    credentials=SECRET_KEY_ONLY,
)
