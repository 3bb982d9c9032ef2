"""Stripe events from Amazon EventBridge, as Lambda receives them from the queue."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from billing.bootstrap import app
from tests.functions.events import event, eventbridge_envelope, subscription_event, thin_event
from tests.functions.support import (
    NO_BATCH_FAILURES,
    FunctionHarness,
    LambdaContext,
    event_marker,
    load_handler,
    stored_items,
)

pytestmark = pytest.mark.engine


type Deliver = Callable[..., dict[str, Any]]


@pytest.fixture
def deliver(deployment: FunctionHarness) -> Deliver:  # noqa: ARG001 - its environment comes first
    """Function that hands the handler a batch of messages. Their ids are their indexes in the batch."""
    handler = load_handler("stripe_eventbridge")

    def deliver(*bodies: object) -> dict[str, Any]:
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        records = [{"messageId": str(index), "body": text} for index, text in enumerate(texts)]
        return handler({"Records": records}, LambdaContext())

    return deliver


def batch_failures(*indexes: int) -> dict[str, Any]:
    """Return the response that leaves the messages with these indexes in the queue."""
    return {"batchItemFailures": [{"itemIdentifier": str(index)} for index in indexes]}


def test_eventbridge_event_changes_the_plan(deployment: FunctionHarness, deliver: Deliver) -> None:
    assert deliver(eventbridge_envelope(subscription_event())) == NO_BATCH_FAILURES
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"


@pytest.mark.parametrize("name", ["account", "context"])
def test_eventbridge_event_of_another_stripe_account_is_ignored(
    deployment: FunctionHarness, deliver: Deliver, name: str
) -> None:
    """The envelope's own `account` is the AWS account, which every event has."""
    snapshot = subscription_event() | {name: "acct_1"}
    thin = thin_event("v1.invoice.paid", "invoice", "in_1", **{name: "acct_1"})
    assert deliver(eventbridge_envelope(snapshot), eventbridge_envelope(thin)) == NO_BATCH_FAILURES
    assert [event_marker(deployment, each["id"])["outcome"] for each in (snapshot, thin)] == ["ignored", "ignored"]
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


def test_event_delivered_by_webhook_and_eventbridge_is_processed_once(
    deployment: FunctionHarness, deliver: Deliver
) -> None:
    first, second = subscription_event(), subscription_event("sub_2")
    deployment.deliver(first)
    deliver(eventbridge_envelope(second))
    before = stored_items(deployment)
    assert deliver(eventbridge_envelope(first)) == NO_BATCH_FAILURES
    assert deployment.deliver(second).body == {"received": True, "outcome": "duplicate"}
    assert stored_items(deployment) == before


def test_events_delivered_concurrently_by_webhook_and_eventbridge_are_processed_once(
    deployment: FunctionHarness, deliver: Deliver
) -> None:
    """Each of the twenty events writes one row and one outbox item."""
    deployment.deliver(event("customer.deleted", {"id": "cus_warm_up"}))
    sent = [subscription_event(f"sub_{number}") for number in range(20)]
    with ThreadPoolExecutor(4) as threads:
        queued = [threads.submit(deliver, eventbridge_envelope(each)) for each in sent]
        posted = [threads.submit(deployment.deliver, each) for each in sent]
    outcomes = [each.result().body["outcome"] for each in posted]
    assert set(outcomes) <= {"applied", "duplicate"}
    # A message that lost too many races stays in the queue and is delivered again.
    remaining = [each for each, future in zip(sent, queued, strict=True) if future.result() != NO_BATCH_FAILURES]
    assert deliver(*(eventbridge_envelope(each) for each in remaining)) == NO_BATCH_FAILURES
    written = [item["sk"]["S"].split("#")[0] for item in stored_items(deployment) if item["pk"]["S"] == "ACCOUNT#acme"]
    assert (written.count("SUB"), written.count("OUT")) == (20, 20)


def test_eventbridge_malformed_event_is_recorded_as_failed(deployment: FunctionHarness, deliver: Deliver) -> None:
    """No retry would help, so the message leaves the queue. Operators find the event by its outcome."""
    broken = event("customer.subscription.updated", {"id": "sub_1", "items": "nonsense"})
    assert deliver(eventbridge_envelope(broken)) == NO_BATCH_FAILURES
    assert event_marker(deployment, broken["id"])["outcome"] == "failed"


def test_eventbridge_returns_batch_item_failures_while_the_table_is_unavailable(
    deployment: FunctionHarness, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [eventbridge_envelope(subscription_event("sub_1")), eventbridge_envelope(subscription_event("sub_2"))]
    with monkeypatch.context() as broken:
        broken.setattr("billing.adapters.repository.Repository.commit", _unavailable)
        assert deliver(*messages) == batch_failures(0, 1)
    assert stored_items(deployment) == []
    assert deliver(*messages) == NO_BATCH_FAILURES
    assert len([item for item in stored_items(deployment) if item["sk"]["S"].startswith("SUB#")]) == 2


def test_eventbridge_with_a_key_of_the_other_mode_returns_batch_item_failures(
    deployment: FunctionHarness, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """With a wrong STRIPE_MODE, every event would be recorded as out of scope."""
    message = eventbridge_envelope(subscription_event())
    with monkeypatch.context() as wrong:
        wrong.setenv("STRIPE_MODE", "live")
        assert deliver(message) == batch_failures(0)
    assert stored_items(deployment) == []
    [line] = [json.loads(each) for each in printed().splitlines()]
    assert (line["level"], line["message"], line["message_id"]) == ("ERROR", "Message not processed", "0")
    assert line["reason"].startswith("The stored Stripe key is of test mode, and STRIPE_MODE is live")
    app.reset()
    assert deliver(message) == NO_BATCH_FAILURES
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"


def _unavailable(*_: object) -> None:
    from billing.domain.errors import StoreUnavailable

    raise StoreUnavailable


NOT_FROM_STRIPE = {
    "not JSON": "{",
    "list": [],
    "another partner": eventbridge_envelope(subscription_event(), source="aws.partner/auth0.com/ed_1"),
    "source that contains the prefix": eventbridge_envelope(
        subscription_event(), source="my.app/aws.partner/stripe.com/ed_1"
    ),
    "no source": eventbridge_envelope(subscription_event(), source=None),
    "detail-type differs": eventbridge_envelope(subscription_event(), **{"detail-type": "invoice.paid"}),
    "no detail": eventbridge_envelope(subscription_event()) | {"detail": None},
    "no id": eventbridge_envelope({"type": "invoice.paid"}),
}


@pytest.mark.parametrize("name", NOT_FROM_STRIPE)
def test_eventbridge_message_not_from_stripe_stays_in_the_queue(
    deployment: FunctionHarness, deliver: Deliver, name: str
) -> None:
    """The message does not block the other messages of its batch."""
    sent = subscription_event()
    assert deliver(NOT_FROM_STRIPE[name], eventbridge_envelope(sent)) == batch_failures(0)
    assert {item["pk"]["S"] for item in stored_items(deployment)} == {
        f"EVENT#{sent['id']}",
        "ACCOUNT#acme",
        "CUSTOMER#cus_acme",
    }
