"""Tests of `billing accounts`."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import stripe

from billing.adapters.repository import Commit, ProcessedEvent, Repository
from billing.domain.accounts import Profile
from billing.domain.timestamps import iso
from billing.stripe_events.event_types import EventOutcome
from billing.stripe_events.ordering import StoredObject
from tests.cli.support import (
    DeployedStack,
    RunBilling,
    StripeAccount,
    create_subscription,
    customer_id_of,
    json_error,
    json_output,
    table_items,
)
from tests.samples import SUBSCRIPTION

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC).replace(microsecond=0)


def store_subscription(stack: DeployedStack, account_id: str) -> None:
    """Store an active subscription, as an event does."""
    repository = stack.repository()
    repository.save_profile(
        Profile(account_id, version=1, customer_id="cus_1", email="billing@acme.example"), new_customer_id="cus_1"
    )
    subscription = replace(SUBSCRIPTION, current_period_start=NOW, current_period_end=NOW + timedelta(days=30))
    subscription = replace(
        subscription,
        created=NOW,
        cancel_at_period_end=True,
        unit_amount=1900,
        currency="usd",
        interval="year",
        interval_count=1,
        trial_end=NOW + timedelta(days=3),
        cancel_at=NOW + timedelta(days=90),
        pause_collection="void",
        pause_resumes_at=NOW + timedelta(days=9),
    )
    marker = ProcessedEvent(
        "evt_1", "customer.subscription.created", EventOutcome.APPLIED, NOW, NOW, account_id, "cus_1"
    )
    repository.commit(Commit(marker, [StoredObject(subscription, NOW, NOW, 1)]))


def test_create_account_stores_it_on_the_free_plan(run_billing: RunBilling, stack: DeployedStack) -> None:
    created = json_output(run_billing("accounts", "create", "acme", "--email", "billing@acme.example", "--json"))
    assert (created["account_id"], created["email"]) == ("acme", "billing@acme.example")
    shown = json_output(run_billing("accounts", "show", "acme", "--json"))
    assert shown == {
        **created,
        "plan": "free",
        "status": None,
        "current_period_end": None,
        "cancel_at_period_end": None,
        "customer": None,
        "trial_used": False,
        "members": 1,
        "keys": 0,
        "subscriptions": [],
    }
    assert stack.repository().load_account("acme").profile.email == "billing@acme.example"


def test_show_account_returns_plan_subscriptions_and_unrevoked_keys(
    run_billing: RunBilling, stack: DeployedStack
) -> None:
    run_billing("accounts", "create", "acme")
    store_subscription(stack, "acme")
    keys = [json_output(run_billing("keys", "create", "acme", "--json")) for _ in range(2)]
    run_billing("keys", "revoke", "acme", keys[0]["id"])
    shown = json_output(run_billing("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["status"], shown["cancel_at_period_end"]) == ("pro", "active", True)
    assert (shown["customer"], shown["keys"]) == ("cus_1", 1)
    [subscription] = shown["subscriptions"]
    assert subscription == {
        "id": "sub_1",
        "plan": "pro",
        "status": "active",
        "shown": True,
        "granting": True,
        "ours": True,
        "current_period_end": iso(NOW + timedelta(days=30)),
        "cancel_at_period_end": True,
        "price_id": "price_1",
        "unit_amount": 1900,
        "currency": "usd",
        "interval": "year",
        "interval_count": 1,
        "quantity": 1,
        "trial_end": iso(NOW + timedelta(days=3)),
        "cancel_at": iso(NOW + timedelta(days=90)),
        "pause_collection": "void",
        "pause_resumes_at": iso(NOW + timedelta(days=9)),
        "pending_plan": None,
        "pending_price_id": None,
        "pending_quantity": None,
        "pending_at": None,
    }
    text = run_billing("accounts", "show", "acme").stdout
    assert "cus_1" in text
    assert "sub_1" in text
    assert "pause_collection      void" in text


def test_members_sets_and_shows_the_team_size(run_billing: RunBilling, stack: DeployedStack) -> None:
    run_billing("accounts", "create", "acme")
    assert json_output(run_billing("accounts", "members", "acme", "--json")) == {"account_id": "acme", "members": 1}
    assert json_output(run_billing("accounts", "members", "acme", "5", "--json")) == {
        "account_id": "acme",
        "members": 5,
    }
    assert stack.repository().load_account("acme").member_count == 5
    assert run_billing("accounts", "members", "acme").stdout == "account_id  acme\nmembers     5\n"
    assert run_billing("accounts", "members", "acme", "0").exit_code == 0
    assert json_output(run_billing("accounts", "show", "acme", "--json"))["members"] == 0


def test_members_of_unknown_account_fails_without_creating_it(run_billing: RunBilling, stack: DeployedStack) -> None:
    assert json_error(run_billing("accounts", "members", "acmee", "5", "--json"))["code"] == "account_not_found"
    assert stack.repository().load_account("acmee").member_count == 1


@pytest.mark.parametrize("count", ["-1", "five", "1.5", ""])
def test_members_with_invalid_count_is_a_usage_error(run_billing: RunBilling, count: str) -> None:
    assert run_billing("accounts", "members", "acme", "--", count).exit_code == 2


def test_create_existing_account_fails_and_keeps_it(run_billing: RunBilling) -> None:
    run_billing("accounts", "create", "acme", "--email", "first@acme.example")
    error = json_error(run_billing("accounts", "create", "acme", "--email", "second@acme.example", "--json"))
    assert error["code"] == "account_exists"
    assert "billing accounts show acme" in error["message"]
    assert json_output(run_billing("accounts", "show", "acme", "--json"))["email"] == "first@acme.example"


def test_show_unknown_account_prints_one_line_on_how_to_create_it(run_billing: RunBilling) -> None:
    error = json_error(run_billing("accounts", "show", "nobody", "--json"))
    assert error["code"] == "account_not_found"
    result = run_billing("accounts", "show", "nobody")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {error['message']}\n")


@pytest.mark.parametrize("words", [["a#b"], ["ä"], [""], ["a" * 256], ["acme", "--email", "nobody"], []])
def test_create_account_with_invalid_argument_is_a_usage_error(run_billing: RunBilling, words: list[str]) -> None:
    assert run_billing("accounts", "create", *words).exit_code == 2


def test_json_output_is_not_wrapped_to_the_terminal_width(run_billing: RunBilling) -> None:
    account_id = "a" * 255
    result = run_billing("accounts", "create", account_id, "--json", COLUMNS="40")
    assert json.loads(result.stdout)["account_id"] == account_id
    assert result.stderr == ""


# --- link -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stripe_price")
def test_link_second_customer_applies_its_subscription_and_keeps_the_first(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("accounts", "create", "acme")
    first = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    stripe_client.v1.subscriptions.cancel(first.id)
    second = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "free"
    command = ("accounts", "link", "acme", customer_id_of(second))
    expected = {"account_id": "acme", "customer": customer_id_of(second), "before": customer_id_of(first)}
    before = table_items(stack)
    assert json_output(run_with_stripe(*command, "--dry-run", "--json")) == {
        "dry_run": True,
        **expected,
        "outcome": "linked",
    }
    assert table_items(stack) == before
    assert json_output(run_with_stripe(*command, "--json")) == {"dry_run": False, **expected, "outcome": "linked"}
    unchanged = {"dry_run": False, **expected, "before": customer_id_of(second), "outcome": "unchanged"}
    assert json_output(run_with_stripe(*command, "--json")) == unchanged
    run_with_stripe("reconcile", "--account", "acme")
    shown = json_output(run_with_stripe("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["customer"]) == ("pro", customer_id_of(second))
    assert stack.repository().find_owners([customer_id_of(first)]) == {customer_id_of(first): "acme"}


def test_link_earlier_customer_prints_the_previous_one_and_the_next_step(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    former, current = (stripe_client.v1.customers.create({}).id for _ in range(2))
    stack.repository().create_account(Profile("acme", customer_id=former))
    run_with_stripe("accounts", "link", "acme", current)
    would = run_with_stripe("accounts", "link", "acme", former, "--dry-run")
    assert (would.stdout, would.stderr) == (f"would be linked  acme  {former}  (before: {current})\n", "")
    result = run_with_stripe("accounts", "link", "acme", former)
    assert result.stdout == f"linked  acme  {former}  (before: {current})\n"
    assert result.stderr.endswith("billing reconcile --account acme\n")
    again = run_with_stripe("accounts", "link", "acme", former)
    assert (again.stdout, again.stderr) == (f"unchanged  acme  {former}\n", "")
    assert stack.repository().load_account("acme").profile.customer_id == former
    assert stack.repository().find_owners([former, current]) == {former: "acme", current: "acme"}


def test_link_invalid_customer_fails_without_writing(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    gone = stripe_client.v1.customers.create({}).id
    stripe_client.v1.customers.delete(gone)
    stack.repository().create_account(Profile("acme", customer_id="cus_acme"))
    stack.repository().create_account(Profile("globex", customer_id="cus_globex"))
    before = table_items(stack)
    errors = {
        words: json_error(run_with_stripe("accounts", "link", *words, "--json"))
        for words in [("acme", "cus_globex"), ("acme", "cus_none"), ("acme", gone), ("nobody", "cus_acme")]
    }
    assert {words: error["code"] for words, error in errors.items()} == {
        ("acme", "cus_globex"): "customer_taken",
        ("acme", "cus_none"): "customer_not_found",
        ("acme", gone): "customer_deleted",
        ("nobody", "cus_acme"): "account_not_found",
    }
    assert "the account globex" in errors["acme", "cus_globex"]["message"]
    assert run_with_stripe("accounts", "link", "acme", "cus 1").exit_code == 2
    assert table_items(stack) == before


def test_link_fails_if_the_account_changes_meanwhile(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other change is kept."""
    stack.repository().create_account(Profile("acme"))
    find_owners = Repository.find_owners

    def changed_meanwhile(repository: Repository, customer_ids: list[str]) -> object:
        profile = repository.load_account("acme").profile
        repository.save_profile(replace(profile, customer_id="cus_faster"), new_customer_id="cus_faster")
        return find_owners(repository, customer_ids)

    monkeypatch.setattr(Repository, "find_owners", changed_meanwhile)
    wanted = stripe_client.v1.customers.create({}).id
    assert json_error(run_with_stripe("accounts", "link", "acme", wanted, "--json"))["code"] == "account_changed"
    assert stack.repository().load_account("acme").profile.customer_id == "cus_faster"


def test_link_fails_if_stripe_rejects_the_key(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_account: StripeAccount
) -> None:
    stack.repository().create_account(Profile("acme"))
    stripe_account.fail("status:401", path="/v1/customers", count=10)
    assert json_error(run_with_stripe("accounts", "link", "acme", "cus_1", "--json"))["code"] == "stripe_key"
    assert stack.repository().load_account("acme").profile.customer_id is None
