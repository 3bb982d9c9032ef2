"""Senders of webhooks for receivers on the loopback interface."""

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

from billing.adapters.webhook_sender import WebhookSender
from billing.domain.webhook_deliveries import AttemptResult, DeliveryError
from billing.domain.webhook_urls import IpAddress
from tests.adapters.webhook_receiver import Behaviour, client_context, open_receiver

LOOPBACK = IPv4Address("127.0.0.1")
HOST = "hooks.example.com"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Resolver:
    """Resolver with prepared answers, which records the questions. The last answer repeats."""

    def __init__(self, *answers: Sequence[IpAddress] | OSError) -> None:
        self.answers = list(answers)
        self.questions: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> Sequence[IpAddress]:
        """Return the next answer."""
        self.questions.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


def sender(*answers: Sequence[IpAddress] | OSError, **changes: Any) -> WebhookSender:
    """Return a sender for receivers on the loopback interface, which trusts the certificates of the tests."""
    defaults: dict[str, Any] = {
        "allows_loopback": True,
        "resolve": Resolver(*(answers or [[LOOPBACK]])),
        "now": lambda: NOW,
        "ssl_context": client_context(),
    }
    return WebhookSender(**(defaults | changes))


def send(url: str, *, by: WebhookSender | None = None, seconds: float = 10, body: bytes = b"{}") -> AttemptResult:
    return (by or sender()).send(url, body, {"Content-Type": "application/json"}, seconds)


def deliver(behaviour: Behaviour, *, seconds: float = 10, body: bytes = b"{}") -> AttemptResult:
    """Send to a receiver over plain HTTP."""
    with open_receiver(behaviour) as receiver:
        return send(receiver.url(), seconds=seconds, body=body)


def error_of(response: AttemptResult) -> DeliveryError | None:
    """Return the error of a response without status."""
    assert (response.status_code, response.body, response.retry_after) == (None, "", None)
    assert response.error_message
    return DeliveryError(response.error) if response.error else None
