"""DELETE webhook-endpoints/{endpointId}: delete a webhook endpoint."""

from billing.api.endpoint import ResponseData
from billing.api.operations.delete_webhook_endpoint import DELETE_WEBHOOK_ENDPOINT
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(DELETE_WEBHOOK_ENDPOINT)
def handler(request: ApiRequest) -> ResponseData:
    """Delete the endpoint."""
    endpoint_id = request.path_ids["endpointId"]
    app.webhook_endpoints(request.account_id).delete(endpoint_id)
    return {"id": endpoint_id}
