"""Tests of `billing events`."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import stripe
from typer.testing import Result

import cli.dead_letters
import cli.stack
from billing.adapters.repository import Commit, ProcessedEvent
from billing.adapters.stripe_gateway import connect
from billing.domain.timestamps import iso
from billing.stripe_events.drift import REPAIR_ID_PREFIX
from billing.stripe_events.event_types import EventOutcome
from tests.cli.support import (
    STRIPE_KEY,
    DeployedStack,
    RunBilling,
    StripeAccount,
    aws,
    create_price,
    create_subscription,
    customer_id_of,
    json_error,
    json_output,
    move_events_to_organization_account,
    stack_outputs,
    table_items,
)

pytestmark = pytest.mark.engine

EVENT_SOURCE = "aws.partner/stripe.com/ed_test_1"
NOW = datetime.now(UTC).replace(microsecond=0)


def record(stack: DeployedStack, event_id: str, outcome: EventOutcome, **fields: Any) -> ProcessedEvent:
    """Store an event's marker, processed now."""
    marker = ProcessedEvent(
        event_id, fields.pop("type", "invoice.paid"), outcome, fields.pop("processed", NOW), **fields
    )
    stack.repository().commit(Commit(marker))
    return marker


def event_ids(result: Result) -> list[str]:
    """Return the ids of the listed events, in order."""
    return [each["id"] for each in json_output(result)["events"]]


def events_of(client: stripe.StripeClient, event_type: str) -> list[str]:
    """Return the ids of Stripe's events of a type."""
    return [event.id for event in client.v1.events.list({"type": event_type})]


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_by_account_returns_its_events_newest_first(run_billing: RunBilling, stack: DeployedStack) -> None:
    """No Stripe key is set: the table alone is read."""
    run_billing("accounts", "create", "acme")
    record(stack, "evt_done", EventOutcome.APPLIED, account_id="acme", processed=NOW - timedelta(minutes=3))
    record(stack, "evt_included", EventOutcome.NO_CHANGE, account_id="acme", processed=NOW - timedelta(minutes=1))
    record(stack, "evt_open", EventOutcome.CUSTOMER_CONFLICT, account_id="acme", processed=NOW - timedelta(minutes=2))
    record(stack, "evt_other", EventOutcome.APPLIED, account_id="globex")
    record(stack, "evt_nobody", EventOutcome.UNKNOWN_CUSTOMER, customer_id="cus_nobody")
    assert event_ids(run_billing("events", "list", "--account", "acme", "--json")) == [
        "evt_included",
        "evt_open",
        "evt_done",
    ]
    assert event_ids(run_billing("events", "list", "--account", "acme", "--outcome", "applied", "--json")) == [
        "evt_done"
    ]


def test_list_by_outcome_returns_all_recorded_fields(run_billing: RunBilling, stack: DeployedStack) -> None:
    failed = {"type": "invoice.paid", "reason": "items.data is not a list", "created": NOW - timedelta(hours=1)}
    record(stack, "evt_failed", EventOutcome.FAILED, **failed)
    record(stack, "evt_unmatched", EventOutcome.UNKNOWN_CUSTOMER)
    assert json_output(run_billing("events", "list", "--outcome", "failed", "--json")) == {
        "events": [
            {
                "id": "evt_failed",
                "type": "invoice.paid",
                "outcome": "failed",
                "created": iso(NOW - timedelta(hours=1)),
                "processed": iso(NOW),
                "account_id": None,
                "customer": None,
                "reason": "items.data is not a list",
            }
        ],
        "has_more": False,
    }
    [line] = run_billing("events", "list", "--outcome", "failed").stdout.splitlines()
    assert line.endswith("evt_failed  invoice.paid  failed  -  items.data is not a list")


def test_list_filters_by_time_and_type_and_reports_more(run_billing: RunBilling, stack: DeployedStack) -> None:
    for hours in range(4):
        processed = NOW - timedelta(hours=hours, minutes=30)
        kind = "invoice.paid" if hours % 2 else "customer.deleted"
        record(stack, f"evt_{hours}", EventOutcome.UNKNOWN_CUSTOMER, processed=processed, type=kind)
    listed = ("events", "list", "--outcome", "unknown_customer", "--json")
    assert event_ids(run_billing(*listed, "--since", "2h")) == ["evt_0", "evt_1"]
    assert event_ids(run_billing(*listed, "--until", iso(NOW - timedelta(hours=2)) or "")) == ["evt_2", "evt_3"]
    assert event_ids(run_billing(*listed, "--type", "invoice.paid")) == ["evt_1", "evt_3"]
    part = json_output(run_billing(*listed, "--limit", "3"))
    assert (len(part["events"]), part["has_more"]) == (3, True)


