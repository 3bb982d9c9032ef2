"""Tests of `billing accounts`."""

import json
from datetime import timedelta

import pytest

from billing.domain.timestamps import iso
from tests.cli.support import (
    NOW,
    DeployedStack,
    RunBilling,
    json_error,
    json_output,
    store_subscription,
)

pytestmark = pytest.mark.engine


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
        "confirmed_customers": [],
        "unlinked_customers": [],
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
        "live": True,
        "grace_period_end": None,
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
        "conflicting_account": None,
    }
    text = run_billing("accounts", "show", "acme").stdout
    assert "cus_1" in text
    assert "sub_1" in text
    assert "pause_collection      void" in text


def test_show_account_returns_the_end_of_the_grace_period(run_billing: RunBilling, stack: DeployedStack) -> None:
    """The stack's `PastDueGraceDays` is 14."""
    run_billing("accounts", "create", "acme")
    store_subscription(stack, "acme", status="past_due", past_due_since=NOW - timedelta(days=4))
    [subscription] = json_output(run_billing("accounts", "show", "acme", "--json"))["subscriptions"]
    assert (subscription["live"], subscription["grace_period_end"]) == (True, iso(NOW + timedelta(days=10)))


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
