"""POST webhook-endpoints/{endpointId}/test: send a test event."""

from billing.api.endpoint import ResponseData
from billing.api.operations.send_test_event import SEND_TEST_EVENT
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app


@app.operation(SEND_TEST_EVENT)
def handler(request: ApiRequest) -> ResponseData:
    """Send the event, and return the endpoint's response or the error."""
    result = app.webhook_endpoints(request.account_id).send_test(request.path_ids["endpointId"], request.now)
    return {
        "delivered": result.is_success,
        "status_code": result.status_code,
        "latency_ms": result.latency_ms,
        "error": result.error,
        "error_message": result.error_message,
        "response_body": result.body or None,
    }
