"""Failures that Stripe stores under an idempotency key and replays for a day: the next attempt has another key."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from billing.adapters.repository import Repository
from billing.domain.errors import StoreUnavailable
from stripe_simulator import Simulator
from tests.functions.events import event, subscription
from tests.functions.stripe_support import clear_faults, control, inject_fault, inject_stored_failure, open_session
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

CHECKOUT, PORTAL = "/v1/billing/checkout", "/v1/billing/portal"
PRO = {"tier": "pro"}
CUSTOMERS, SESSIONS, PORTAL_SESSIONS = "/v1/customers", "/v1/checkout/sessions", "/v1/billing_portal/sessions"

each_stored_failure = pytest.mark.parametrize(
    ("status", "when"), [(500, "before"), (500, "after"), (402, "before"), (402, "after"), (400, "before")]
)


def checkout(deployment: FunctionHarness, **headers: str) -> Response:
    """Request checkout of the pro plan."""
    return deployment.authorized("POST", CHECKOUT, PRO, more_headers=headers)


def portal(deployment: FunctionHarness, **headers: str) -> Response:
    """Request the billing portal."""
    return deployment.authorized("POST", PORTAL, {"return_url": "/account"}, more_headers=headers)


def end_subscription(deployment: FunctionHarness) -> None:
    """Give acme a Stripe customer and a canceled subscription, so that it may open the portal."""
    checkout(deployment)
    customer = deployment.repository.load_account("acme").profile.customer_id
    deployment.deliver(event("customer.subscription.deleted", subscription(customer=customer, status="canceled")))


def open_sessions(client: stripe.StripeClient, deployment: FunctionHarness) -> list[str]:
    """Return the ids of the open Checkout Sessions of acme's customer."""
    customer = deployment.repository.load_account("acme").profile.customer_id or ""
    listed = client.v1.checkout.sessions.list({"customer": customer, "limit": 100}).data
    return [session.id for session in listed if session.status == "open"]


def calls(simulator: Simulator, operation: str) -> int:
    """Return the number of calls of an operation, such as `POST /v1/customers`."""
    number: int = control(simulator, "GET", "calls")["data"].get(operation, 0)
    return number


# --- Every POST -------------------------------------------------------------------------------------------------------


@each_stored_failure
@pytest.mark.parametrize("path", [CUSTOMERS, SESSIONS])
def test_checkout_after_a_stored_failure_succeeds_at_the_next_attempt(
    deployment: FunctionHarness,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    path: str,
    status: int,
    when: str,
) -> None:
    inject_stored_failure(simulator, path, status, when)
    assert checkout(deployment).status in {502, 503}
    response = checkout(deployment)
    session = open_session(stripe_client, deployment)
    assert (response.status, response.body) == (200, {"checkout_url": session.url})
    assert session.customer == deployment.repository.load_account("acme").profile.customer_id


@each_stored_failure
@pytest.mark.usefixtures("stripe_client")
def test_checkout_with_an_idempotency_key_succeeds_at_the_next_attempt(
    deployment: FunctionHarness, simulator: Simulator, status: int, when: str
) -> None:
    inject_stored_failure(simulator, SESSIONS, status, when)
    headers = {"Idempotency-Key": "k1"}
    assert checkout(deployment, **headers).status in {502, 503}
    assert checkout(deployment, **headers).status == 200


@each_stored_failure
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k1"}])
@pytest.mark.usefixtures("stripe_client")
def test_portal_after_a_stored_failure_succeeds_at_the_next_attempt(
    deployment: FunctionHarness, simulator: Simulator, headers: dict[str, str], status: int, when: str
) -> None:
    end_subscription(deployment)
    inject_stored_failure(simulator, PORTAL_SESSIONS, status, when)
    assert portal(deployment, **headers).status in {502, 503}
    assert portal(deployment, **headers).status == 200


@each_stored_failure
def test_checkout_after_a_stored_failure_to_expire_leaves_one_session_open(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator, status: int, when: str
) -> None:
    checkout(deployment)
    previous = open_session(stripe_client, deployment)
    inject_stored_failure(simulator, f"{SESSIONS}/{previous.id}/expire", status, when)
    deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    response = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    assert response.status == 200
    assert open_sessions(stripe_client, deployment) == [open_session(stripe_client, deployment).id]
    assert stripe_client.v1.checkout.sessions.retrieve(previous.id).status == "expired"


@pytest.mark.parametrize("lookup", ["/v1/prices", CUSTOMERS])
def test_checkout_after_a_stored_failure_succeeds_although_the_lookup_after_it_failed(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator, lookup: str
) -> None:
    """After a refusal, checkout looks up the price and the customer. Stripe limits the rate of these calls."""
    checkout(deployment)
    stripe_client.v1.checkout.sessions.expire(open_session(stripe_client, deployment).id)
    inject_stored_failure(simulator, SESSIONS, 400, "before")
    inject_fault(simulator, "status:429", lookup)
    assert checkout(deployment).status == 502
    clear_faults(simulator)
    assert checkout(deployment).status == 200


