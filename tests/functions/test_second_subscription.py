"""A second subscription: checkout refuses it and says what to do, and an open Checkout Session is expired."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from cli.customer_linking import UNLINKED, audit_entry
from stripe_simulator import Simulator
from tests.api.contracts.test_bad_requests import ISSUER, SHARED_SECRET, token
from tests.functions.events import event, invoice, subscription, subscription_event
from tests.functions.stripe_support import (
    all_events,
    clear_faults,
    complete_checkout,
    create_subscription,
    deliver_all,
    inject_fault,
    open_session,
)
from tests.functions.support import FunctionHarness, Response

pytestmark = pytest.mark.engine

CHECKOUT = "/v1/billing/checkout"
INVOICE_URL = "https://invoice.stripe.test/i/acct_1/test_open"
STATUSES = ("unpaid", "paused", "incomplete", "past_due")
IN_USE = "This account already has a subscription; change or cancel it in the billing portal"


@pytest.fixture(autouse=True)
def _without_grace_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `past_due` subscription grants nothing, so that no status of these tests does."""
    monkeypatch.setenv("PAST_DUE_GRACE_DAYS", "0")


def deliver_status(deployment: FunctionHarness, client: stripe.StripeClient, status: str) -> str:
    """Deliver an event that shows acme's subscription in a status since a minute. Returns its customer."""
    customer_id = client.v1.customers.create({}).id
    created = datetime.now(UTC) - timedelta(seconds=60)
    assert deployment.deliver(subscription_event(status=status, created=created, customer=customer_id)).status == 200
    return customer_id


def deliver_open_invoice(deployment: FunctionHarness, customer_id: str, **changes: Any) -> None:
    opened: dict[str, Any] = {"status": "open", "hosted_invoice_url": INVOICE_URL, "amount_remaining": 1900}
    source = invoice(customer=customer_id, **opened, **changes)
    assert deployment.deliver(event("invoice.finalized", source)).body["outcome"] == "applied"


def check_out(deployment: FunctionHarness, **changes: Any) -> Response:
    return deployment.authorized("POST", CHECKOUT, {"tier": "team", **changes})


# --- Refusal ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_checkout_returns_409_with_the_open_invoice_of_a_live_subscription(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, status: str
) -> None:
    customer_id = deliver_status(deployment, stripe_client, status)
    deliver_open_invoice(deployment, customer_id)
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "free"
    message = f"This account has a subscription that is {status}; pay its open invoice: {INVOICE_URL}"
    native = check_out(deployment)
    assert (native.status, native.body) == (
        409,
        {
            "error": {
                "code": "SUBSCRIPTION_EXISTS",
                "message": message,
                "action": "pay_invoice",
                "action_url": INVOICE_URL,
            }
        },
    )
    organization = deployment.authorized("POST", "/api/billing/checkout", {"priceId": "team_monthly"})
    assert (organization.status, organization.body["error"]) == (
        409,
        {"code": "SUBSCRIPTION_EXISTS", "message": message},
    )


@pytest.mark.parametrize("status", STATUSES)
def test_checkout_without_an_open_invoice_returns_409_with_the_portal(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, status: str
) -> None:
    customer_id = deliver_status(deployment, stripe_client, status)
    parent = {"subscription_details": {"subscription": "sub_other", "metadata": {}}}
    deliver_open_invoice(deployment, customer_id, parent=parent)
    paid = invoice("in_2", customer=customer_id, status="paid", hosted_invoice_url=INVOICE_URL)
    deployment.deliver(event("invoice.paid", paid))
    response = check_out(deployment)
    assert (response.status, response.body["error"]["action"]) == (409, "open_portal")
    action = (
        "add a payment method in the billing portal and ask support to resume it, or cancel it there"
        if status == "paused"
        else "update its payment method or cancel it in the billing portal"
    )
    assert response.body["error"]["message"] == f"This account has a subscription that is {status}; {action}"
    assert "action_url" not in response.body["error"]


