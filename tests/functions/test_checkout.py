"""POST checkout and portal against the Stripe simulator: one customer, one open session, and Stripe failures."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
import stripe

from stripe_simulator import Simulator
from tests.functions.events import METADATA, event, subscription, subscription_event
from tests.functions.stripe_support import (
    clear_faults,
    complete_checkout,
    control,
    deliver_all,
    inject_fault,
    open_session,
)
from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine

CHECKOUT, PORTAL = "/v1/billing/checkout", "/v1/billing/portal"


def test_checkout_creates_a_session_for_the_account(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """The session carries everything that later events need."""
    response = deployment.authorized("POST", CHECKOUT, {"tier": "pro", "success_url": "/done"})
    session = open_session(stripe_client, deployment)
    assert (response.status, response.body) == (200, {"checkout_url": session.url})
    assert session.customer == deployment.repository.load_account("acme").profile.customer_id
    assert session.client_reference_id == "acme"
    assert session.metadata is not None
    assert session.metadata.to_dict() == METADATA
    assert session.success_url == "http://localhost:3000/done"
    assert session.cancel_url == "http://localhost:3000/?checkout=cancelled"
    assert session.allow_promotion_codes is True
    customer = stripe_client.v1.customers.retrieve(str(session.customer))
    assert customer.email == "billing@acme.test"
    assert customer.metadata is not None
    assert customer.metadata.to_dict() == METADATA


def test_checkout_names_the_deployment_in_the_subscription(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    session = open_session(stripe_client, deployment)
    complete_checkout(simulator, session)
    [subscription] = stripe_client.v1.subscriptions.list({"customer": str(session.customer)}).data
    assert subscription.metadata.to_dict() == METADATA


@pytest.mark.usefixtures("stripe_client")
def test_checkout_repeated_request_returns_the_same_session(deployment: FunctionHarness) -> None:
    first, second = (deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).body for _ in range(2))
    assert first == second


def test_checkout_for_another_plan_expires_the_previous_session(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    previous = open_session(stripe_client, deployment)
    deployment.authorized("POST", CHECKOUT, {"tier": "team", "quantity": 3})
    assert stripe_client.v1.checkout.sessions.retrieve(previous.id).status == "expired"
    assert open_session(stripe_client, deployment).status == "open"


def test_checkout_returns_502_if_the_previous_session_cannot_be_expired(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """Two open sessions would allow two payments."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    previous = open_session(stripe_client, deployment)
    inject_fault(simulator, "status:400", f"/v1/checkout/sessions/{previous.id}/expire")
    response = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    assert (response.status, response.body["error"]["code"]) == (502, "PAYMENT_ERROR")
    assert open_session(stripe_client, deployment).id == previous.id
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).body == {"checkout_url": previous.url}
    clear_faults(simulator)
    response = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    new = open_session(stripe_client, deployment)
    assert (response.status, response.body) == (200, {"checkout_url": new.url})
    assert stripe_client.v1.checkout.sessions.retrieve(previous.id).status == "expired"


def test_checkout_twenty_concurrent_first_requests_create_one_customer_and_one_session(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """Concurrent first requests derive the same idempotency keys from the same version of the account."""
    deployment.authorized("GET", "/v1/billing")
    before = {customer.id for customer in stripe_client.v1.customers.list({"limit": 100}).data}
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: deployment.authorized("POST", CHECKOUT, {"tier": "pro"}), range(20)))
    assert [response.status for response in responses] == [200] * 20
    assert len({response.body["checkout_url"] for response in responses}) == 1
    after = {customer.id for customer in stripe_client.v1.customers.list({"limit": 100}).data}
    assert len(after - before) == 1


def test_checkout_with_a_deleted_customer_creates_a_new_customer(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """The deployment has not received `customer.deleted`."""
    gone = stripe_client.v1.customers.create({"metadata": {"account_id": "acme"}}).id
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, customer_id=gone), new_customer_id=gone)
    stripe_client.v1.customers.delete(gone)
    response = deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    session = open_session(stripe_client, deployment)
    assert (response.status, response.body) == (200, {"checkout_url": session.url})
    assert session.customer == deployment.repository.load_account("acme").profile.customer_id != gone


def test_checkout_with_an_unknown_customer_creates_a_new_customer(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """This happens after "Delete all test data", or with the API key of another sandbox."""
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, customer_id="cus_forgotten"), new_customer_id="cus_forgotten")
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 200
    customer_id = deployment.repository.load_account("acme").profile.customer_id
    assert open_session(stripe_client, deployment).customer == customer_id != "cus_forgotten"


NO_STRIPE_IDS = [
    *("price_1\r\nX-Injected: 1", "price_1\n", "\x00", "\x7f", "price 1", "é", "x" * 256),
    *(".", "..", "...", "../customers", "price_1/../../customers", "price_1/subscriptions"),
    *("price_1?limit=1", "price_1#", "%2e%2e", "price_1%0d%0a", "price_1;", "price_1\\"),
    "search",
]


@pytest.mark.parametrize("price_id", NO_STRIPE_IDS, ids=ascii)
@pytest.mark.usefixtures("stripe_client")
def test_checkout_with_a_price_id_that_stripe_cannot_have_returns_400_without_a_call(
    deployment: FunctionHarness, simulator: Simulator, price_id: str
) -> None:
    """It would become part of a URL."""
    before = control(simulator, "GET", "calls")
    response = deployment.authorized("POST", "/api/billing/checkout", {"priceId": price_id})
    assert (response.status, response.body["error"]["code"]) == (400, "BAD_REQUEST")
    assert response.body["error"]["message"] == "priceId: is not a price of the catalog"
    assert control(simulator, "GET", "calls") == before


