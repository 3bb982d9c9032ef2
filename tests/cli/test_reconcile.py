"""`billing reconcile`, on a deployed table and a Stripe account."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
from typer.testing import Result

import billing.adapters.stripe_gateway
import billing.services.reconciler
from billing.adapters.stripe_gateway import StripeGateway
from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.services.checkout import Checkout, CheckoutParams
from tests.cli.conftest import Billing, Stack, StripeAccount, answer, refusal
from tests.cli.stripe_side import age_events, customer_of, sell, spoil, subscribe, table

pytestmark = pytest.mark.engine

NOTHING = {"events": 0, "subscriptions": 0, "invoices": 0}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, stripe_client: stripe.StripeClient) -> None:
    """Nobody else uses this Stripe, which sells what the catalog has."""
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 10_000)
    monkeypatch.setattr(billing.services.reconciler, "SETTLE_SECONDS", 0)
    sell(stripe_client)


def differing(result: Result) -> dict[str, Any]:
    """What a command found that exited with 3."""
    assert result.exit_code == 3, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_nothing_to_compare(operator: Billing, stack: Stack) -> None:
    """An empty Stripe and an empty table agree."""
    assert answer(operator("reconcile", "--json")) == {
        "stack": stack.name,
        "account": None,
        "dry_run": False,
        "compared": NOTHING,
        "unknown_customer": NOTHING,
        "differences": 0,
        "findings": [],
    }


def test_what_differs_is_mended_and_told(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Missed events are applied, then nothing differs; a row changed by hand is found and mended the next time."""
    operator("accounts", "create", "acme")
    subscription = subscribe(stripe_client, "acme")
    first = differing(operator("reconcile", "--json"))
    assert first["compared"] == {"events": len(first["findings"]), "subscriptions": 1, "invoices": 1}
    assert {each["list"] for each in first["findings"]} == {"events"}
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"
    assert answer(operator("reconcile", "--json"))["findings"] == []
    spoil(stack, stripe_account, "acme", subscription.id, "canceled")
    assert differing(operator("reconcile", "--json"))["findings"] == [
        {"list": "subscriptions", "id": subscription.id, "account_id": "acme", "outcome": "applied"}
    ]
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"


def test_a_dry_run_writes_nothing(operator: Billing, stack: Stack, stripe_client: stripe.StripeClient) -> None:
    """It says what it would do, and the whole table is as before."""
    operator("accounts", "create", "acme")
    subscription = subscribe(stripe_client, "acme")
    before = table(stack)
    found = differing(operator("reconcile", "--dry-run", "--json"))
    assert found["differences"] == len(found["findings"]) > 2
    assert {(each["list"], each["id"], each["outcome"]) for each in found["findings"] if each["list"] != "events"} == {
        ("subscriptions", subscription.id, None),
        ("invoices", subscription.latest_invoice, None),
    }
    lines = [line.split() for line in operator("reconcile", "--dry-run").stdout.splitlines()]
    assert ["would", "mend", subscription.id, "acme"] in lines
    assert table(stack) == before


def test_a_dry_run_tells_of_events_that_would_change_a_fresh_row(
    operator: Billing, stripe_client: stripe.StripeClient
) -> None:
    """A row that may be newer than Stripe's list is not compared; its missing event says that something differs."""
    operator("accounts", "create", "acme")
    subscription = subscribe(stripe_client, "acme")
    assert operator("reconcile").exit_code == 3
    stripe_client.v1.subscriptions.cancel(subscription.id)
    found = differing(operator("reconcile", "--dry-run", "--json"))
    assert "events" in [each["list"] for each in found["findings"]]


