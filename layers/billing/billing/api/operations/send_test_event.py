"""POST webhook-endpoints/{endpointId}/test: send a test event."""

from billing.api.declaration import OperationDeclaration, boolean, integer, nullable, object_of, string
from billing.api.webhook_schemas import ENDPOINT_ID
from billing.domain.credentials import SECRET_KEY_ONLY
from billing.domain.webhook_deliveries import DeliveryError

SEND_TEST_EVENT = OperationDeclaration(
    name="send_test_event",
    operation_id="sendTestEvent",
    summary="Send a test event",
    description="Sends a signed `webhook_endpoint.test` event once, also to a disabled endpoint, and waits up to ten "
    "seconds for the response. The list of deliveries does not contain it.",
    path_ids=ENDPOINT_ID,
    response=object_of(
        {
            "delivered": boolean("True if the endpoint returned a 2xx status."),
            "status_code": nullable(integer("HTTP status of the response; null if there was none.")),
            "latency_ms": integer("Milliseconds until the response or the error.", minimum=0),
            "error": nullable(
                string("Reason why there was no response; null if there was one.", enum=[*DeliveryError, None])
            ),
            "error_message": nullable(string("Description of the error, for people. It can change.")),
            "response_body": nullable(string("First 4 KB of the response; null if it is empty.")),
        }
    ),
    credentials=SECRET_KEY_ONLY,
)
