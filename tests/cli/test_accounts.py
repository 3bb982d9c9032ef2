"""Tests of `billing accounts`."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from billing.adapters.repository import Commit, ProcessedEvent, Repository, VersionConflict
from billing.domain.accounts import OpenCheckout, Profile
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
    for customer in ("cus 1", "cus/1", "search"):
        assert run_with_stripe("accounts", "link", "acme", customer).exit_code == 2
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


# --- Customers of other accounts --------------------------------------------------------------------------------------


def audit_entries(run_billing: RunBilling, account_id: str) -> list[tuple[str, str, str]]:
    """Return type, customer and reason of the operators' actions on an account, newest first."""
    events = json_output(run_billing("events", "list", "--account", account_id, "--json"))["events"]
    entries = [each for each in events if each["id"].startswith("operator_")]
    return [(each["type"], each["customer"], each["reason"]) for each in entries]


def statuses(stack: DeployedStack, account_id: str) -> list[tuple[str, str]]:
    """Return plan and status of the account's stored subscriptions."""
    return [(str(each.plan), each.status) for each in stack.repository().load_account(account_id).subscriptions]


@pytest.fixture
def globex_customer(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    stripe_client: stripe.StripeClient,
    stripe_price: None,  # noqa: ARG001 - the price is needed
) -> str:
    """A customer with a subscription whose metadata names globex. Neither globex nor acme has a customer."""
    for account_id in ("acme", "globex"):
        stack.repository().create_account(Profile(account_id))
    params: Any = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    params["metadata"] = {"account_id": "globex"}
    customer = stripe_client.v1.customers.create(params)
    [price] = stripe_client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    stripe_client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    assert run_with_stripe("accounts", "show", "globex").exit_code == 0
    return customer.id


def test_link_refuses_a_customer_whose_metadata_names_another_account(
    run_with_stripe: RunBilling, stack: DeployedStack, globex_customer: str
) -> None:
    """The message says what is known of both accounts."""
    repository = stack.repository()
    profile = repository.load_account("acme").profile
    repository.save_profile(replace(profile, customer_id="cus_acme"), new_customer_id="cus_acme")
    before = table_items(stack)
    error = json_error(run_with_stripe("accounts", "link", "acme", globex_customer, "--json"))
    assert error["code"] == "customer_of_other_account"
    for part in (
        "names the account globex",
        "globex has no customer and no live subscription.",
        "acme has the customer cus_acme and no live subscription.",
        "--take-over",
    ):
        assert part in error["message"]
    assert table_items(stack) == before


def test_link_with_take_over_links_the_customer_and_leaves_an_audit_entry(
    run_with_stripe: RunBilling, stack: DeployedStack, globex_customer: str
) -> None:
    command = ("accounts", "link", "acme", globex_customer, "--take-over")
    before = table_items(stack)
    assert json_output(run_with_stripe(*command, "--dry-run", "--json"))["outcome"] == "linked"
    assert table_items(stack) == before
    assert json_output(run_with_stripe(*command, "--json"))["outcome"] == "linked"
    run_with_stripe("reconcile", "--account", "acme")
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"
    reason = "linked by an operator; the customer before: none; taken over, whatever its metadata says"
    assert audit_entries(run_with_stripe, "acme") == [("operator.customer_linked", globex_customer, reason)]
    assert json_output(run_with_stripe("reconcile", "--json"))["findings"] == []
    [entry] = [each for each in table_items(stack) if each["pk"]["S"].startswith("EVENT#operator_")]
    assert "expires_at" not in entry
    shown = json_error(run_with_stripe("events", "replay", entry["event_id"]["S"], "--json"))
    assert shown["code"] == "no_event"


def test_take_over_of_the_linked_customer_confirms_it(
    run_with_stripe: RunBilling, stack: DeployedStack, globex_customer: str
) -> None:
    run_with_stripe("accounts", "link", "globex", globex_customer)
    command = ("accounts", "link", "globex", globex_customer, "--take-over", "--json")
    assert [json_output(run_with_stripe(*command))["outcome"] for _ in range(2)] == ["confirmed", "unchanged"]
    assert stack.repository().load_account("globex").profile.confirmed_customers == (globex_customer,)


