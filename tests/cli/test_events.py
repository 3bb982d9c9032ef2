"""`billing events`, on a deployed table, a Stripe account and a dead-letter queue."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import stripe
from typer.testing import Result

import cli.event_replay
import cli.stack
from billing.adapters.repository import Commit, ProcessedEvent
from billing.adapters.stripe_gateway import connect
from billing.domain.timestamps import iso
from billing.stripe_events.drift import REPAIR_ID_PREFIX
from billing.stripe_events.event_types import EventOutcome
from tests.cli.conftest import STRIPE_KEY, Billing, Stack, StripeAccount, answer, aws, refusal
from tests.cli.stripe_side import customer_of, sell, subscribe, table

pytestmark = pytest.mark.engine

EVENT_SOURCE = "aws.partner/stripe.com/ed_test_1"
NOW = datetime.now(UTC).replace(microsecond=0)


def record(stack: Stack, event_id: str, outcome: EventOutcome, **facts: Any) -> ProcessedEvent:
    """Have the table know an event, processed now."""
    marker = ProcessedEvent(event_id, facts.pop("type", "invoice.paid"), outcome, facts.pop("processed", NOW), **facts)
    stack.repository().commit(Commit(marker))
    return marker


def event_ids(result: Result) -> list[str]:
    """The events of a list, in its order."""
    return [each["id"] for each in answer(result)["events"]]


def events_of(client: stripe.StripeClient, event_type: str) -> list[str]:
    """What Stripe has of a type."""
    return [event.id for event in client.v1.events.list({"type": event_type})]


def needing_somebody(result: Result) -> dict[str, Any]:
    """What a command found that exited with 3."""
    assert result.exit_code == 3, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


# --- list -------------------------------------------------------------------------------------------------------------


def test_the_events_of_an_account(billing: Billing, stack: Stack) -> None:
    """What was done with them and what still needs somebody, the latest first; nobody else's, and no Stripe asked."""
    billing("accounts", "create", "acme")
    record(stack, "evt_done", EventOutcome.APPLIED, account_id="acme", processed=NOW - timedelta(minutes=3))
    record(stack, "evt_included", EventOutcome.NO_CHANGE, account_id="acme", processed=NOW - timedelta(minutes=1))
    record(stack, "evt_open", EventOutcome.CUSTOMER_CONFLICT, account_id="acme", processed=NOW - timedelta(minutes=2))
    record(stack, "evt_other", EventOutcome.APPLIED, account_id="globex")
    record(stack, "evt_nobody", EventOutcome.UNKNOWN_CUSTOMER, customer_id="cus_nobody")
    assert event_ids(billing("events", "list", "--account", "acme", "--json")) == [
        "evt_included",
        "evt_open",
        "evt_done",
    ]
    assert event_ids(billing("events", "list", "--account", "acme", "--outcome", "applied", "--json")) == ["evt_done"]


