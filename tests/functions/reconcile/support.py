"""Helpers that run the reconcile function and prepare the state that it finds."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from billing.adapters.reconciliation_checkpoint import CheckpointRepository
from billing.services.reconciliation_job import PAGE_SECONDS
from billing.stripe_events.drift import Checkpoint, Phase
from stripe_simulator import Simulator
from tests.functions.stripe_support import control
from tests.functions.support import FunctionHarness, load_handler


class Context:
    """Lambda's context with a fixed sequence of remaining times."""

    def __init__(self, *seconds_left: float) -> None:
        self._seconds_left = list(seconds_left)

    def get_remaining_time_in_millis(self) -> int:
        """Return the next time. The last one repeats."""
        remaining = self._seconds_left
        return int(1000 * (remaining.pop(0) if len(remaining) > 1 else remaining[0]))


class ReconcileFunction:
    """The reconcile function behind its queue."""

    def __init__(self, queue_url: str, sqs: Any) -> None:
        self.handler = load_handler("reconcile")
        self.queue_url = queue_url
        self.sqs = sqs

    def start(self, context: Context | None = None) -> None:
        """Send the message of the schedule, and handle it."""
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody="{}")
        self.handle_next(context)

    def resume(self, run_id: str | None) -> None:
        """Send a message that continues a run, and handle it."""
        assert run_id
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps({"run": run_id}))
        self.handle_next()

    def handle_next(self, context: Context | None = None) -> None:
        """Handle one message as Lambda does: delete it if the function succeeds, else leave it in the queue."""
        [message] = self._receive()
        self.handler({"Records": [record(message)]}, context or Context(PAGE_SECONDS))
        self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])

    def take_visible_messages(self) -> list[dict[str, Any]]:
        """Delete the visible messages and return their bodies."""
        messages = self._receive()
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    def _receive(self) -> list[dict[str, Any]]:
        names = ["ApproximateReceiveCount"]
        return self.sqs.receive_message(QueueUrl=self.queue_url, MessageSystemAttributeNames=names).get("Messages", [])  # type: ignore[no-any-return]


def record(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as Lambda passes it to the function."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
    }


def plan_and_status(deployment: FunctionHarness) -> tuple[Any, Any]:
    """Return acme's plan and status from the API."""
    body = deployment.authorized("GET", "/v1/billing").body
    return body["plan"], body["status"]


def log_entries(output: str, message: str) -> list[dict[str, Any]]:
    """Return the log entries that contain a message."""
    return [json.loads(line) for line in output.splitlines() if message in line]


def load_checkpoint(deployment: FunctionHarness) -> Checkpoint:
    """Return the stored checkpoint."""
    return CheckpointRepository(deployment.table).load()


def save_checkpoint(deployment: FunctionHarness, **changes: Any) -> None:
    """Change the stored checkpoint."""
    CheckpointRepository(deployment.table).save(replace(load_checkpoint(deployment), **changes))


def skip_events(deployment: FunctionHarness) -> None:
    """Start a full sync after its events phase, as if every event were too old for Stripe's event list."""
    now = datetime.now(UTC).replace(microsecond=0)
    save_checkpoint(deployment, began=now, page_at=now, since=now, full_sync=True, phase=Phase.SUBSCRIPTIONS)


def overwrite_status(
    deployment: FunctionHarness, simulator: Simulator, subscription_id: str, status: str, account_id: str = "acme"
) -> None:
    """Change a stored subscription without an event, one minute before Stripe is read again."""
    control(simulator, "POST", "clock", {"advance_seconds": 60})
    deployment.table.client.update_item(
        TableName=deployment.table.name,
        Key={"pk": {"S": f"ACCOUNT#{account_id}"}, "sk": {"S": f"SUB#{subscription_id}"}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
    )
