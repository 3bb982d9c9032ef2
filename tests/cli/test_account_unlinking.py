"""Tests of `billing accounts unlink`."""

from dataclasses import replace

import pytest
import stripe

from billing.adapters.repository import Commit, ProcessedEvent, Repository, VersionConflict
from billing.domain.accounts import Profile
from billing.stripe_events.event_types import EventOutcome
from billing.stripe_events.ordering import StoredObject
from tests.cli.support import (
    NOW,
    DeployedStack,
    RunBilling,
    StripeAccount,
    audit_entries,
    create_subscription,
    customer_id_of,
    json_error,
    json_output,
    open_checkout,
    store_subscription,
    stored_statuses,
    table_items,
)
from tests.samples import SUBSCRIPTION

pytestmark = pytest.mark.engine


def test_unlink_takes_back_a_link_with_its_subscriptions_and_invoices(
    run_with_stripe: RunBilling, stack: DeployedStack, globex_customer: str
) -> None:
    run_with_stripe("accounts", "link", "acme", globex_customer, "--take-over")
    assert stored_statuses(stack, "acme") == [("pro", "active")]
    command = ("accounts", "unlink", "acme", globex_customer)
    before = table_items(stack)
    removed = {"subscriptions": 1, "invoices": 1}
    would = json_output(run_with_stripe(*command, "--dry-run", "--json"))
    assert (would["outcome"], would["removed"]) == ("unlinked", removed)
    assert table_items(stack) == before
    assert json_output(run_with_stripe(*command, "--json"))["removed"] == removed
    assert stored_statuses(stack, "acme") == []
    assert stack.repository().list_invoices("acme", 10).invoices == []
    assert stack.repository().find_owners([globex_customer]) == {}
    entries = {event_type: reason for event_type, _, reason in audit_entries(run_with_stripe, "acme")}
    assert entries.keys() == {"operator.customer_linked", "operator.customer_unlinked"}
    assert entries["operator.customer_unlinked"] == "unlinked by an operator; removed subscriptions and invoices: 2"
    run_with_stripe("accounts", "link", "globex", globex_customer)
    assert (stored_statuses(stack, "acme"), stored_statuses(stack, "globex")) == ([], [("pro", "active")])


@pytest.mark.usefixtures("stripe_price")
def test_unlinked_customer_is_not_linked_by_its_metadata_again(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    stack.repository().create_account(Profile("acme"))
    customer = customer_id_of(create_subscription(stripe_client, "acme"))
    run_with_stripe("reconcile")
    assert stored_statuses(stack, "acme") == [("pro", "active")]
    run_with_stripe("accounts", "unlink", "acme", customer)
    json_output(run_with_stripe("reconcile", "--json"))
    assert (stored_statuses(stack, "acme"), stack.repository().find_owners([customer])) == ([], {})
    run_with_stripe("accounts", "link", "acme", customer)
    assert stored_statuses(stack, "acme") == [("pro", "active")]
    assert stack.repository().load_account("acme").profile.unlinked_customers == ()


@pytest.mark.usefixtures("stripe_price")
def test_unlink_expires_the_open_checkout_page_first(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    customer = stripe_client.v1.customers.create({}).id
    session = open_checkout(stack, stripe_client, customer)
    json_output(run_with_stripe("accounts", "unlink", "acme", customer, "--json"))
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    profile = stack.repository().load_account("acme").profile
    assert (profile.customer_id, profile.open_checkout) == (None, None)


@pytest.mark.usefixtures("stripe_price")
@pytest.mark.parametrize("unlinked", ["old", "current"])
def test_unlink_expires_the_checkout_page_of_this_customer_only(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, unlinked: str
) -> None:
    """A link of an earlier version left the page of the previous customer open."""
    old, current = (stripe_client.v1.customers.create({}).id for _ in range(2))
    session = open_checkout(stack, stripe_client, old)
    profile = stack.repository().load_account("acme").profile
    stack.repository().save_profile(replace(profile, customer_id=current), new_customer_id=current)
    customer = {"old": old, "current": current}[unlinked]
    json_output(run_with_stripe("accounts", "unlink", "acme", customer, "--json"))
    expected = "expired" if unlinked == "old" else "open"
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == expected
    profile = stack.repository().load_account("acme").profile
    assert profile.customer_id == (current if unlinked == "old" else None)
    assert (profile.open_checkout is None) is (unlinked == "old")


@pytest.mark.usefixtures("stripe_price")
def test_unlink_that_cannot_expire_the_checkout_page_fails_without_writing(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    customer = stripe_client.v1.customers.create({}).id
    session = open_checkout(stack, stripe_client, customer)
    before = table_items(stack)
    stripe_account.fail("status:400", "POST", "/v1/checkout/sessions")
    error = json_error(run_with_stripe("accounts", "unlink", "acme", customer, "--json"))
    assert error["code"] == "checkout_not_expired"
    assert session.id in error["message"]
    assert table_items(stack) == before
    json_output(run_with_stripe("accounts", "unlink", "acme", customer, "--json"))
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"


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
    assert (stack.repository().find_owners(["cus_1"]), len(stored_statuses(stack, "acme"))) == ({}, 1)
    assert json_output(run_billing("accounts", "unlink", "acme", "cus_1", "--json"))["removed"]["subscriptions"] == 1
    assert stored_statuses(stack, "acme") == []


def test_unlink_names_the_live_subscription_and_a_second_run_prints_unchanged(
    run_billing: RunBilling, stack: DeployedStack
) -> None:
    run_billing("accounts", "create", "acme")
    store_subscription(stack, "acme")
    command = ("accounts", "unlink", "acme", "cus_1")
    would = json_output(run_billing(*command, "--dry-run", "--json"))
    assert would["live_subscriptions"] == [{"id": "sub_1", "customer": "cus_1"}]
    result = run_billing(*command)
    assert result.stdout == "unlinked  acme  cus_1  (removed: 1 subscriptions, 0 invoices)\n"
    assert result.stderr.splitlines()[0] == (
        "sub_1 is live: Stripe keeps billing the customer cus_1 for it. "
        "Cancel it in Stripe, or link the customer to its account."
    )
    before = table_items(stack)
    for words in ((), ("--dry-run",)):
        again = run_billing(*command, *words)
        assert (again.stdout, again.stderr) == ("unchanged  acme  cus_1\n", "")
    assert table_items(stack) == before


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
    assert stored_statuses(stack, "acme") == []
    relinked = repository.load_account("acme").profile.with_customer("cus_1", confirmed=False)
    repository.save_profile(relinked, new_customer_id="cus_1")
    repository.commit(commit)
    assert stored_statuses(stack, "acme") == [("pro", "active")]
