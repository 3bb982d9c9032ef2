"""POST /v1/billing/webhooks: what is accepted, what is refused, and what a refusal leaves behind: nothing."""

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
from tests.functions.conftest import WEBHOOK_SECRET, Answer, Deployment
from tests.functions.events import event, invoice, subscription, subscription_event

pytestmark = pytest.mark.engine

PATH = "/v1/billing/webhooks"


def rows(deployment: Deployment) -> list[dict[str, Any]]:
    """Everything in the table but acme's own profile and key."""
    items = deployment.table.client.scan(TableName=deployment.table.name)["Items"]
    return [item for item in items if item["sk"]["S"] not in {"PROFILE", "KEY"} and "KEY#" not in item["sk"]["S"]]


def marker(deployment: Deployment, event_id: str) -> dict[str, Any]:
    """What is recorded of an event."""
    item = next(item for item in rows(deployment) if item["pk"]["S"] == f"EVENT#{event_id}")
    return {name: next(iter(value.values())) for name, value in item.items()}


def deliver_raw(deployment: Deployment, body: str, header: str | None, **request: Any) -> Answer:
    """A delivery with whatever header."""
    headers = {} if header is None else {"Stripe-Signature": header}
    return deployment.call("POST", PATH, headers=headers, body=body, **request)


def test_a_signed_event_changes_the_plan(deployment: Deployment) -> None:
    """The heart of it: signed event in, plan out, whole bodies."""
    assert deployment.deliver(subscription_event()).body == {"received": True, "outcome": "applied"}
    assert deployment.authorized("GET", "/v1/billing").body == {
        "plan": "pro",
        "status": "active",
        "current_period_end": "2030-01-01T00:00:00Z",
        "cancel_at_period_end": False,
    }


def test_the_second_delivery_is_a_duplicate(deployment: Deployment) -> None:
    """200 again, nothing written again."""
    sent = subscription_event()
    deployment.deliver(sent)
    before = rows(deployment)
    assert deployment.deliver(sent).body == {"received": True, "outcome": "duplicate"}
    assert rows(deployment) == before


def test_either_of_two_secrets_signs(deployment: Deployment) -> None:
    """During a rotation both the older and the newer one count."""
    assert deployment.deliver(subscription_event(), secret="whsec_older").status == 200
    assert deployment.deliver(subscription_event(), secret=WEBHOOK_SECRET).status == 200


def test_a_base64_body_is_verified_as_the_bytes_it_stands_for(deployment: Deployment) -> None:
    """API Gateway encodes bodies that it takes for binary."""
    body = json.dumps(subscription_event()).encode()
    header = sign(body, WEBHOOK_SECRET, datetime.now(UTC))
    answer = deliver_raw(deployment, base64.b64encode(body).decode(), header, is_base64=True)
    assert answer.body == {"received": True, "outcome": "applied"}


def signed(body: str, *, secret: str = WEBHOOK_SECRET, shift: timedelta = timedelta()) -> str:
    """A header for `body`."""
    return sign(body.encode(), secret, datetime.now(UTC) + shift)


