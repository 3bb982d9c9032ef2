"""POST webhook-endpoints: create a webhook endpoint."""

from pydantic import Field

from billing.api.declaration import OperationDeclaration, object_of
from billing.api.request_models import RequestModel, Text
from billing.api.webhook_request_models import Description, EventTypes
from billing.api.webhook_schemas import SECRET, URL_WARNING, WEBHOOK_ENDPOINT
from billing.domain.credentials import SECRET_KEY_ONLY
from billing.domain.webhook_endpoints import ALL_EVENTS


class CreateWebhookEndpointRequest(RequestModel):
    """Request body."""

    url: Text = Field(description="Public `https` URL that receives the events.")
    events: EventTypes = Field(
        [ALL_EVENTS], description="Types of the events to send; `*` is every type, also future ones."
    )
    description: Description = Field("", description="Your description of the endpoint.")


CREATE_WEBHOOK_ENDPOINT = OperationDeclaration(
    name="create_webhook_endpoint",
    operation_id="createWebhookEndpoint",
    summary="Create a webhook endpoint",
    description="Creates an endpoint that receives the account's events from now on. An account has at most 16. The "
    "response contains the endpoint's secret. Store it: no later response contains it.",
    request=CreateWebhookEndpointRequest,
    response=object_of({**WEBHOOK_ENDPOINT, "secret": SECRET, "warning": URL_WARNING}),
    credentials=SECRET_KEY_ONLY,
)
