"""Webhook endpoints of an account or of the deployment: create, update, rotate, delete and test them.

The API and the `billing` command use it. Concurrent changes of an owner's endpoints are applied one after the other.
"""

import base64
import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from billing.adapters.repository import VersionConflict
from billing.adapters.webhook_repository import WebhookRepository
from billing.adapters.webhook_sender import WebhookSender
from billing.domain.errors import RequestInvalid, StoreUnavailable, WebhookUrlRefused
from billing.domain.outbound_events import OutboundEvent, OutboundEventType, event_id
from billing.domain.webhook_deliveries import AttemptResult, EndpointHealth
from billing.domain.webhook_endpoints import DisabledReason, EndpointList, SigningSecret, WebhookEndpoint
from billing.services.webhook_delivery import signed_headers

SAVE_ATTEMPTS_MAX = 20
SECRET_BYTES = 32
TEST_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class EndpointChange:
    """Change of an endpoint; None leaves a value as it is."""

    url: str | None = None
    events: Collection[str] | None = None
    description: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class CheckedEndpoint:
    """An endpoint after a change.

    Attributes:
        warning: Problem that does not prevent the change: the name in the URL does not resolve.
    """

    endpoint: WebhookEndpoint
    warning: str | None


@dataclass(frozen=True, slots=True)
class WebhookEndpointService:
    """Endpoints of one owner.

    Attributes:
        account_id: Owner; None for the deployment.

    Every method raises StoreUnavailable if DynamoDB fails or other writers conflict too often.
    """

    repository: WebhookRepository
    sender: WebhookSender
    account_id: str | None

    def list(self) -> tuple[WebhookEndpoint, ...]:
        """Return all endpoints, the oldest first."""
        return self.repository.load_endpoints(self.account_id).endpoints

    def find(self, endpoint_id: str) -> WebhookEndpoint:
        """Return an endpoint. Raises ObjectUnknown."""
        return self.repository.load_endpoints(self.account_id).find(endpoint_id)

    def create(self, url: str, events: Collection[str], description: str, now: datetime) -> CheckedEndpoint:
        """Create an endpoint with a new secret.

        Raises:
            RequestInvalid: The URL is not public, an event type is unknown, or there are too many endpoints.
        """
        warning = self._check(url)
        created = WebhookEndpoint(
            id=f"whe_{secrets.token_hex(12)}",
            url=url,
            events=EndpointList(self.account_id).checked_events(events),
            description=description,
            created=now,
            secrets=(SigningSecret(_new_secret()),),
        )
        self._save(lambda endpoints: endpoints.add(created))
        return CheckedEndpoint(created, warning)

    def update(self, endpoint_id: str, change: EndpointChange, now: datetime) -> CheckedEndpoint:
        """Change an endpoint. Enabling it ends its pauses; it receives events from then on.

        Raises:
            ObjectUnknown: The owner has no such endpoint.
            RequestInvalid: The URL is not public, or an event type is unknown.
        """
        warning = self._check(change.url) if change.url is not None else None

        def apply(endpoints: EndpointList) -> EndpointList:
            changed = endpoints.find(endpoint_id)
            if change.url is not None:
                changed = replace(changed, url=change.url)
            if change.events is not None:
                changed = replace(changed, events=endpoints.checked_events(change.events))
            if change.description is not None:
                changed = replace(changed, description=change.description)
            if change.enabled is True and not changed.enabled:
                changed = changed.enable()
            if change.enabled is False and changed.enabled:
                changed = changed.disable(DisabledReason.REQUEST, now)
            return endpoints.put(changed)

        saved = self._save(apply).find(endpoint_id)
        if change.enabled or change.url is not None:
            self.repository.save_health(endpoint_id, EndpointHealth())
        return CheckedEndpoint(saved, warning)

    def rotate_secret(self, endpoint_id: str, now: datetime) -> WebhookEndpoint:
        """Give an endpoint a new secret. Raises ObjectUnknown."""
        secret = _new_secret()
        return self._save(lambda endpoints: endpoints.put(endpoints.find(endpoint_id).with_secret(secret, now))).find(
            endpoint_id
        )

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint. Its pending deliveries fail. Raises ObjectUnknown."""
        self._save(lambda endpoints: endpoints.remove(endpoint_id))
        self.repository.save_health(endpoint_id, EndpointHealth())

    def send_test(self, endpoint_id: str, now: datetime) -> AttemptResult:
        """Send a signed test event, and return what came back. Raises ObjectUnknown."""
        endpoint = self.find(endpoint_id)
        event = OutboundEvent(
            id=event_id(now, self.account_id, f"{endpoint.id}-{secrets.token_hex(4)}", 1),
            type=OutboundEventType.ENDPOINT_TEST,
            account_id=self.account_id,
            occurred_at=now,
            sequence=1,
            object={"id": endpoint.id, "url": endpoint.url},
            previous=None,
        )
        body = json.dumps(event.body, separators=(",", ":"))
        headers = signed_headers(endpoint, event.id, body, now)
        return self.sender.send(endpoint.url, body.encode(), headers, timeout_seconds=TEST_TIMEOUT_SECONDS)

    def _check(self, url: str) -> str | None:
        try:
            return self.sender.check(url)
        except WebhookUrlRefused as refused:
            raise RequestInvalid.at("url", refused.reason) from refused

    def _save(self, change: Callable[[EndpointList], EndpointList]) -> EndpointList:
        for _ in range(SAVE_ATTEMPTS_MAX):
            try:
                return self.repository.save_endpoints(change(self.repository.load_endpoints(self.account_id)))
            except VersionConflict:
                continue
        raise StoreUnavailable


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"
