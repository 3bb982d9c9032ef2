"""`billing setup`, between a deployed secret and a Stripe account."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import stripe

from billing.adapters.secrets import read_stripe_secrets
from billing.catalog import load_catalog
from billing.stripe_events.event_types import EVENT_PARSERS
from cli.errors import THROTTLED
from stripe_simulator import Settings, running_simulator
from tests.cli.conftest import STRIPE_KEY, WEBHOOK_URL, Billing, Stack, StripeAccount, answer, refusal

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited for functions to find a new secret; here nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr("cli.webhook_setup.sleep", waited.append)
    return waited


PRO = load_catalog().for_sale[0]
PRO_PRICE = PRO.prices[0]


def outcomes(changes: dict[str, Any]) -> dict[tuple[str, str], str]:
    """What was done to each thing, by its kind and name."""
    return {(each["kind"], each["name"]): each["outcome"] for each in changes["changes"]}


def price_of(client: stripe.StripeClient, lookup_key: str) -> stripe.Price:
    """The one price that has the lookup key."""
    [price] = client.v1.prices.list({"lookup_keys": [lookup_key]}).data
    return price


def endpoints_of(client: stripe.StripeClient) -> list[stripe.WebhookEndpoint]:
    """Every webhook endpoint of the account."""
    return list(client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter())


def portal_of(client: stripe.StripeClient) -> stripe.billing_portal.Configuration:
    """The one portal configuration, with what it offers."""
    expand = ["data.features.subscription_update.products"]
    [configuration] = client.v1.billing_portal.configurations.list({"expand": expand}).data
    return configuration


# --- What it makes ----------------------------------------------------------------------------------------------------


def test_stripe_sells_the_catalog(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """Each plan with a price is a product of its name, each price found by its lookup key, at the catalog's terms."""
    answer(operator("setup", "--json"))
    for plan in load_catalog().for_sale:
        for price in plan.prices:
            found = price_of(stripe_client, price.lookup_key)
            assert (found.unit_amount, found.currency) == (price.unit_amount, price.currency)
            assert found.recurring is not None
            assert (found.recurring.interval, found.recurring.interval_count) == (price.interval, 1)
            assert stripe_client.v1.products.retrieve(str(found.product)).name == plan.name


