"""POST webhook-endpoints/{endpointId}/replay: send events again that an endpoint did not receive."""

from pydantic import Field

from billing.api.declaration import TIME, OperationDeclaration, integer, nullable, object_of, string
from billing.api.request_models import Cursor, RequestModel, Text
from billing.api.webhook_schemas import ENDPOINT_ID
from billing.domain.credentials import SECRET_KEY_ONLY
from billing.domain.errors import QueueUnavailable
from billing.domain.timestamps import UTC_TIME


class ReplayEventsRequest(RequestModel):
    """Request body."""

    since: Text = Field(
        description="Time of the first event, ISO 8601 in UTC with `Z`, not in the future.",
        json_schema_extra={**TIME, "pattern": f"^{UTC_TIME.pattern}$"},
    )
    cursor: Cursor | None = Field(None, description="`next_cursor` of the previous response, to continue the replay.")


REPLAY_EVENTS = OperationDeclaration(
    name="replay_events",
    operation_id="replayEvents",
    summary="Replay events",
    description="Requests a delivery of each event that the endpoint did not receive, among 100 events of the types "
    "that it subscribes to. Repeat the request with `next_cursor` until it is null. Events are kept for 35 days.",
    request=ReplayEventsRequest,
    path_ids=ENDPOINT_ID,
    response=object_of(
        {
            "requested": integer("Number of deliveries that were requested.", minimum=0),
            "next_cursor": nullable(string("`cursor` of the next request; null at the end of the events.")),
        }
    ),
    credentials=SECRET_KEY_ONLY,
    errors=(QueueUnavailable,),
)
