"""Errors of `billing setup`: keys, failures of Stripe, and the secret."""

from collections.abc import Callable

import pytest
import stripe

from billing.catalog import load_catalog
from stripe_simulator import SimulatorSettings, running_simulator
from tests.cli.setup_objects import PRO_PRICE, portal_of, price_of
from tests.cli.support import (
    STRIPE_KEY,
    DeployedStack,
    RunBilling,
    StripeAccount,
    endpoints_of,
    json_error,
    json_output,
    outcomes,
)

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("waits")]


@pytest.mark.parametrize(
    ("key", "code", "words"),
    [
        ("", "stripe_key_missing", "STRIPE_API_KEY"),
        ("pk_test_publishable", "stripe_key", "sk_test_"),
        ("whsec_secret", "stripe_key", "sk_test_"),
        ("sk_live_operator", "stripe_mode", "StripeMode=live"),
        ("rk_live_operator", "stripe_mode", "StripeMode=live"),
    ],
)
def test_setup_with_invalid_key_fails_without_showing_it(
    run_with_stripe: RunBilling, stack: DeployedStack, key: str, code: str, words: str
) -> None:
    error = json_error(run_with_stripe("setup", "--json", STRIPE_API_KEY=key))
    assert error["code"] == code
    assert words in error["message"]
    assert not key or key not in error["message"]
    assert stack.secret() == {}


def test_setup_of_live_stack_rejects_a_test_key(
    run_with_stripe: RunBilling, deploy: Callable[..., DeployedStack]
) -> None:
    """Otherwise test payments would give access to paid plans."""
    live = deploy(StripeMode="live")
    error = json_error(run_with_stripe("setup", "--json", "--stack", live.name))
    assert error["code"] == "stripe_mode"
    assert "use a live key" in error["message"]


def test_setup_with_unknown_key_stores_nothing(run_with_stripe: RunBilling, stack: DeployedStack) -> None:
    with running_simulator(settings=SimulatorSettings(api_key="sk_test_right")) as other:
        error = json_error(run_with_stripe("setup", "--json", STRIPE_API_BASE=other.url))
    assert error["code"] == "stripe_key"
    assert "STRIPE_API_KEY" in error["message"]
    assert stack.secret() == {}


def test_setup_with_expired_key_says_that_it_has_expired(
    run_with_stripe: RunBilling, stripe_account: StripeAccount, stack: DeployedStack
) -> None:
    stripe_account.fail("status:401", code="api_key_expired")
    error = json_error(run_with_stripe("setup", "--json"))
    assert error["code"] == "stripe_key_expired"
    assert "has expired" in error["message"]
    assert stack.secret() == {}


POSTS = {
    "create product": "/v1/products",
    "create price": "/v1/prices",
    "create portal configuration": "/v1/billing_portal/configurations",
    "create webhook endpoint": "/v1/webhook_endpoints",
    "update product": "/v1/products/",
    "update portal configuration": "/v1/billing_portal/configurations/",
    "update webhook endpoint": "/v1/webhook_endpoints/",
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("post", POSTS)
def test_setup_after_a_stored_failure_of_any_post_succeeds_at_the_next_run(
    run_with_stripe: RunBilling,
    stripe_account: StripeAccount,
    stripe_client: stripe.StripeClient,
    post: str,
    when: str,
) -> None:
    """Stripe replays the failure for a day, and each run sends other idempotency keys. No object exists twice."""
    if post.startswith("update"):
        json_output(run_with_stripe("setup", "--json"))
        change_by_hand(stripe_client)
    stripe_account.fail("status:500", "POST", POSTS[post], when=when, stored=True)
    assert json_error(run_with_stripe("setup", "--json"))["code"] == "stripe_failed"
    json_output(run_with_stripe("setup", "--json"))
    assert set(outcomes(json_output(run_with_stripe("setup", "--json"))).values()) == {"unchanged"}
    assert len(endpoints_of(stripe_client)) == 1
    assert len(list(stripe_account.state.all("product"))) == len(load_catalog().for_sale)
    assert portal_of(stripe_client).active


def change_by_hand(client: stripe.StripeClient) -> None:
    """Change the objects that setup updates, as in the Dashboard."""
    [endpoint] = endpoints_of(client)
    product = str(price_of(client, PRO_PRICE.lookup_key).product)
    client.v1.products.update(product, {"name": "Renamed"})
    client.v1.billing_portal.configurations.update(
        portal_of(client).id, {"features": {"invoice_history": {"enabled": False}}}
    )
    client.v1.webhook_endpoints.update(endpoint.id, {"enabled_events": ["invoice.paid"]})


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("status:403", "stripe_permission"),
        ("status:429", "stripe_throttled"),
        ("status:500", "stripe_failed"),
        ("nonsense", "stripe_failed"),
        ("reset", "stripe_unreachable"),
    ],
)
def test_setup_fails_with_one_line_if_stripe_fails(
    run_with_stripe: RunBilling, stripe_account: StripeAccount, stack: DeployedStack, kind: str, code: str
) -> None:
    stripe_account.fail(kind, count=10)
    assert json_error(run_with_stripe("setup", "--json"))["code"] == code
    assert stack.secret() == {}


def test_setup_with_unreachable_stripe_names_stripe_api_base(run_with_stripe: RunBilling) -> None:
    error = json_error(run_with_stripe("setup", "--json", STRIPE_API_BASE="http://127.0.0.1:9"))
    assert error["code"] == "stripe_unreachable"
    assert "STRIPE_API_BASE" in error["message"]


def test_setup_uses_the_stacks_stripe_api_base_by_default(
    run_billing: RunBilling, deploy: Callable[..., DeployedStack], stripe_account: StripeAccount
) -> None:
    stack = deploy(StripeApiBase=stripe_account.url)
    json_output(run_billing("setup", "--json", "--stack", stack.name, STRIPE_API_KEY=STRIPE_KEY))
    assert len(list(stripe_account.state.all("product"))) == len(load_catalog().for_sale)


def test_setup_keeps_a_secret_that_is_not_json(run_with_stripe: RunBilling, stack: DeployedStack) -> None:
    stack.write_secret("sk_test_by_hand")
    error = json_error(run_with_stripe("setup", "--json"))
    assert error["code"] == "secret_unreadable"
    assert "sk_test_by_hand" not in error["message"]
