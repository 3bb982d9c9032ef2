"""The Stripe that the functions talk to, looked at and steered from outside."""

import httpx
import stripe

from stripe_simulator import Simulator
from tests.functions.conftest import Deployment, control


def fault(simulator: Simulator, kind: str, prefix: str = "/v1", count: int = 20) -> None:
    """Make Stripe fail from now on."""
    control(simulator, "POST", "faults", {"match": {"path_prefix": prefix}, "count": count, "kind": kind})


def deliver_all(deployment: Deployment, simulator: Simulator) -> None:
    """Deliver what happened in that Stripe, oldest first, in Stripe's own words."""
    listed = httpx.get(
        f"{simulator.url}/v1/events", params={"limit": 20}, auth=("sk_test_x", ""), trust_env=False
    ).json()
    for each in reversed(listed["data"]):
        deployment.deliver(each)


def session_of(client: stripe.StripeClient, deployment: Deployment) -> stripe.checkout.Session:
    """The session that the account remembers."""
    checkout = deployment.repository.load_account("acme").profile.open_checkout
    assert checkout
    return client.v1.checkout.sessions.retrieve(checkout.session_id, {"expand": ["line_items"]})
