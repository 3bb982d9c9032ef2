"""Helpers that send requests about webhook endpoints and deliveries, and store events and deliveries."""

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.adapters.outbox import put_outbound
from billing.adapters.webhook_repository import WebhookRepository
from billing.domain.outbound_events import OutboundEvent, OutboundEventType, event_id
from billing.domain.webhook_deliveries import Delivery
from tests.functions.support import FunctionHarness, Response

ENDPOINTS = "/v1/billing/webhook-endpoints"
ENDPOINT = f"{ENDPOINTS}/{{endpointId}}"
REDELIVER = "/v1/billing/deliveries/{deliveryId}/redeliver"
URL = "https://93.184.215.14/webhooks"
"""URL of a public address, which needs no name resolution."""
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True)
class QueueReader:
    """Delivery queue, whose messages a test reads."""

    sqs: Any
    url: str

    def take(self) -> list[dict[str, Any]]:
        """Delete all messages, and return their bodies in order."""
        bodies: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return bodies


def send(
    deployment: FunctionHarness,
    method: str,
    endpoint_id: str,
    action: str = "",
    body: object = None,
    **request: Any,
) -> Response:
    """Send a request about one endpoint. `action` is the last part of its path, for example "/test"."""
    return deployment.authorized(
        method,
        f"{ENDPOINTS}/{endpoint_id}{action}",
        body,
        route=f"{method} {ENDPOINT}{action}",
        parameters={"endpointId": endpoint_id},
        **request,
    )


def redeliver(deployment: FunctionHarness, delivery_id: str, **request: Any) -> Response:
    """Request a delivery again."""
    path, parameters = REDELIVER.format(deliveryId=delivery_id), {"deliveryId": delivery_id}
    return deployment.authorized("POST", path, route=f"POST {REDELIVER}", parameters=parameters, **request)


def create(deployment: FunctionHarness, url: str = URL, **fields: Any) -> dict[str, Any]:
    """Create an endpoint. Returns the response's body."""
    response = deployment.authorized("POST", ENDPOINTS, {"url": url, **fields})
    assert response.status == 200, response.body
    return dict(response.body)


def without_secrets(body: dict[str, Any]) -> dict[str, Any]:
    """Return the endpoint in the response of a change."""
    more = {"secret", "warning", "previous_secret_expires_at"}
    return {name: value for name, value in body.items() if name not in more}


def list_all(deployment: FunctionHarness) -> list[dict[str, Any]]:
    """Return all endpoints."""
    response = deployment.authorized("GET", ENDPOINTS)
    assert response.status == 200
    return list(response.body["webhook_endpoints"])


def not_found(name: str = "webhook endpoint") -> tuple[int, Any]:
    """Return status and body of the error for an unknown id."""
    return 404, {"error": {"code": "NOT_FOUND", "message": f"There is no {name} with this id"}}


def invalid(*problems: tuple[str, str]) -> tuple[int, Any]:
    """Return status and body of the error for an invalid request; a problem is a path and its message."""
    message = "; ".join(f"{path}: {problem}" if path else problem for path, problem in problems)
    details = [{"path": path, "message": problem} for path, problem in problems]
    return 400, {"error": {"code": "VALIDATION_FAILED", "message": message, "details": details}}


def answer(response: Response) -> tuple[int, Any]:
    """Return status and body of a response."""
    return response.status, response.body


# --- Events and deliveries --------------------------------------------------------------------------------------------


def store_event(
    deployment: FunctionHarness,
    committed: datetime,
    event_type: str = OutboundEventType.INVOICE_PAID,
    *,
    account_id: str = "acme",
    object_id: str = "in_1",
) -> OutboundEvent:
    """Store an outbound event as the event processor does."""
    event = OutboundEvent(
        id=event_id(committed, account_id, object_id, 1),
        type=event_type,
        account_id=account_id,
        occurred_at=committed,
        sequence=1,
        object={"id": object_id},
        previous=None,
    )
    deployment.table.transact({"outbound": put_outbound(event, committed)})
    return event


def store_events(deployment: FunctionHarness, count: int, first: datetime) -> list[OutboundEvent]:
    """Store events of one type, one a minute."""
    return [store_event(deployment, first + number * timedelta(minutes=1)) for number in range(count)]


def store_delivery(deployment: FunctionHarness, delivery: Delivery) -> Delivery:
    """Store a delivery."""
    return WebhookRepository(deployment.table).save_delivery(delivery)
