"""Schemas of outbound events, as their receivers get them. The native contract's OpenAPI document contains them.

Objects are open: a receiver must ignore fields that it does not know. `API_VERSION` changes only if a field is removed
or changes its meaning.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.api.declaration import TIME, URI, JsonSchema, boolean, integer, nullable, open_object, string
from billing.api.invoice_schema import INVOICE
from billing.domain.outbound_events import API_VERSION, OutboundEventType
from billing.domain.webhook_endpoints import DisabledReason


@dataclass(frozen=True, slots=True)
class WebhookEventDeclaration:
    """Outbound events about one kind of object.

    Attributes:
        name: Name of the schema in OpenAPI documents.
        types: Description of each type of event.
        properties: Schemas of the object's fields.
        has_account: True if the object always belongs to an account.
        has_previous: True if an event can be about a change.
    """

    name: str
    types: Mapping[OutboundEventType, str]
    properties: Mapping[str, JsonSchema]
    has_account: bool = True
    has_previous: bool = True

    @property
    def schema(self) -> JsonSchema:
        """Schema of the body of a delivery."""
        account = string("Account of the object.")
        return open_object(
            {
                "id": string("Id of the event, the same in every delivery.", pattern="^msg_[0-9a-f]{26,}$"),
                "type": string("Type of the event.", enum=[*self.types]),
                "timestamp": string("Time at which the object was in this state.", **TIME),
                "api_version": {"const": API_VERSION, "description": "Version of the event format."},
                "account_id": account if self.has_account else nullable(account),
                "sequence": integer("Number of the event among those of its object, without gaps.", minimum=1),
                "data": open_object({"object": self._object, "previous": self._previous})
                | {"description": "State of the object, and what changed."},
            }
        )

    @property
    def _object(self) -> JsonSchema:
        return open_object(self.properties) | {"description": "State of the object after the change."}

    @property
    def _previous(self) -> JsonSchema:
        if not self.has_previous:
            return {"type": "null", "description": "Always null: the event is not about a change."}
        description = "Former values of the fields that changed; null if the object is new."
        return nullable({"type": "object", "properties": dict(self.properties), "description": description})


# --- Objects ----------------------------------------------------------------------------------------------------------

SUBSCRIPTION: Mapping[str, JsonSchema] = {
    "id": string("Stripe id of the subscription."),
    "plan": nullable(string("Plan of the subscription; null while its account is not certain.")),
    "status": string("Stripe's status of the subscription.", examples=["active", "past_due", "canceled"]),
    "price_id": nullable(string("Stripe id of the price.")),
    "unit_amount": nullable(integer("Amount per interval and unit in the currency's minor unit.")),
    "currency": nullable(string("ISO 4217 currency code in lower case.")),
    "interval": nullable(string("Billing interval.", examples=["month", "year"])),
    "interval_count": nullable(integer("Number of intervals in a billing period.")),
    "quantity": nullable(integer("Number of seats.")),
    "current_period_start": nullable(string("Start of the current billing period.", **TIME)),
    "current_period_end": nullable(string("End of the current billing period.", **TIME)),
    "cancel_at_period_end": boolean("True if the subscription is set to end."),
    "cancel_at": nullable(string("Time at which the subscription is set to end.", **TIME)),
    "ended_at": nullable(string("Time at which the subscription ended.", **TIME)),
    "trial_end": nullable(string("End of the trial.", **TIME)),
    "pause_collection": nullable(string("Stripe's behavior of a paused payment collection; null if it is not paused.")),
    "pending_change": nullable(
        open_object(
            {
                "plan": nullable(string("Plan after the change; null for a price that is not in the catalog.")),
                "price_id": nullable(string("Stripe id of the price after the change.")),
                "quantity": nullable(integer("Number of seats after the change.")),
                "effective_at": string("Time of the change.", **TIME),
            }
        )
        | {"description": "Next scheduled change of price or quantity; null if there is none."}
    ),
}

EVENT_INVOICE: Mapping[str, JsonSchema] = {
    **INVOICE,
    "subscription_id": nullable(string("Stripe id of the subscription.")),
    "attempt_count": integer("Number of payment attempts.", minimum=0),
}

TESTED_ENDPOINT: Mapping[str, JsonSchema] = {
    "id": string("Id of the webhook endpoint."),
    "url": string("URL of the webhook endpoint.", **URI),
}

DISABLED_ENDPOINT: Mapping[str, JsonSchema] = {
    **TESTED_ENDPOINT,
    "enabled": boolean("False: no more events are sent."),
    "disabled_reason": nullable(
        string(
            "Reason: a response of 410 (`gone`), or five days without success (`failing`).",
            enum=[*DisabledReason, None],
        )
    ),
    "disabled_at": nullable(string("Time at which the endpoint was disabled.", **TIME)),
}

# --- Events -----------------------------------------------------------------------------------------------------------

WEBHOOK_EVENTS = (
    WebhookEventDeclaration(
        name="WebhookSubscriptionEvent",
        types={
            OutboundEventType.SUBSCRIPTION_CREATED: "A subscription starts",
            OutboundEventType.SUBSCRIPTION_UPDATED: "A subscription changes",
            OutboundEventType.SUBSCRIPTION_CANCELED: "A subscription ends",
        },
        properties=SUBSCRIPTION,
    ),
    WebhookEventDeclaration(
        name="WebhookInvoiceEvent",
        types={
            OutboundEventType.INVOICE_PAID: "An invoice is paid",
            OutboundEventType.INVOICE_PAYMENT_FAILED: "A payment attempt of an invoice fails",
        },
        properties=EVENT_INVOICE,
    ),
    WebhookEventDeclaration(
        name="WebhookEndpointDisabledEvent",
        types={
            OutboundEventType.ENDPOINT_DISABLED: "A webhook endpoint is disabled because it fails; only endpoints of "
            "the deployment receive the event"
        },
        properties=DISABLED_ENDPOINT,
        has_account=False,
    ),
    WebhookEventDeclaration(
        name="WebhookEndpointTestEvent",
        types={OutboundEventType.ENDPOINT_TEST: "A test event is requested"},
        properties=TESTED_ENDPOINT,
        has_account=False,
        has_previous=False,
    ),
)

WEBHOOK_HEADERS: tuple[JsonSchema, ...] = (
    {
        "name": "webhook-id",
        "in": "header",
        "required": True,
        "description": "Id of the event. Use it to ignore an event that was delivered before.",
        "schema": {"type": "string"},
    },
    {
        "name": "webhook-timestamp",
        "in": "header",
        "required": True,
        "description": "Time of the attempt, in seconds since 1970.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    {
        "name": "webhook-signature",
        "in": "header",
        "required": True,
        "description": "Signatures of id, timestamp and body, separated by spaces: one for each valid secret of the "
        "endpoint. See https://www.standardwebhooks.com.",
        "schema": {"type": "string", "pattern": "^v1,[A-Za-z0-9+/]+=*( v1,[A-Za-z0-9+/]+=*)*$"},
    },
)

WEBHOOK_RESPONSES: Mapping[str, str] = {
    "2XX": "The event is accepted. The body is not used.",
    "410": "The endpoint wants no more events. It is disabled.",
    "default": "The event is sent again, with ten attempts in about three days. Redirects are not followed.",
}