def test_list_by_open_outcome_omits_an_event_that_was_applied_later(
    run_billing: RunBilling, stack: DeployedStack
) -> None:
    run_billing("accounts", "create", "acme")
    record(stack, "evt_1", EventOutcome.UNKNOWN_CUSTOMER)
    record(stack, "evt_1", EventOutcome.APPLIED, account_id="acme")
    assert event_ids(run_billing("events", "list", "--outcome", "unknown_customer", "--json")) == []
    assert event_ids(run_billing("events", "list", "--account", "acme", "--json")) == ["evt_1"]


def test_list_of_stripe_marks_events_without_marker_as_absent(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    create_price(stripe_client)
    subscription = create_subscription(stripe_client, "acme")
    [created] = events_of(stripe_client, "customer.subscription.created")
    [paid] = events_of(stripe_client, "invoice.paid")
    record(stack, created, EventOutcome.APPLIED, account_id="acme")
    listed = json_output(run_with_stripe("events", "list", "--json"))["events"]
    outcomes = {each["id"]: each["outcome"] for each in listed}
    assert (outcomes[created], outcomes[paid]) == ("applied", "absent")
    absent = json_output(run_with_stripe("events", "list", "--outcome", "absent", "--type", "invoice.paid", "--json"))[
        "events"
    ]
    [event] = absent
    assert (event["id"], event["account_id"], event["customer"]) == (paid, "acme", customer_id_of(subscription))


def test_list_by_reason_finds_a_metadata_conflict_without_the_account(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    """The outcome of such an event is not `customer_conflict`."""
    create_price(stripe_client)
    run_with_stripe("accounts", "create", "acme")
    subscription = create_subscription(stripe_client, "globex")
    run_with_stripe("accounts", "link", "acme", customer_id_of(subscription), "--take-over")
    profile = stack.repository().load_account("acme").profile
    stack.repository().save_profile(replace(profile, confirmed_customers=()))
    run_with_stripe("events", "replay", "--outcome", "absent")
    [event] = events_of(stripe_client, "customer.subscription.created")
    assert event in event_ids(run_with_stripe("events", "list", "--reason", "names another account", "--json"))
    assert event_ids(run_with_stripe("events", "list", "--outcome", "customer_conflict", "--json")) == []
    assert event_ids(run_with_stripe("events", "list", "--reason", "no such reason", "--json")) == []


@pytest.mark.parametrize("since", ["yesterday", "2 h", "-1h", "999999d", "0001-01-01T00:00+14:00"])
def test_list_with_invalid_since_is_a_usage_error_with_examples(run_billing: RunBilling, since: str) -> None:
    result = run_billing("events", "list", f"--since={since}")
    assert result.exit_code == 2
    assert "6h" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list", "--type", "bogus.type"), "bogus.type is not a handled event type"),
        (("replay", "--outcome", "failed", "--type", "bogus.type"), "bogus.type is not a handled event type"),
        (("show", ""), "an event id has 1 to 255"),
        (("replay", "evt_1", "a b"), "an event id has 1 to 255"),
    ],
)
def test_invalid_type_or_event_id_is_a_usage_error(
    run_billing: RunBilling, words: tuple[str, ...], message: str
) -> None:
    result = run_billing("events", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize("words", [("list",), ("replay", "--outcome", "failed")])
def test_events_of_unknown_account_fails(run_billing: RunBilling, words: tuple[str, ...]) -> None:
    error = json_error(run_billing("events", *words, "--account", "nobody", "--json"))
    assert error["code"] == "account_not_found"


def test_list_since_a_future_time_is_a_usage_error(run_billing: RunBilling) -> None:
    assert run_billing("events", "list", "--since", "2990-01-01").exit_code == 2


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_returns_marker_and_stripe_event_without_personal_data(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    create_price(stripe_client)
    subscription = create_subscription(stripe_client, "acme")
    [paid] = events_of(stripe_client, "invoice.paid")
    record(stack, paid, EventOutcome.UNKNOWN_CUSTOMER, customer_id=customer_id_of(subscription))
    result = run_with_stripe("events", "show", paid, "--json")
    shown = json_output(result)
    assert (shown["recorded"]["outcome"], shown["stripe"]["type"]) == ("unknown_customer", "invoice.paid")
    assert shown["stripe"]["object"]["status"] == "paid"
    assert shown["stripe"]["account_id"] == "acme"
    for text in (result.stdout, run_with_stripe("events", "show", paid).stdout):
        assert paid in text
        assert "example.com" not in text


def test_show_subscription_event_prints_its_terms(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    create_price(stripe_client)
    subscription = create_subscription(stripe_client, "acme")
    stripe_client.v1.subscriptions.update(subscription.id, {"pause_collection": {"behavior": "void"}})
    updated = events_of(stripe_client, "customer.subscription.updated")[0]
    terms = json_output(run_with_stripe("events", "show", updated, "--json"))["stripe"]["terms"]
    assert (terms["unit_amount"], terms["currency"], terms["interval"]) == (1900, "usd", "month")
    assert (terms["pause_collection"], terms["quantity"]) == ("void", 1)
    assert "terms.pause_collection" in run_with_stripe("events", "show", updated).stdout


def test_show_unknown_event_fails_with_retention_period(run_with_stripe: RunBilling) -> None:
    error = json_error(run_with_stripe("events", "show", "evt_none", "--json"))
    assert error["code"] == "event_not_found"
    assert "30 days" in error["message"]


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_applies_events_of_unknown_customers_once_the_account_exists(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    """A second replay finds nothing. A replay of the named event returns duplicate."""
    create_price(stripe_client)
    create_subscription(stripe_client, "acme")
    updated = events_of(stripe_client, "customer.subscription.updated")[0]
    still = json_output(run_with_stripe("events", "replay", updated, "--json"), exit_code=3)
    assert [(each["before"], each["outcome"]) for each in still["events"]] == [("absent", "unknown_customer")]
    run_with_stripe("accounts", "create", "acme")
    done = json_output(run_with_stripe("events", "replay", "--outcome", "unknown_customer", "--json"))
    assert [(each["id"], each["before"], each["outcome"]) for each in done["events"]] == [
        (updated, "unknown_customer", "applied")
    ]
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"
    assert json_output(run_with_stripe("events", "replay", "--outcome", "unknown_customer", "--json"))["events"] == []
    again = json_output(run_with_stripe("events", "replay", updated, updated, "--json"))
    assert [(each["before"], each["outcome"]) for each in again["events"]] == [("applied", "duplicate")]


def test_replay_of_absent_events_applies_them(run_with_stripe: RunBilling, stripe_client: stripe.StripeClient) -> None:
    create_price(stripe_client)
    run_with_stripe("accounts", "create", "acme")
    create_subscription(stripe_client, "acme")
    done = json_output(run_with_stripe("events", "replay", "--outcome", "absent", "--since", "1h", "--json"))["events"]
    assert {each["before"] for each in done} == {"absent"}
    assert {each["outcome"] for each in done} <= {"applied", "no_change"}
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"
    assert json_output(run_with_stripe("events", "list", "--outcome", "absent", "--json"))["events"] == []


def test_replay_dry_run_lists_events_and_writes_nothing(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    create_price(stripe_client)
    run_with_stripe("accounts", "create", "acme")
    create_subscription(stripe_client, "acme")
    before = table_items(stack)
    replayed = json_output(run_with_stripe("events", "replay", "--outcome", "absent", "--dry-run", "--json"))
    assert {each["outcome"] for each in replayed["events"]} == {None}
    assert replayed["events"]
    assert table_items(stack) == before


def test_replay_of_event_that_stripe_no_longer_has_returns_gone(
    run_with_stripe: RunBilling, stack: DeployedStack
) -> None:
    record(stack, "evt_forgotten", EventOutcome.MISSING)
    replayed = json_output(run_with_stripe("events", "replay", "evt_forgotten", "--json"), exit_code=3)
    assert [each["outcome"] for each in replayed["events"]] == ["gone"]


def test_replay_skips_listed_repairs_and_rejects_named_ones(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    """Stripe has no such event: a repair is a marker of reconciliation."""
    create_price(stripe_client)
    create_subscription(stripe_client, None)
    [paid] = events_of(stripe_client, "invoice.paid")
    record(stack, paid, EventOutcome.MISSING)
    left = record(stack, f"{REPAIR_ID_PREFIX}sub_1_1795000000", EventOutcome.MISSING, account_id="acme").event_id
    assert set(event_ids(run_with_stripe("events", "list", "--outcome", "missing", "--json"))) == {left, paid}
    for words in (["--dry-run"], []):
        replayed = json.loads(run_with_stripe("events", "replay", "--outcome", "missing", *words, "--json").stdout)
        assert [each["id"] for each in replayed["events"]] == [paid]
    error = json_error(run_with_stripe("events", "replay", paid, left, "--json"))
    assert error["code"] == "no_event"
    assert "billing reconcile --account acme" in error["message"]


def test_replay_of_event_of_another_account_of_an_organization_is_ignored(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    create_price(stripe_client)
    run_with_stripe("accounts", "create", "acme")
    create_subscription(stripe_client, "acme")
    move_events_to_organization_account(stripe_account)
    [created] = events_of(stripe_client, "customer.subscription.created")
    done = json_output(run_with_stripe("events", "replay", created, "--json"))["events"]
    assert [each["outcome"] for each in done] == ["ignored"]
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "free"


def test_replay_prints_no_logs_or_metrics(run_with_stripe: RunBilling, stripe_client: stripe.StripeClient) -> None:
    create_price(stripe_client)
    create_subscription(stripe_client, None)
    result = run_with_stripe("events", "replay", "--outcome", "absent")
    assert "evt_" in result.stdout
    assert "_aws" not in result.stdout
    assert "Event processed" not in result.stdout + result.stderr


def test_replay_of_thin_event_applies_its_object(run_with_stripe: RunBilling, stripe_account: StripeAccount) -> None:
    """API v2 has the event; API v1 has its object."""
    client = connect(STRIPE_KEY, stripe_account.url)
    create_price(client)
    run_with_stripe("accounts", "create", "acme")
    with stripe_with_thin_event(stripe_account, create_subscription(client, "acme").id) as url:
        shown = json_output(run_with_stripe("events", "show", "evt_thin", "--json", STRIPE_API_BASE=url))
        done = json_output(run_with_stripe("events", "replay", "evt_thin", "--json", STRIPE_API_BASE=url))["events"]
    assert shown["stripe"]["type"] == "v1.customer.subscription.created"
    assert [(each["before"], each["outcome"]) for each in done] == [("absent", "applied")]
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"


@contextmanager
def stripe_with_thin_event(account: StripeAccount, subscription_id: str) -> Iterator[str]:
    """Start a proxy of the Stripe account that also has `evt_thin`, a thin event of this subscription."""
    thin = {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v1.customer.subscription.created",
        "created": iso(NOW),
        "livemode": False,
        "context": None,
        "related_object": {
            "id": subscription_id,
            "type": "subscription",
            "url": f"/v1/subscriptions/{subscription_id}",
        },
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = {"Authorization": self.headers["Authorization"]}
            found = httpx.get(account.url + self.path, headers=asked, trust_env=False)
            is_thin = self.path == "/v2/core/events/evt_thin"
            self.send_response_only(200 if is_thin else found.status_code)
            self.send_header("Date", found.headers["Date"])
            self.end_headers()
            self.wfile.write(json.dumps(thin).encode() if is_thin else found.content)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("words", [(), ("evt_1", "--outcome", "failed"), ("--outcome", "applied")])
def test_replay_without_events_or_with_final_outcome_is_a_usage_error(
    run_with_stripe: RunBilling, words: tuple[str, ...]
) -> None:
    result = run_with_stripe("events", "replay", *words, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "name either events or one --outcome: unknown_customer" in result.stderr


def test_replay_fails_with_one_line_if_stripe_fails(run_with_stripe: RunBilling, stripe_account: StripeAccount) -> None:
    stripe_account.fail("status:500", count=10)
    assert json_error(run_with_stripe("events", "replay", "evt_1", "--json"))["code"] == "stripe_failed"


# --- redrive ----------------------------------------------------------------------------------------------------------


def envelope(event: Mapping[str, Any]) -> str:
    """Return an event in EventBridge's envelope, as in the dead-letter queue."""
    return json.dumps({"source": EVENT_SOURCE, "detail-type": event["type"], "detail": event}, default=str)


def test_redrive_applies_events_and_keeps_other_messages(
    run_with_stripe: RunBilling,
    deploy: Callable[..., DeployedStack],
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli.dead_letters, "WAIT_SECONDS", 0)
    stack = deploy(StripeEventSource=EVENT_SOURCE)
    create_price(stripe_client)
    run_with_stripe("accounts", "create", "acme", "--stack", stack.name)
    create_subscription(stripe_client, "acme")
    [created] = events_of(stripe_client, "customer.subscription.created")
    queue, url = aws("sqs", stack.endpoint_url), dead_letters_url(stack)
    assert json_output(run_with_stripe("events", "redrive", "--stack", stack.name, "--json")) == {"events": []}
    queue.send_message(QueueUrl=url, MessageBody=envelope(stripe_client.v1.events.retrieve(created).to_dict()))
    [paid] = events_of(stripe_client, "invoice.paid")
    other = {**stripe_client.v1.events.retrieve(paid).to_dict(), "context": "acct_other"}
    queue.send_message(QueueUrl=url, MessageBody=envelope(other))
    nonsense = queue.send_message(QueueUrl=url, MessageBody="{}")["MessageId"]
    redriven = json_output(run_with_stripe("events", "redrive", "--stack", stack.name, "--json"), exit_code=3)["events"]
    assert {each["id"]: each["outcome"] for each in redriven} == {created: "applied", paid: "ignored", nonsense: None}
    counts = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    left = int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])
    assert left == 1


def test_redrive_reads_on_after_receives_without_a_new_message(
    run_with_stripe: RunBilling,
    deploy: Callable[..., DeployedStack],
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack = deploy(StripeEventSource=EVENT_SOURCE)
    create_price(stripe_client)
    run_with_stripe("accounts", "create", "acme", "--stack", stack.name)
    create_subscription(stripe_client, "acme")
    letters = [
        envelope(event.to_dict())
        for event in stripe_client.v1.events.list({"types": ["invoice.paid", "invoice.updated"]})
    ]
    queue = PartialQueue(letters)
    monkeypatch.setattr(cli.stack.Stack, "sqs_client", lambda _stack: queue)
    redriven = json_output(run_with_stripe("events", "redrive", "--stack", stack.name, "--json"), exit_code=3)["events"]
    assert [each["id"] for each in redriven] == [
        "nonsense",
        *(json.loads(letter)["detail"]["id"] for letter in letters),
    ]
    assert queue.deleted == letters
    assert queue.waits == {cli.dead_letters.WAIT_SECONDS}


class PartialQueue:
    """Queue that returns one message at a time, after an empty receive. It returns the first message repeatedly."""

    def __init__(self, bodies: Sequence[str]) -> None:
        self.deleted: list[str] = []
        self.waits: set[int] = set()
        nonsense = {"MessageId": "nonsense", "ReceiptHandle": "", "Body": "{}"}
        self._answers: list[dict[str, str] | None] = [None, nonsense]
        for body in bodies:
            self._answers += [nonsense, None, {"MessageId": body, "ReceiptHandle": body, "Body": body}]

    def receive_message(self, **wanted: Any) -> dict[str, Any]:
        self.waits.add(wanted["WaitTimeSeconds"])
        message = self._answers.pop(0) if self._answers else None
        return {"Messages": [message]} if message else {}

    def delete_message_batch(self, **wanted: Any) -> dict[str, Any]:
        self.deleted += [entry["ReceiptHandle"] for entry in wanted["Entries"]]
        return {}


def test_redrive_fails_without_eventbridge(run_with_stripe: RunBilling) -> None:
    error = json_error(run_with_stripe("events", "redrive", "--json"))
    assert error["code"] == "no_dead_letters"
    assert "docs/guides/eventbridge.md" in error["message"]


def dead_letters_url(stack: DeployedStack) -> str:
    """Return the URL of the stack's dead-letter queue."""
    return stack_outputs(stack)["StripeEventDeadLettersUrl"]
