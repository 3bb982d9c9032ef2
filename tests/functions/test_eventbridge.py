"""Stripe's events through Amazon EventBridge, as Lambda gets them from the queue: the same processing, one event."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from billing.bootstrap import app
from tests.functions.conftest import Deployment, LambdaContext, load_handler
from tests.functions.events import event, subscription_event
from tests.functions.test_stripe_webhook import marker, rows

pytestmark = pytest.mark.engine

DONE: dict[str, Any] = {"batchItemFailures": []}
SOURCE = "aws.partner/stripe.com/ed_test_61UWtmuyDZFuiOVBE16TXMYo"

type Deliver = Callable[..., dict[str, Any]]


@pytest.fixture
def deliver(deployment: Deployment) -> Deliver:  # noqa: ARG001 - its environment comes first
    """Hand the function a batch of messages; their ids are their places in it."""
    handler = load_handler("stripe_eventbridge")

    def deliver(*bodies: object) -> dict[str, Any]:
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        records = [{"messageId": str(place), "body": text} for place, text in enumerate(texts)]
        return handler({"Records": records}, LambdaContext())

    return deliver


def envelope(detail: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What EventBridge makes of an event (https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html)."""
    return {
        "version": "0",
        "id": "17e8dff5-d6cd-3770-ace9-aeac02b6ac3f",
        "detail-type": detail.get("type"),
        "source": SOURCE,
        "account": "123456789012",
        "time": "2026-11-21T17:00:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": detail,
    } | changes


def failures(*places: int) -> dict[str, Any]:
    """The answer that leaves these messages in the queue."""
    return {"batchItemFailures": [{"itemIdentifier": str(place)} for place in places]}


def test_an_event_changes_the_plan(deployment: Deployment, deliver: Deliver) -> None:
    """The same effect as by the webhook, without a signature."""
    assert deliver(envelope(subscription_event())) == DONE
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"


def test_both_ways_are_one_event(deployment: Deployment, deliver: Deliver) -> None:
    """What came by the webhook is a duplicate here, and the other way round: nothing is written again."""
    first, second = subscription_event(), subscription_event("sub_2")
    deployment.deliver(first)
    deliver(envelope(second))
    before = rows(deployment)
    assert deliver(envelope(first)) == DONE
    assert deployment.deliver(second).body == {"received": True, "outcome": "duplicate"}
    assert rows(deployment) == before


def test_both_ways_at_once_are_one_event(deployment: Deployment, deliver: Deliver) -> None:
    """Twenty events, each by both ways at the same moment: each has one effect, and one row in the outbox."""
    deployment.deliver(event("customer.deleted", {"id": "cus_warm_up"}))
    sent = [subscription_event(f"sub_{number}") for number in range(20)]
    with ThreadPoolExecutor(4) as threads:
        queued = [threads.submit(deliver, envelope(each)) for each in sent]
        posted = [threads.submit(deployment.deliver, each) for each in sent]
    answered = [each.result().body["outcome"] for each in posted]
    assert set(answered) <= {"applied", "duplicate"}
    # What lost a race more often than it may stays in the queue, and is delivered again.
    left = [each for each, future in zip(sent, queued, strict=True) if future.result() != DONE]
    assert deliver(*(envelope(each) for each in left)) == DONE
    written = [item["sk"]["S"].split("#")[0] for item in rows(deployment) if item["pk"]["S"] == "ACCOUNT#acme"]
    assert (written.count("SUB"), written.count("OUT")) == (20, 20)


def test_what_can_never_be_processed_is_recorded(deployment: Deployment, deliver: Deliver) -> None:
    """It leaves the queue, since no retry would help; the operator finds it by its outcome."""
    broken = event("customer.subscription.updated", {"id": "sub_1", "items": "nonsense"})
    assert deliver(envelope(broken)) == DONE
    assert marker(deployment, broken["id"])["outcome"] == "failed"


def test_what_failed_for_now_stays_in_the_queue(
    deployment: Deployment, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that does not answer: the messages come again, and then have their effect."""
    messages = [envelope(subscription_event("sub_1")), envelope(subscription_event("sub_2"))]
    with monkeypatch.context() as broken:
        broken.setattr("billing.adapters.repository.Repository.commit", _unavailable)
        assert deliver(*messages) == failures(0, 1)
    assert rows(deployment) == []
    assert deliver(*messages) == DONE
    assert len([item for item in rows(deployment) if item["sk"]["S"].startswith("SUB#")]) == 2


def test_with_a_key_of_the_other_mode_everything_stays_in_the_queue(
    deployment: Deployment, deliver: Deliver, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """An event of the key's mode is not taken for a foreign one; the log says why, and it has its effect later."""
    message = envelope(subscription_event())
    with monkeypatch.context() as wrong:
        wrong.setenv("STRIPE_MODE", "live")
        assert deliver(message) == failures(0)
    assert rows(deployment) == []
    [line] = [json.loads(each) for each in printed().splitlines()]
    assert (line["level"], line["message"], line["message_id"]) == ("ERROR", "Message not processed", "0")
    assert line["reason"].startswith("The stored Stripe key is of test mode, and STRIPE_MODE is live")
    app.reset()
    assert deliver(message) == DONE
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"


def _unavailable(*_: object) -> None:
    from billing.domain.errors import StoreUnavailable

    raise StoreUnavailable


FOREIGN = {
    "no JSON": "{",
    "a list": [],
    "another partner": envelope(subscription_event(), source="aws.partner/auth0.com/ed_1"),
    "a source like it": envelope(subscription_event(), source="my.app/aws.partner/stripe.com/ed_1"),
    "no source": envelope(subscription_event(), source=None),
    "another type": envelope(subscription_event(), **{"detail-type": "invoice.paid"}),
    "no detail": envelope(subscription_event()) | {"detail": None},
    "no id": envelope({"type": "invoice.paid"}),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_stripe_did_not_send_writes_nothing(deployment: Deployment, deliver: Deliver, name: str) -> None:
    """It is kept for somebody to look at, and holds up nothing that came with it."""
    sent = subscription_event()
    assert deliver(FOREIGN[name], envelope(sent)) == failures(0)
    assert {item["pk"]["S"] for item in rows(deployment)} == {
        f"EVENT#{sent['id']}",
        "ACCOUNT#acme",
        "CUSTOMER#cus_acme",
    }
