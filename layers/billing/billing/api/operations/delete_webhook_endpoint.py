"""DELETE webhook-endpoints/{endpointId}: delete a webhook endpoint."""

from billing.api.declaration import OperationDeclaration, object_of, string
from billing.api.webhook_schemas import ENDPOINT_ID
from billing.domain.credentials import SECRET_KEY_ONLY

DELETE_WEBHOOK_ENDPOINT = OperationDeclaration(
    name="delete_webhook_endpoint",
    operation_id="deleteWebhookEndpoint",
    summary="Delete a webhook endpoint",
    description="Deletes an endpoint with its secrets. Its pending deliveries fail.",
    path_ids=ENDPOINT_ID,
    response=object_of({"id": string("Id of the deleted webhook endpoint."), "deleted": {"const": True}}),
    credentials=SECRET_KEY_ONLY,
)