@pytest.mark.parametrize("price_id", ["price_unknown", "gold.v2", "pro-monthly", "x" * 255])
@pytest.mark.usefixtures("stripe_client")
def test_checkout_with_an_unknown_price_id_returns_400(deployment: FunctionHarness, price_id: str) -> None:
    response = deployment.authorized("POST", "/api/billing/checkout", {"priceId": price_id})
    assert (response.status, response.body["error"]["message"]) == (400, "priceId: is not a price of the catalog")


def test_checkout_returns_409_while_a_subscription_is_active(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    deployment.deliver(subscription_event(customer=stripe_client.v1.customers.create({}).id))
    response = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    message = "This account already has a subscription; change or cancel it in the billing portal"
    error = {"code": "SUBSCRIPTION_EXISTS", "message": message, "action": "open_portal"}
    assert (response.status, response.body) == (409, {"error": error})


def test_checkout_returns_409_after_payment_before_the_event_arrives(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The user has paid in one browser tab and starts checkout again in another."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    complete_checkout(simulator, open_session(stripe_client, deployment))
    for tier in ("pro", "team"):
        assert deployment.authorized("POST", CHECKOUT, {"tier": tier}).status == 409


def test_checkout_returns_409_after_payment_while_the_subscription_is_incomplete(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """An incomplete subscription grants nothing, but a second session would create a second subscription."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    session = open_session(stripe_client, deployment)
    complete_checkout(simulator, session)
    paid = stripe_client.v1.checkout.sessions.retrieve(session.id)
    begun = subscription(str(paid.subscription), customer=paid.customer, status="incomplete")
    deployment.deliver(event("customer.subscription.created", begun))
    for tier in ("pro", "team"):
        assert deployment.authorized("POST", CHECKOUT, {"tier": tier}).status == 409


def test_checkout_concurrent_different_requests_leave_one_session_open(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """Only the session that is stored for the account can be paid."""
    requests = [{"tier": "team", "quantity": quantity} for quantity in range(1, 7)]
    with ThreadPoolExecutor(len(requests)) as pool:
        responses = list(pool.map(lambda request: deployment.authorized("POST", CHECKOUT, request), requests))
    customer = deployment.repository.load_account("acme").profile.customer_id or ""
    listed = stripe_client.v1.checkout.sessions.list({"customer": customer, "limit": 100}).data
    assert {response.status for response in responses} <= {200, 503}
    assert [session.id for session in listed if session.status == "open"] == [
        open_session(stripe_client, deployment).id
    ]


def test_checkout_after_a_trial_creates_a_subscription_without_trial(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """An account gets one trial, however its first subscription ends."""
    deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    complete_checkout(simulator, open_session(stripe_client, deployment))
    [trialing] = stripe_client.v1.subscriptions.list(
        {"customer": deployment.repository.load_account("acme").profile.customer_id or ""}
    ).data
    assert trialing.status == "trialing"
    deliver_all(deployment, simulator)
    assert deployment.authorized("GET", "/v1/billing").body["status"] == "trialing"
    stripe_client.v1.subscriptions.cancel(trialing.id)
    deliver_all(deployment, simulator)
    deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    complete_checkout(simulator, open_session(stripe_client, deployment))
    [second] = stripe_client.v1.subscriptions.list(
        {"customer": deployment.repository.load_account("acme").profile.customer_id or "", "status": "active"}
    ).data
    assert second.trial_end is None


def test_checkout_after_customer_deleted_event_creates_a_new_customer(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    previous = deployment.repository.load_account("acme").profile.customer_id or ""
    stripe_client.v1.customers.delete(previous)
    deployment.deliver(event("customer.deleted", {"id": previous, "object": "customer"}))
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 200
    assert deployment.repository.load_account("acme").profile.customer_id not in {None, previous}


@pytest.mark.usefixtures("stripe_client")
def test_portal_after_the_subscription_ended_returns_url(deployment: FunctionHarness) -> None:
    """The portal still shows the invoices."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    customer = deployment.repository.load_account("acme").profile.customer_id
    deployment.deliver(event("customer.subscription.deleted", subscription(customer=customer, status="canceled")))
    response = deployment.authorized("POST", PORTAL, {"return_url": "/account"})
    assert response.status == 200
    assert list(response.body) == ["portal_url"]
    assert httpx.get(response.body["portal_url"], trust_env=False).status_code == 200


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize(
    ("kind", "status"),
    [("status:500", 503), ("status:429", 503), ("reset", 503), ("nonsense", 502)],
)
def test_checkout_while_stripe_fails_returns_retry_after(
    deployment: FunctionHarness, simulator: Simulator, kind: str, status: int
) -> None:
    """Nothing is left half-written: the next request succeeds."""
    inject_fault(simulator, kind)
    response = deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    assert (response.status, response.body["error"]["code"]) == (status, "PAYMENT_ERROR")
    assert int(response.headers["retry-after"]) > 0
    clear_faults(simulator)
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 200


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize("kind", ["status:500", "status:429", "reset", "nonsense"])
def test_webhook_while_stripe_fails_returns_5xx_and_processes_the_redelivery(
    deployment: FunctionHarness, simulator: Simulator, kind: str
) -> None:
    """A marker of the failed delivery would make the redelivery a duplicate."""
    deployment.deliver(subscription_event())
    ambiguous = subscription_event(cancel_at_period_end=True)
    inject_fault(simulator, kind)
    assert deployment.deliver(ambiguous).status in {502, 503}
    clear_faults(simulator)
    assert deployment.deliver(ambiguous).body["outcome"] == "missing"
