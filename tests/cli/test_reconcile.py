"""Tests of `billing reconcile`."""

from datetime import UTC, datetime, timedelta

import pytest
import stripe

import billing.adapters.stripe_gateway
import billing.services.reconciler
from billing.adapters.stripe_gateway import StripeGateway
from billing.catalog import load_catalog
from billing.domain.accounts import Profile
from billing.domain.subscriptions import AccessPolicy
from billing.services.checkout import Checkout, CheckoutParams
from billing.services.event_processor import EventProcessor
from tests.cli.support import (
    DeployedStack,
    RunBilling,
    StripeAccount,
    age_events,
    change_stored_status,
    create_subscription,
    customer_id_of,
    json_error,
    json_output,
    move_events_to_organization_account,
    table_items,
)
from tests.samples import DEPLOYMENT

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("stripe_price")]

NOTHING = {"events": 0, "subscriptions": 0, "invoices": 0}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billing.services.reconciler, "SETTLE_SECONDS", 0)


def test_reconcile_of_empty_stripe_and_table_reports_no_differences(
    run_with_stripe: RunBilling, stack: DeployedStack
) -> None:
    assert json_output(run_with_stripe("reconcile", "--json")) == {
        "stack": stack.name,
        "account": None,
        "dry_run": False,
        "compared": NOTHING,
        "unknown_customer": NOTHING,
        "differences": 0,
        "findings": [],
    }


