"""GET webhook-endpoints: list an account's webhook endpoints."""

from billing.api.endpoint import ResponseData
from billing.api.operations.list_webhook_endpoints import LIST_WEBHOOK_ENDPOINTS
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(LIST_WEBHOOK_ENDPOINTS)
def handler(request: ApiRequest) -> ResponseData:
    """Return all endpoints, oldest first."""
    return {"webhook_endpoints": app.webhook_endpoints(request.account_id).list()}
