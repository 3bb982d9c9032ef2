"""POST checkout and portal against a Stripe over HTTP: one customer, one page, and what happens when Stripe fails."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
import stripe

from stripe_simulator import Simulator
from tests.functions.conftest import Deployment, control
from tests.functions.events import event, subscription, subscription_event
from tests.functions.stripe_side import deliver_all, fault, session_of

pytestmark = pytest.mark.engine

CHECKOUT, PORTAL = "/v1/billing/checkout", "/v1/billing/portal"


def test_a_tier_becomes_a_page_to_pay_on(deployment: Deployment, stripe_client: stripe.StripeClient) -> None:
    """Everything that the later events need is on the session."""
    answer = deployment.authorized("POST", CHECKOUT, {"tier": "pro", "success_url": "/done"})
    session = session_of(stripe_client, deployment)
    assert (answer.status, answer.body) == (200, {"checkout_url": session.url})
    assert session.customer == deployment.repository.load_account("acme").profile.customer_id
    assert session.client_reference_id == "acme"
    assert session.metadata is not None
    assert session.metadata.to_dict() == {"account_id": "acme"}
    assert session.success_url == "http://localhost:3000/done"
    assert session.cancel_url == "http://localhost:3000/?checkout=cancelled"
    assert session.allow_promotion_codes is True
    customer = stripe_client.v1.customers.retrieve(str(session.customer))
    assert customer.email == "billing@acme.test"


@pytest.mark.usefixtures("stripe_client")
def test_the_same_order_gets_the_same_page(deployment: Deployment) -> None:
    """Nobody can pay twice by asking twice."""
    first, second = (deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).body for _ in range(2))
    assert first == second


def test_another_order_closes_the_former_page(deployment: Deployment, stripe_client: stripe.StripeClient) -> None:
    """Of two pages only one can be paid."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    former = session_of(stripe_client, deployment)
    deployment.authorized("POST", CHECKOUT, {"tier": "team", "quantity": 3})
    assert stripe_client.v1.checkout.sessions.retrieve(former.id).status == "expired"
    assert session_of(stripe_client, deployment).status == "open"


