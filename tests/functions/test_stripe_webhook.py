"""POST /v1/billing/webhooks: accepted and rejected deliveries. A rejected delivery writes nothing."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.adapters.repository import Commit, Repository, VersionConflict
from billing.bootstrap import app
from billing.domain.accounts import Profile
from billing.services.event_processor import EventProcessor
from billing.stripe_events.webhook_signature import sign
from tests.functions.events import event, invoice, subscription, subscription_event
from tests.functions.support import (
    WEBHOOK_SECRET,
    FunctionHarness,
    Response,
    event_marker,
    items_with_prefix,
    outbox_types,
    stored_items,
)

pytestmark = pytest.mark.engine

PATH = "/v1/billing/webhooks"


def deliver_raw(deployment: FunctionHarness, body: str, header: str | None, **request: Any) -> Response:
    """Deliver a body with any signature header."""
    headers = {} if header is None else {"Stripe-Signature": header}
    return deployment.call("POST", PATH, headers=headers, body=body, **request)


def test_webhook_signed_event_changes_the_plan(deployment: FunctionHarness) -> None:
    assert deployment.deliver(subscription_event()).body == {"received": True, "outcome": "applied"}
    assert deployment.authorized("GET", "/v1/billing").body == {
        "plan": "pro",
        "status": "active",
        "current_period_end": "2030-01-01T00:00:00Z",
        "cancel_at_period_end": False,
    }


def test_webhook_second_delivery_is_a_duplicate(deployment: FunctionHarness) -> None:
    sent = subscription_event()
    deployment.deliver(sent)
    before = stored_items(deployment)
    assert deployment.deliver(sent).body == {"received": True, "outcome": "duplicate"}
    assert stored_items(deployment) == before


def test_webhook_accepts_both_secrets_during_rotation(deployment: FunctionHarness) -> None:
    assert deployment.deliver(subscription_event(), secret="whsec_older").status == 200
    assert deployment.deliver(subscription_event(), secret=WEBHOOK_SECRET).status == 200


def test_webhook_base64_body_is_decoded_before_verification(deployment: FunctionHarness) -> None:
    """API Gateway encodes bodies that it takes for binary."""
    body = json.dumps(subscription_event()).encode()
    header = sign(body, WEBHOOK_SECRET, datetime.now(UTC))
    response = deliver_raw(deployment, base64.b64encode(body).decode(), header, is_base64=True)
    assert response.body == {"received": True, "outcome": "applied"}


def signature_of(body: str, *, secret: str = WEBHOOK_SECRET, shift: timedelta = timedelta()) -> str:
    """Return a signature header for the body."""
    return sign(body.encode(), secret, datetime.now(UTC) + shift)


VALID_BODY = json.dumps(subscription_event())
INVALID_DELIVERIES = {
    "unsigned": (VALID_BODY, None),
    "empty header": (VALID_BODY, ""),
    "another secret": (VALID_BODY, signature_of(VALID_BODY, secret="whsec_foreign")),
    "another body": (VALID_BODY + " ", signature_of(VALID_BODY)),
    "truncated": (VALID_BODY[:-1], signature_of(VALID_BODY)),
    "310 seconds old": (VALID_BODY, lambda: signature_of(VALID_BODY, shift=timedelta(seconds=-310))),
    "310 seconds ahead": (VALID_BODY, lambda: signature_of(VALID_BODY, shift=timedelta(seconds=310))),
    "a day ahead": (VALID_BODY, lambda: signature_of(VALID_BODY, shift=timedelta(days=1))),
    "no timestamp": (VALID_BODY, "v1=" + "0" * 64),
    "no v1": (VALID_BODY, lambda: signature_of(VALID_BODY).replace("v1=", "v0=")),
    "unparsable": (VALID_BODY, "t=now,v1=\ud800"),
    "not JSON": ("{", lambda: signature_of("{")),
    "not UTF-8": ("\ud800", lambda: "t=1,v1=0"),
    "NaN": ('{"id": NaN}', lambda: signature_of('{"id": NaN}')),
    "list": ("[]", lambda: signature_of("[]")),
    "no id": ('{"type": "invoice.paid"}', lambda: signature_of('{"type": "invoice.paid"}')),
    "id is an object": ('{"id": {"a": 1}}', lambda: signature_of('{"id": {"a": 1}}')),
    "deeply nested": ("[" * 100_000, lambda: signature_of("[" * 100_000)),
}


@pytest.mark.parametrize("name", INVALID_DELIVERIES)
def test_webhook_invalid_delivery_returns_400_and_writes_nothing(deployment: FunctionHarness, name: str) -> None:
    body, header = INVALID_DELIVERIES[name]
    response = deliver_raw(deployment, body, header() if callable(header) else header)
    assert response.status == 400
    assert response.body["error"]["code"] == "VALIDATION_FAILED"
    assert response.body["error"]["message"]
    assert stored_items(deployment) == []


def test_log_does_not_contain_signature_secret_or_email(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    sent = event("customer.deleted", {"id": "cus_1", "object": "customer", "email": "person@example.com"})
    body = json.dumps(sent)
    header = signature_of(body)
    deliver_raw(deployment, body, header)
    deliver_raw(deployment, body + " ", header)
    log = printed()
    assert sent["id"] in log
    assert header.partition("v1=")[2] not in log
    assert WEBHOOK_SECRET not in log
    assert "person@example.com" not in log


OUT_OF_SCOPE = {
    "unhandled type": event("payout.paid", {"id": "po_1"}),
    "other mode": subscription_event() | {"livemode": True},
    "connected account": subscription_event() | {"account": "acct_1"},
    "account of an organization": subscription_event() | {"context": "acct_1"},
    "one-off payment": event("checkout.session.completed", {"id": "cs_1", "mode": "payment", "customer": "cus_acme"}),
}


@pytest.mark.parametrize("name", OUT_OF_SCOPE)
def test_webhook_event_out_of_scope_is_recorded_as_ignored(deployment: FunctionHarness, name: str) -> None:
    """Stripe does not redeliver an event that is answered with 200."""
    sent = OUT_OF_SCOPE[name]
    assert deployment.deliver(sent).body == {"received": True, "outcome": "ignored"}
    assert event_marker(deployment, sent["id"])["outcome"] == "ignored"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


MALFORMED: dict[str, dict[str, Any]] = {
    "no object": {"data": {}},
    "object is a list": {"data": {"object": []}},
    "data is text": {"data": "x"},
    "no status": {"data": {"object": {"id": "sub_1", "customer": "cus_acme", "created": 1, "items": {"data": []}}}},
    "negative time": {"data": {"object": subscription(created=-1)}},
    "huge time": {"data": {"object": subscription(ended_at=10**30)}},
    "items are text": {"data": {"object": subscription(items="x")}},
    "id of 300 characters": {"data": {"object": subscription("s" * 300)}},
    "no created": {"created": None},
    "created is text": {"created": "now"},
    "type is a number": {"type": 7},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_webhook_malformed_event_is_recorded_as_failed(deployment: FunctionHarness, name: str) -> None:
    """A redelivery would not help, so the response is 200."""
    sent = subscription_event() | MALFORMED[name]
    assert deployment.deliver(sent).body == {"received": True, "outcome": "failed"}
    recorded = event_marker(deployment, sent["id"])
    assert recorded["outcome"] == "failed"
    assert recorded["reason"]
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


def test_failed_event_is_recorded_with_reason_and_creation_time(deployment: FunctionHarness) -> None:
    """The event and its object each have a `created`; the marker stores the event's."""
    sent = subscription_event(created=datetime.now(UTC) - timedelta(days=2))
    del sent["data"]["object"]["created"]
    deployment.deliver(sent)
    recorded = event_marker(deployment, sent["id"])
    assert (recorded["reason"], recorded["created"]) == ("data.object: created is missing", str(sent["created"]))