@pytest.mark.usefixtures("stripe_price")
def test_link_refuses_a_customer_of_another_deployment_even_with_take_over(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    stack.repository().create_account(Profile("acme"))
    metadata = {"account_id": "acme", "billing_deployment": "other"}
    customer = stripe_client.v1.customers.create({"metadata": metadata}).id
    for words in ([], ["--take-over"]):
        error = json_error(run_with_stripe("accounts", "link", "acme", customer, *words, "--json"))
        assert error["code"] == "customer_of_other_deployment"
        assert "the deployment other" in error["message"]
    assert stack.repository().find_owners([customer]) == {}


# --- unlink -----------------------------------------------------------------------------------------------------------


def test_unlink_takes_back_a_link_with_its_subscriptions_and_invoices(
    run_with_stripe: RunBilling, stack: DeployedStack, globex_customer: str
) -> None:
    run_with_stripe("accounts", "link", "acme", globex_customer, "--take-over")
    run_with_stripe("reconcile", "--account", "acme")
    assert statuses(stack, "acme") == [("pro", "active")]
    command = ("accounts", "unlink", "acme", globex_customer)
    before = table_items(stack)
    removed = {"subscriptions": 1, "invoices": 1}
    would = json_output(run_with_stripe(*command, "--dry-run", "--json"))
    assert (would["outcome"], would["removed"]) == ("unlinked", removed)
    assert table_items(stack) == before
    assert json_output(run_with_stripe(*command, "--json"))["removed"] == removed
    assert statuses(stack, "acme") == []
    assert stack.repository().list_invoices("acme", 10).invoices == []
    assert stack.repository().find_owners([globex_customer]) == {}
    entries = {event_type: reason for event_type, _, reason in audit_entries(run_with_stripe, "acme")}
    assert entries.keys() == {"operator.customer_linked", "operator.customer_unlinked"}
    assert entries["operator.customer_unlinked"] == "unlinked by an operator; removed subscriptions and invoices: 2"
    run_with_stripe("accounts", "link", "globex", globex_customer)
    run_with_stripe("reconcile", "--account", "globex")
    assert (statuses(stack, "acme"), statuses(stack, "globex")) == ([], [("pro", "active")])


@pytest.mark.usefixtures("stripe_price")
def test_unlinked_customer_is_not_linked_by_its_metadata_again(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    stack.repository().create_account(Profile("acme"))
    customer = customer_id_of(create_subscription(stripe_client, "acme"))
    run_with_stripe("reconcile")
    assert statuses(stack, "acme") == [("pro", "active")]
    run_with_stripe("accounts", "unlink", "acme", customer)
    json_output(run_with_stripe("reconcile", "--json"))
    assert (statuses(stack, "acme"), stack.repository().find_owners([customer])) == ([], {})
    run_with_stripe("accounts", "link", "acme", customer)
    run_with_stripe("reconcile", "--account", "acme")
    assert statuses(stack, "acme") == [("pro", "active")]
    assert stack.repository().load_account("acme").profile.unlinked_customers == ()


@pytest.mark.usefixtures("stripe_price")
def test_unlink_expires_the_open_checkout_page_first(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    customer = stripe_client.v1.customers.create({}).id
    [price] = stripe_client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    session = stripe_client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer,
            "line_items": [{"price": price.id, "quantity": 1}],
            "success_url": "https://app.example.com/",
        }
    )
    stack.repository().create_account(
        Profile("acme", customer_id=customer, open_checkout=OpenCheckout(session.id, "order"))
    )
    json_output(run_with_stripe("accounts", "unlink", "acme", customer, "--json"))
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    profile = stack.repository().load_account("acme").profile
    assert (profile.customer_id, profile.open_checkout) == (None, None)


def test_unlink_of_customer_that_is_not_the_accounts_fails_without_writing(
    run_billing: RunBilling, stack: DeployedStack
) -> None:
    stack.repository().create_account(Profile("acme", customer_id="cus_acme"))
    stack.repository().create_account(Profile("globex", customer_id="cus_globex"))
    before = table_items(stack)
    for customer, part in (("cus_globex", "it belongs to globex"), ("cus_none", "not linked to the account acme")):
        error = json_error(run_billing("accounts", "unlink", "acme", customer, "--json"))
        assert error["code"] == "customer_not_linked"
        assert part in error["message"]
    assert json_error(run_billing("accounts", "unlink", "no", "cus_1", "--json"))["code"] == "account_not_found"
    assert table_items(stack) == before


def test_interrupted_unlink_is_continued(
    run_billing: RunBilling, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link is removed first, so that no event writes a further row."""
    run_billing("accounts", "create", "acme")
    store_subscription(stack, "acme")

    def interrupted(_repository: Repository, _account_id: str, _rows: object) -> None:
        raise VersionConflict

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "delete_rows", interrupted)
        error = json_error(run_billing("accounts", "unlink", "acme", "cus_1", "--json"))
    assert error["code"] == "account_changed"
    assert (stack.repository().find_owners(["cus_1"]), len(statuses(stack, "acme"))) == ({}, 1)
    assert json_output(run_billing("accounts", "unlink", "acme", "cus_1", "--json"))["removed"]["subscriptions"] == 1
    assert statuses(stack, "acme") == []


def test_unlink_prevents_new_rows_of_a_worker_that_read_the_link_before(stack: DeployedStack) -> None:
    """The worker reads again, and finds no account."""
    repository = stack.repository()
    repository.create_account(Profile("acme", customer_id="cus_1"))
    marker = ProcessedEvent("evt_1", "customer.subscription.created", EventOutcome.APPLIED, NOW, NOW, "acme", "cus_1")
    commit = Commit(marker, [StoredObject(SUBSCRIPTION, NOW, NOW, 1)])
    profile = repository.load_account("acme").profile
    entry = replace(marker, event_id="operator_1", type="operator.customer_unlinked")
    repository.unlink_customer(profile.without_customer("cus_1"), "cus_1", entry)
    with pytest.raises(VersionConflict):
        repository.commit(commit)
    assert statuses(stack, "acme") == []
    relinked = repository.load_account("acme").profile.with_customer("cus_1", confirmed=False)
    repository.save_profile(relinked, new_customer_id="cus_1")
    repository.commit(commit)
    assert statuses(stack, "acme") == [("pro", "active")]
