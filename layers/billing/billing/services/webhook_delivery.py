"""Webhook delivery: one attempt to send an event to an endpoint.

    read → claim the attempt → send → write the result → request the next attempt

The claim is written before the request is sent. If a worker stops in between, the attempt stays in the log without a
result, and another one follows: an event is delivered at least once, and each attempt is logged exactly once.
"""

import json
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from standardwebhooks import Webhook

from billing.adapters.repository import VersionConflict
from billing.adapters.webhook_repository import DeliveryContext, WebhookRepository
from billing.domain.errors import StoreUnavailable
from billing.domain.outbound_events import OutboundEvent, OutboundEventType, event_id
from billing.domain.timestamps import iso
from billing.domain.webhook_deliveries import BUS_ID, AttemptResult, Delivery, DeliveryStatus, EndpointHealth
from billing.domain.webhook_endpoints import DisabledReason, WebhookEndpoint
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest
from billing.telemetry import count, logger

SAVE_ATTEMPTS_MAX = 10
USER_AGENT = "serverless-billing-webhooks/1"


type SendToUrl = Callable[[str, bytes, Mapping[str, str]], AttemptResult]
"""Sends a body and headers to a URL. Whatever the endpoint does is a result."""
type SendToBus = Callable[[OutboundEvent], AttemptResult]
"""Sends an event to the EventBridge bus."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """Sender of events to endpoints.

    Attributes:
        send_to_url: Sends a request to an endpoint.
        send_to_bus: Sends an event to the EventBridge bus.
        now: Clock.
        random: Returns a number from 0 to 1.
    """

    repository: WebhookRepository
    queues: DeliveryQueues
    send_to_url: SendToUrl
    send_to_bus: SendToBus
    now: Callable[[], datetime] = field(default=_utc_now)
    random: Callable[[], float] = field(default=random.random)

    def attempt(self, request: DeliveryRequest) -> None:
        """Attempt a delivery if it is due. The call may be repeated.

        | state | effect |
        |---|---|
        | delivered, failed, not due yet, or running | none |
        | the event has expired | failed |
        | the endpoint was deleted or disabled | failed, if an attempt was made before; else none |
        | the endpoint is paused, because it answers slowly | the attempt is postponed |
        | otherwise | one attempt |

        Raises:
            StoreUnavailable: DynamoDB is unavailable.
            QueueUnavailable: SQS is unavailable; the schedule will request the next attempt.
        """
        now = self.now()
        context = self.repository.read_delivery_context(
            request.owner_id, request.endpoint_id, request.account_id, request.event_id
        )
        if context.event is None:
            self._fail(context.delivery, "the event has expired")
            return
        delivery = context.delivery or _new_delivery(request, context.event, now)
        if not delivery.may_start(now):
            return
        is_bus = request.endpoint_id == BUS_ID
        if not is_bus and (context.endpoint is None or not context.endpoint.enabled):
            self._fail(context.delivery, "the endpoint is disabled" if context.endpoint else "the endpoint was deleted")
            return
        paused_until = context.health.paused_until
        if paused_until is not None and now < paused_until:
            self._save_and_request(delivery.postpone(paused_until), now)
            return
        self._attempt(delivery, context, context.event)

    def _attempt(self, delivery: Delivery, context: DeliveryContext, event: OutboundEvent) -> None:
        running = self._claim(delivery)
        if running is None:
            return
        result = self._send(context.endpoint, event)
        now = self.now()
        finished = running.finish(result, now, self.random())
        _log(finished, result)
        self._save_and_request(finished, now)
        if context.endpoint is not None:
            self._update_endpoint(delivery.owner_id, context.endpoint, context.health, result)

    def _claim(self, delivery: Delivery) -> Delivery | None:
        """Return the delivery with a running attempt; None if another worker has claimed it."""
        started = delivery.start(self.now(), secrets.token_hex(8))
        try:
            return self.repository.save_delivery(started)
        except VersionConflict:
            # If the response to a write is lost, the client repeats it, and the worker conflicts with itself.
            stored = self.repository.find_delivery(delivery.endpoint_id, delivery.event_id)
            return stored if stored is not None and stored.claim == started.claim else None

    def _send(self, endpoint: WebhookEndpoint | None, event: OutboundEvent) -> AttemptResult:
        if endpoint is None:
            return self.send_to_bus(event)
        body = json.dumps(event.body, separators=(",", ":"))
        return self.send_to_url(endpoint.url, body.encode(), signed_headers(endpoint, event.id, body, self.now()))

    def _save_and_request(self, delivery: Delivery, now: datetime) -> None:
        try:
            saved = self.repository.save_delivery(delivery)
        except VersionConflict:
            # The lease expired and another worker has claimed the delivery, or an operator has requested it again.
            return
        self.queues.request_later(saved, now)

    def _fail(self, delivery: Delivery | None, reason: str) -> None:
        if delivery is not None and delivery.status is DeliveryStatus.PENDING:
            self._save_and_request(delivery.fail(reason), self.now())

    # --- Health of the endpoint ---------------------------------------------------------------------------------------

    def _update_endpoint(
        self, owner_id: str | None, endpoint: WebhookEndpoint, before: EndpointHealth, result: AttemptResult
    ) -> None:
        now = self.now()
        health = before.after(result, now)
        if result.is_gone:
            self._disable(owner_id, endpoint, DisabledReason.GONE)
        elif health.is_failing_too_long(now):
            # A concurrent attempt may have succeeded since the health was read.
            if self.repository.find_health(endpoint.id) == before:
                self._disable(owner_id, endpoint, DisabledReason.FAILING)
        elif health != before:
            self.repository.save_health(endpoint.id, health)

    def _disable(self, owner_id: str | None, failed: WebhookEndpoint, reason: DisabledReason) -> None:
        """Disable an endpoint, and tell the endpoints of the deployment. An endpoint with a new URL stays enabled.

        Raises:
            StoreUnavailable: Other writers conflict too often.
        """
        for _ in range(SAVE_ATTEMPTS_MAX):
            endpoints = self.repository.load_endpoints(owner_id)
            endpoint = next((each for each in endpoints.endpoints if each.id == failed.id), None)
            if endpoint is None or not endpoint.enabled or endpoint.url != failed.url:
                return
            now = self.now()
            disabled = replace(endpoint.disable(reason, now), sequence=endpoint.sequence + 1)
            try:
                self.repository.save_endpoints(
                    endpoints.put(disabled), outbound=_disabled_event(owner_id, disabled, now), now=now
                )
            except VersionConflict:
                continue
            self.repository.save_health(failed.id, EndpointHealth())
            logger().error(
                "Webhook endpoint disabled",
                extra={"endpoint_id": failed.id, "account_id": owner_id, "reason": reason.value},
            )
            count("WebhookEndpointDisabled")
            return
        raise StoreUnavailable


def signed_headers(endpoint: WebhookEndpoint, message_id: str, body: str, now: datetime) -> Mapping[str, str]:
    """Return the headers of a delivery, with one signature for each valid secret.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    signatures = [Webhook(each).sign(message_id, now, body) for each in endpoint.secrets_at(now)]
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _new_delivery(request: DeliveryRequest, event: OutboundEvent, now: datetime) -> Delivery:
    return Delivery(
        endpoint_id=request.endpoint_id,
        event_id=event.id,
        event_type=event.type,
        account_id=event.account_id,
        owner_id=request.owner_id,
        created=now,
    )


def _disabled_event(owner_id: str | None, endpoint: WebhookEndpoint, now: datetime) -> OutboundEvent:
    return OutboundEvent(
        id=event_id(now, owner_id, endpoint.id, endpoint.sequence),
        type=OutboundEventType.ENDPOINT_DISABLED,
        account_id=owner_id,
        occurred_at=now,
        sequence=endpoint.sequence,
        object={
            "id": endpoint.id,
            "url": endpoint.url,
            "enabled": endpoint.enabled,
            "disabled_reason": endpoint.disabled_reason,
            "disabled_at": iso(endpoint.disabled_at),
        },
        previous={"enabled": True, "disabled_reason": None, "disabled_at": None},
    )


def _log(delivery: Delivery, result: AttemptResult) -> None:
    if delivery.status is DeliveryStatus.FAILED:
        count("WebhookDeliveryFailed")
    logger().info(
        "Webhook delivery attempted",
        extra={
            "delivery_id": delivery.id,
            "account_id": delivery.account_id,
            "event_type": delivery.event_type,
            "status": delivery.status.value,
            "status_code": result.status_code,
            "error": result.error,
            "latency_ms": result.latency_ms,
        },
    )