GOOD = json.dumps(subscription_event())
REFUSED = {
    "unsigned": (GOOD, None),
    "empty header": (GOOD, ""),
    "another secret": (GOOD, signed(GOOD, secret="whsec_foreign")),
    "another body": (GOOD + " ", signed(GOOD)),
    "truncated": (GOOD[:-1], signed(GOOD)),
    "stale": (GOOD, lambda: signed(GOOD, shift=timedelta(seconds=-310))),
    "future": (GOOD, lambda: signed(GOOD, shift=timedelta(seconds=310))),
    "a day ahead": (GOOD, lambda: signed(GOOD, shift=timedelta(days=1))),
    "no timestamp": (GOOD, "v1=" + "0" * 64),
    "no v1": (GOOD, lambda: signed(GOOD).replace("v1=", "v0=")),
    "nonsense": (GOOD, "t=now,v1=\ud800"),
    "no JSON": ("{", lambda: signed("{")),
    "no UTF-8": ("\ud800", lambda: "t=1,v1=0"),
    "NaN": ('{"id": NaN}', lambda: signed('{"id": NaN}')),
    "a list": ("[]", lambda: signed("[]")),
    "no id": ('{"type": "invoice.paid"}', lambda: signed('{"type": "invoice.paid"}')),
    "an id that is none": ('{"id": {"a": 1}}', lambda: signed('{"id": {"a": 1}}')),
    "deeply nested": ("[" * 100_000, lambda: signed("[" * 100_000)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_stripe_did_not_send_is_refused_and_writes_nothing(deployment: Deployment, name: str) -> None:
    """400 in the envelope, the table untouched."""
    body, header = REFUSED[name]
    answer = deliver_raw(deployment, body, header() if callable(header) else header)
    assert answer.status == 400
    assert answer.body["error"]["code"] == "VALIDATION_FAILED"
    assert answer.body["error"]["message"]
    assert rows(deployment) == []


def test_a_signature_is_never_logged(deployment: Deployment, printed: Callable[[], str]) -> None:
    """Nor a secret, nor a customer's e-mail."""
    sent = event("customer.deleted", {"id": "cus_1", "object": "customer", "email": "person@example.com"})
    body = json.dumps(sent)
    header = signed(body)
    deliver_raw(deployment, body, header)
    deliver_raw(deployment, body + " ", header)
    log = printed()
    assert sent["id"] in log
    assert header.partition("v1=")[2] not in log
    assert WEBHOOK_SECRET not in log
    assert "person@example.com" not in log


IGNORED = {
    "a type we do not handle": event("payout.paid", {"id": "po_1"}),
    "the other mode": subscription_event() | {"livemode": True},
    "a connected account": subscription_event() | {"account": "acct_1"},
    "a one-off payment": event("checkout.session.completed", {"id": "cs_1", "mode": "payment", "customer": "cus_acme"}),
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_is_not_ours_is_recorded_as_ignored(deployment: Deployment, name: str) -> None:
    """200, so that it does not come again; the plan is untouched."""
    sent = IGNORED[name]
    assert deployment.deliver(sent).body == {"received": True, "outcome": "ignored"}
    assert marker(deployment, sent["id"])["outcome"] == "ignored"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


FAILED: dict[str, dict[str, Any]] = {
    "no object": {"data": {}},
    "a list for an object": {"data": {"object": []}},
    "data is text": {"data": "x"},
    "no status": {"data": {"object": {"id": "sub_1", "customer": "cus_acme", "created": 1, "items": {"data": []}}}},
    "a negative time": {"data": {"object": subscription(created=-1)}},
    "a huge time": {"data": {"object": subscription(ended_at=10**30)}},
    "items are text": {"data": {"object": subscription(items="x")}},
    "an id of 300 characters": {"data": {"object": subscription("s" * 300)}},
    "no time": {"created": None},
    "a time that is text": {"created": "now"},
    "a type that is a number": {"type": 7},
}


@pytest.mark.parametrize("name", FAILED)
def test_what_can_never_be_processed_is_recorded_as_failed(deployment: Deployment, name: str) -> None:
    """200 after it is durable: delivering it again would change nothing."""
    sent = subscription_event() | FAILED[name]
    assert deployment.deliver(sent).body == {"received": True, "outcome": "failed"}
    recorded = marker(deployment, sent["id"])
    assert recorded["outcome"] == "failed"
    assert recorded["reason"]
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


def test_a_failure_says_where_and_when(deployment: Deployment) -> None:
    """The object's fields are not taken for the event's."""
    sent = subscription_event(created=datetime.now(UTC) - timedelta(days=2))
    del sent["data"]["object"]["created"]
    deployment.deliver(sent)
    recorded = marker(deployment, sent["id"])
    assert (recorded["reason"], recorded["created"]) == ("data.object: created is missing", str(sent["created"]))


def test_a_conflict_while_a_failure_is_recorded_is_tried_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """Two deliveries of one event that fails may meet at its marker: it is recorded all the same, and counted once."""
    commit, conflicts = Repository.commit, iter([VersionConflict()])

    def colliding(repository: Repository, wanted: Commit) -> None:
        for conflict in conflicts:
            raise conflict
        commit(repository, wanted)

    monkeypatch.setattr(Repository, "commit", colliding)
    sent = subscription_event() | {"data": {}}
    assert deployment.deliver(sent).body == {"received": True, "outcome": "failed"}
    assert marker(deployment, sent["id"])["outcome"] == "failed"
    assert printed().replace(" ", "").count('"EventFailed":[1.0]') == 1


def test_an_unknown_customer_is_unmatched_until_its_account_is_known(deployment: Deployment) -> None:
    """Recorded, and processed when it is seen again after the account exists."""
    sent = event("customer.subscription.updated", subscription(account_id="newcomer", customer="cus_new"))
    assert deployment.deliver(sent).body["outcome"] == "unknown_customer"
    deployment.repository.create_account(Profile("newcomer"))
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert len(deployment.repository.load_account("newcomer").subscriptions) == 1


def test_a_subscription_made_in_the_dashboard_is_found_by_its_customer(deployment: Deployment) -> None:
    """No metadata, a known customer."""
    deployment.deliver(subscription_event())
    made_by_hand = event("customer.subscription.created", subscription("sub_2", lookup_key="team_monthly", metadata={}))
    assert deployment.deliver(made_by_hand).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "team"


def test_the_stored_customer_counts_where_metadata_disagrees(
    deployment: Deployment, printed: Callable[[], str]
) -> None:
    """Applied to the customer's account, recorded and counted for the alarm; the account it names gets nothing."""
    deployment.repository.create_account(Profile("globex"))
    deployment.deliver(subscription_event())
    sent = event("customer.subscription.created", subscription("sub_2", account_id="globex"))
    deployment.deliver(sent)
    assert marker(deployment, sent["id"])["account_id"] == "acme"
    assert "names another account" in marker(deployment, sent["id"])["reason"]
    assert deployment.repository.load_account("globex").subscriptions == ()
    assert '"CustomerMismatch":[1.0]' in printed().replace(" ", "")


def test_a_foreign_customer_cannot_claim_an_account_that_has_one(deployment: Deployment) -> None:
    """Metadata alone moves no account that has a customer already."""
    deployment.deliver(subscription_event(status="canceled"))
    sent = event("customer.subscription.created", subscription("sub_2", customer="cus_other"))
    assert deployment.deliver(sent).body["outcome"] == "customer_conflict"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"


def test_an_unmapped_price_keeps_the_plan_and_alarms(deployment: Deployment, printed: Callable[[], str]) -> None:
    """A price that the catalog does not know changes no plan silently."""
    start = datetime.now(UTC) - timedelta(seconds=60)
    deployment.deliver(subscription_event(created=start))
    sent = subscription_event(lookup_key="of_another_product")
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"
    assert "price_of_of_another_product" in marker(deployment, sent["id"])["reason"]
    assert '"UnmappedPrice":[1.0]' in printed().replace(" ", "")


def test_an_alarm_is_given_by_the_next_delivery_if_the_first_died(
    deployment: Deployment, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed, and dead before it could tell: Stripe delivers again, and the operator hears of it."""
    sent = subscription_event(lookup_key="of_another_product")
    with monkeypatch.context() as dying:
        dying.setattr(EventProcessor, "_report", lambda *_facts: (_ for _ in ()).throw(RuntimeError))
        assert deployment.deliver(sent).status == 500
    assert "UnmappedPrice" not in printed()
    assert deployment.deliver(sent).body == {"received": True, "outcome": "duplicate"}
    assert '"UnmappedPrice":[1.0]' in printed().replace(" ", "")


def test_an_unmapped_price_on_a_new_subscription_grants_nothing(deployment: Deployment) -> None:
    """The subscription is kept, its status shown, the plan stays free."""
    deployment.deliver(subscription_event(lookup_key=None))
    body = deployment.authorized("GET", "/v1/billing").body
    assert (body["plan"], body["status"]) == ("free", "active")


def test_both_shapes_of_a_period_are_understood(deployment: Deployment) -> None:
    """Before API 2025-03-31 the period was on the subscription itself."""
    item = {"price": {"id": "price_1", "lookup_key": "pro_monthly"}, "quantity": 1}
    older = subscription(items={"data": [item]}, current_period_start=1_890_777_600, current_period_end=1_893_456_000)
    deployment.deliver(event("customer.subscription.updated", older))
    assert deployment.authorized("GET", "/v1/billing").body["current_period_end"] == "2030-01-01T00:00:00Z"


def test_an_invoice_becomes_a_row_of_its_account(deployment: Deployment) -> None:
    """Invoices are kept as they come; what changed is told to the account's own systems once."""
    deployment.deliver(subscription_event())
    deployment.deliver(event("invoice.paid", invoice()))
    deployment.deliver(event("invoice.payment_succeeded", invoice()))
    items = rows(deployment)
    assert [item["status"]["S"] for item in items if item["sk"]["S"].startswith("INV#")] == ["paid"]
    told = sorted(item["type"]["S"] for item in items if item["sk"]["S"].startswith("OUT#"))
    assert told == ["invoice.paid", "subscription.created"]


def test_a_deleted_subscription_ends_the_plan(deployment: Deployment) -> None:
    """`customer.subscription.deleted` is on free, its status and period still shown."""
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


def test_without_a_secret_nothing_is_accepted(
    deployment: Deployment, stripe_secret_id: Any, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """5xx, so that Stripe delivers again once `billing setup` was run; the log tells the operator."""
    monkeypatch.setenv("STRIPE_SECRET_ID", stripe_secret_id({"api_key": "sk_test_x", "webhook_secrets": []}))
    answer = deployment.deliver(subscription_event())
    assert (answer.status, answer.body["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "billing setup" in printed()
    assert rows(deployment) == []


def test_with_a_key_of_the_other_mode_nothing_is_recorded(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, printed: Callable[[], str]
) -> None:
    """An event of the key's mode is not taken for a foreign one: 5xx, and its effect once the mode is right."""
    sent = subscription_event()
    with monkeypatch.context() as wrong:
        wrong.setenv("STRIPE_MODE", "live")
        answer = deployment.deliver(sent)
    assert (answer.status, answer.body["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "The stored Stripe key is of test mode, and STRIPE_MODE is live" in printed()
    assert rows(deployment) == []
    app.reset()
    assert deployment.deliver(sent).body == {"received": True, "outcome": "applied"}


def test_a_table_that_does_not_answer_is_no_acknowledgement(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After: Stripe delivers again."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    answer = deployment.deliver(subscription_event())
    assert (answer.status, answer.body["error"]["code"]) == (503, "INTERNAL_ERROR")
    assert int(answer.headers["retry-after"]) > 0