def test_one_account(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Only the named account's rows are compared and mended, by its customer's lists."""
    subscriptions = {}
    for account_id in ("acme", "globex"):
        operator("accounts", "create", account_id)
        subscriptions[account_id] = subscribe(stripe_client, account_id)
    operator("reconcile")
    for account_id, subscription in subscriptions.items():
        spoil(stack, stripe_account, account_id, subscription.id, "canceled")
    found = differing(operator("reconcile", "--account", "acme", "--json"))
    assert found["compared"]["subscriptions"] == found["compared"]["invoices"] == 1
    assert [each["id"] for each in found["findings"]] == [subscriptions["acme"].id]
    plans = [answer(operator("accounts", "show", each, "--json"))["plan"] for each in subscriptions]
    assert plans == ["pro", "free"]


def test_an_account_without_a_customer_yet(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """Its customer is the one whose metadata names it; nobody else's is touched."""
    for account_id in ("acme", "globex"):
        operator("accounts", "create", account_id)
        subscribe(stripe_client, account_id)
    assert operator("reconcile", "--account", "acme").exit_code == 3
    plans = [answer(operator("accounts", "show", each, "--json"))["plan"] for each in ("acme", "globex")]
    assert plans == ["pro", "free"]


def test_an_account_whose_customer_is_gone(
    operator: Billing, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """What its next customer subscribed to is compared, too, though no event of it is looked at."""
    operator("accounts", "create", "acme")
    gone = subscribe(stripe_client, "acme")
    operator("reconcile")
    stripe_client.v1.customers.delete(customer_of(gone))
    operator("reconcile")
    subscribed = subscribe(stripe_client, "acme")
    age_events(stripe_account)
    found = differing(operator("reconcile", "--account", "acme", "--since", "1d", "--json"))
    assert {each["id"] for each in found["findings"]} == {subscribed.id, subscribed.latest_invoice}
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"


@pytest.mark.parametrize(
    "since", ["90m", "1d", (datetime.now(UTC) - timedelta(hours=20)).isoformat()], ids=["minutes", "days", "time"]
)
def test_since_leaves_older_events_out(
    operator: Billing, stripe_client: stripe.StripeClient, stripe_account: StripeAccount, since: str
) -> None:
    """Events before then are not looked through; the sweep is whole all the same."""
    operator("accounts", "create", "acme")
    subscribe(stripe_client, "acme")
    age_events(stripe_account)
    found = differing(operator("reconcile", "--since", since, "--json"))
    assert (found["compared"]["events"], found["compared"]["subscriptions"]) == (0, 1)
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"


@pytest.mark.parametrize(
    "words",
    [["--since", "yesterday"], ["--since", "2026-13-01"], ["--since", "2990-01-01"], ["--account", "a#b"]],
)
def test_a_wrong_command_line(operator: Billing, words: list[str]) -> None:
    """Nothing is begun, and the exit code says so."""
    assert operator("reconcile", *words).exit_code == 2


def test_an_unknown_account(operator: Billing) -> None:
    """Says how to create it."""
    assert refusal(operator("reconcile", "--account", "nobody", "--json"))["code"] == "account_not_found"


def test_what_belongs_to_nobody_is_counted(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """Another product's customers are no difference."""
    subscribe(stripe_client, None)
    found = answer(operator("reconcile", "--json"))
    assert (found["unknown_customer"]["subscriptions"], found["unknown_customer"]["invoices"]) == (1, 1)
    assert found["differences"] == 0


@pytest.fixture
def forgotten(operator: Billing, stripe_client: stripe.StripeClient, stripe_account: StripeAccount) -> str:
    """A living subscription of acme's that Stripe does not have any more."""
    operator("accounts", "create", "acme")
    subscription_id = subscribe(stripe_client, "acme").id
    operator("reconcile")
    stripe_account.world.remove(stripe_account.world.objects[subscription_id])
    return subscription_id


def test_a_subscription_that_stripe_does_not_have(operator: Billing, stack: Stack, forgotten: str) -> None:
    """Its row stays, for a person to decide, and is reported each time."""
    before = [row for row in table(stack) if row["sk"]["S"].startswith("SUB#")]
    for words in (["--dry-run"], [], ["--account", "acme"]):
        found = differing(operator("reconcile", *words, "--json"))
        assert [(each["id"], each["outcome"]) for each in found["findings"]] == [
            (forgotten, None if words == ["--dry-run"] else "missing")
        ]
    assert [row for row in table(stack) if row["sk"]["S"].startswith("SUB#")] == before


def test_what_stripe_does_not_have_is_ended_if_the_operator_says_so(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, forgotten: str
) -> None:
    """The account is on free, its systems are told, and it can check out again; a dry run only says what would be."""
    told = {"list": "subscriptions", "id": forgotten, "account_id": "acme"}
    before = table(stack)
    dry = differing(operator("reconcile", "--end-missing", "--dry-run", "--json"))
    assert dry["findings"] == [{**told, "outcome": None}]
    for options, word in ((["--end-missing"], "would end"), ([], "missing")):
        lines = operator("reconcile", *options, "--dry-run").stdout.splitlines()
        assert lines[-1] == f"{word}  {forgotten}  acme"
    assert table(stack) == before
    mended = differing(operator("reconcile", "--end-missing", "--json"))
    assert mended["findings"] == [{**told, "outcome": "applied"}]
    shown = answer(operator("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["status"]) == ("free", "canceled")
    outbox = [row["type"]["S"] for row in table(stack) if row["sk"]["S"].startswith("OUT#")]
    assert [each for each in outbox if each.startswith("subscription.")] == [
        "subscription.created",
        "subscription.canceled",
    ]
    assert open_checkout(stack, stripe_client).startswith("http")
    assert answer(operator("reconcile", "--end-missing", "--json"))["findings"] == []


def open_checkout(stack: Stack, client: stripe.StripeClient) -> str:
    """The page on which acme buys the plan that the Stripe account sells."""
    urls = ("https://acme.example/paid", "https://acme.example/")
    checkout = Checkout(
        stack.repository(), StripeGateway(client), load_catalog(), timedelta(days=14), allow_promotion_codes=False
    )
    return checkout.open("acme", CheckoutParams("pro", None, 1, *urls), datetime.now(UTC))


def test_two_customers_that_name_one_account(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """The second one's objects are told each time, until an operator decides; then its events are processed."""
    operator("accounts", "create", "acme")
    first = subscribe(stripe_client, "acme")
    operator("reconcile")
    stripe_client.v1.subscriptions.cancel(first.id)
    second = subscribe(stripe_client, "acme")
    operator("reconcile")
    found = differing(operator("reconcile", "--json"))
    assert found["findings"] == [
        {"list": "subscriptions", "id": second.id, "account_id": "acme", "outcome": "customer_conflict"},
        {"list": "invoices", "id": second.latest_invoice, "account_id": "acme", "outcome": "customer_conflict"},
    ]
    assert found["differences"] == 2
    operator("accounts", "link", "acme", customer_of(second))
    settled = differing(operator("reconcile", "--account", "acme", "--json"))["findings"]
    assert {each["list"] for each in settled} == {"events"}
    assert {each["outcome"] for each in settled} <= {"applied", "no_change"}
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "pro"
    assert answer(operator("reconcile", "--json"))["findings"] == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [("status:401", "stripe_key"), ("status:429", "stripe_throttled"), ("reset", "stripe_unreachable")],
)
def test_a_stripe_that_fails_is_told_in_a_line(
    operator: Billing, stripe_account: StripeAccount, monkeypatch: pytest.MonkeyPatch, kind: str, code: str
) -> None:
    """As any other command does."""
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    stripe_account.fail(kind, path="/v1/events", count=10)
    assert refusal(operator("reconcile", "--json"))["code"] == code


def test_stdout_carries_nothing_else(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Neither logs nor metrics of the product, which are for CloudWatch."""
    stack.repository().create_account(Profile("acme"))
    subscription = subscribe(stripe_client, "acme")
    operator("reconcile")
    spoil(stack, stripe_account, "acme", subscription.id, "canceled")
    result = operator("reconcile")
    assert "_aws" not in result.stdout
    assert "level" not in result.stdout + result.stderr
    assert result.stdout.splitlines()[0].split() == ["list", "compared", "differ", "unknown_customer"]
    assert result.stdout.splitlines()[-1].split() == ["applied", subscription.id, "acme"]
    assert customer_of(subscription).startswith("cus_")