def test_a_former_page_that_stays_open_is_nobody_elses(
    deployment: Deployment, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """Stripe refuses to close it: who ordered another plan must not pay for that one, nor get a second page."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    former = session_of(stripe_client, deployment)
    fault(simulator, "status:400", f"/v1/checkout/sessions/{former.id}/expire")
    answer = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    assert (answer.status, answer.body["error"]["code"]) == (502, "PAYMENT_ERROR")
    assert session_of(stripe_client, deployment).id == former.id
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).body == {"checkout_url": former.url}
    control(simulator, "DELETE", "faults")
    answer = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    latter = session_of(stripe_client, deployment)
    assert (answer.status, answer.body) == (200, {"checkout_url": latter.url})
    assert stripe_client.v1.checkout.sessions.retrieve(former.id).status == "expired"


def test_twenty_first_requests_make_one_customer_and_one_page(
    deployment: Deployment, stripe_client: stripe.StripeClient
) -> None:
    """Simultaneous first requests derive the same idempotency keys from the same version of the account."""
    deployment.authorized("GET", "/v1/billing")
    before = {each.id for each in stripe_client.v1.customers.list({"limit": 100}).data}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: deployment.authorized("POST", CHECKOUT, {"tier": "pro"}), range(20)))
    assert [answer.status for answer in answers] == [200] * 20
    assert len({answer.body["checkout_url"] for answer in answers}) == 1
    after = {each.id for each in stripe_client.v1.customers.list({"limit": 100}).data}
    assert len(after - before) == 1


def test_a_customer_that_stripe_deleted_is_replaced(deployment: Deployment, stripe_client: stripe.StripeClient) -> None:
    """Nobody told the account that its customer is gone: it gets another one, and the page to pay on."""
    gone = stripe_client.v1.customers.create({"metadata": {"account_id": "acme"}}).id
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, customer_id=gone), new_customer_id=gone)
    stripe_client.v1.customers.delete(gone)
    answer = deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    session = session_of(stripe_client, deployment)
    assert (answer.status, answer.body) == (200, {"checkout_url": session.url})
    assert session.customer == deployment.repository.load_account("acme").profile.customer_id != gone


def test_a_customer_that_stripe_does_not_have_is_replaced(
    deployment: Deployment, stripe_client: stripe.StripeClient
) -> None:
    """As after "Delete all test data", or with the key of another sandbox."""
    profile = deployment.repository.load_account("acme").profile
    deployment.repository.save_profile(replace(profile, customer_id="cus_forgotten"), new_customer_id="cus_forgotten")
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 200
    customer_id = deployment.repository.load_account("acme").profile.customer_id
    assert session_of(stripe_client, deployment).customer == customer_id != "cus_forgotten"


@pytest.mark.usefixtures("stripe_client")
def test_checkout_while_a_subscription_grants_points_to_the_portal(deployment: Deployment) -> None:
    """409, and Stripe is not asked."""
    deployment.deliver(subscription_event())
    answer = deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    message = "This account already has a subscription; change or cancel it in the billing portal"
    assert (answer.status, answer.body) == (409, {"error": {"code": "SUBSCRIPTION_EXISTS", "message": message}})


def test_a_page_just_paid_refuses_another_before_its_event_arrives(
    deployment: Deployment, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The second tab of a user who has paid in the first."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    control(simulator, "POST", f"checkout/{session_of(stripe_client, deployment).id}", {"outcome": "pay"})
    for tier in ("pro", "team"):
        assert deployment.authorized("POST", CHECKOUT, {"tier": tier}).status == 409


def test_a_page_just_paid_refuses_another_while_its_subscription_is_incomplete(
    deployment: Deployment, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The first of its events grants nothing yet; a second page would be a second subscription."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    session = session_of(stripe_client, deployment)
    control(simulator, "POST", f"checkout/{session.id}", {"outcome": "pay"})
    paid = stripe_client.v1.checkout.sessions.retrieve(session.id)
    begun = subscription(str(paid.subscription), customer=paid.customer, status="incomplete")
    deployment.deliver(event("customer.subscription.created", begun))
    for tier in ("pro", "team"):
        assert deployment.authorized("POST", CHECKOUT, {"tier": tier}).status == 409


def test_simultaneous_different_orders_leave_one_page_open(
    deployment: Deployment, stripe_client: stripe.StripeClient
) -> None:
    """Of all pages that were made, only one can be paid: the account's."""
    orders = [{"tier": "team", "quantity": quantity} for quantity in range(1, 7)]
    with ThreadPoolExecutor(len(orders)) as pool:
        answers = list(pool.map(lambda order: deployment.authorized("POST", CHECKOUT, order), orders))
    customer = deployment.repository.load_account("acme").profile.customer_id or ""
    listed = stripe_client.v1.checkout.sessions.list({"customer": customer, "limit": 100}).data
    assert {answer.status for answer in answers} <= {200, 503}
    assert [each.id for each in listed if each.status == "open"] == [session_of(stripe_client, deployment).id]


def test_a_trial_is_given_once(
    deployment: Deployment, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """A plan with a trial starts with it; after that, and whatever became of it, the next one is paid at once."""
    deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    control(simulator, "POST", f"checkout/{session_of(stripe_client, deployment).id}", {"outcome": "pay"})
    [trialing] = stripe_client.v1.subscriptions.list(
        {"customer": deployment.repository.load_account("acme").profile.customer_id or ""}
    ).data
    assert trialing.status == "trialing"
    deliver_all(deployment, simulator)
    assert deployment.authorized("GET", "/v1/billing").body["status"] == "trialing"
    stripe_client.v1.subscriptions.cancel(trialing.id)
    deliver_all(deployment, simulator)
    deployment.authorized("POST", CHECKOUT, {"tier": "team"})
    control(simulator, "POST", f"checkout/{session_of(stripe_client, deployment).id}", {"outcome": "pay"})
    [second] = stripe_client.v1.subscriptions.list(
        {"customer": deployment.repository.load_account("acme").profile.customer_id or "", "status": "active"}
    ).data
    assert second.trial_end is None


def test_after_its_customer_is_deleted_an_account_gets_another(
    deployment: Deployment, stripe_client: stripe.StripeClient
) -> None:
    """The next checkout makes a new customer."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    former = deployment.repository.load_account("acme").profile.customer_id or ""
    stripe_client.v1.customers.delete(former)
    deployment.deliver(event("customer.deleted", {"id": former, "object": "customer"}))
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 200
    assert deployment.repository.load_account("acme").profile.customer_id not in {None, former}


@pytest.mark.usefixtures("stripe_client")
def test_the_portal_opens_for_an_account_with_history(deployment: Deployment) -> None:
    """Also after the subscription has ended: for its invoices."""
    deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    customer = deployment.repository.load_account("acme").profile.customer_id
    deployment.deliver(event("customer.subscription.deleted", subscription(customer=customer, status="canceled")))
    answer = deployment.authorized("POST", PORTAL, {"return_url": "/account"})
    assert answer.status == 200
    assert list(answer.body) == ["portal_url"]
    assert httpx.get(answer.body["portal_url"], trust_env=False).status_code == 200


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize(
    ("kind", "status"),
    [("status:500", 503), ("status:429", 503), ("reset", 503), ("nonsense", 502)],
)
def test_a_failing_stripe_is_told_with_retry_after(
    deployment: Deployment, simulator: Simulator, kind: str, status: int
) -> None:
    """In the envelope, and nothing half-written: the next try works."""
    fault(simulator, kind)
    answer = deployment.authorized("POST", CHECKOUT, {"tier": "pro"})
    assert (answer.status, answer.body["error"]["code"]) == (status, "PAYMENT_ERROR")
    assert int(answer.headers["retry-after"]) > 0
    control(simulator, "DELETE", "faults")
    assert deployment.authorized("POST", CHECKOUT, {"tier": "pro"}).status == 200


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize("kind", ["status:500", "status:429", "reset", "nonsense"])
def test_an_event_that_needs_a_failing_stripe_is_no_acknowledgement(
    deployment: Deployment, simulator: Simulator, kind: str
) -> None:
    """5xx and no marker; delivered again later, it has its effect."""
    deployment.deliver(subscription_event())
    ambiguous = subscription_event(cancel_at_period_end=True)
    fault(simulator, kind)
    assert deployment.deliver(ambiguous).status in {502, 503}
    control(simulator, "DELETE", "faults")
    assert deployment.deliver(ambiguous).body["outcome"] == "missing"
