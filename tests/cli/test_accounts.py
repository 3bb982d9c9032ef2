"""`billing accounts`, on a deployed table."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import stripe

import billing.adapters.stripe_gateway
from billing.adapters.repository import Commit, ProcessedEvent, Repository
from billing.domain.accounts import Profile
from billing.stripe_events.event_types import EventOutcome
from billing.stripe_events.ordering import StoredObject
from tests.cli.conftest import Billing, Stack, StripeAccount, answer, refusal
from tests.cli.stripe_side import customer_of, sell, table
from tests.cli.stripe_side import subscribe as buy
from tests.samples import SUBSCRIPTION

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC).replace(microsecond=0)


def subscribe(stack: Stack, account_id: str) -> None:
    """Let the account have an active subscription, as an event would."""
    repository = stack.repository()
    repository.save_profile(
        Profile(account_id, version=1, customer_id="cus_1", email="billing@acme.example"), new_customer_id="cus_1"
    )
    subscription = replace(SUBSCRIPTION, current_period_start=NOW, current_period_end=NOW + timedelta(days=30))
    subscription = replace(subscription, created=NOW, cancel_at_period_end=True)
    marker = ProcessedEvent(
        "evt_1", "customer.subscription.created", EventOutcome.APPLIED, NOW, NOW, account_id, "cus_1"
    )
    repository.commit(Commit(marker, [StoredObject(subscription, NOW, NOW, 1)]))


def test_a_new_account_is_on_the_free_plan(billing: Billing, stack: Stack) -> None:
    """What was created is in the deployed table, with its e-mail address, and has no plan to pay for."""
    created = answer(billing("accounts", "create", "acme", "--email", "billing@acme.example", "--json"))
    assert (created["account_id"], created["email"]) == ("acme", "billing@acme.example")
    shown = answer(billing("accounts", "show", "acme", "--json"))
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


def test_an_account_shows_its_plan_and_subscriptions(billing: Billing, stack: Stack) -> None:
    """The plan comes from the subscription, as the API answers it; the counted keys are those that work."""
    billing("accounts", "create", "acme")
    subscribe(stack, "acme")
    keys = [answer(billing("keys", "create", "acme", "--json")) for _ in range(2)]
    billing("keys", "revoke", "acme", keys[0]["id"])
    shown = answer(billing("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["status"], shown["cancel_at_period_end"]) == ("pro", "active", True)
    assert (shown["customer"], shown["keys"]) == ("cus_1", 1)
    assert [(each["id"], each["plan"], each["quantity"]) for each in shown["subscriptions"]] == [("sub_1", "pro", 1)]
    text = billing("accounts", "show", "acme").stdout
    assert "cus_1" in text
    assert "sub_1" in text


def test_members_are_set_and_shown(billing: Billing, stack: Stack) -> None:
    """One until somebody says otherwise; what was set is what the API answers from."""
    billing("accounts", "create", "acme")
    assert answer(billing("accounts", "members", "acme", "--json")) == {"account_id": "acme", "members": 1}
    assert answer(billing("accounts", "members", "acme", "5", "--json")) == {"account_id": "acme", "members": 5}
    assert stack.repository().load_account("acme").member_count == 5
    assert billing("accounts", "members", "acme").stdout == "account_id  acme\nmembers     5\n"
    assert billing("accounts", "members", "acme", "0").exit_code == 0
    assert answer(billing("accounts", "show", "acme", "--json"))["members"] == 0


def test_members_of_an_unknown_account_are_not_set(billing: Billing, stack: Stack) -> None:
    """A slip of the pen makes no account."""
    assert refusal(billing("accounts", "members", "acmee", "5", "--json"))["code"] == "account_not_found"
    assert stack.repository().load_account("acmee").member_count == 1


@pytest.mark.parametrize("count", ["-1", "five", "1.5", ""])
def test_what_is_no_number_of_members_is_a_usage_error(billing: Billing, count: str) -> None:
    """Nothing is written, and the exit code is the one of a wrong command line."""
    assert billing("accounts", "members", "acme", "--", count).exit_code == 2


def test_creating_an_account_again_is_refused(billing: Billing) -> None:
    """The one that is there stays as it is, and the message says how to look at it."""
    billing("accounts", "create", "acme", "--email", "first@acme.example")
    error = refusal(billing("accounts", "create", "acme", "--email", "second@acme.example", "--json"))
    assert error["code"] == "account_exists"
    assert "billing accounts show acme" in error["message"]
    assert answer(billing("accounts", "show", "acme", "--json"))["email"] == "first@acme.example"


def test_an_unknown_account_says_how_to_create_it(billing: Billing) -> None:
    """To people the same sentence is one line on stderr."""
    error = refusal(billing("accounts", "show", "nobody", "--json"))
    assert error["code"] == "account_not_found"
    result = billing("accounts", "show", "nobody")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {error['message']}\n")


@pytest.mark.parametrize("words", [["a#b"], ["ä"], [""], ["a" * 256], ["acme", "--email", "nobody"], []])
def test_what_cannot_be_an_account_is_a_usage_error(billing: Billing, words: list[str]) -> None:
    """Nothing is written, and the exit code is the one of a wrong command line."""
    assert billing("accounts", "create", *words).exit_code == 2


def test_the_answer_is_one_json_object(billing: Billing) -> None:
    """Programs read stdout whole, whatever width the terminal has."""
    account_id = "a" * 255
    result = billing("accounts", "create", account_id, "--json", COLUMNS="40")
    assert json.loads(result.stdout)["account_id"] == account_id
    assert result.stderr == ""


# --- link -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch, stripe_client: stripe.StripeClient) -> None:
    """Nobody else uses this Stripe, which sells what the catalog has."""
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 10_000)
    sell(stripe_client)


@pytest.mark.usefixtures("_at_once")
def test_an_operator_decides_between_two_customers(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient
) -> None:
    """The second customer becomes the account's, what it pays for counts, and the first one stays its own."""
    operator("accounts", "create", "acme")
    first = buy(stripe_client, "acme")
    operator("reconcile")
    stripe_client.v1.subscriptions.cancel(first.id)
    second = buy(stripe_client, "acme")
    operator("reconcile")
    assert answer(operator("accounts", "show", "acme", "--json"))["plan"] == "free"
    command = ("accounts", "link", "acme", customer_of(second))
    told = {"account_id": "acme", "customer": customer_of(second), "before": customer_of(first)}
    before = table(stack)
    assert answer(operator(*command, "--dry-run", "--json")) == {"dry_run": True, **told, "outcome": "linked"}
    assert table(stack) == before
    assert answer(operator(*command, "--json")) == {"dry_run": False, **told, "outcome": "linked"}
    unchanged = {"dry_run": False, **told, "before": customer_of(second), "outcome": "unchanged"}
    assert answer(operator(*command, "--json")) == unchanged
    operator("reconcile", "--account", "acme")
    shown = answer(operator("accounts", "show", "acme", "--json"))
    assert (shown["plan"], shown["customer"]) == ("pro", customer_of(second))
    assert stack.repository().find_owners([customer_of(first)]) == {customer_of(first): "acme"}


