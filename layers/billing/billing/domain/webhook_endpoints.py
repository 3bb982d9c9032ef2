"""Webhook endpoints: URLs that receive outbound events, with their secrets and subscribed types.

Headers and signatures follow Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from billing.domain.errors import ObjectUnknown, RequestInvalid
from billing.domain.outbound_events import ACCOUNT_EVENT_TYPES, DEPLOYMENT_EVENT_TYPES

ENDPOINTS_MAX = 16
"""Endpoints of one account, and of the deployment."""
ROTATION_PERIOD = timedelta(hours=24)
"""Time for which the former secret signs beside a new one."""
SECRETS_MAX = 4
"""Secrets of an endpoint that sign at the same time."""
ALL_EVENTS = "*"


class DisabledReason(StrEnum):
    """Reason for which an endpoint was disabled."""

    REQUEST = "request"
    GONE = "gone"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret that signs deliveries.

    Attributes:
        value: `whsec_` and the base64 form of the key.
        expires_at: End of its use; None for the current secret.
    """

    value: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A URL that receives outbound events.

    Attributes:
        events: Types of the events to send, or `*` for all.
        secrets: Signing secrets, the current one first.
        enabled: True if events are sent.
        disabled_reason: Reason for which it is disabled; None if it is enabled.
        disabled_at: Time from which it is disabled.
        sequence: Number of `webhook_endpoint.disabled` events so far.
    """

    id: str
    url: str
    events: tuple[str, ...]
    description: str
    created: datetime
    secrets: tuple[SigningSecret, ...]
    enabled: bool = True
    disabled_reason: DisabledReason | None = None
    disabled_at: datetime | None = None
    sequence: int = 0

    @property
    def secret(self) -> str:
        """Current signing secret."""
        return self.secrets[0].value

    @property
    def previous_secret_expires_at(self) -> datetime | None:
        """End of the use of the former secret; None if there is none."""
        return self.secrets[1].expires_at if len(self.secrets) > 1 else None

    def secrets_at(self, now: datetime) -> tuple[str, ...]:
        """Return the secrets that sign a delivery at `now`, the current one first."""
        return tuple(each.value for each in self.secrets if each.expires_at is None or now < each.expires_at)

    def with_secret(self, secret: str, now: datetime) -> "WebhookEndpoint":
        """Return the endpoint with a new secret. The former ones sign beside it until ROTATION_PERIOD is over.

        If the response to a rotation is lost and the rotation is repeated, the receiver's secret therefore stays valid.
        """
        former = replace(self.secrets[0], expires_at=now + ROTATION_PERIOD)
        others = (each for each in self.secrets[1:] if each.expires_at is not None and now < each.expires_at)
        return replace(self, secrets=(SigningSecret(secret), former, *others)[:SECRETS_MAX])

    def disable(self, reason: DisabledReason, now: datetime) -> "WebhookEndpoint":
        """Return the endpoint after it was disabled."""
        return replace(self, enabled=False, disabled_reason=reason, disabled_at=now)

    def enable(self) -> "WebhookEndpoint":
        """Return the endpoint after it was enabled."""
        return replace(self, enabled=True, disabled_reason=None, disabled_at=None)


@dataclass(frozen=True, slots=True)
class EndpointList:
    """The endpoints of one owner, which are stored together.

    Attributes:
        account_id: Owner; None for the deployment, whose endpoints receive the events of all accounts.
        version: Number of writes; 0 if nothing is stored yet.
    """

    account_id: str | None
    endpoints: tuple[WebhookEndpoint, ...] = ()
    version: int = 0

    @property
    def event_types(self) -> tuple[str, ...]:
        """Types that the endpoints can receive."""
        return DEPLOYMENT_EVENT_TYPES if self.account_id is None else ACCOUNT_EVENT_TYPES

    def sends(self, event_type: str, endpoint: WebhookEndpoint) -> bool:
        """Return True if events of this type are sent to an endpoint of the owner."""
        is_wanted = ALL_EVENTS in endpoint.events or event_type in endpoint.events
        return endpoint.enabled and is_wanted and event_type in self.event_types

    def find(self, endpoint_id: str) -> WebhookEndpoint:
        """Return the endpoint with this id. Raises ObjectUnknown."""
        for each in self.endpoints:
            if each.id == endpoint_id:
                return each
        raise ObjectUnknown("webhook endpoint")

    def add(self, endpoint: WebhookEndpoint) -> "EndpointList":
        """Return the list with a new endpoint at the end.

        Raises:
            RequestInvalid: The owner has ENDPOINTS_MAX endpoints.
        """
        if len(self.endpoints) >= ENDPOINTS_MAX:
            raise RequestInvalid.at("", f"There are {ENDPOINTS_MAX} webhook endpoints already. Delete one first.")
        return replace(self, endpoints=(*self.endpoints, endpoint))

    def put(self, endpoint: WebhookEndpoint) -> "EndpointList":
        """Return the list with a changed endpoint."""
        return replace(self, endpoints=tuple(endpoint if each.id == endpoint.id else each for each in self.endpoints))

    def remove(self, endpoint_id: str) -> "EndpointList":
        """Return the list without an endpoint. Raises ObjectUnknown."""
        removed = self.find(endpoint_id)
        return replace(self, endpoints=tuple(each for each in self.endpoints if each != removed))

    def checked_events(self, events: Collection[str]) -> tuple[str, ...]:
        """Return event types without duplicates. Raises RequestInvalid if one is unknown or if there are none."""
        allowed = (ALL_EVENTS, *self.event_types)
        if not events or set(events) - set(allowed):
            raise RequestInvalid.at("events", f"must be a list of: {', '.join(allowed)}")
        return (ALL_EVENTS,) if ALL_EVENTS in events else tuple(each for each in self.event_types if each in events)
