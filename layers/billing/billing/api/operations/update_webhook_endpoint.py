"""PATCH webhook-endpoints/{endpointId}: change a webhook endpoint."""

from pydantic import Field

from billing.api.declaration import OperationDeclaration, object_of
from billing.api.request_models import RequestModel, Text
from billing.api.webhook_request_models import Description, EventTypes
from billing.api.webhook_schemas import ENDPOINT_ID, URL_WARNING, WEBHOOK_ENDPOINT
from billing.domain.credentials import SECRET_KEY_ONLY


class UpdateWebhookEndpointRequest(RequestModel):
    """Request body. A field that is missing leaves its value as it is."""

    url: Text | None = Field(None, description="Public `https` URL that receives the events.")
    events: EventTypes | None = Field(
        None, description="Types of the events to send; `*` is every type, also future ones."
    )
    description: Description | None = Field(None, description="Your description of the endpoint.")
    enabled: bool | None = Field(
        None,
        description="`false` sends no more events. `true` sends events again from now on, and ends a pause.",
    )


UPDATE_WEBHOOK_ENDPOINT = OperationDeclaration(
    name="update_webhook_endpoint",
    operation_id="updateWebhookEndpoint",
    summary="Change a webhook endpoint",
    description="Changes the fields that the body has. Events that were not sent while the endpoint was disabled can "
    "be requested with a replay.",
    request=UpdateWebhookEndpointRequest,
    path_ids=ENDPOINT_ID,
    response=object_of({**WEBHOOK_ENDPOINT, "warning": URL_WARNING}),
    credentials=SECRET_KEY_ONLY,
)
