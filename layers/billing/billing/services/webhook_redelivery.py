"""Redelivery: send events again that an endpoint did not receive.

The API and the `billing` command use it. The state of each delivery is written before its message is sent, so that the
schedule continues if the message is lost.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from billing.adapters.repository import VersionConflict
from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.errors import ObjectUnknown, RequestInvalid, StoreUnavailable
from billing.domain.outbound_events import OutboundEvent
from billing.domain.webhook_deliveries import BUS_ID, Delivery, DeliveryStatus, parse_delivery_id
from billing.domain.webhook_endpoints import EndpointList, WebhookEndpoint
from billing.services.webhook_queue import DeliveryQueues, DeliveryRequest

REPLAY_EVENTS_MAX = 100
SAVE_ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """Result of a part of a replay.

    Attributes:
        requested: Number of deliveries that were requested.
        continues_after: Event after which the replay continues; None at the end.
    """

    requested: int
    continues_after: str | None


@dataclass(frozen=True, slots=True)
class WebhookRedelivery:
    """Redelivery to the endpoints of one owner.

    Attributes:
        account_id: Owner; None for the deployment.

    Every method raises StoreUnavailable or QueueUnavailable if DynamoDB or SQS fails.
    """

    repository: WebhookRepository
    queues: DeliveryQueues
    account_id: str | None

    def redeliver(self, delivery_id: str, now: datetime) -> Delivery:
        """Request a delivery again, whatever its status is. The deployment's deliveries include those to its bus.

        Raises:
            ObjectUnknown: The owner has no such delivery.
            RequestInvalid: The endpoint is disabled, or the event has expired.
        """
        parsed = parse_delivery_id(delivery_id)
        if parsed is None:
            raise ObjectUnknown("delivery")
        endpoint_id, event_id = parsed
        known = {each.id for each in self.repository.load_endpoints(self.account_id).endpoints}
        if self.account_id is None:
            known.add(BUS_ID)
        delivery = self.repository.find_delivery(endpoint_id, event_id) if endpoint_id in known else None
        if delivery is None:
            raise ObjectUnknown("delivery")
        if endpoint_id != BUS_ID:
            self._enabled_endpoint(endpoint_id)
        if self.repository.find_event(delivery.account_id, event_id) is None:
            raise RequestInvalid.at("", "The event has expired: events are kept for 35 days.")
        return self._request(delivery, now)

    def replay(self, endpoint_id: str, since: datetime, now: datetime, after: str | None = None) -> ReplayPage:
        """Request the events of the account that an endpoint did not receive, of at most 100 events.

        Args:
            endpoint_id: Endpoint of an account.
            since: Time of the first event's commit.
            now: Current time.
            after: Event after which the replay continues; None for its begin.

        Raises:
            ObjectUnknown: The owner has no such endpoint.
            RequestInvalid: The endpoint is disabled.
        """
        endpoint = self._enabled_endpoint(endpoint_id)
        found = self.repository.list_account_events(self.account_id, since, REPLAY_EVENTS_MAX + 1, after)
        events = found[:REPLAY_EVENTS_MAX]
        is_last = len(found) <= REPLAY_EVENTS_MAX
        return ReplayPage(self.request_missing(endpoint, events, now), None if is_last else events[-1].id)

    def request_missing(self, endpoint: WebhookEndpoint, events: Iterable[OutboundEvent], now: datetime) -> int:
        """Request the deliveries of events that an endpoint did not receive. Returns their number."""
        owned = EndpointList(self.account_id)
        wanted = [event for event in events if owned.sends(event.type, endpoint)]
        known = self.repository.find_deliveries(endpoint.id, [event.id for event in wanted])
        missing = [each for each in wanted if not _is_delivered_or_running(known.get(each.id), now)]
        deliveries = [
            known.get(event.id)
            or Delivery(endpoint.id, event.id, event.type, event.account_id, self.account_id, created=now)
            for event in missing
        ]
        saved = [self._save_request(each, now) for each in deliveries]
        self.queues.request_now(DeliveryRequest.of_delivery(each) for each in saved if each)
        return len(missing)

    def _enabled_endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        endpoint = self.repository.load_endpoints(self.account_id).find(endpoint_id)
        if not endpoint.enabled:
            raise RequestInvalid.at("", "The webhook endpoint is disabled. Enable it first.")
        return endpoint

    def _request(self, delivery: Delivery, now: datetime) -> Delivery:
        saved = self._save_request(delivery, now)
        if saved is None:
            return delivery
        self.queues.request_now([DeliveryRequest.of_delivery(saved)])
        return saved

    def _save_request(self, delivery: Delivery, now: datetime) -> Delivery | None:
        """Return the delivery as it is stored; None if an attempt is running, which continues by itself."""
        for _ in range(SAVE_ATTEMPTS_MAX):
            if delivery.is_running(now):
                return None
            try:
                return self.repository.save_delivery(delivery.request_again(now))
            except VersionConflict:
                delivery = self.repository.find_delivery(delivery.endpoint_id, delivery.event_id) or delivery
        raise StoreUnavailable


def _is_delivered_or_running(delivery: Delivery | None, now: datetime) -> bool:
    if delivery is None:
        return False
    return delivery.status is DeliveryStatus.DELIVERED or delivery.is_running(now)