def test_checkout_while_active_names_the_portal_although_an_invoice_is_open(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    """An invoice that is sent stays open until it is due."""
    customer_id = deliver_status(deployment, stripe_client, "active")
    deliver_open_invoice(deployment, customer_id)
    error = check_out(deployment).body["error"]
    assert error == {"code": "SUBSCRIPTION_EXISTS", "message": IN_USE, "action": "open_portal"}


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_checkout_after_the_end_returns_200(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, status: str
) -> None:
    customer_id = deliver_status(deployment, stripe_client, status)
    deliver_open_invoice(deployment, customer_id)
    assert check_out(deployment).status == 200


def test_checkout_without_a_billing_role_does_not_return_the_invoice(
    deployment: FunctionHarness,
    stripe_client: stripe.StripeClient,
    monkeypatch: pytest.MonkeyPatch,
    stripe_secret_id: Any,
) -> None:
    for name, value in {
        "SESSION_ISSUER": ISSUER,
        "SESSION_ROLE_CLAIM": "role",
        "PAYING_ROLES": "owner",
        "SESSION_SECRET_ID": stripe_secret_id({"shared_secrets": [SHARED_SECRET]}),
    }.items():
        monkeypatch.setenv(name, value)
    customer_id = deliver_status(deployment, stripe_client, "unpaid")
    deliver_open_invoice(deployment, customer_id)
    for role, status in (("viewer", 403), ("owner", 409)):
        headers = {"Authorization": f"Bearer {token({'role': role})}"}
        response = deployment.authorized("POST", CHECKOUT, {"tier": "team"}, more_headers=headers)
        assert response.status == status
        assert (INVOICE_URL in str(response.body)) is (role == "owner")


FOREIGN: dict[str, dict[str, Any]] = {
    "price of another product": {"lookup_key": "another_product"},
    "free price": {"lookup_key": None, "price_metadata": {"plan": "free"}},
}


@pytest.mark.usefixtures("stripe_client")
@pytest.mark.parametrize("name", FOREIGN)
def test_subscription_that_is_not_ours_is_neither_shown_nor_in_the_way(deployment: FunctionHarness, name: str) -> None:
    source = foreign_subscription(**FOREIGN[name])
    assert deployment.deliver(event("customer.subscription.created", source)).body["outcome"] == "applied"
    status = deployment.authorized("GET", "/v1/billing").body
    assert status == {"plan": "free", "status": None, "current_period_end": None, "cancel_at_period_end": None}
    assert deployment.authorized("GET", "/subscription").status == 404
    account = deployment.repository.load_account("acme")
    assert (len(account.subscriptions), account.profile.live_subscription_ids) == (1, ())
    assert account.profile.trial_used is False
    assert check_out(deployment).status == 200


def foreign_subscription(*, lookup_key: str | None, price_metadata: dict[str, str] | None = None) -> dict[str, Any]:
    source = subscription("sub_foreign", lookup_key=lookup_key, trial_end=1_893_456_000)
    source["items"]["data"][0]["price"]["metadata"] = price_metadata or {}
    return source


# --- Open Checkout Session --------------------------------------------------------------------------------------------


def subscribe_by_api(deployment: FunctionHarness, client: stripe.StripeClient) -> stripe.Subscription:
    """Create a subscription for acme's customer, as an operator does in Stripe's Dashboard."""
    customer = deployment.repository.load_account("acme").profile.customer_id
    return create_subscription(client, customer_id=customer)


def created_event(source: stripe.Subscription) -> dict[str, Any]:
    return event("customer.subscription.created", json.loads(json.dumps(source.to_dict(), default=str)))


def ids(session: stripe.checkout.Session) -> dict[str, Any]:
    return {"id": session.id, "customer": session.customer}


def open_checkout_id(deployment: FunctionHarness) -> str | None:
    checkout = deployment.repository.load_account("acme").profile.open_checkout
    return checkout.session_id if checkout else None


def test_open_checkout_is_expired_when_a_subscription_arrives_by_another_way(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    arrived = created_event(subscribe_by_api(deployment, stripe_client))
    assert deployment.deliver(arrived).body["outcome"] == "applied"
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert open_checkout_id(deployment) is None
    assert check_out(deployment).status == 409


def test_open_checkout_is_expired_by_the_redelivery_if_stripe_fails(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The plan is granted at once. The delivery fails, so that Stripe repeats it."""
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    arrived = created_event(subscribe_by_api(deployment, stripe_client))
    inject_fault(simulator, "status:500", "/v1/checkout/sessions")
    assert deployment.deliver(arrived).status == 503
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "pro"
    assert open_checkout_id(deployment) == session.id
    clear_faults(simulator)
    assert deployment.deliver(arrived).body["outcome"] == "duplicate"
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert open_checkout_id(deployment) is None


def test_open_checkout_that_stripe_refuses_to_expire_is_expired_by_the_redelivery(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    arrived = created_event(subscribe_by_api(deployment, stripe_client))
    inject_fault(simulator, "status:400", f"/v1/checkout/sessions/{session.id}/expire")
    assert [deployment.deliver(arrived).status for _ in range(2)] == [502, 502]
    assert open_checkout_id(deployment) == session.id
    clear_faults(simulator)
    assert deployment.deliver(arrived).body["outcome"] == "duplicate"
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert open_checkout_id(deployment) is None


def test_open_checkout_of_a_foreign_subscription_stays_open(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient
) -> None:
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    source = foreign_subscription(lookup_key="another_product") | {"customer": session.customer}
    deployment.deliver(event("customer.subscription.created", source))
    assert stripe_client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert open_checkout_id(deployment) == session.id


def test_own_checkout_stays_complete_if_the_subscription_arrives_first(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    complete_checkout(simulator, session)
    paid = stripe_client.v1.checkout.sessions.retrieve(session.id)
    bought = stripe_client.v1.subscriptions.retrieve(str(paid.subscription))
    assert deployment.deliver(created_event(bought)).body["outcome"] == "applied"
    assert open_checkout_id(deployment) is None
    deliver_all(deployment, simulator)
    profile = deployment.repository.load_account("acme").profile
    assert (profile.open_checkout, profile.live_subscription_ids) == (None, (bought.id,))


def test_completed_checkout_stays_stored_until_its_own_subscription_arrives(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The customer pays on the page while another subscription arrives: both are live and alarmed."""
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    other = created_event(subscribe_by_api(deployment, stripe_client))
    complete_checkout(simulator, session)
    deployment.deliver(other)
    assert open_checkout_id(deployment) == session.id
    deliver_all(deployment, simulator)
    profile = deployment.repository.load_account("acme").profile
    assert (profile.open_checkout, len(profile.live_subscription_ids)) == (None, 2)


def test_checkout_after_a_completed_one_stores_the_subscription_whose_events_were_lost(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """Without it, checkout would point to a portal that does not open."""
    check_out(deployment)
    known = {each["id"] for each in all_events(simulator)}
    complete_checkout(simulator, open_session(stripe_client, deployment))
    response = check_out(deployment)
    assert (response.status, response.body["error"]["action"]) == (409, "open_portal")
    assert deployment.authorized("GET", "/v1/billing").body["plan"] == "team"
    assert open_checkout_id(deployment) is None
    assert deployment.authorized("POST", "/v1/billing/portal").status == 200
    for each in all_events(simulator, known):
        assert deployment.deliver(each).status == 200
    assert len(deployment.repository.load_account("acme").profile.live_subscription_ids) == 1


def test_checkout_after_a_completed_one_succeeds_if_the_subscription_has_ended_without_events(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    complete_checkout(simulator, session)
    paid = stripe_client.v1.checkout.sessions.retrieve(session.id)
    stripe_client.v1.subscriptions.cancel(str(paid.subscription))
    assert check_out(deployment).status == 200
    assert open_checkout_id(deployment) != session.id


def test_checkout_ignores_a_completed_session_of_a_customer_that_was_unlinked(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The session was stored by a version that did not expire it. Nobody would process its subscription."""
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    customer, repository = str(session.customer), deployment.repository
    checkout = repository.load_account("acme").profile.open_checkout
    entry = audit_entry("acme", customer, UNLINKED, "unlinked")
    unlinked = repository.load_account("acme").profile.without_customer(customer)
    repository.unlink_customer(replace(unlinked, open_checkout=checkout), customer, entry)
    known = {each["id"] for each in all_events(simulator)}
    complete_checkout(simulator, session)
    assert {deployment.deliver(each).body["outcome"] for each in all_events(simulator, known)} >= {"unknown_customer"}
    assert open_checkout_id(deployment) == session.id
    assert check_out(deployment).status == 200
    assert open_session(stripe_client, deployment).customer != customer
    assert deployment.repository.load_account("acme").subscriptions == ()


def test_checkout_returns_409_while_the_subscription_of_a_completed_one_cannot_be_read(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The customer has paid, so a second subscription is not sold."""
    check_out(deployment)
    session = open_session(stripe_client, deployment)
    complete_checkout(simulator, session)
    paid = stripe_client.v1.checkout.sessions.retrieve(session.id)
    inject_fault(simulator, "status:404", f"/v1/subscriptions/{paid.subscription}")
    assert check_out(deployment).status == 409
    assert open_checkout_id(deployment) == session.id
    clear_faults(simulator)
    assert (check_out(deployment).status, open_checkout_id(deployment)) == (409, None)


def test_checkout_that_races_an_arriving_subscription_leaves_no_open_session(
    deployment: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """The event is committed while Stripe creates the session. Its commit changes the profile's version."""
    check_out(deployment)
    arrived = created_event(subscribe_by_api(deployment, stripe_client))
    expired = stripe_client.v1.checkout.sessions.expire(open_session(stripe_client, deployment).id)
    deployment.deliver(event("checkout.session.expired", {"mode": "subscription", **ids(expired)}))
    assert open_checkout_id(deployment) is None
    inject_fault(simulator, "slow:2", "/v1/checkout/sessions", count=1)
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(check_out, deployment)
        time.sleep(1)
        assert deployment.deliver(arrived).body["outcome"] == "applied"
        assert response.result().status == 409
    clear_faults(simulator)
    customer = deployment.repository.load_account("acme").profile.customer_id or ""
    listed = stripe_client.v1.checkout.sessions.list({"customer": customer}).data
    assert {each.status for each in listed} == {"expired"}


# --- Two live subscriptions -------------------------------------------------------------------------------------------


def test_two_live_subscriptions_of_ours_are_alarmed_until_one_ends(deployment: FunctionHarness, printed: Any) -> None:
    deployment.deliver(subscription_event("sub_1"))
    deployment.deliver(event("customer.subscription.created", foreign_subscription(lookup_key="another_product")))
    assert "MultipleSubscriptions" not in printed()
    second = subscription_event("sub_2", status="unpaid")
    deployment.deliver(second)
    assert '"MultipleSubscriptions":[1.0]' in printed().replace(" ", "")
    assert deployment.repository.load_account("acme").profile.live_subscription_ids == ("sub_1", "sub_2")
    deployment.deliver(second)
    assert '"MultipleSubscriptions":[1.0]' in printed().replace(" ", "")
    deployment.deliver(event("customer.subscription.deleted", subscription("sub_2", status="canceled")))
    deployment.deliver(subscription_event("sub_1", created=datetime.now(UTC) + timedelta(seconds=30)))
    assert '"MultipleSubscriptions":[1.0]' not in printed().split("Event processed")[-1].replace(" ", "")
    assert deployment.repository.load_account("acme").profile.live_subscription_ids == ("sub_1",)