def test_reconcile_applies_missed_events_and_repairs_changed_rows(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    run_with_stripe("accounts", "create", "acme")
    subscription = create_subscription(stripe_client, "acme")
    first = json_output(run_with_stripe("reconcile", "--json"), exit_code=3)
    assert first["compared"] == {"events": len(first["findings"]), "subscriptions": 1, "invoices": 1}
    assert {each["list"] for each in first["findings"]} == {"events"}
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"
    assert json_output(run_with_stripe("reconcile", "--json"))["findings"] == []
    change_stored_status(stack, stripe_account, "acme", subscription.id, "canceled")
    assert json_output(run_with_stripe("reconcile", "--json"), exit_code=3)["findings"] == [
        {"list": "subscriptions", "id": subscription.id, "account_id": "acme", "outcome": "applied"}
    ]
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"


def test_reconcile_dry_run_reports_differences_and_writes_nothing(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("accounts", "create", "acme")
    subscription = create_subscription(stripe_client, "acme")
    before = table_items(stack)
    found = json_output(run_with_stripe("reconcile", "--dry-run", "--json"), exit_code=3)
    assert found["differences"] == len(found["findings"]) > 2
    assert {(each["list"], each["id"], each["outcome"]) for each in found["findings"] if each["list"] != "events"} == {
        ("subscriptions", subscription.id, None),
        ("invoices", subscription.latest_invoice, None),
    }
    lines = [line.split() for line in run_with_stripe("reconcile", "--dry-run").stdout.splitlines()]
    assert ["would", "repair", subscription.id, "acme"] in lines
    assert table_items(stack) == before


def test_reconcile_dry_run_reports_missed_events_of_a_recent_row(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    """The row itself is skipped, because it may be newer than Stripe's list."""
    run_with_stripe("accounts", "create", "acme")
    subscription = create_subscription(stripe_client, "acme")
    assert run_with_stripe("reconcile").exit_code == 3
    stripe_client.v1.subscriptions.cancel(subscription.id)
    found = json_output(run_with_stripe("reconcile", "--dry-run", "--json"), exit_code=3)
    assert "events" in [each["list"] for each in found["findings"]]


def test_reconcile_ignores_events_of_another_account_of_an_organization(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    run_with_stripe("accounts", "create", "acme")
    subscription = create_subscription(stripe_client, "acme")
    move_events_to_organization_account(stripe_account)
    for options in (("--dry-run",), ()):
        found = json_output(run_with_stripe("reconcile", *options, "--json"), exit_code=3)
        assert {each["outcome"] for each in found["findings"] if each["list"] == "events"} == {"ignored"}
        repaired = {each["id"] for each in found["findings"] if each["list"] != "events"}
        assert repaired == {subscription.id, subscription.latest_invoice}
        assert found["differences"] == len(repaired)
    events = [event.id for event in stripe_client.v1.events.list({"type": "customer.subscription.created"})]
    markers = stack.repository().find_markers(events)
    assert [(each.outcome, each.account_id) for each in markers.values()] == [("ignored", None)]


def test_reconcile_account_compares_and_repairs_only_its_rows(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    subscriptions = {}
    for account_id in ("acme", "globex"):
        run_with_stripe("accounts", "create", account_id)
        subscriptions[account_id] = create_subscription(stripe_client, account_id)
    run_with_stripe("reconcile")
    for account_id, subscription in subscriptions.items():
        change_stored_status(stack, stripe_account, account_id, subscription.id, "canceled")
    found = json_output(run_with_stripe("reconcile", "--account", "acme", "--json"), exit_code=3)
    assert found["compared"]["subscriptions"] == found["compared"]["invoices"] == 1
    assert [each["id"] for each in found["findings"]] == [subscriptions["acme"].id]
    plans = [json_output(run_with_stripe("accounts", "show", each, "--json"))["plan"] for each in subscriptions]
    assert plans == ["pro", "free"]


def test_reconcile_account_counts_no_unknown_customers_of_others(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("accounts", "create", "acme")
    create_subscription(stripe_client, "globex")
    create_subscription(stripe_client, None)
    found = json_output(run_with_stripe("reconcile", "--account", "acme", "--json"))
    assert found["unknown_customer"] == NOTHING


def test_reconcile_account_without_customer_links_the_one_in_metadata(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    for account_id in ("acme", "globex"):
        run_with_stripe("accounts", "create", account_id)
        create_subscription(stripe_client, account_id)
    assert run_with_stripe("reconcile", "--account", "acme").exit_code == 3
    plans = [json_output(run_with_stripe("accounts", "show", each, "--json"))["plan"] for each in ("acme", "globex")]
    assert plans == ["pro", "free"]


def test_reconcile_account_after_deleted_customer_loads_the_next_customer(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    run_with_stripe("accounts", "create", "acme")
    gone = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    stripe_client.v1.customers.delete(customer_id_of(gone))
    run_with_stripe("reconcile")
    subscribed = create_subscription(stripe_client, "acme")
    age_events(stripe_account)
    found = json_output(run_with_stripe("reconcile", "--account", "acme", "--since", "1d", "--json"), exit_code=3)
    assert {each["id"] for each in found["findings"]} == {subscribed.id, subscribed.latest_invoice}
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"


@pytest.mark.parametrize(
    "since", ["90m", "1d", (datetime.now(UTC) - timedelta(hours=20)).isoformat()], ids=["minutes", "days", "time"]
)
def test_reconcile_since_skips_older_events_and_compares_all_objects(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient, stripe_account: StripeAccount, since: str
) -> None:
    run_with_stripe("accounts", "create", "acme")
    create_subscription(stripe_client, "acme")
    age_events(stripe_account)
    found = json_output(run_with_stripe("reconcile", "--since", since, "--json"), exit_code=3)
    assert (found["compared"]["events"], found["compared"]["subscriptions"]) == (0, 1)
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"


@pytest.mark.parametrize(
    "words",
    [["--since", "yesterday"], ["--since", "2026-13-01"], ["--since", "2990-01-01"], ["--account", "a#b"]],
)
def test_reconcile_with_invalid_option_is_a_usage_error(run_with_stripe: RunBilling, words: list[str]) -> None:
    assert run_with_stripe("reconcile", *words).exit_code == 2


def test_reconcile_unknown_account_fails(run_with_stripe: RunBilling) -> None:
    assert json_error(run_with_stripe("reconcile", "--account", "nobody", "--json"))["code"] == "account_not_found"


def test_reconcile_counts_unknown_customers_without_a_difference(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    create_subscription(stripe_client, None)
    found = json_output(run_with_stripe("reconcile", "--json"))
    assert (found["unknown_customer"]["subscriptions"], found["unknown_customer"]["invoices"]) == (1, 1)
    assert found["differences"] == 0


@pytest.fixture
def missing_subscription(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> str:
    """Id of an active subscription of acme that Stripe no longer has."""
    run_with_stripe("accounts", "create", "acme")
    subscription_id = create_subscription(stripe_client, "acme").id
    run_with_stripe("reconcile")
    stripe_account.state.remove(stripe_account.state.objects[subscription_id])
    return subscription_id


def test_reconcile_reports_missing_subscription_and_keeps_its_row(
    run_with_stripe: RunBilling, stack: DeployedStack, missing_subscription: str
) -> None:
    before = [row for row in table_items(stack) if row["sk"]["S"].startswith("SUB#")]
    for words in (["--dry-run"], [], ["--account", "acme"]):
        found = json_output(run_with_stripe("reconcile", *words, "--json"), exit_code=3)
        assert [(each["id"], each["outcome"]) for each in found["findings"]] == [
            (missing_subscription, None if words == ["--dry-run"] else "missing")
        ]
    assert [row for row in table_items(stack) if row["sk"]["S"].startswith("SUB#")] == before


def test_reconcile_end_missing_cancels_missing_subscription_and_frees_checkout(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, missing_subscription: str
) -> None:
    missing = {"list": "subscriptions", "id": missing_subscription, "account_id": "acme"}
    before = table_items(stack)
    dry = json_output(run_with_stripe("reconcile", "--end-missing", "--dry-run", "--json"), exit_code=3)
    assert dry["findings"] == [{**missing, "outcome": None}]
    for options, word in ((["--end-missing"], "would end"), ([], "missing")):
        lines = run_with_stripe("reconcile", *options, "--dry-run").stdout.splitlines()
        assert lines[-1] == f"{word}  {missing_subscription}  acme"
    assert table_items(stack) == before
    repaired = json_output(run_with_stripe("reconcile", "--end-missing", "--json"), exit_code=3)
    assert repaired["findings"] == [{**missing, "outcome": "applied"}]
    shown = json_output(run_with_stripe("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["status"]) == ("free", "canceled")
    outbox = [row["type"]["S"] for row in table_items(stack) if row["sk"]["S"].startswith("OUT#")]
    assert [each for each in outbox if each.startswith("subscription.")] == [
        "subscription.created",
        "subscription.canceled",
    ]
    assert open_checkout(stack, stripe_client).startswith("http")
    assert json_output(run_with_stripe("reconcile", "--end-missing", "--json"))["findings"] == []


def open_checkout(stack: DeployedStack, client: stripe.StripeClient) -> str:
    """Return the URL of acme's new Checkout Session."""
    urls = ("https://acme.example/paid", "https://acme.example/")
    repository, gateway, catalog = stack.repository(), StripeGateway(client), load_catalog()
    checkout = Checkout(
        repository,
        gateway,
        catalog,
        DEPLOYMENT,
        EventProcessor.connect(repository, catalog, lambda: gateway, DEPLOYMENT),
        AccessPolicy(timedelta(days=14)),
        allow_promotion_codes=False,
    )
    return checkout.open("acme", CheckoutParams("pro", None, 1, *urls), datetime.now(UTC))


def test_reconcile_reports_customer_conflict_until_the_customer_is_linked(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("accounts", "create", "acme")
    first = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    stripe_client.v1.subscriptions.cancel(first.id)
    second = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    found = json_output(run_with_stripe("reconcile", "--json"), exit_code=3)
    assert found["findings"] == [
        {"list": "subscriptions", "id": second.id, "account_id": "acme", "outcome": "customer_conflict"},
        {"list": "invoices", "id": second.latest_invoice, "account_id": "acme", "outcome": "customer_conflict"},
    ]
    assert found["differences"] == 2
    run_with_stripe("accounts", "link", "acme", customer_id_of(second))
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"
    findings = json_output(run_with_stripe("reconcile", "--account", "acme", "--json"))["findings"]
    assert {(each["list"], each["outcome"]) for each in findings} == {("events", "no_change")}
    assert json_output(run_with_stripe("reconcile", "--json"))["findings"] == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [("status:401", "stripe_key"), ("status:429", "stripe_throttled"), ("reset", "stripe_unreachable")],
)
def test_reconcile_fails_with_one_line_if_stripe_fails(
    run_with_stripe: RunBilling, stripe_account: StripeAccount, monkeypatch: pytest.MonkeyPatch, kind: str, code: str
) -> None:
    monkeypatch.setattr(billing.services.reconciler, "TRIES_MAX", 1)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    stripe_account.fail(kind, path="/v1/events", count=10)
    assert json_error(run_with_stripe("reconcile", "--json"))["code"] == code


def test_reconcile_prints_no_logs_or_metrics(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    stack.repository().create_account(Profile("acme"))
    subscription = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    change_stored_status(stack, stripe_account, "acme", subscription.id, "canceled")
    result = run_with_stripe("reconcile")
    assert "_aws" not in result.stdout
    assert "level" not in result.stdout + result.stderr
    assert result.stdout.splitlines()[0].split() == ["list", "compared", "differ", "unknown_customer"]
    assert result.stdout.splitlines()[-1].split() == ["applied", subscription.id, "acme"]
    assert customer_id_of(subscription).startswith("cus_")