def test_a_customer_that_the_account_had_is_linked_again(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient
) -> None:
    """People are told what it was before, and what to do next."""
    former, current = (stripe_client.v1.customers.create({}).id for _ in range(2))
    stack.repository().create_account(Profile("acme", customer_id=former))
    operator("accounts", "link", "acme", current)
    would = operator("accounts", "link", "acme", former, "--dry-run")
    assert (would.stdout, would.stderr) == (f"would be linked  acme  {former}  (before: {current})\n", "")
    result = operator("accounts", "link", "acme", former)
    assert result.stdout == f"linked  acme  {former}  (before: {current})\n"
    assert result.stderr.endswith("billing reconcile --account acme\n")
    again = operator("accounts", "link", "acme", former)
    assert (again.stdout, again.stderr) == (f"unchanged  acme  {former}\n", "")
    assert stack.repository().load_account("acme").profile.customer_id == former
    assert stack.repository().find_owners([former, current]) == {former: "acme", current: "acme"}


def test_a_customer_that_cannot_be_the_accounts(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient
) -> None:
    """Another account's, one that Stripe does not have, a deleted one, an unknown account: nothing is written."""
    gone = stripe_client.v1.customers.create({}).id
    stripe_client.v1.customers.delete(gone)
    stack.repository().create_account(Profile("acme", customer_id="cus_acme"))
    stack.repository().create_account(Profile("globex", customer_id="cus_globex"))
    before = table(stack)
    refusals = {
        words: refusal(operator("accounts", "link", *words, "--json"))
        for words in [("acme", "cus_globex"), ("acme", "cus_none"), ("acme", gone), ("nobody", "cus_acme")]
    }
    assert {words: error["code"] for words, error in refusals.items()} == {
        ("acme", "cus_globex"): "customer_taken",
        ("acme", "cus_none"): "customer_not_found",
        ("acme", gone): "customer_deleted",
        ("nobody", "cus_acme"): "account_not_found",
    }
    assert "the account globex" in refusals["acme", "cus_globex"]["message"]
    assert operator("accounts", "link", "acme", "cus 1").exit_code == 2
    assert table(stack) == before


def test_a_link_beside_another_change(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other change stays, and the operator is told to decide again."""
    stack.repository().create_account(Profile("acme"))
    find_owners = Repository.find_owners

    def changed_meanwhile(repository: Repository, customer_ids: list[str]) -> object:
        profile = repository.load_account("acme").profile
        repository.save_profile(replace(profile, customer_id="cus_faster"), new_customer_id="cus_faster")
        return find_owners(repository, customer_ids)

    monkeypatch.setattr(Repository, "find_owners", changed_meanwhile)
    wanted = stripe_client.v1.customers.create({}).id
    assert refusal(operator("accounts", "link", "acme", wanted, "--json"))["code"] == "account_changed"
    assert stack.repository().load_account("acme").profile.customer_id == "cus_faster"


def test_a_link_without_stripe(operator: Billing, stack: Stack, stripe_account: StripeAccount) -> None:
    """Says so, and links nothing unseen."""
    stack.repository().create_account(Profile("acme"))
    stripe_account.fail("status:401", path="/v1/customers", count=10)
    assert refusal(operator("accounts", "link", "acme", "cus_1", "--json"))["code"] == "stripe_key"
    assert stack.repository().load_account("acme").profile.customer_id is None
