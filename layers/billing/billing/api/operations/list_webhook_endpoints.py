"""GET webhook-endpoints: list an account's webhook endpoints."""

from billing.api.declaration import OperationDeclaration, list_of, object_of
from billing.api.webhook_schemas import WEBHOOK_ENDPOINT
from billing.domain.credentials import SECRET_KEY_ONLY

LIST_WEBHOOK_ENDPOINTS = OperationDeclaration(
    name="list_webhook_endpoints",
    operation_id="listWebhookEndpoints",
    summary="List webhook endpoints",
    description="Returns all webhook endpoints of the account, oldest first, without their secrets.",
    response=object_of({"webhook_endpoints": list_of(WEBHOOK_ENDPOINT)}),
    credentials=SECRET_KEY_ONLY,
)
