"""Tests of `billing setup`: products, prices, portal and keys."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import stripe

from billing.adapters.secrets import read_stripe_secrets
from billing.catalog import load_catalog
from billing.stripe_events.event_types import EVENT_PARSERS
from tests.cli.setup_objects import PRO, PRO_PRICE, portal_of, portals_of, price_of
from tests.cli.support import (
    STRIPE_KEY,
    WEBHOOK_URL,
    DeployedStack,
    RunBilling,
    StripeAccount,
    endpoints_of,
    json_error,
    json_output,
    outcomes,
)

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("waits")]


def offers_of(configuration: stripe.billing_portal.Configuration) -> dict[str, bool]:
    """Return the offered prices, each with True if its quantity is adjustable."""
    return {
        price: product.adjustable_quantity.enabled
        for product in configuration.features.subscription_update.products or ()
        for price in product.prices
    }


# --- Created objects --------------------------------------------------------------------------------------------------


def test_setup_creates_products_and_prices_of_the_catalog(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    json_output(run_with_stripe("setup", "--json"))
    for plan in load_catalog().for_sale:
        for price in plan.prices:
            found = price_of(stripe_client, price.lookup_key)
            assert (found.unit_amount, found.currency) == (price.unit_amount, price.currency)
            assert found.recurring is not None
            assert (found.recurring.interval, found.recurring.interval_count) == (price.interval, 1)
            assert stripe_client.v1.products.retrieve(str(found.product)).name == plan.name


def test_setup_creates_portal_with_all_prices_and_features(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    json_output(run_with_stripe("setup", "--json"))
    features = portal_of(stripe_client).features
    assert features.subscription_cancel.mode == "at_period_end"
    assert features.subscription_cancel.enabled
    assert features.invoice_history.enabled
    assert features.payment_method_update.enabled
    assert features.subscription_update.enabled
    sold = [price for plan in load_catalog().for_sale for price in plan.prices]
    assert offers_of(portal_of(stripe_client)) == {
        price_of(stripe_client, price.lookup_key).id: price.per_seat for price in sold
    }


def test_setup_creates_portal_configurations_that_differ_in_proration_and_offers(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    json_output(run_with_stripe("setup", "--json"))
    portals = portals_of(stripe_client)
    proration = {name: each.features.subscription_update.proration_behavior for name, each in portals.items()}
    assert proration == {
        "always_invoice": "always_invoice",
        "create_prorations": "create_prorations",
        "create_prorations_per_seat": "create_prorations",
    }
    assert offers_of(portals["create_prorations"]) == offers_of(portals["always_invoice"])
    team = price_of(stripe_client, "team_monthly").id
    assert offers_of(portals["create_prorations_per_seat"]) == {team: True}


def test_setup_portal_keeps_trials_and_schedules_downgrades(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    json_output(run_with_stripe("setup", "--json"))
    for configuration in portals_of(stripe_client).values():
        update = configuration.features.subscription_update
        assert update.trial_update_behavior == "continue_trial"
        assert {each.type for each in update.schedule_at_period_end.conditions} == {
            "decreasing_item_amount",
            "shortening_interval",
        }


def test_setup_stores_secrets_that_the_functions_can_read(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_account: StripeAccount
) -> None:
    changes = json_output(run_with_stripe("setup", "--json"))
    portals = {each["name"]: each["id"] for each in changes["changes"] if each["kind"] == "portal configuration"}
    ids = {each["kind"]: each["id"] for each in changes["changes"]}
    stored = read_stripe_secrets(stack.secret())
    assert stored.api_key == STRIPE_KEY
    assert stored.webhook_secrets == (stripe_account.signing_secret(ids["webhook endpoint"]),)
    assert stored.portal_configuration == portals["always_invoice"]
    assert dict(stored.portal_configurations) == portals


@pytest.mark.parametrize("words", [("setup",), ("setup", "--json")])
def test_setup_prints_no_secret(run_with_stripe: RunBilling, stack: DeployedStack, words: tuple[str, ...]) -> None:
    result = run_with_stripe(*words)
    stored = stack.secret()
    for secret in (stored["api_key"], *stored["webhook_secrets"]):
        assert secret not in result.stdout + result.stderr


def test_setup_prints_one_unwrapped_line_per_object(run_with_stripe: RunBilling) -> None:
    lines = run_with_stripe("setup", COLUMNS="40").stdout.splitlines()
    changes = json_output(run_with_stripe("setup", "--json"))["changes"]
    assert len(lines) == len(changes)
    assert all(each["id"] in line and line.startswith("created") for each, line in zip(changes, lines, strict=True))


# --- Second run -------------------------------------------------------------------------------------------------------


def test_second_setup_changes_nothing(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_account: StripeAccount
) -> None:
    run_with_stripe("setup")
    state, version = deepcopy(stripe_account.state.objects), stack.secret_version()
    again = json_output(run_with_stripe("setup", "--json"))
    assert set(outcomes(again).values()) == {"unchanged"}
    assert again["warnings"] == []
    assert stripe_account.state.objects == state
    assert stack.secret_version() == version


def test_setup_without_key_uses_the_stored_one(run_with_stripe: RunBilling) -> None:
    run_with_stripe("setup")
    assert set(outcomes(json_output(run_with_stripe("setup", "--json", STRIPE_API_KEY=""))).values()) == {"unchanged"}


def test_setup_with_another_key_replaces_only_the_key(run_with_stripe: RunBilling, stack: DeployedStack) -> None:
    run_with_stripe("setup")
    before = stack.secret()
    changes = json_output(run_with_stripe("setup", "--json", STRIPE_API_KEY="rk_test_rolled"))
    assert [name for name, outcome in outcomes(changes).items() if outcome != "unchanged"] == [
        ("secret", "Stripe keys")
    ]
    assert stack.secret() == before | {"api_key": "rk_test_rolled"}


def test_setup_restores_objects_that_were_changed_in_stripe(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("setup")
    price = price_of(stripe_client, PRO_PRICE.lookup_key)
    stripe_client.v1.products.update(str(price.product), {"name": "Prof", "active": False})
    stripe_client.v1.billing_portal.configurations.update(
        portal_of(stripe_client).id, {"features": {"subscription_cancel": {"enabled": False}}}
    )
    [endpoint] = endpoints_of(stripe_client)
    stripe_client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True, "enabled_events": ["invoice.paid"]})
    changed = {
        name
        for (name, _), outcome in outcomes(json_output(run_with_stripe("setup", "--json"))).items()
        if outcome == "updated"
    }
    assert changed == {"product", "portal configuration", "webhook endpoint"}
    assert stripe_client.v1.products.retrieve(str(price.product)).name == PRO.name
    assert portal_of(stripe_client).features.subscription_cancel.enabled
    [endpoint] = endpoints_of(stripe_client)
    assert (endpoint.status, set(endpoint.enabled_events)) == ("enabled", set(EVENT_PARSERS))


def test_setup_continues_after_any_failed_request(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_account: StripeAccount
) -> None:
    for path, method in (
        ("/v1/prices", "POST"),
        ("/v1/billing_portal/configurations", "POST"),
        ("/v1/webhook_endpoints", "GET"),
        ("/v1/webhook_endpoints/", "POST"),
    ):
        stripe_account.fail("status:400", method, path)
        assert json_error(run_with_stripe("setup", "--json"))["code"] == "stripe_refused"
    json_output(run_with_stripe("setup", "--json"))
    world = stripe_account.state
    counts = [len(list(world.all(kind))) for kind in ("product", "price", "billing_portal.configuration")]
    assert counts == [len(load_catalog().for_sale)] * 2 + [3]
    [endpoint] = world.all("webhook_endpoint")
    assert stack.secret()["webhook_secrets"][0] == stripe_account.signing_secret(endpoint["id"])


# --- Existing objects -------------------------------------------------------------------------------------------------


def test_setup_uses_an_existing_price_and_keeps_its_product_name(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    product = stripe_client.v1.products.create({"name": "Our Pro 2024"})
    price = stripe_client.v1.prices.create(
        {
            "product": product.id,
            "lookup_key": PRO_PRICE.lookup_key,
            "unit_amount": PRO_PRICE.unit_amount,
            "currency": PRO_PRICE.currency,
            "recurring": {"interval": "month"},
        }
    )
    done = outcomes(json_output(run_with_stripe("setup", "--json")))
    assert (done["product", PRO.name], done["price", PRO_PRICE.lookup_key]) == ("unchanged", "updated")
    found = price_of(stripe_client, PRO_PRICE.lookup_key)
    assert (found.id, found.metadata.to_dict() if found.metadata else None) == (price.id, {"plan": PRO.id})
    assert stripe_client.v1.products.retrieve(product.id).name == "Our Pro 2024"
    offers = portal_of(stripe_client).features.subscription_update.products or ()
    assert (product.id, [price.id]) in [(offer.product, offer.prices) for offer in offers]


def create_pro_price(client: stripe.StripeClient, **changes: Any) -> stripe.Price:
    """Create a price of Pro by hand, with a product of its own."""
    product = client.v1.products.create({"name": PRO.name})
    params: Any = {
        "product": product.id,
        "lookup_key": PRO_PRICE.lookup_key,
        "unit_amount": PRO_PRICE.unit_amount,
        "currency": PRO_PRICE.currency,
        "recurring": {"interval": "month"},
    }
    return client.v1.prices.create(params | changes)


def subscribe(client: stripe.StripeClient, price: stripe.Price) -> stripe.Subscription:
    """Create a customer with a paid subscription to the price."""
    payment: Any = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer = client.v1.customers.create(payment)
    return client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})


def test_setup_replaces_a_price_of_another_amount_and_says_that_its_lookup_key_moved(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    old = create_pro_price(stripe_client, unit_amount=900)
    changes = json_output(run_with_stripe("setup", "--json"))
    assert outcomes(changes)["price", PRO_PRICE.lookup_key] == "replaced"
    new = price_of(stripe_client, PRO_PRICE.lookup_key)
    assert (new.unit_amount, new.product) == (PRO_PRICE.unit_amount, old.product)
    former = stripe_client.v1.prices.retrieve(old.id)
    assert (former.lookup_key, former.metadata.to_dict() if former.metadata else None) == (None, {"plan": PRO.id})
    [warning] = changes["warnings"]
    assert f"lookup key {PRO_PRICE.lookup_key} moved to the new price {new.id}" in warning
    assert json_output(run_with_stripe("setup", "--json"))["warnings"] == []


def test_setup_warns_about_an_active_price_of_a_plan_that_maps_to_none_until_it_is_archived(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    product = str(create_pro_price(stripe_client).product)
    other = create_pro_price(
        stripe_client, product=product, lookup_key="pro_former", unit_amount=900, metadata={"plan": "gold"}
    )
    [warning] = json_output(run_with_stripe("setup", "--json"))["warnings"]
    assert f'id = "{other.id}"' in warning
    assert "catalog.toml" in warning
    assert json_output(run_with_stripe("setup", "--json"))["warnings"] == [warning]
    assert warning in run_with_stripe("setup").stderr
    stripe_client.v1.prices.update(other.id, {"active": False})
    assert json_output(run_with_stripe("setup", "--json"))["warnings"] == []


def test_setup_names_archived_prices_with_live_subscriptions(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("setup")
    old = price_of(stripe_client, PRO_PRICE.lookup_key)
    live = [subscribe(stripe_client, old) for _ in range(2)]
    stripe_client.v1.subscriptions.cancel(subscribe(stripe_client, old).id)
    stripe_client.v1.prices.update(old.id, {"active": False})

    changes = json_output(run_with_stripe("setup", "--json"))

    assert outcomes(changes)["price", PRO_PRICE.lookup_key] == "replaced"
    archived, moved = changes["warnings"]
    assert f"{old.id} was archived in Stripe: its lookup key {PRO_PRICE.lookup_key} moved to the new price" in moved
    assert f"Archived prices of plan {PRO.id} have live subscriptions: {old.id} (2 subscriptions)." in archived
    assert json_output(run_with_stripe("setup", "--json"))["warnings"] == [archived]
    stripe_client.v1.subscriptions.cancel(live[0].id)
    [one] = json_output(run_with_stripe("setup", "--json"))["warnings"]
    assert f"{old.id} (1 subscription)." in one
    stripe_client.v1.subscriptions.cancel(live[1].id)
    assert json_output(run_with_stripe("setup", "--json"))["warnings"] == []


def test_setup_does_not_count_subscriptions_of_other_deployments_to_an_archived_price(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("setup")
    old = price_of(stripe_client, PRO_PRICE.lookup_key)
    for deployment_id in (stack.name, "another"):
        subscription = subscribe(stripe_client, old)
        stripe_client.v1.subscriptions.update(subscription.id, {"metadata": {"billing_deployment": deployment_id}})
    stripe_client.v1.prices.update(old.id, {"active": False})
    archived, _ = json_output(run_with_stripe("setup", "--json"))["warnings"]
    assert f"{old.id} (1 subscription)." in archived


def test_setup_counts_subscriptions_of_an_archived_price_in_a_bounded_number_of_pages(
    run_with_stripe: RunBilling,
    stripe_client: stripe.StripeClient,
    stripe_account: StripeAccount,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cli.price_warnings.SUBSCRIPTIONS_MAX", 3)
    run_with_stripe("setup")
    old = price_of(stripe_client, PRO_PRICE.lookup_key)
    for _ in range(4):
        subscribe(stripe_client, old)
    stripe_client.v1.prices.update(old.id, {"active": False})
    archived, _ = json_output(run_with_stripe("setup", "--json"))["warnings"]
    assert f"{old.id} (3 or more subscriptions)" in archived
    assert len(list(stripe_account.state.all("subscription"))) == 4


def test_setup_prints_the_catalog_line_of_an_archived_price_with_subscriptions_that_maps_to_no_plan(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    product = str(create_pro_price(stripe_client).product)
    other = create_pro_price(stripe_client, product=product, lookup_key="pro_former", unit_amount=900)
    subscribe(stripe_client, other)
    stripe_client.v1.prices.update(other.id, {"active": False})
    [warning] = json_output(run_with_stripe("setup", "--json"))["warnings"]
    assert f'id = "{other.id}"' in warning
    assert f"{other.id} (1 subscription)" in warning


def test_stacks_on_one_stripe_account_share_only_products_and_prices(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    deploy: Callable[..., DeployedStack],
    stripe_account: StripeAccount,
) -> None:
    run_with_stripe("setup")
    other = deploy()
    url = "https://staging.example.com/v1/billing/webhooks"
    changes = outcomes(json_output(run_with_stripe("setup", "--json", "--stack", other.name, "--webhook-url", url)))
    assert {kind for (kind, _), outcome in changes.items() if outcome == "created"} == {
        "portal configuration",
        "webhook endpoint",
        "secret",
    }
    assert {each["url"] for each in stripe_account.state.all("webhook_endpoint")} == {url, WEBHOOK_URL}
    assert stack.secret()["portal_configuration"] != other.secret()["portal_configuration"]
    assert set(outcomes(json_output(run_with_stripe("setup", "--json"))).values()) == {"unchanged"}