def test_customers_manage_themselves_in_the_portal(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """Change between the catalog's prices, seats where they count, cancel at the period's end, invoices, cards."""
    answer(operator("setup", "--json"))
    features = portal_of(stripe_client).features
    assert features.subscription_cancel.mode == "at_period_end"
    assert features.subscription_cancel.enabled
    assert features.invoice_history.enabled
    assert features.payment_method_update.enabled
    assert features.subscription_update.enabled
    offered = {
        price: product.adjustable_quantity.enabled
        for product in features.subscription_update.products or ()
        for price in product.prices
    }
    sold = [price for plan in load_catalog().for_sale for price in plan.prices]
    assert offered == {price_of(stripe_client, price.lookup_key).id: price.per_seat for price in sold}


def test_stripe_sends_what_is_handled(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """The stack's own address gets the events that are read, no others, in the SDK's API version."""
    answer(operator("setup", "--json"))
    [endpoint] = endpoints_of(stripe_client)
    assert (endpoint.url, endpoint.status, endpoint.api_version) == (WEBHOOK_URL, "enabled", stripe.api_version)
    assert set(endpoint.enabled_events) == set(EVENT_PARSERS)


def test_the_functions_find_their_secrets(operator: Billing, stack: Stack, stripe_account: StripeAccount) -> None:
    """What is stored is what the functions read: the key, the endpoint's own signing secret, the portal's id."""
    changes = answer(operator("setup", "--json"))
    ids = {each["kind"]: each["id"] for each in changes["changes"]}
    stored = read_stripe_secrets(stack.secret())
    assert stored.api_key == STRIPE_KEY
    assert stored.webhook_secrets == (stripe_account.signing_secret(ids["webhook endpoint"]),)
    assert stored.portal_configuration == ids["portal configuration"]


@pytest.mark.parametrize("words", [("setup",), ("setup", "--json")])
def test_no_secret_is_shown(operator: Billing, stack: Stack, words: tuple[str, ...]) -> None:
    """Neither the key nor the signing secret is in what the command prints."""
    result = operator(*words)
    stored = stack.secret()
    for secret in (stored["api_key"], *stored["webhook_secrets"]):
        assert secret not in result.stdout + result.stderr


def test_people_see_a_line_for_each_thing(operator: Billing) -> None:
    """Ids are whole, so that they can be copied, also where the terminal is narrow."""
    lines = operator("setup", COLUMNS="40").stdout.splitlines()
    changes = answer(operator("setup", "--json"))["changes"]
    assert len(lines) == len(changes)
    assert all(each["id"] in line and line.startswith("created") for each, line in zip(changes, lines, strict=True))


# --- Again ------------------------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(operator: Billing, stack: Stack, stripe_account: StripeAccount) -> None:
    """Stripe's whole state and the secret's version are what they were, and every line says so."""
    operator("setup")
    state, version = deepcopy(stripe_account.world.objects), stack.secret_version()
    again = answer(operator("setup", "--json"))
    assert set(outcomes(again).values()) == {"unchanged"}
    assert again["warnings"] == []
    assert stripe_account.world.objects == state
    assert stack.secret_version() == version


def test_the_stored_key_is_used_again(operator: Billing) -> None:
    """After the first time no key is needed in the environment."""
    operator("setup")
    assert set(outcomes(answer(operator("setup", "--json", STRIPE_API_KEY=""))).values()) == {"unchanged"}


def test_another_key_replaces_the_stored_one(operator: Billing, stack: Stack) -> None:
    """The API key is rotated by running setup with the new one; signing secrets stay."""
    operator("setup")
    before = stack.secret()
    changes = answer(operator("setup", "--json", STRIPE_API_KEY="rk_test_rolled"))
    assert [name for name, outcome in outcomes(changes).items() if outcome != "unchanged"] == [
        ("secret", "Stripe keys")
    ]
    assert stack.secret() == before | {"api_key": "rk_test_rolled"}


def test_what_somebody_changed_is_set_right(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """A renamed product, a portal without cancellation, a disabled endpoint: each is as the catalog wants it again."""
    operator("setup")
    price = price_of(stripe_client, PRO_PRICE.lookup_key)
    stripe_client.v1.products.update(str(price.product), {"name": "Prof", "active": False})
    stripe_client.v1.billing_portal.configurations.update(
        portal_of(stripe_client).id, {"features": {"subscription_cancel": {"enabled": False}}}
    )
    [endpoint] = endpoints_of(stripe_client)
    stripe_client.v1.webhook_endpoints.update(endpoint.id, {"disabled": True, "enabled_events": ["invoice.paid"]})
    changed = {
        name for (name, _), outcome in outcomes(answer(operator("setup", "--json"))).items() if outcome == "updated"
    }
    assert changed == {"product", "portal configuration", "webhook endpoint"}
    assert stripe_client.v1.products.retrieve(str(price.product)).name == PRO.name
    assert portal_of(stripe_client).features.subscription_cancel.enabled
    [endpoint] = endpoints_of(stripe_client)
    assert (endpoint.status, set(endpoint.enabled_events)) == ("enabled", set(EVENT_PARSERS))


def test_an_interrupted_run_is_continued(operator: Billing, stack: Stack, stripe_account: StripeAccount) -> None:
    """Whatever call fails, running again ends with one of each thing and a secret that the endpoint signs with."""
    for path, method in (
        ("/v1/prices", "POST"),
        ("/v1/billing_portal/configurations", "POST"),
        ("/v1/webhook_endpoints", "GET"),
        ("/v1/webhook_endpoints/", "POST"),
    ):
        stripe_account.fail("status:400", method, path)
        assert refusal(operator("setup", "--json"))["code"] == "stripe_refused"
    answer(operator("setup", "--json"))
    world = stripe_account.world
    counts = [len(list(world.all(kind))) for kind in ("product", "price", "billing_portal.configuration")]
    assert counts == [len(load_catalog().for_sale)] * 2 + [1]
    [endpoint] = world.all("webhook_endpoint")
    assert stack.secret()["webhook_secrets"][0] == stripe_account.signing_secret(endpoint["id"])


# --- What was there before --------------------------------------------------------------------------------------------


def test_existing_prices_are_taken_over(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """A price with the lookup key and the terms is used as it is, and its product keeps the name customers know."""
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
    done = outcomes(answer(operator("setup", "--json")))
    assert (done["product", PRO.name], done["price", PRO_PRICE.lookup_key]) == ("unchanged", "unchanged")
    assert price_of(stripe_client, PRO_PRICE.lookup_key).id == price.id
    assert stripe_client.v1.products.retrieve(product.id).name == "Our Pro 2024"
    offers = portal_of(stripe_client).features.subscription_update.products or ()
    assert (product.id, [price.id]) in [(offer.product, offer.prices) for offer in offers]


def test_another_amount_is_a_new_price(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """Stripe's prices cannot change: a new one gets the lookup key. What the old one needs is said until it is done."""
    product = stripe_client.v1.products.create({"name": PRO.name})
    old = stripe_client.v1.prices.create(
        {
            "product": product.id,
            "lookup_key": PRO_PRICE.lookup_key,
            "unit_amount": 900,
            "currency": PRO_PRICE.currency,
            "recurring": {"interval": "month"},
        }
    )
    changes = answer(operator("setup", "--json"))
    assert outcomes(changes)["price", PRO_PRICE.lookup_key] == "replaced"
    new = price_of(stripe_client, PRO_PRICE.lookup_key)
    assert (new.unit_amount, new.product) == (PRO_PRICE.unit_amount, product.id)
    assert stripe_client.v1.prices.retrieve(old.id).lookup_key is None
    [warning] = changes["warnings"]
    assert f'id = "{old.id}"' in warning
    assert "catalog.toml" in warning
    assert answer(operator("setup", "--json"))["warnings"] == [warning]
    assert warning in operator("setup").stderr
    stripe_client.v1.prices.update(old.id, {"active": False})
    assert answer(operator("setup", "--json"))["warnings"] == []


def test_an_endpoint_with_an_unknown_secret_is_made_anew(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Stripe tells a signing secret once; if it is not stored here, only another endpoint helps. It says so."""
    operator("setup")
    [old] = endpoints_of(stripe_client)
    stack.write_secret("{}")
    changes = answer(operator("setup", "--json"))
    assert outcomes(changes)["webhook endpoint", WEBHOOK_URL] == "replaced"
    assert "signing secret" in changes["warnings"][0]
    [new] = endpoints_of(stripe_client)
    assert new.id != old.id
    assert stack.secret()["webhook_secrets"] == [stripe_account.signing_secret(new.id)]


def test_an_endpoint_made_by_hand_is_made_anew(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """A secret is stored, but it is of something else, such as `stripe listen`: it stays second."""
    operator("setup", "--no-webhook-endpoint", STRIPE_WEBHOOK_SECRET="whsec_listen")
    stripe_client.v1.webhook_endpoints.create({"url": WEBHOOK_URL, "enabled_events": ["*"]})
    answer(operator("setup", "--json"))
    [endpoint] = endpoints_of(stripe_client)
    secret = stripe_account.signing_secret(endpoint.id)
    assert stack.secret()["webhook_secrets"] == [secret, "whsec_listen"]


def test_another_api_version_needs_another_endpoint(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """An endpoint's version is fixed: the new one's secret comes first, the old one's stays for what is on its way."""
    operator("setup")
    [old] = stripe_account.world.all("webhook_endpoint")
    [old_secret] = stack.secret()["webhook_secrets"]
    old["api_version"] = "2020-08-27"
    changes = answer(operator("setup", "--json"))
    assert "2020-08-27" in changes["warnings"][0]
    [new] = endpoints_of(stripe_client)
    assert new.api_version == stripe.api_version
    assert stack.secret()["webhook_secrets"] == [stripe_account.signing_secret(new.id), old_secret]


def test_two_stacks_share_a_stripe_account(
    operator: Billing, stack: Stack, deploy: Callable[..., Stack], stripe_account: StripeAccount
) -> None:
    """Products and prices are common; each has its own portal configuration and endpoint, and leaves the other's be."""
    operator("setup")
    other = deploy()
    url = "https://staging.example.com/v1/billing/webhooks"
    changes = outcomes(answer(operator("setup", "--json", "--stack", other.name, "--webhook-url", url)))
    assert {kind for (kind, _), outcome in changes.items() if outcome == "created"} == {
        "portal configuration",
        "webhook endpoint",
        "secret",
    }
    assert {each["url"] for each in stripe_account.world.all("webhook_endpoint")} == {url, WEBHOOK_URL}
    assert stack.secret()["portal_configuration"] != other.secret()["portal_configuration"]
    assert set(outcomes(answer(operator("setup", "--json"))).values()) == {"unchanged"}


def test_the_environment_may_say_where_events_are_sent(operator: Billing, stripe_client: stripe.StripeClient) -> None:
    """Setup and rotation typed without an option keep to one endpoint at that address; the option counts more."""
    urls = [f"https://{name}.example.com/v1/billing/webhooks" for name in ("environment", "option")]
    for words in ((), ("--rotate-webhook-secret",)):
        answer(operator("setup", *words, "--json", BILLING_WEBHOOK_URL=urls[0]))
        assert [each.url for each in endpoints_of(stripe_client)] == urls[:1]
    answer(operator("setup", "--json", "--webhook-url", urls[1], BILLING_WEBHOOK_URL=urls[0]))
    assert sorted(each.url for each in endpoints_of(stripe_client)) == urls


# --- Another signing secret -------------------------------------------------------------------------------------------


def assert_every_delivery_is_accepted(stack: Stack, account: StripeAccount) -> None:
    """Stripe sends our events to an endpoint, and to none whose signing secret is not stored."""
    receivers = [each for each in account.world.all("webhook_endpoint") if "invoice.paid" in each["enabled_events"]]
    assert receivers
    signing = {account.signing_secret(each["id"]) for each in receivers}
    assert signing <= set(stack.secret()["webhook_secrets"])


def test_the_signing_secret_is_rotated(
    operator: Billing,
    stack: Stack,
    stripe_account: StripeAccount,
    stripe_client: stripe.StripeClient,
    waits: list[float],
) -> None:
    """A new endpoint takes the old one's place; both secrets count until setup runs again, and it says so."""
    operator("setup")
    [old] = stack.secret()["webhook_secrets"]
    assert waits == []
    changes = answer(operator("setup", "--json", "--rotate-webhook-secret"))
    [endpoint] = endpoints_of(stripe_client)
    new = stripe_account.signing_secret(endpoint.id)
    assert {name: outcome for name, outcome in outcomes(changes).items() if outcome != "unchanged"} == {
        ("webhook endpoint", WEBHOOK_URL): "replaced",
        ("secret", "Stripe keys"): "updated",
    }
    assert (endpoint.status, set(endpoint.enabled_events)) == ("enabled", set(EVENT_PARSERS))
    assert stack.secret()["webhook_secrets"] == [new, old]
    assert ["drop the older" in warning for warning in changes["warnings"]] == [True]
    assert len(waits) == 1
    again = answer(operator("setup", "--json"))
    assert stack.secret()["webhook_secrets"] == [new]
    assert again["warnings"] == []
    assert [endpoint.id] == [each.id for each in endpoints_of(stripe_client)]
    assert set(outcomes(answer(operator("setup", "--json"))).values()) == {"unchanged"}


def test_a_second_rotation_drops_the_first_secret(operator: Billing, stack: Stack) -> None:
    """There are never more than two."""
    operator("setup")
    operator("setup", "--rotate-webhook-secret")
    newer, oldest = stack.secret()["webhook_secrets"]
    operator("setup", "--rotate-webhook-secret")
    newest, previous = stack.secret()["webhook_secrets"]
    assert previous == newer
    assert oldest not in {newest, previous}


def test_a_rotation_leaves_the_operators_secrets(operator: Billing, stack: Stack) -> None:
    """Another event destination, made by hand, goes on signing with its own; and its rotation leaves the endpoint's."""
    operator("setup")
    [old] = stack.secret()["webhook_secrets"]
    operator("setup", "--no-webhook-endpoint", STRIPE_WEBHOOK_SECRET="whsec_thin_1")
    operator("setup", "--rotate-webhook-secret")
    new = stack.secret()["webhook_secrets"][0]
    assert set(stack.secret()["webhook_secrets"]) == {new, "whsec_thin_1", old}
    operator("setup")
    assert stack.secret()["webhook_secrets"] == [new, "whsec_thin_1"]
    for number in (2, 3):
        operator("setup", "--no-webhook-endpoint", STRIPE_WEBHOOK_SECRET=f"whsec_thin_{number}")
    assert stack.secret()["webhook_secrets"] == ["whsec_thin_3", "whsec_thin_2", new]
    assert set(outcomes(answer(operator("setup", "--json"))).values()) == {"unchanged"}


CALLS = {
    "making the endpoint": ("POST", "/v1/webhook_endpoints"),
    "opening the endpoint": ("POST", "/v1/webhook_endpoints/"),
    "deleting the old one": ("DELETE", "/v1/webhook_endpoints/"),
}


@pytest.mark.parametrize("resumed_by", [("setup",), ("setup", "--rotate-webhook-secret")])
@pytest.mark.parametrize("call", CALLS)
def test_an_interrupted_rotation_goes_on(
    operator: Billing, stack: Stack, stripe_account: StripeAccount, call: str, resumed_by: tuple[str, ...]
) -> None:
    """At no point is an endpoint sent events whose secret is not stored; the next run ends with one endpoint."""
    operator("setup")
    [old] = stack.secret()["webhook_secrets"]
    stripe_account.fail("status:400", *CALLS[call])
    assert refusal(operator("setup", "--json", "--rotate-webhook-secret"))["code"] == "stripe_refused"
    assert_every_delivery_is_accepted(stack, stripe_account)
    answer(operator(*resumed_by, "--json"))
    assert_every_delivery_is_accepted(stack, stripe_account)
    [endpoint] = stripe_account.world.all("webhook_endpoint")
    signing = stripe_account.signing_secret(endpoint["id"])
    not_begun = call == "making the endpoint" and resumed_by == ("setup",)
    assert stack.secret()["webhook_secrets"] == ([old] if not_begun else [signing, old])


def test_a_secret_that_could_not_be_stored_is_no_ones(
    operator: Billing, stack: Stack, stripe_account: StripeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint whose secret was lost gets no event, and the next rotation deletes it."""
    operator("setup")
    [old] = stack.secret()["webhook_secrets"]
    with monkeypatch.context() as broken:
        broken.setattr("cli.stack.Stack.save_secret", _throttled)
        assert refusal(operator("setup", "--json", "--rotate-webhook-secret"))["code"] == "aws_throttled"
    assert len(list(stripe_account.world.all("webhook_endpoint"))) == 2
    assert_every_delivery_is_accepted(stack, stripe_account)
    answer(operator("setup", "--rotate-webhook-secret", "--json"))
    [endpoint] = stripe_account.world.all("webhook_endpoint")
    assert stack.secret()["webhook_secrets"] == [stripe_account.signing_secret(endpoint["id"]), old]


def _throttled(*_: object) -> None:
    raise THROTTLED


def test_what_stripe_listen_signs_is_not_rotated_here(operator: Billing) -> None:
    """There is no endpoint whose secret could be another."""
    error = refusal(operator("setup", "--json", "--no-webhook-endpoint", "--rotate-webhook-secret"))
    assert error["code"] == "rotation_without_endpoint"


# --- Without an endpoint ----------------------------------------------------------------------------------------------


def test_without_an_endpoint_the_operator_gives_the_secret(
    operator: Billing, stack: Stack, stripe_client: stripe.StripeClient
) -> None:
    """What `stripe listen` prints is stored; a later one comes before it, and the same one changes nothing."""
    setup = ("setup", "--no-webhook-endpoint", "--json")
    answer(operator(*setup, STRIPE_WEBHOOK_SECRET="whsec_1"))
    assert endpoints_of(stripe_client) == []
    assert stack.secret()["webhook_secrets"] == ["whsec_1"]
    answer(operator(*setup, STRIPE_WEBHOOK_SECRET="whsec_2"))
    assert set(outcomes(answer(operator(*setup, STRIPE_WEBHOOK_SECRET="whsec_2"))).values()) == {"unchanged"}
    assert stack.secret()["webhook_secrets"] == ["whsec_2", "whsec_1"]


def test_without_any_secret_one_is_made_up(operator: Billing, stack: Stack) -> None:
    """Nobody can sign with an empty secret; that it is made up is said, and it stays."""
    changes = answer(operator("setup", "--no-webhook-endpoint", "--json"))
    assert "STRIPE_WEBHOOK_SECRET" in changes["warnings"][0]
    [secret] = stack.secret()["webhook_secrets"]
    assert len(secret.removeprefix("whsec_")) >= 32
    again = answer(operator("setup", "--no-webhook-endpoint", "--json"))
    assert set(outcomes(again).values()) == {"unchanged"}
    assert again["warnings"] == []


# --- What keeps it from its work --------------------------------------------------------------------------------------


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
def test_a_key_that_does_not_fit_is_refused(operator: Billing, stack: Stack, key: str, code: str, words: str) -> None:
    """Nothing was done, in Stripe or in AWS; the message says which key it has to be, and not the one it was."""
    error = refusal(operator("setup", "--json", STRIPE_API_KEY=key))
    assert error["code"] == code
    assert words in error["message"]
    assert not key or key not in error["message"]
    assert stack.secret() == {}


def test_a_live_stack_takes_no_test_key(operator: Billing, deploy: Callable[..., Stack]) -> None:
    """A production stack on a test account would hand out plans that nobody pays for."""
    live = deploy(StripeMode="live")
    error = refusal(operator("setup", "--json", "--stack", live.name))
    assert error["code"] == "stripe_mode"
    assert "use a live key" in error["message"]


def test_a_key_that_stripe_does_not_know_is_refused(operator: Billing, stack: Stack) -> None:
    """Nothing is stored of it."""
    with running_simulator(settings=Settings(api_key="sk_test_right")) as other:
        error = refusal(operator("setup", "--json", STRIPE_API_BASE=other.url))
    assert error["code"] == "stripe_key"
    assert "STRIPE_API_KEY" in error["message"]
    assert stack.secret() == {}


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
def test_stripes_troubles_are_one_line(
    operator: Billing, stripe_account: StripeAccount, stack: Stack, kind: str, code: str
) -> None:
    """Whatever Stripe does, the operator reads what to do, and no traceback."""
    stripe_account.fail(kind, count=10)
    assert refusal(operator("setup", "--json"))["code"] == code
    assert stack.secret() == {}


def test_a_stripe_that_is_not_there_is_said(operator: Billing) -> None:
    """The port is closed: the address that was used may be wrong."""
    error = refusal(operator("setup", "--json", STRIPE_API_BASE="http://127.0.0.1:9"))
    assert error["code"] == "stripe_unreachable"
    assert "STRIPE_API_BASE" in error["message"]


def test_the_stacks_own_stripe_is_the_default(
    billing: Billing, deploy: Callable[..., Stack], stripe_account: StripeAccount
) -> None:
    """Without STRIPE_API_BASE the command works on the Stripe that the functions call."""
    stack = deploy(StripeApiBase=stripe_account.url)
    answer(billing("setup", "--json", "--stack", stack.name, STRIPE_API_KEY=STRIPE_KEY))
    assert len(list(stripe_account.world.all("product"))) == len(load_catalog().for_sale)


def test_a_secret_that_is_no_json_is_left_alone(operator: Billing, stack: Stack) -> None:
    """Somebody put something else there: overwriting it is the operator's decision."""
    stack.write_secret("sk_test_by_hand")
    error = refusal(operator("setup", "--json"))
    assert error["code"] == "secret_unreadable"
    assert "sk_test_by_hand" not in error["message"]
