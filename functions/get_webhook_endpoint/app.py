"""GET webhook-endpoints/{endpointId}: return a webhook endpoint."""

from billing.api.endpoint import ResponseData
from billing.api.operations.get_webhook_endpoint import GET_WEBHOOK_ENDPOINT
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(GET_WEBHOOK_ENDPOINT)
def handler(request: ApiRequest) -> ResponseData:
    """Return the endpoint."""
    return app.webhook_endpoints(request.account_id).find(request.path_ids["endpointId"])
