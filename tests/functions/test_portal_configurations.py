"""POST portal: the configuration of the session follows from the account's subscription."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from billing.bootstrap import app
from stripe_simulator import Simulator
from tests.functions.events import event, subscription
from tests.functions.support import WEBHOOK_SECRET, FunctionHarness

pytestmark = pytest.mark.engine

NAMES = ("always_invoice", "create_prorations", "create_prorations_per_seat")


@pytest.fixture
def configurations(
    stripe_client: stripe.StripeClient,
    stripe_secret_id: Callable[[dict[str, Any]], str],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Ids of the portal configurations by name, stored as `billing setup` stores them."""
    features: Any = {"features": {"invoice_history": {"enabled": True}}}
    ids = {name: stripe_client.v1.billing_portal.configurations.create(features).id for name in NAMES}
    secret = {
        "api_key": "sk_test_functions",
        "webhook_secrets": [WEBHOOK_SECRET],
        "portal_configuration": ids["always_invoice"],
        "portal_configurations": ids,
    }
    monkeypatch.setenv("STRIPE_SECRET_ID", stripe_secret_id(secret))
    return ids


def deliver_subscription(deployment: FunctionHarness, customer: str, lookup_key: str, quantity: int) -> None:
    """Give acme a subscription."""
    source = subscription(lookup_key=lookup_key, customer=customer)
    source["items"]["data"][0]["quantity"] = quantity
    assert deployment.deliver(event("customer.subscription.updated", source)).body["outcome"] == "applied"


def configuration_of_session(deployment: FunctionHarness, simulator: Simulator) -> str:
    """Create a portal session and return its configuration."""
    url = deployment.authorized("POST", "/v1/billing/portal", {}).body["portal_url"]
    return str(simulator.server.state.objects[url.rsplit("/", 1)[1]]["configuration"])


@pytest.mark.parametrize(
    ("lookup_key", "quantity", "name"),
    [
        ("pro_monthly", 1, "always_invoice"),
        ("team_monthly", 1, "create_prorations"),
        ("team_monthly", 3, "create_prorations_per_seat"),
    ],
)
def test_portal_session_has_the_configuration_of_the_subscription(
    deployment: FunctionHarness,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
    configurations: dict[str, str],
    lookup_key: str,
    quantity: int,
    name: str,
) -> None:
    customer = stripe_client.v1.customers.create({}).id
    deliver_subscription(deployment, customer, lookup_key, quantity)
    assert configuration_of_session(deployment, simulator) == configurations[name]


def test_portal_session_has_the_default_configuration_until_setup_has_run(
    deployment: FunctionHarness,
    stripe_client: stripe.StripeClient,
    simulator: Simulator,
) -> None:
    """An earlier release stored one configuration."""
    customer = stripe_client.v1.customers.create({}).id
    deliver_subscription(deployment, customer, "team_monthly", 3)
    stored = app.stripe_secrets.get()
    assert stored.portal_configurations == ()
    assert configuration_of_session(deployment, simulator) == stored.portal_configuration
