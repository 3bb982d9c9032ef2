"""GET webhook-endpoints/{endpointId}/deliveries: list the deliveries to a webhook endpoint."""

from pydantic import Field

from billing.api.declaration import OperationDeclaration, list_of, nullable, object_of, string
from billing.api.request_models import Cursor, QueryInteger, RequestModel
from billing.api.webhook_schemas import ENDPOINT_ID, WEBHOOK_DELIVERY
from billing.domain.credentials import SECRET_KEY_ONLY

DELIVERIES_MAX = 100


class ListWebhookDeliveriesRequest(RequestModel):
    """Query string."""

    limit: QueryInteger = Field(10, ge=1, le=DELIVERIES_MAX, description="Maximum number of deliveries to return.")
    cursor: Cursor | None = Field(None, description="`next_cursor` of the previous page.")


LIST_WEBHOOK_DELIVERIES = OperationDeclaration(
    name="list_webhook_deliveries",
    operation_id="listWebhookDeliveries",
    summary="List deliveries",
    description="Returns one page of the deliveries to an endpoint, those of the newest events first. Deliveries are "
    "kept for 30 days.",
    request=ListWebhookDeliveriesRequest,
    path_ids=ENDPOINT_ID,
    response=object_of(
        {
            "deliveries": list_of(WEBHOOK_DELIVERY),
            "next_cursor": nullable(string("`cursor` of the next page; null on the last page.")),
        }
    ),
    credentials=SECRET_KEY_ONLY,
)
