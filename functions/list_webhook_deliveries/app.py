"""GET webhook-endpoints/{endpointId}/deliveries: list the deliveries to a webhook endpoint."""

from billing.api.endpoint import ResponseData
from billing.api.operations.list_webhook_deliveries import LIST_WEBHOOK_DELIVERIES
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app
from billing.domain.cursors import decode_cursor, encode_cursor
from billing.domain.webhook_deliveries import EVENT_ID


@app.operation(LIST_WEBHOOK_DELIVERIES)
def handler(request: ApiRequest) -> ResponseData:
    """Return a page of deliveries, those of the newest events first."""
    after = decode_cursor(request.input.cursor, EVENT_ID) if request.input.cursor else None
    endpoint = app.webhook_endpoints(request.account_id).find(request.path_ids["endpointId"])
    page = app.webhook_repository.list_deliveries(endpoint.id, request.input.limit, after)
    return {
        "deliveries": page.deliveries,
        "next_cursor": encode_cursor(page.continues_after) if page.continues_after else None,
    }
