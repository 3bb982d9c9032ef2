"""POST webhook-endpoints/{endpointId}/replay: send events again that an endpoint did not receive."""

from billing.api.endpoint import ResponseData
from billing.api.operations.replay_events import REPLAY_EVENTS
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app
from billing.domain.cursors import decode_cursor, encode_cursor
from billing.domain.webhook_deliveries import EVENT_ID, parse_since


@app.operation(REPLAY_EVENTS)
def handler(request: ApiRequest) -> ResponseData:
    """Request the missing deliveries among 100 events."""
    since = parse_since(request.input.since, request.now)
    after = decode_cursor(request.input.cursor, EVENT_ID) if request.input.cursor else None
    page = app.webhook_redelivery(request.account_id).replay(request.path_ids["endpointId"], since, request.now, after)
    return {
        "requested": page.requested,
        "next_cursor": encode_cursor(page.continues_after) if page.continues_after else None,
    }
