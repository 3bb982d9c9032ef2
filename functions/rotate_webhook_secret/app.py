"""POST webhook-endpoints/{endpointId}/rotate-secret: replace the secret of a webhook endpoint."""

from billing.api.endpoint import ResponseData
from billing.api.operations.rotate_webhook_secret import ROTATE_WEBHOOK_SECRET
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(ROTATE_WEBHOOK_SECRET)
def handler(request: ApiRequest) -> ResponseData:
    """Give the endpoint a new secret, and return both."""
    return app.webhook_endpoints(request.account_id).rotate_secret(request.path_ids["endpointId"], request.now)
