"""PATCH webhook-endpoints/{endpointId}: change a webhook endpoint."""

from billing.api.endpoint import ResponseData
from billing.api.operations.update_webhook_endpoint import UPDATE_WEBHOOK_ENDPOINT
from billing.api.pipeline import ApiRequest, declared_fields
from billing.api.webhook_schemas import WEBHOOK_ENDPOINT
from billing.bootstrap import app
from billing.services.webhook_endpoints import EndpointChange


@app.operation(UPDATE_WEBHOOK_ENDPOINT)
def handler(request: ApiRequest) -> ResponseData:
    """Change the fields that the body has, and return the endpoint."""
    change = EndpointChange(**request.input.model_dump(exclude_unset=True))
    endpoint_id = request.path_ids["endpointId"]
    updated = app.webhook_endpoints(request.account_id).update(endpoint_id, change, request.now)
    return declared_fields(updated.endpoint, WEBHOOK_ENDPOINT) | {"warning": updated.warning}