def test_failed_event_is_recorded_once_after_a_write_conflict(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """Two concurrent deliveries of one event can conflict at its marker."""
    commit, conflicts = Repository.commit, iter([VersionConflict()])

    def colliding(repository: Repository, wanted: Commit) -> None:
        for conflict in conflicts:
            raise conflict
        commit(repository, wanted)

    monkeypatch.setattr(Repository, "commit", colliding)
    sent = subscription_event() | {"data": {}}
    assert deployment.deliver(sent).body == {"received": True, "outcome": "failed"}
    assert event_marker(deployment, sent["id"])["outcome"] == "failed"
    assert printed().replace(" ", "").count('"EventFailed":[1.0]') == 1


def test_event_of_an_unknown_customer_is_applied_once_its_account_exists(deployment: FunctionHarness) -> None:
    sent = event("customer.subscription.updated", subscription(account_id="newcomer", customer="cus_new"))
    assert deployment.deliver(sent).body["outcome"] == "unknown_customer"
    deployment.repository.create_account(Profile("newcomer"))
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert len(deployment.repository.load_account("newcomer").subscriptions) == 1


def test_subscription_without_metadata_is_matched_by_its_customer(deployment: FunctionHarness) -> None:
    """Subscriptions created in the Stripe Dashboard carry no `account_id`."""
    deployment.deliver(subscription_event())
    without_metadata = event(
        "customer.subscription.created", subscription("sub_2", lookup_key="team_monthly", metadata={})
    )
    assert deployment.deliver(without_metadata).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "team"


def test_event_with_conflicting_metadata_is_applied_to_the_account_of_the_customer(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    deployment.repository.create_account(Profile("globex"))
    deployment.deliver(subscription_event())
    sent = event("customer.subscription.created", subscription("sub_2", account_id="globex"))
    deployment.deliver(sent)
    assert event_marker(deployment, sent["id"])["account_id"] == "acme"
    assert "names another account" in event_marker(deployment, sent["id"])["reason"]
    assert deployment.repository.load_account("globex").subscriptions == ()
    assert '"CustomerConflict":[1.0]' in printed().replace(" ", "")


def test_event_of_a_second_customer_is_recorded_as_customer_conflict(deployment: FunctionHarness) -> None:
    """Metadata alone cannot give an account another customer."""
    deployment.deliver(subscription_event(status="canceled"))
    sent = event("customer.subscription.created", subscription("sub_2", customer="cus_other"))
    assert deployment.deliver(sent).body["outcome"] == "customer_conflict"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


def test_update_to_an_unmapped_price_keeps_the_plan_and_emits_the_alarm_metric(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    start = datetime.now(UTC) - timedelta(seconds=60)
    deployment.deliver(subscription_event(created=start))
    sent = subscription_event(lookup_key="other_product")
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"
    assert "price_of_other_product" in event_marker(deployment, sent["id"])["reason"]
    assert '"UnmappedPrice":[1.0]' in printed().replace(" ", "")


def test_duplicate_delivery_emits_the_alarm_metric_again(
    deployment: FunctionHarness, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first delivery may have died after its commit, before it emitted the metric."""
    sent = subscription_event(lookup_key="other_product")
    with monkeypatch.context() as crash:
        crash.setattr(EventProcessor, "_report", lambda *_: (_ for _ in ()).throw(RuntimeError))
        assert deployment.deliver(sent).status == 500
    assert "UnmappedPrice" not in printed()
    assert deployment.deliver(sent).body == {"received": True, "outcome": "duplicate"}
    assert '"UnmappedPrice":[1.0]' in printed().replace(" ", "")


def test_new_subscription_with_an_unmapped_price_grants_nothing(deployment: FunctionHarness) -> None:
    deployment.deliver(subscription_event(lookup_key=None))
    body = deployment.authorized("GET", "/v1/billing").body
    assert (body["plan"], body["status"]) == ("free", None)


def test_subscription_with_the_period_on_top_is_parsed(deployment: FunctionHarness) -> None:
    """Before API version 2025-03-31, the period was on the subscription instead of its items."""
    item = {"price": {"id": "price_1", "lookup_key": "pro_monthly"}, "quantity": 1}
    older = subscription(items={"data": [item]}, current_period_start=1_890_777_600, current_period_end=1_893_456_000)
    deployment.deliver(event("customer.subscription.updated", older))
    assert deployment.authorized("GET", "/v1/billing").body["current_period_end"] == "2030-01-01T00:00:00Z"


def test_paid_invoice_is_stored_and_published_once(deployment: FunctionHarness) -> None:
    """Stripe sends two events for one payment: `invoice.paid` and `invoice.payment_succeeded`."""
    deployment.deliver(subscription_event())
    deployment.deliver(event("invoice.paid", invoice()))
    deployment.deliver(event("invoice.payment_succeeded", invoice()))
    assert [item["status"]["S"] for item in items_with_prefix(deployment, "INV#")] == ["paid"]
    assert outbox_types(deployment) == ["invoice.paid", "subscription.created"]


def test_subscription_deleted_event_ends_the_plan(deployment: FunctionHarness) -> None:
    start = datetime.now(UTC) - timedelta(seconds=60)
    deployment.deliver(subscription_event(created=start))
    ended = subscription(status="canceled", ended_at=1_780_000_100)
    deployment.deliver(event("customer.subscription.deleted", ended))
    assert deployment.authorized("GET", "/v1/billing").body == {
        "plan": "free",
        "status": "canceled",
        "current_period_end": "2030-01-01T00:00:00Z",
        "cancel_at_period_end": False,
    }


def test_webhook_without_a_secret_returns_500(
    deployment: FunctionHarness, stripe_secret_id: Any, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """Stripe delivers again after `billing setup` has stored a secret. The log tells operators to run it."""
    monkeypatch.setenv("STRIPE_SECRET_ID", stripe_secret_id({"api_key": "sk_test_x", "webhook_secrets": []}))
    response = deployment.deliver(subscription_event())
    assert (response.status, response.body["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "billing setup" in printed()
    assert stored_items(deployment) == []


def test_webhook_with_a_key_of_the_other_mode_returns_500_and_writes_nothing(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """With a wrong STRIPE_MODE, every event would be recorded as out of scope."""
    sent = subscription_event()
    with monkeypatch.context() as wrong:
        wrong.setenv("STRIPE_MODE", "live")
        response = deployment.deliver(sent)
    assert (response.status, response.body["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "The stored Stripe key is of test mode, and STRIPE_MODE is live" in printed()
    assert stored_items(deployment) == []
    app.reset()
    assert deployment.deliver(sent).body == {"received": True, "outcome": "applied"}


def test_webhook_while_the_table_is_unavailable_returns_503(
    deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe delivers again."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    response = deployment.deliver(subscription_event())
    assert (response.status, response.body["error"]["code"]) == (503, "INTERNAL_ERROR")
    assert int(response.headers["retry-after"]) > 0


def test_event_older_than_five_minutes_is_counted_as_late(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    """The account had the wrong plan for that long. Events out of scope do not count."""
    deployment.deliver(subscription_event(created=datetime.now(UTC) - timedelta(minutes=4)))
    deployment.deliver(event("charge.captured", {}, created=datetime.now(UTC) - timedelta(hours=1)))
    assert "EventLate" not in printed()
    deployment.repository.create_account(Profile("globex", customer_id="cus_globex"))
    late = subscription_event("sub_2", customer="cus_globex", created=datetime.now(UTC) - timedelta(minutes=6))
    assert deployment.deliver(late).body["outcome"] == "applied"
    assert printed().count('"EventLate"') == 2
