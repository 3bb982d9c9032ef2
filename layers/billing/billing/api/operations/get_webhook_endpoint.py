"""GET webhook-endpoints/{endpointId}: return a webhook endpoint."""

from billing.api.declaration import OperationDeclaration, object_of
from billing.api.webhook_schemas import ENDPOINT_ID, WEBHOOK_ENDPOINT
from billing.domain.credentials import SECRET_KEY_ONLY

GET_WEBHOOK_ENDPOINT = OperationDeclaration(
    name="get_webhook_endpoint",
    operation_id="getWebhookEndpoint",
    summary="Get a webhook endpoint",
    description="Returns a webhook endpoint without its secret.",
    path_ids=ENDPOINT_ID,
    response=object_of(WEBHOOK_ENDPOINT),
    credentials=SECRET_KEY_ONLY,
)