def test_what_needs_somebody(billing: Billing, stack: Stack) -> None:
    """By outcome, with everything that is recorded."""
    failed = {"type": "invoice.paid", "reason": "items.data is not a list", "created": NOW - timedelta(hours=1)}
    record(stack, "evt_failed", EventOutcome.FAILED, **failed)
    record(stack, "evt_unmatched", EventOutcome.UNKNOWN_CUSTOMER)
    assert answer(billing("events", "list", "--outcome", "failed", "--json")) == {
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
    [line] = billing("events", "list", "--outcome", "failed").stdout.splitlines()
    assert line.endswith("evt_failed  invoice.paid  failed  -  items.data is not a list")


def test_a_part_of_the_time_and_of_the_list(billing: Billing, stack: Stack) -> None:
    """Since, until and type narrow it; a limit says that there are more."""
    for hours in range(4):
        processed = NOW - timedelta(hours=hours, minutes=30)
        kind = "invoice.paid" if hours % 2 else "customer.deleted"
        record(stack, f"evt_{hours}", EventOutcome.UNKNOWN_CUSTOMER, processed=processed, type=kind)
    listed = ("events", "list", "--outcome", "unknown_customer", "--json")
    assert event_ids(billing(*listed, "--since", "2h")) == ["evt_0", "evt_1"]
    assert event_ids(billing(*listed, "--until", iso(NOW - timedelta(hours=2)) or "")) == ["evt_2", "evt_3"]
    assert event_ids(billing(*listed, "--type", "invoice.paid")) == ["evt_1", "evt_3"]
    part = answer(billing(*listed, "--limit", "3"))
    assert (len(part["events"]), part["has_more"]) == (3, True)


def test_an_event_that_is_settled_leaves_the_open_ones(billing: Billing, stack: Stack) -> None:
    """Once it is applied it is with its account, and nobody has to look at it any more."""
    billing("accounts", "create", "acme")
    record(stack, "evt_1", EventOutcome.UNKNOWN_CUSTOMER)
    record(stack, "evt_1", EventOutcome.APPLIED, account_id="acme")
    assert event_ids(billing("events", "list", "--outcome", "unknown_customer", "--json")) == []
    assert event_ids(billing("events", "list", "--account", "acme", "--json")) == ["evt_1"]


def test_events_that_never_came(operator: Billing, stack: Stack, stripe_client: stripe.StripeClient) -> None:
    """Stripe's list beside the table's: each event once, with what became of it."""
    sell(stripe_client)
    subscription = subscribe(stripe_client, "acme")
    [created] = events_of(stripe_client, "customer.subscription.created")
    [paid] = events_of(stripe_client, "invoice.paid")
    record(stack, created, EventOutcome.APPLIED, account_id="acme")
    listed = answer(operator("events", "list", "--json"))["events"]
    outcomes = {each["id"]: each["outcome"] for each in listed}
    assert (outcomes[created], outcomes[paid]) == ("applied", "absent")
    absent = answer(operator("events", "list", "--outcome", "absent", "--type", "invoice.paid", "--json"))["events"]
    [event] = absent
    assert (event["id"], event["account_id"], event["customer"]) == (paid, "acme", customer_of(subscription))


@pytest.mark.parametrize("since", ["yesterday", "2 h", "-1h", "999999d", "0001-01-01T00:00+14:00"])
def test_a_time_that_is_none(billing: Billing, since: str) -> None:
    """A wrong command line is told as one, with what would be right."""
    result = billing("events", "list", f"--since={since}")
    assert result.exit_code == 2
    assert "6h" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "--type", "bogus.type"), "bogus.type is not a handled event type"),
        (("replay", "--outcome", "failed", "--type", "bogus.type"), "bogus.type is not a handled event type"),
        (("show", ""), "an event id has 1 to 255"),
        (("replay", "evt_1", "a b"), "an event id has 1 to 255"),
    ],
)
def test_what_no_event_can_have(billing: Billing, words: tuple[str, ...], said: str) -> None:
    """A type that nothing reads and an id that is none are told before anything is looked for."""
    result = billing("events", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize("words", [("list",), ("replay", "--outcome", "failed")])
def test_the_events_of_nobody(billing: Billing, words: tuple[str, ...]) -> None:
    """An account that is not there is told, as by every other command."""
    error = refusal(billing("events", *words, "--account", "nobody", "--json"))
    assert error["code"] == "account_not_found"


def test_a_time_to_come(billing: Billing) -> None:
    """Nothing has happened since then: a slip of the finger."""
    assert billing("events", "list", "--since", "2990-01-01").exit_code == 2


# --- show -------------------------------------------------------------------------------------------------------------


def test_both_sides_of_an_event(operator: Billing, stack: Stack, stripe_client: stripe.StripeClient) -> None:
    """What is recorded beside what Stripe has, and nothing that says who the customer is."""
    sell(stripe_client)
    subscription = subscribe(stripe_client, "acme")
    [paid] = events_of(stripe_client, "invoice.paid")
    record(stack, paid, EventOutcome.UNKNOWN_CUSTOMER, customer_id=customer_of(subscription))
    result = operator("events", "show", paid, "--json")
    shown = answer(result)
    assert (shown["recorded"]["outcome"], shown["stripe"]["type"]) == ("unknown_customer", "invoice.paid")
    assert shown["stripe"]["object"]["status"] == "paid"
    assert shown["stripe"]["account_id"] == "acme"
    for text in (result.stdout, operator("events", "show", paid).stdout):
        assert paid in text
        assert "example.com" not in text


def test_an_event_that_nobody_has(operator: Billing) -> None:
    """Neither the table nor Stripe: said, with how long Stripe keeps them."""
    error = refusal(operator("events", "show", "evt_none", "--json"))
    assert error["code"] == "event_not_found"
    assert "30 days" in error["message"]


# --- replay -----------------------------------------------------------------------------------------------------------


def test_unmatched_events_are_replayed(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """Once their account is there they are applied; a second time finds nothing, and a named one is a duplicate."""
    sell(stripe_client)
    subscribe(stripe_client, "acme")
    [updated] = events_of(stripe_client, "customer.subscription.updated")
    still = needing_somebody(operator("events", "replay", updated, "--json"))
    assert [(each["before"], each["outcome"]) for each in still["events"]] == [("absent", "unknown_customer")]
    operator("accounts", "create", "acme")
    done = answer(operator("events", "replay", "--outcome", "unknown_customer", "--json"))
    assert [(each["id"], each["before"], each["outcome"]) for each in done["events"]] == [
        (updated, "unknown_customer", "applied")
    ]
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"
    assert answer(operator("events", "replay", "--outcome", "unknown_customer", "--json"))["events"] == []
    again = answer(operator("events", "replay", updated, updated, "--json"))
    assert [(each["before"], each["outcome"]) for each in again["events"]] == [("applied", "duplicate")]


def test_events_that_never_came_are_replayed(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """After an outage: all that Stripe has and the table does not."""
    sell(stripe_client)
    operator("accounts", "create", "acme")
    subscribe(stripe_client, "acme")
    done = answer(operator("events", "replay", "--outcome", "absent", "--since", "1h", "--json"))["events"]
    assert {each["before"] for each in done} == {"absent"}
    assert {each["outcome"] for each in done} <= {"applied", "no_change"}
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"
    assert answer(operator("events", "list", "--outcome", "absent", "--json"))["events"] == []


def test_a_dry_run_replays_nothing(operator: Billing, stack: Stack, stripe_client: stripe.StripeClient) -> None:
    """It says which ones, and the table is as before."""
    sell(stripe_client)
    operator("accounts", "create", "acme")
    subscribe(stripe_client, "acme")
    before = table(stack)
    told = answer(operator("events", "replay", "--outcome", "absent", "--dry-run", "--json"))
    assert {each["outcome"] for each in told["events"]} == {None}
    assert told["events"]
    assert table(stack) == before


def test_what_stripe_forgot_is_gone(operator: Billing, stack: Stack) -> None:
    """An event older than Stripe's thirty days cannot be had again."""
    record(stack, "evt_forgotten", EventOutcome.MISSING)
    told = needing_somebody(operator("events", "replay", "evt_forgotten", "--json"))
    assert [each["outcome"] for each in told["events"]] == ["gone"]


def test_what_reconciliation_left_is_no_event(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient
) -> None:
    """It is listed, and never asked of Stripe, which has no such event; named, it is said what to do instead."""
    sell(stripe_client)
    subscribe(stripe_client, None)
    [paid] = events_of(stripe_client, "invoice.paid")
    record(stack, paid, EventOutcome.MISSING)
    left = record(stack, f"{REPAIR_ID_PREFIX}sub_1_1795000000", EventOutcome.MISSING, account_id="acme").event_id
    assert set(event_ids(operator("events", "list", "--outcome", "missing", "--json"))) == {left, paid}
    for words in (["--dry-run"], []):
        told = json.loads(operator("events", "replay", "--outcome", "missing", *words, "--json").stdout)
        assert [each["id"] for each in told["events"]] == [paid]
    error = refusal(operator("events", "replay", paid, left, "--json"))
    assert error["code"] == "no_event"
    assert "billing reconcile --account acme" in error["message"]


def test_nothing_but_the_answer_is_printed(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """The log and the metrics of the functions are not for the operator's screen."""
    sell(stripe_client)
    subscribe(stripe_client, None)
    result = operator("events", "replay", "--outcome", "absent")
    assert "evt_" in result.stdout
    assert "_aws" not in result.stdout
    assert "Event processed" not in result.stdout + result.stderr


def test_a_thin_event_is_replayed(operator: Billing, stripe_account: StripeAccount) -> None:
    """Stripe has it among the events of API v2; whose object it is, and its state, are asked of API v1."""
    client = connect(STRIPE_KEY, stripe_account.url)
    sell(client)
    operator("accounts", "create", "acme")
    with stripe_with_thin_event(stripe_account, subscribe(client, "acme").id) as url:
        shown = answer(operator("events", "show", "evt_thin", "--json", STRIPE_API_BASE=url))
        done = answer(operator("events", "replay", "evt_thin", "--json", STRIPE_API_BASE=url))["events"]
    assert shown["stripe"]["type"] == "v1.customer.subscription.created"
    assert [(each["before"], each["outcome"]) for each in done] == [("absent", "applied")]
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"


@contextmanager
def stripe_with_thin_event(account: StripeAccount, subscription_id: str) -> Iterator[str]:
    """The Stripe account behind a server that has `evt_thin`, too, which tells of this subscription."""
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
def test_a_replay_says_what_of(operator: Billing, words: tuple[str, ...]) -> None:
    """Everything, or what was done already, is never replayed by accident."""
    result = operator("events", "replay", *words, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "name either events or one --outcome: unknown_customer" in result.stderr


def test_a_stripe_that_fails_is_one_line(operator: Billing, stripe_account: StripeAccount) -> None:
    """Nothing was half-done: running it again goes on."""
    stripe_account.fail("status:500", count=10)
    assert refusal(operator("events", "replay", "evt_1", "--json"))["code"] == "stripe_failed"


# --- redrive ----------------------------------------------------------------------------------------------------------


def envelope(event: stripe.Event) -> str:
    """What EventBridge hands on, and the dead-letter queue keeps."""
    return json.dumps({"source": EVENT_SOURCE, "detail-type": event.type, "detail": event.to_dict()}, default=str)


def test_dead_letters_come_back(
    operator: Billing, deploy: Callable[..., Stack], stripe_client: stripe.StripeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there is applied and taken out; what is no event stays, and is told by the message's id."""
    monkeypatch.setattr(cli.event_replay, "WAIT_SECONDS", 0)
    stack = deploy(StripeEventSource=EVENT_SOURCE)
    sell(stripe_client)
    operator("accounts", "create", "acme", "--stack", stack.name)
    subscribe(stripe_client, "acme")
    [created] = events_of(stripe_client, "customer.subscription.created")
    queue, url = aws("sqs", stack.endpoint_url), dead_letters_url(stack)
    assert answer(operator("events", "redrive", "--stack", stack.name, "--json")) == {"events": []}
    queue.send_message(QueueUrl=url, MessageBody=envelope(stripe_client.v1.events.retrieve(created)))
    nonsense = queue.send_message(QueueUrl=url, MessageBody="{}")["MessageId"]
    told = needing_somebody(operator("events", "redrive", "--stack", stack.name, "--json"))["events"]
    assert {each["id"]: each["outcome"] for each in told} == {created: "applied", nonsense: None}
    counts = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    left = int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])
    assert left == 1


def test_a_queue_that_answers_in_parts(
    operator: Billing, deploy: Callable[..., Stack], stripe_client: stripe.StripeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lies there is found, though receives in between bring nothing, or only what was brought before."""
    stack = deploy(StripeEventSource=EVENT_SOURCE)
    sell(stripe_client)
    operator("accounts", "create", "acme", "--stack", stack.name)
    subscribe(stripe_client, "acme")
    letters = [
        envelope(event) for event in stripe_client.v1.events.list({"types": ["invoice.paid", "invoice.updated"]})
    ]
    queue = QueueInParts(letters)
    monkeypatch.setattr(cli.stack.Stack, "sqs_client", lambda _stack: queue)
    told = needing_somebody(operator("events", "redrive", "--stack", stack.name, "--json"))["events"]
    assert [each["id"] for each in told] == ["nonsense", *(json.loads(letter)["detail"]["id"] for letter in letters)]
    assert queue.deleted == letters
    assert queue.waits == {cli.event_replay.WAIT_SECONDS}


class QueueInParts:
    """A queue as SQS may answer: one message at a time, each after a receive without any, and one that comes back."""

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

    def delete_message(self, **wanted: str) -> None:
        self.deleted.append(wanted["ReceiptHandle"])


def test_a_stack_without_eventbridge_has_no_dead_letters(operator: Billing) -> None:
    """It says where to read how events come that way."""
    error = refusal(operator("events", "redrive", "--json"))
    assert error["code"] == "no_dead_letters"
    assert "docs/guides/eventbridge.md" in error["message"]


def dead_letters_url(stack: Stack) -> str:
    """Where the stack's dead-letter queue is."""
    [described] = aws("cloudformation", stack.endpoint_url).describe_stacks(StackName=stack.name)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
    return str(outputs["StripeEventDeadLettersUrl"])
