"""Schemas of webhook endpoints and deliveries in responses, as properties by name."""

from collections.abc import Mapping

from billing.api.declaration import TIME, URI, JsonSchema, PathId, boolean, integer, list_of, nullable, string
from billing.domain.outbound_events import ACCOUNT_EVENT_TYPES
from billing.domain.webhook_deliveries import DeliveryError, DeliveryStatus
from billing.domain.webhook_endpoints import ALL_EVENTS, DisabledReason

SUBSCRIBABLE_EVENTS = [ALL_EVENTS, *ACCOUNT_EVENT_TYPES]
"""Values of an endpoint's `events`."""

ENDPOINT_ID = {"endpointId": PathId("webhook endpoint", "Id of the webhook endpoint.")}
DELIVERY_ID = {"deliveryId": PathId("delivery", "Id of the delivery.")}

WEBHOOK_ENDPOINT: Mapping[str, JsonSchema] = {
    "id": string("Id of the webhook endpoint."),
    "url": string("URL that receives the events.", **URI),
    "events": {
        "type": "array",
        "items": {"type": "string", "enum": SUBSCRIBABLE_EVENTS},
        "description": "Types of the events to send; `*` is every type.",
    },
    "description": string("Your description of the endpoint."),
    "enabled": boolean("True if events are sent."),
    "disabled_reason": nullable(
        string(
            "Reason for which the endpoint is disabled: your `request`, a response of 410 (`gone`), or five days "
            "without success (`failing`). Null if it is enabled.",
            enum=[*DisabledReason, None],
        )
    ),
    "disabled_at": nullable(string("Time at which the endpoint was disabled; null if it is enabled.", **TIME)),
    "created": string("Time of creation.", **TIME),
}

SECRET: JsonSchema = string("Secret that signs the events, `whsec_…`. No other response contains it.")

URL_WARNING: JsonSchema = nullable(
    string("Problem with the URL that does not prevent the change, for example a host name that does not resolve.")
)

WEBHOOK_DELIVERY: Mapping[str, JsonSchema] = {
    "id": string("Id of the delivery."),
    "event_id": string("Id of the event, as in the header `webhook-id`."),
    "event_type": string("Type of the event."),
    "status": string(
        "`pending` if another attempt follows, `delivered` after a 2xx response, else `failed`.",
        enum=[*DeliveryStatus],
    ),
    "attempts": list_of(
        {
            "started": string("Time at which the request was sent.", **TIME),
            "status_code": nullable(integer("HTTP status of the response; null if there was none.")),
            "latency_ms": nullable(integer("Milliseconds until the response; null without a result.", minimum=0)),
            "error": nullable(
                string("Reason why there was no response; null if there was one.", examples=[*DeliveryError])
            ),
        }
    )
    | {"description": "Requests to the endpoint, the first one first."},
    "next_attempt_at": nullable(string("Earliest time of the next attempt; null if none is scheduled.", **TIME)),
    "response_body": nullable(string("First 4 KB of the last response.")),
    "reason": nullable(string("Reason why no further attempt follows, if it is not the last response.")),
    "created": string("Time at which the delivery was requested.", **TIME),
}
