"""Subscriptions whose own metadata names another account than their customer's."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from billing.domain.accounts import Profile
from stripe_simulator import Simulator
from tests.functions.events import METADATA, event, invoice, subscription_event
from tests.functions.stripe_support import complete_checkout, open_session
from tests.functions.support import FunctionHarness, event_marker, items_with_prefix

pytestmark = pytest.mark.engine

GLOBEX = METADATA | {"account_id": "globex"}


def second_subscription(minutes_ago: int = 0, **changes: Any) -> dict[str, Any]:
    """Return an event of a subscription of acme's customer to Team that names globex."""
    created = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    wanted = {"lookup_key": "team_monthly", "metadata": GLOBEX} | changes
    return subscription_event("sub_2", created=created, **wanted)


def plan(deployment: FunctionHarness) -> str:
    """Return acme's plan from the API."""
    return str(deployment.authorized("GET", "/v1/billing").body["plan"])


def conflicts(deployment: FunctionHarness) -> dict[str, str | None]:
    """Return the conflicting account of each of acme's subscriptions."""
    subscriptions = deployment.repository.load_account("acme").subscriptions
    return {each.id: each.conflicting_account_id for each in subscriptions}


@pytest.fixture
def globex(deployment: FunctionHarness) -> Profile:
    """A second account without a customer. acme has a subscription to Pro."""
    deployment.repository.create_account(Profile("globex"))
    deployment.deliver(subscription_event())
    return deployment.repository.load_account("globex").profile


@pytest.mark.usefixtures("globex")
def test_subscription_that_names_another_account_without_customer_grants_no_plan(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    """It stays with the account of its customer, and the alarm fires."""
    printed()
    sent = second_subscription()
    assert deployment.deliver(sent).body["outcome"] == "applied"
    assert (plan(deployment), conflicts(deployment)) == ("pro", {"sub_1": None, "sub_2": "globex"})
    marker = event_marker(deployment, sent["id"])
    assert marker["account_id"] == "acme"
    assert marker["reason"] == (
        "metadata of sub_2 names another account, globex; the plan is not granted until an operator decides; "
        "the account has several live subscriptions: sub_1, sub_2"
    )
    assert '"CustomerConflict":[1.0]' in printed().replace(" ", "")
    assert deployment.repository.load_account("globex").subscriptions == ()


@pytest.mark.usefixtures("globex")
def test_outbound_event_of_a_conflict_names_no_plan(deployment: FunctionHarness) -> None:
    """Whoever grants plans by outbound events must not grant this one."""
    deployment.deliver(second_subscription())
    published = [each["object"]["M"] for each in items_with_prefix(deployment, "OUT#")]
    [subscription] = [each for each in published if each["id"]["S"] == "sub_2"]
    assert (subscription["plan"], subscription["pending_change"]) == ({"NULL": True}, {"NULL": True})


@pytest.mark.usefixtures("globex")
def test_conflict_survives_later_events_and_alarms_with_each(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    deployment.deliver(second_subscription(minutes_ago=1))
    printed()
    deployment.deliver(second_subscription(quantity=2, cancel_at_period_end=True, status="past_due"))
    assert (plan(deployment), conflicts(deployment)["sub_2"]) == ("pro", "globex")
    assert '"CustomerConflict":[1.0]' in printed().replace(" ", "")


def test_conflict_survives_the_first_customer_of_the_other_account(
    deployment: FunctionHarness, globex: Profile
) -> None:
    deployment.deliver(second_subscription(minutes_ago=1))
    deployment.repository.save_profile(replace(globex, customer_id="cus_globex"), new_customer_id="cus_globex")
    deployment.deliver(second_subscription(cancel_at_period_end=True))
    assert conflicts(deployment)["sub_2"] == "globex"


@pytest.mark.usefixtures("globex")
def test_corrected_metadata_ends_the_conflict(deployment: FunctionHarness) -> None:
    deployment.deliver(second_subscription(minutes_ago=1))
    deployment.deliver(second_subscription(metadata=METADATA, cancel_at_period_end=True))
    assert (plan(deployment), conflicts(deployment)["sub_2"]) == ("team", None)


@pytest.mark.usefixtures("globex")
def test_operators_confirmation_ends_conflict_and_alarm(
    deployment: FunctionHarness, printed: Callable[[], str]
) -> None:
    deployment.deliver(second_subscription(minutes_ago=1))
    profile = deployment.repository.load_account("acme").profile
    confirmed = profile.with_customer("cus_acme", confirmed=True)
    deployment.repository.save_profile(confirmed, new_customer_id="cus_acme")
    printed()
    deployment.deliver(second_subscription(cancel_at_period_end=True))
    assert (plan(deployment), conflicts(deployment)["sub_2"]) == ("team", None)
    assert "CustomerConflict" not in printed()


@pytest.mark.usefixtures("globex")
def test_end_of_the_subscription_ends_the_conflict(deployment: FunctionHarness) -> None:
    deployment.deliver(second_subscription(minutes_ago=1))
    deployment.deliver(event("customer.subscription.deleted", second_subscription(status="canceled")["data"]["object"]))
    assert conflicts(deployment)["sub_2"] is None


@pytest.mark.parametrize("other", [None, Profile("globex", customer_id="cus_globex")])
def test_metadata_that_names_an_unknown_account_or_one_with_a_customer_is_only_alarmed(
    deployment: FunctionHarness, printed: Callable[[], str], other: Profile | None
) -> None:
    deployment.deliver(subscription_event())
    if other:
        deployment.repository.create_account(other)
    sent = second_subscription()
    deployment.deliver(sent)
    assert (plan(deployment), conflicts(deployment)["sub_2"]) == ("team", None)
    assert "names another account" in event_marker(deployment, sent["id"])["reason"]
    assert '"CustomerConflict":[1.0]' in printed().replace(" ", "")


@pytest.mark.usefixtures("globex")
def test_invoice_of_a_conflicting_subscription_is_stored_for_the_customers_account(
    deployment: FunctionHarness,
) -> None:
    deployment.deliver(second_subscription())
    details = {"subscription": "sub_2", "metadata": GLOBEX}
    parent = {"type": "subscription_details", "subscription_details": details}
    assert deployment.deliver(event("invoice.paid", invoice("in_2", parent=parent))).body["outcome"] == "applied"
    assert [each.id for each in deployment.repository.list_invoices("acme", 10).invoices] == ["in_2"]


def test_fetched_subscription_that_names_another_account_grants_no_plan(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The event of the checkout names the customer's account, and its subscription another one."""
    deployment.repository.create_account(Profile("globex"))
    deployment.authorized("POST", "/v1/billing/checkout", {"tier": "pro"})
    session = open_session(stripe_client, deployment)
    complete_checkout(simulator, session)
    paid = stripe_client.v1.checkout.sessions.retrieve(session.id)
    stripe_client.v1.subscriptions.update(str(paid.subscription), {"metadata": {"account_id": "globex"}})
    assert deployment.deliver(event("checkout.session.completed", paid.to_dict())).body["outcome"] == "applied"
    assert conflicts(deployment) == {str(paid.subscription): "globex"}
    assert plan(deployment) == "free"


def test_checkout_returns_409_while_a_subscription_is_in_conflict(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """The customer may be billed for it, so a second subscription would be billed, too."""
    deployment.repository.create_account(Profile("globex"))
    customer = stripe_client.v1.customers.create({}).id
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, customer_id=customer), new_customer_id=customer)
    deployment.deliver(second_subscription(customer=customer))
    assert plan(deployment) == "free"
    assert deployment.authorized("POST", "/v1/billing/checkout", {"tier": "pro"}).status == 409
