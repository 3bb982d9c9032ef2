"""POST webhook-endpoints: create a webhook endpoint."""

from billing.api.endpoint import ResponseData
from billing.api.operations.create_webhook_endpoint import CREATE_WEBHOOK_ENDPOINT
from billing.api.pipeline import ApiRequest, declared_fields
from billing.api.webhook_schemas import WEBHOOK_ENDPOINT
from billing.bootstrap import app


@app.operation(CREATE_WEBHOOK_ENDPOINT)
def handler(request: ApiRequest) -> ResponseData:
    """Create an endpoint, and return it with its secret."""
    created = app.webhook_endpoints(request.account_id).create(
        request.input.url, request.input.events, request.input.description, request.now
    )
    endpoint = created.endpoint
    return declared_fields(endpoint, WEBHOOK_ENDPOINT) | {"secret": endpoint.secret, "warning": created.warning}
