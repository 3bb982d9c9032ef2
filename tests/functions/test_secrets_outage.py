"""Functions while Secrets Manager throttles: the API responds 503, and a queue keeps only the affected messages."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from billing.adapters import aws
from billing.bootstrap import app
from tests.functions.events import eventbridge_envelope, subscription_event
from tests.functions.support import FunctionHarness, LambdaContext, load_handler, stored_items

pytestmark = pytest.mark.engine

THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "GetSecretValue")

type Throttle = Callable[[int], None]


class SecretsManager:
    """Secrets Manager that throttles its first `throttled` calls."""

    def __init__(self, client: Any, throttled: int) -> None:
        self.client = client
        self.throttled = throttled

    def get_secret_value(self, **request: Any) -> Any:
        self.throttled -= 1
        if self.throttled >= 0:
            raise THROTTLED
        return self.client.get_secret_value(**request)


@pytest.fixture
def throttle(deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch) -> Throttle:  # noqa: ARG001 - its environment comes first
    """Return a function that throttles the next calls of Secrets Manager, in a process that has read no secret."""
    client = aws.client

    def throttle(calls: int) -> None:
        app.reset()
        throttling = SecretsManager(client("secretsmanager"), calls)
        monkeypatch.setattr(
            aws, "client", lambda service: throttling if service == "secretsmanager" else client(service)
        )

    return throttle


@pytest.mark.parametrize(
    ("path", "code"),
    [("/v1/billing/portal", "INTERNAL_ERROR"), ("/api/billing/portal", "SERVICE_UNAVAILABLE")],
)
def test_api_returns_503_while_secrets_manager_throttles(
    deployment: FunctionHarness, throttle: Throttle, path: str, code: str
) -> None:
    deployment.deliver(subscription_event())
    throttle(1)
    answer = deployment.authorized("POST", path, {})
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.body["error"]["code"] == code


def test_webhook_returns_503_while_secrets_manager_throttles(deployment: FunctionHarness, throttle: Throttle) -> None:
    throttle(1)
    event = subscription_event()
    assert deployment.deliver(event).status == 503
    assert stored_items(deployment) == []
    assert deployment.deliver(event).body["outcome"] == "applied"


def test_eventbridge_batch_keeps_only_messages_that_were_throttled(
    deployment: FunctionHarness, throttle: Throttle
) -> None:
    handler = load_handler("stripe_eventbridge")
    bodies = [json.dumps(eventbridge_envelope(subscription_event(f"sub_{number}"))) for number in range(3)]
    batch = {"Records": [{"messageId": str(place), "body": body} for place, body in enumerate(bodies)]}
    throttle(2)
    assert handler(batch, LambdaContext()) == {"batchItemFailures": [{"itemIdentifier": "0"}, {"itemIdentifier": "1"}]}
    assert [item["sk"]["S"] for item in stored_items(deployment) if item["sk"]["S"].startswith("SUB#")] == ["SUB#sub_2"]
