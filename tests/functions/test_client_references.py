"""Customers of pricing tables and payment links, linked by the session's `client_reference_id`."""

from typing import Any

import pytest
import stripe

from billing.bootstrap import app
from billing.domain.accounts import Profile
from stripe_simulator import Simulator
from tests.functions.events import event, thin_event
from tests.functions.stripe_support import complete_checkout, create_subscription
from tests.functions.support import FunctionHarness

pytestmark = pytest.mark.engine


@pytest.fixture
def paid(stripe_client: stripe.StripeClient) -> stripe.Subscription:
    """A subscription that a payment link created. Neither it nor its customer has metadata."""
    return create_subscription(stripe_client, None)


@pytest.fixture
def linking(deployment: FunctionHarness, monkeypatch: pytest.MonkeyPatch) -> FunctionHarness:
    """The deployment with LinkByClientReference."""
    monkeypatch.setenv("LINK_BY_CLIENT_REFERENCE", "true")
    app.reset()
    return deployment


def session(paid: stripe.Subscription, **changes: Any) -> dict[str, Any]:
    """Return the Checkout Session of a payment link."""
    return {
        "id": "cs_link",
        "object": "checkout.session",
        "mode": "subscription",
        "status": "complete",
        "payment_status": "paid",
        "payment_link": "plink_1",
        "customer": paid.customer,
        "subscription": paid.id,
        "client_reference_id": "acme",
        "metadata": {},
    } | changes


def deliver(deployment: FunctionHarness, source: dict[str, Any], event_type: str = "checkout.session.completed") -> str:
    """Deliver an event of a session. Returns its outcome."""
    return str(deployment.deliver(event(event_type, source)).body["outcome"])


def test_client_reference_links_nothing_by_default(deployment: FunctionHarness, paid: stripe.Subscription) -> None:
    assert deliver(deployment, session(paid)) == "unknown_customer"
    assert deployment.repository.load_account("acme").profile.customer_id is None


@pytest.mark.parametrize(
    ("event_type", "payment_status"),
    [
        ("checkout.session.completed", "paid"),
        ("checkout.session.completed", "no_payment_required"),
        ("checkout.session.async_payment_succeeded", "paid"),
    ],
)
def test_client_reference_links_the_customer_of_a_paid_session(
    linking: FunctionHarness, paid: stripe.Subscription, event_type: str, payment_status: str
) -> None:
    source = session(paid, payment_status=payment_status)
    assert deliver(linking, source, event_type) == "applied"
    assert linking.repository.load_account("acme").profile.customer_id == paid.customer
    assert linking.authorized("GET", "/v1/billing").body["plan"] == "pro"


@pytest.mark.parametrize(
    ("event_type", "changes"),
    [
        ("checkout.session.completed", {"payment_status": "unpaid"}),
        ("checkout.session.expired", {}),
        ("checkout.session.async_payment_failed", {}),
        ("checkout.session.completed", {"client_reference_id": "nobody"}),
        ("checkout.session.completed", {"client_reference_id": "no # account"}),
        ("checkout.session.completed", {"client_reference_id": None}),
        ("checkout.session.completed", {"client_reference_id": 5}),
    ],
)
def test_client_reference_of_other_sessions_links_nothing(
    linking: FunctionHarness, paid: stripe.Subscription, event_type: str, changes: dict[str, Any]
) -> None:
    assert deliver(linking, session(paid, **changes), event_type) == "unknown_customer"
    assert linking.repository.load_account("acme").profile.customer_id is None


def test_metadata_has_precedence_over_the_client_reference(linking: FunctionHarness, paid: stripe.Subscription) -> None:
    linking.repository.create_account(Profile("globex"))
    assert deliver(linking, session(paid, metadata={"account_id": "globex"})) == "applied"
    assert linking.repository.load_account("globex").profile.customer_id == paid.customer
    assert linking.repository.load_account("acme").profile.customer_id is None


def test_client_reference_does_not_replace_the_accounts_customer(
    linking: FunctionHarness, paid: stripe.Subscription
) -> None:
    profile = linking.repository.load_account("acme").profile
    linking.repository.save_profile(
        Profile("acme", version=profile.version, nonce=profile.nonce, customer_id="cus_acme"),
        new_customer_id="cus_acme",
    )
    assert deliver(linking, session(paid)) == "customer_conflict"
    assert linking.repository.load_account("acme").profile.customer_id == "cus_acme"


def test_client_reference_of_another_deployments_payment_link_is_ignored(
    linking: FunctionHarness, paid: stripe.Subscription
) -> None:
    source = session(paid, metadata={"billing_deployment": "billing-staging"})
    assert deliver(linking, source) == "ignored"


def test_client_reference_of_a_thin_event_links_the_customer(
    linking: FunctionHarness, stripe_client: stripe.StripeClient, simulator: Simulator
) -> None:
    """A thin event has the same type with a prefix. Its session is looked up."""
    customer = stripe_client.v1.customers.create({}).id
    [price] = stripe_client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    created = stripe_client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer,
            "client_reference_id": "acme",
            "line_items": [{"price": price.id, "quantity": 1}],
            "success_url": "https://app.example.com/",
        }
    )
    complete_checkout(simulator, created)
    sent = thin_event("v1.checkout.session.completed", "checkout.session", created.id)
    assert linking.deliver(sent).body["outcome"] == "applied"
    assert linking.repository.load_account("acme").profile.customer_id == customer
