"""Tests of `billing accounts link`."""

from dataclasses import replace

import pytest
import stripe

from billing.adapters.repository import Repository
from billing.domain.accounts import Profile
from tests.cli.support import (
    DeployedStack,
    RunBilling,
    StripeAccount,
    audit_entries,
    create_subscription,
    customer_id_of,
    json_error,
    json_output,
    table_items,
)

pytestmark = pytest.mark.engine


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
