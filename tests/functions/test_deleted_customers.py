"""Portal and checkout for a customer that Stripe no longer has, whose event was lost."""

from typing import Any

import pytest
import stripe

from billing.api.contracts import CONTRACTS
from billing.stripe_events.event_types import EventOutcome
from stripe_simulator import Simulator
from tests.functions.events import subscription_event
from tests.functions.stripe_support import (
    clear_faults,
    complete_checkout,
    create_subscription,
    deliver_all,
    inject_fault,
    open_session,
    reset,
)
from tests.functions.support import FunctionHarness, items_with_prefix, outbox_types

pytestmark = pytest.mark.engine

CHECKOUT, PORTAL = "/v1/billing/checkout", "/v1/billing/portal"
GONE = "The payment provider no longer has the customer of this account, nor its billing history"

PORTAL_RESPONSES: dict[str, tuple[int, str, str]] = {
    "account": (400, "NO_STRIPE_CUSTOMER", GONE),
    "teams": (404, "resource_not_found", GONE),
    "organization": (404, "NOT_FOUND", GONE),
    "subscription": (404, "no_subscription", GONE),
    "portal": (404, "NOT_FOUND", "No billing account found"),
}
"""Status, code and message of the portal in each contract."""


@pytest.fixture(autouse=True)
def _empty_stripe(simulator: Simulator) -> None:
    """Remove the events of earlier tests, which name the same account."""
    reset(simulator)


@pytest.fixture
def lost_customer(deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator) -> str:
    """Customer with an active subscription of acme, deleted in Stripe without an event."""
    subscription = create_subscription(stripe_client)
    deliver_all(deployment, simulator)
    customer_id = str(subscription.customer)
    assert deployment.authorized("GET", "/v1/billing").body["status"] == "active"
    stripe_client.v1.customers.delete(customer_id)
    return customer_id


@pytest.mark.usefixtures("lost_customer")
@pytest.mark.parametrize("contract", PORTAL_RESPONSES)
def test_portal_of_deleted_customer_returns_the_documented_error(deployment: FunctionHarness, contract: str) -> None:
    assert portal_response(deployment, contract) == PORTAL_RESPONSES[contract]


@pytest.mark.parametrize("contract", PORTAL_RESPONSES)
def test_portal_after_reconciled_deletion_does_not_deny_the_subscription(
    deployment: FunctionHarness, lost_customer: str, simulator: Simulator, contract: str
) -> None:
    deliver_all(deployment, simulator)
    profile = deployment.repository.load_account("acme").profile
    assert profile.customer_id != lost_customer
    assert portal_response(deployment, contract) == PORTAL_RESPONSES[contract]


def test_portal_without_any_subscription_says_so(deployment: FunctionHarness) -> None:
    response = deployment.authorized("POST", PORTAL, {})
    assert response.body["error"]["message"] == "This account has no billing history: it has no subscription here"


def test_portal_of_deleted_customer_opens_for_an_earlier_one_that_exists(
    deployment: FunctionHarness, lost_customer: str, stripe_client: stripe.StripeClient
) -> None:
    earlier = stripe_client.v1.customers.create({}).id
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(profile, new_customer_id=earlier)
    deployment.deliver(subscription_event("sub_earlier", customer=earlier, status="canceled"))
    assert deployment.repository.load_account("acme").profile.customer_id == lost_customer
    assert deployment.authorized("POST", PORTAL, {}).status == 200


@pytest.mark.usefixtures("lost_customer")
def test_portal_returns_503_while_stripe_fails(deployment: FunctionHarness, simulator: Simulator) -> None:
    inject_fault(simulator, "status:500")
    assert deployment.authorized("POST", PORTAL, {}).status == 503
    clear_faults(simulator)


def test_checkout_replaces_a_deleted_customer_and_ends_its_subscription(
    deployment: FunctionHarness, lost_customer: str, stripe_client: stripe.StripeClient
) -> None:
    assert deployment.authorized("POST", CHECKOUT, {"tier": "team"}).status == 200
    account = deployment.repository.load_account("acme")
    assert account.profile.customer_id not in {None, lost_customer}
    assert open_session(stripe_client, deployment).customer == account.profile.customer_id
    assert [each.status for each in account.subscriptions] == ["canceled"]
    assert "subscription.canceled" in outbox_types(deployment)


def test_deletion_event_after_the_replacement_changes_nothing(
    deployment: FunctionHarness, lost_customer: str, simulator: Simulator
) -> None:
    deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    before = deployment.repository.load_account("acme").profile.customer_id
    deliver_all(deployment, simulator)
    assert deployment.repository.load_account("acme").profile.customer_id == before != lost_customer
    [found] = items_with_prefix(deployment, "SUB#")
    assert found["status"]["S"] == "canceled"


def test_checkout_replaces_a_customer_deleted_after_its_unreported_payment(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """None of the events arrived, so only the paid session shows that there was a subscription."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    session = open_session(stripe_client, deployment)
    complete_checkout(simulator, session)
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 409
    stripe_client.v1.customers.delete(str(session.customer))
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 200
    assert open_session(stripe_client, deployment).id != session.id


@pytest.mark.usefixtures("stripe_client")
def test_checkout_for_customer_that_stripe_does_not_know_points_to_no_portal(deployment: FunctionHarness) -> None:
    """A 404 does not prove a deletion: the API key may be of another Stripe account."""
    assert deployment.deliver(subscription_event()).body["outcome"] == EventOutcome.APPLIED
    response = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    assert (response.status, response.body["error"]["code"]) == (409, "SUBSCRIPTION_EXISTS")
    assert "portal" not in response.body["error"]["message"]
    assert "action" not in response.body["error"]
    assert deployment.authorized("GET", "/v1/billing").body["status"] == "active"


def test_checkout_returns_409_if_stripe_fails_to_show_the_customer(
    deployment: FunctionHarness, lost_customer: str, simulator: Simulator
) -> None:
    inject_fault(simulator, "status:500", f"/v1/customers/{lost_customer}")
    assert deployment.authorized("POST", CHECKOUT, {"tier": "team"}).status == 409
    clear_faults(simulator)


def portal_response(deployment: FunctionHarness, contract_name: str) -> tuple[int, str, str]:
    """Return status, code and message of the portal's error in a contract."""
    [route] = [each.routes["portal"] for each in CONTRACTS if each.name == contract_name]
    method, path = route.key.split(" ")
    response = call_portal(deployment, method, path)
    body = response.body["error"] if isinstance(response.body, dict) else response.body
    return response.status, body["code"], body["message"]


def call_portal(deployment: FunctionHarness, method: str, path: str) -> Any:
    """Call the portal without a return URL."""
    route = f"{method} {path}"
    parameters = {"teamId": "acme"} if "{teamId}" in path else None
    return deployment.authorized(method, path.format(teamId="acme"), {}, route=route, parameters=parameters)
