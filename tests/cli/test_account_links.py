"""Tests of `billing accounts link`."""

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
import stripe

from billing.adapters.repository import Repository
from billing.domain.accounts import Profile
from tests.cli.support import (
    DeployedStack,
    RunBilling,
    StripeAccount,
    advance_clock,
    audit_entries,
    create_subscription,
    customer_id_of,
    json_error,
    json_output,
    open_checkout,
    stored_statuses,
    table_items,
)

pytestmark = pytest.mark.engine


NOTHING = {"subscriptions": 0, "invoices": 0}


@pytest.mark.usefixtures("stripe_price")
def test_link_second_customer_stores_its_subscription_and_keeps_the_first(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    """A second run changes nothing."""
    run_with_stripe("accounts", "create", "acme")
    first = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    stripe_client.v1.subscriptions.cancel(first.id)
    second = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "free"
    command = ("accounts", "link", "acme", customer_id_of(second))
    expected = {
        "account_id": "acme",
        "customer": customer_id_of(second),
        "before": customer_id_of(first),
        "outcome": "linked",
        "stored": {"subscriptions": 1, "invoices": 1},
        "metadata": ["billing_deployment"],
        "other_live_subscriptions": [],
        "findings": [],
    }
    before = table_items(stack)
    assert json_output(run_with_stripe(*command, "--dry-run", "--json")) == {"dry_run": True, **expected}
    assert table_items(stack) == before
    assert json_output(run_with_stripe(*command, "--json")) == {"dry_run": False, **expected}
    shown = json_output(run_with_stripe("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["customer"]) == ("pro", customer_id_of(second))
    assert stack.repository().find_owners([customer_id_of(first)]) == {customer_id_of(first): "acme"}
    after = table_items(stack)
    again = {"before": customer_id_of(second), "outcome": "unchanged", "stored": NOTHING, "metadata": []}
    assert json_output(run_with_stripe(*command, "--json")) == {"dry_run": False, **expected, **again}
    assert table_items(stack) == after


@pytest.mark.usefixtures("stripe_price")
def test_link_prints_what_it_stores_and_writes(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    former = stripe_client.v1.customers.create({}).id
    current = customer_id_of(create_subscription(stripe_client, None))
    stack.repository().create_account(Profile("acme", customer_id=former))
    would = run_with_stripe("accounts", "link", "acme", current, "--dry-run")
    assert would.stderr == ""
    assert would.stdout == (
        f"would be linked  acme  {current}  (before: {former}; would be stored: 1 subscriptions, 1 invoices; "
        "would be written in Stripe: metadata.account_id, metadata.billing_deployment)\n"
    )
    result = run_with_stripe("accounts", "link", "acme", current)
    assert result.stderr == ""
    assert result.stdout == (
        f"linked  acme  {current}  (before: {former}; stored: 1 subscriptions, 1 invoices; "
        "written in Stripe: metadata.account_id, metadata.billing_deployment)\n"
    )
    again = run_with_stripe("accounts", "link", "acme", current)
    assert again.stdout == f"unchanged  acme  {current}  (stored: 0 subscriptions, 0 invoices)\n"
    assert stack.repository().load_account("acme").profile.customer_id == current
    assert stack.repository().find_owners([former, current]) == {former: "acme", current: "acme"}


@pytest.mark.usefixtures("stripe_price")
def test_link_names_the_live_subscription_of_the_previous_customer(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("accounts", "create", "acme")
    subscription = create_subscription(stripe_client, "acme")
    run_with_stripe("reconcile")
    current = stripe_client.v1.customers.create({}).id
    command = ("accounts", "link", "acme", current)
    would = json_output(run_with_stripe(*command, "--dry-run", "--json"))
    assert would["other_live_subscriptions"] == [{"id": subscription.id, "customer": customer_id_of(subscription)}]
    assert run_with_stripe(*command).stderr == (
        f"{subscription.id} of the customer {customer_id_of(subscription)} is live and still belongs to acme. "
        "If nobody should pay for it, cancel it in Stripe.\n"
    )
    assert stored_statuses(stack, "acme") == [("pro", "active")]


# --- Subscriptions ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stripe_price")
def test_link_that_cannot_read_the_subscriptions_fails_and_a_second_run_continues(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    stack.repository().create_account(Profile("acme"))
    customer = customer_id_of(create_subscription(stripe_client, None))
    stripe_account.fail("status:400", path="/v1/subscriptions")
    error = json_error(run_with_stripe("accounts", "link", "acme", customer, "--json"))
    assert error["code"] == "link_incomplete"
    assert f"{customer} is linked to acme, but" in error["message"]
    assert "run the command again" in error["message"]
    found = json_output(run_with_stripe("accounts", "link", "acme", customer, "--json"))
    assert (found["outcome"], found["stored"]["subscriptions"]) == ("unchanged", 1)
    assert stored_statuses(stack, "acme") == [("pro", "active")]


@pytest.mark.usefixtures("stripe_price")
def test_link_reports_a_subscription_that_it_cannot_store_with_exit_code_3(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    stack.repository().create_account(Profile("acme"))
    subscription = create_subscription(stripe_client, None)
    stripe_account.fail("status:400", path=f"/v1/subscriptions/{subscription.id}", count=2)
    command = ("accounts", "link", "acme", customer_id_of(subscription))
    found = json_output(run_with_stripe(*command, "--json"), exit_code=3)
    assert found["stored"] == {"subscriptions": 0, "invoices": 1}
    [finding] = found["findings"]
    assert (finding["id"], finding["outcome"]) == (subscription.id, "failed")
    result = run_with_stripe(*command)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Not stored: {subscription.id} (failed)")


def test_take_over_grants_the_plan_of_a_subscription_that_names_another_account(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient, stripe_account: StripeAccount, globex_customer: str
) -> None:
    """The subscription is stored in conflict, because globex has no customer. The confirmation takes effect at once."""
    [subscription] = stripe_client.v1.subscriptions.list({"customer": globex_customer}).data
    stripe_client.v1.subscriptions.update(subscription.id, {"metadata": {"account_id": "globex"}})
    stripe_client.v1.customers.update(globex_customer, {"metadata": {"account_id": "acme"}})
    would = run_with_stripe("accounts", "link", "acme", globex_customer, "--take-over", "--dry-run", "--json")
    assert json_output(would)["findings"] == []
    linked = json_output(run_with_stripe("accounts", "link", "acme", globex_customer, "--json"), exit_code=3)
    assert [each["outcome"] for each in linked["findings"]] == ["customer_conflict"]
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "free"
    advance_clock(stripe_account)
    command = ("accounts", "link", "acme", globex_customer, "--take-over", "--json")
    confirmed = json_output(run_with_stripe(*command))
    assert (confirmed["outcome"], confirmed["stored"]["subscriptions"]) == ("confirmed", 1)
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"


# --- Metadata of the customer -----------------------------------------------------------------------------------------


def metadata_of(client: stripe.StripeClient, customer_id: str) -> dict[str, str]:
    """Return the metadata of a customer."""
    metadata = client.v1.customers.retrieve(customer_id).metadata
    return metadata.to_dict() if metadata else {}


@pytest.mark.parametrize(
    ("metadata", "written"),
    [
        ({}, ["account_id", "billing_deployment"]),
        ({"account_id": "acme"}, ["billing_deployment"]),
        ({"account_id": "a b", "colour": "red"}, ["billing_deployment"]),
    ],
)
def test_link_writes_the_metadata_that_the_customer_lacks(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    stripe_client: stripe.StripeClient,
    metadata: dict[str, str],
    written: list[str],
) -> None:
    stack.repository().create_account(Profile("acme"))
    customer = stripe_client.v1.customers.create({"metadata": metadata}).id
    command = ("accounts", "link", "acme", customer, "--json")
    assert json_output(run_with_stripe(*command, "--dry-run"))["metadata"] == written
    assert metadata_of(stripe_client, customer) == metadata
    assert json_output(run_with_stripe(*command))["metadata"] == written
    identity = {"account_id": "acme", "billing_deployment": stack.name}
    assert metadata_of(stripe_client, customer) == identity | metadata
    assert json_output(run_with_stripe(*command))["metadata"] == []


def test_link_with_take_over_keeps_the_account_in_the_metadata(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    stack.repository().create_account(Profile("acme"))
    customer = stripe_client.v1.customers.create({"metadata": {"account_id": "globex"}}).id
    run_with_stripe("accounts", "link", "acme", customer, "--take-over")
    assert metadata_of(stripe_client, customer) == {"account_id": "globex", "billing_deployment": stack.name}


def test_link_that_cannot_write_the_metadata_fails_and_a_second_run_continues(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    stack.repository().create_account(Profile("acme"))
    customer = stripe_client.v1.customers.create({}).id
    stripe_account.fail("status:403", "POST", f"/v1/customers/{customer}")
    error = json_error(run_with_stripe("accounts", "link", "acme", customer, "--json"))
    assert error["code"] == "customer_not_marked"
    assert "lacks a permission" in error["message"]
    assert "run the command again" in error["message"]
    assert stack.repository().find_owners([customer]) == {customer: "acme"}
    found = json_output(run_with_stripe("accounts", "link", "acme", customer, "--json"))
    assert (found["outcome"], found["metadata"]) == ("unchanged", ["account_id", "billing_deployment"])


@pytest.mark.usefixtures("stripe_price")
def test_customer_that_one_deployment_linked_is_not_linked_by_another(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    deploy: Callable[..., DeployedStack],
    stripe_client: stripe.StripeClient,
) -> None:
    """Neither the customer nor its subscription named a deployment before."""
    other = deploy()
    for each in (stack, other):
        each.repository().create_account(Profile("acme"))
    customer = customer_id_of(create_subscription(stripe_client, "acme"))
    run_with_stripe("accounts", "link", "acme", customer)
    found = json_output(run_with_stripe("reconcile", "--stack", other.name, "--json"))
    assert (found["differences"], other.repository().find_owners([customer])) == (0, {})


# --- Open checkout page -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stripe_price")
def test_link_of_another_customer_expires_the_open_checkout_page(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    old, new = (stripe_client.v1.customers.create({}).id for _ in range(2))
    session = open_checkout(stack, stripe_client, old)
    command = ("accounts", "link", "acme", new, "--json")
    json_output(run_with_stripe(*command, "--dry-run"))
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "open"
    json_output(run_with_stripe(*command))
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert stack.repository().load_account("acme").profile.open_checkout is None


@pytest.mark.usefixtures("stripe_price")
def test_confirmation_of_the_linked_customer_keeps_its_checkout_page_open(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    customer = stripe_client.v1.customers.create({}).id
    session = open_checkout(stack, stripe_client, customer)
    found = json_output(run_with_stripe("accounts", "link", "acme", customer, "--take-over", "--json"))
    assert found["outcome"] == "confirmed"
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "open"
    checkout = stack.repository().load_account("acme").profile.open_checkout
    assert checkout
    assert checkout.session_id == session.id


@pytest.mark.usefixtures("stripe_price")
def test_link_that_cannot_expire_the_checkout_page_fails_without_writing(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    old, new = (stripe_client.v1.customers.create({}).id for _ in range(2))
    session = open_checkout(stack, stripe_client, old)
    before = table_items(stack)
    stripe_account.fail("status:400", "POST", "/v1/checkout/sessions")
    error = json_error(run_with_stripe("accounts", "link", "acme", new, "--json"))
    assert error["code"] == "checkout_not_expired"
    assert session.id in error["message"]
    assert table_items(stack) == before
    json_output(run_with_stripe("accounts", "link", "acme", new, "--json"))
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"


@pytest.mark.usefixtures("stripe_price")
def test_link_keeps_a_checkout_that_was_just_paid(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    """Checkout and the event of the payment find its subscription by the session."""
    old, new = (stripe_client.v1.customers.create({}).id for _ in range(2))
    session = open_checkout(stack, stripe_client, old)
    httpx.post(str(session.url), data={"outcome": "pay"}, trust_env=False)
    json_output(run_with_stripe("accounts", "link", "acme", new, "--json"))
    profile = stack.repository().load_account("acme").profile
    assert profile.customer_id == new
    assert profile.open_checkout
    assert profile.open_checkout.session_id == session.id


# --- Refusals ---------------------------------------------------------------------------------------------------------


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
    assert json_output(run_with_stripe("accounts", "show", "acme", "--json"))["plan"] == "pro"
    reason = "linked by an operator; the customer before: none; taken over, whatever its metadata says"
    assert audit_entries(run_with_stripe, "acme") == [("operator.customer_linked", globex_customer, reason)]
    assert json_output(run_with_stripe("reconcile", "--json"))["differences"] == 0
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
