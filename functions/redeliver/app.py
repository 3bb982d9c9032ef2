"""POST deliveries/{deliveryId}/redeliver: request a delivery again."""

from billing.api.endpoint import ResponseData
from billing.api.operations.redeliver import REDELIVER
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(REDELIVER)
def handler(request: ApiRequest) -> ResponseData:
    """Request the delivery, and return it."""
    return app.webhook_redelivery(request.account_id).redeliver(request.path_ids["deliveryId"], request.now)