def test_checkout_after_a_refused_price_succeeds_once_the_price_is_active_again(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """While no active price has the lookup key, its lookup fails, too."""
    checkout(deployment)
    session = open_session(stripe_client, deployment)
    [item] = session.line_items.data if session.line_items else []
    price_id = item.price.id if item.price else ""
    stripe_client.v1.checkout.sessions.expire(session.id)
    stripe_client.v1.prices.update(price_id, {"active": False})
    assert checkout(deployment).status == 502
    stripe_client.v1.prices.update(price_id, {"active": True})
    assert checkout(deployment).status == 200


@pytest.mark.usefixtures("stripe_client")
def test_portal_after_a_stored_failure_succeeds_although_the_lookup_after_it_failed(
    deployment: FunctionHarness, simulator: Simulator
) -> None:
    end_subscription(deployment)
    inject_stored_failure(simulator, PORTAL_SESSIONS, 400, "before")
    inject_fault(simulator, "status:429", CUSTOMERS)
    assert portal(deployment, **{"Idempotency-Key": "k1"}).status == 502
    clear_faults(simulator)
    assert portal(deployment, **{"Idempotency-Key": "k1"}).status == 200


# --- Keys that stay ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CUSTOMERS, SESSIONS])
@pytest.mark.parametrize("kind", ["reset", "status:429", "status:409"])
def test_checkout_after_an_unanswered_attempt_keeps_the_idempotency_key(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator, path: str, kind: str
) -> None:
    """The first attempt took effect, but its answer was lost or Stripe was still working on it."""
    before = {customer.id for customer in stripe_client.v1.customers.list({"limit": 100}).data}
    fault = {"match": {"method": "POST", "path_prefix": path}, "kind": kind, "when": "after", "count": 20}
    control(simulator, "POST", "faults", fault)
    assert checkout(deployment).status == 503
    clear_faults(simulator)
    assert checkout(deployment).status == 200
    after = {customer.id for customer in stripe_client.v1.customers.list({"limit": 100}).data}
    assert len(after - before) == 1
    assert len(open_sessions(stripe_client, deployment)) == 1


@pytest.mark.usefixtures("stripe_client")
def test_portal_after_an_unanswered_attempt_keeps_the_idempotency_key(
    deployment: FunctionHarness, simulator: Simulator
) -> None:
    end_subscription(deployment)
    version = deployment.repository.load_account("acme").profile.version
    inject_fault(simulator, "reset", PORTAL_SESSIONS, count=3)
    assert portal(deployment, **{"Idempotency-Key": "k1"}).status == 503
    assert deployment.repository.load_account("acme").profile.version == version


# --- Concurrent requests and crashes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CUSTOMERS, SESSIONS])
def test_concurrent_checkouts_after_a_stored_failure_create_one_customer_and_one_session(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator, path: str
) -> None:
    """Each request gets the stored failure or succeeds. All later ones get the same session."""
    before = {customer.id for customer in stripe_client.v1.customers.list({"limit": 100}).data}
    inject_stored_failure(simulator, path, 500, "before")
    with ThreadPoolExecutor(10) as pool:
        responses = list(pool.map(lambda _: checkout(deployment), range(20)))
    responses += [checkout(deployment) for _ in range(2)]
    assert {response.status for response in responses} <= {200, 503}
    assert len({response.body["checkout_url"] for response in responses if response.status == 200}) == 1
    assert responses[-1].status == 200
    after = {customer.id for customer in stripe_client.v1.customers.list({"limit": 100}).data}
    assert len(after - before) == 1
    assert open_sessions(stripe_client, deployment) == [open_session(stripe_client, deployment).id]


def test_checkout_that_ends_before_it_writes_recovers_with_the_replayed_failure(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator, monkeypatch: Any
) -> None:
    """The next attempt repeats the key, receives the stored failure and writes the profile."""
    inject_stored_failure(simulator, SESSIONS, 500, "before")
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "save_profile", fail_on_unchanged_customer(Repository.save_profile))
        assert checkout(deployment).status == 503
    assert [checkout(deployment).status for _ in range(2)] == [503, 200]
    assert len(open_sessions(stripe_client, deployment)) == 1


def fail_on_unchanged_customer(save: Any) -> Any:
    """Return `save_profile` that fails except for the write of a new customer."""

    def save_profile(self: Repository, profile: Any, **options: Any) -> Any:
        if not options:
            raise StoreUnavailable
        return save(self, profile, **options)

    return save_profile


@pytest.mark.usefixtures("stripe_client")
def test_checkout_while_stripe_keeps_failing_costs_one_key_for_each_request(
    deployment: FunctionHarness, simulator: Simulator
) -> None:
    """A request does not try another key itself."""
    before = calls(simulator, "POST /v1/customers")
    fault = {"match": {"method": "POST", "path_prefix": CUSTOMERS}, "kind": "status:402", "count": 9, "stored": True}
    control(simulator, "POST", "faults", fault)
    assert [checkout(deployment).status for _ in range(3)] == [502] * 3
    assert calls(simulator, "POST /v1/customers") - before == 3
