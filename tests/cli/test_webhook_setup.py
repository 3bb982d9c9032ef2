"""Tests of the webhook endpoint and its signing secrets in `billing setup`."""

from collections.abc import Callable

import pytest
import stripe

from billing.catalog import load_catalog
from billing.domain.portal import variants
from billing.stripe_events.event_types import EVENT_PARSERS
from cli.errors import THROTTLED
from tests.cli.support import (
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


# --- Endpoint ---------------------------------------------------------------------------------------------------------


def test_setup_registers_endpoint_for_handled_events_in_the_sdks_api_version(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    json_output(run_with_stripe("setup", "--json"))
    [endpoint] = endpoints_of(stripe_client)
    assert (endpoint.url, endpoint.status, endpoint.api_version) == (WEBHOOK_URL, "enabled", stripe.api_version)
    assert set(endpoint.enabled_events) == set(EVENT_PARSERS)


def test_setup_replaces_endpoint_if_its_signing_secret_is_not_stored(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Stripe shows a signing secret only once."""
    run_with_stripe("setup")
    [old] = endpoints_of(stripe_client)
    stack.write_secret("{}")
    changes = json_output(run_with_stripe("setup", "--json"))
    assert outcomes(changes)["webhook endpoint", WEBHOOK_URL] == "replaced"
    assert "signing secret" in changes["warnings"][0]
    [new] = endpoints_of(stripe_client)
    assert new.id != old.id
    assert stack.secret()["webhook_secrets"] == [stripe_account.signing_secret(new.id)]


def test_setup_replaces_endpoint_that_was_created_by_hand(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """The stored secret of `stripe listen` is kept."""
    run_with_stripe("setup", "--no-webhook-endpoint", STRIPE_WEBHOOK_SECRET="whsec_listen")
    stripe_client.v1.webhook_endpoints.create({"url": WEBHOOK_URL, "enabled_events": ["*"]})
    json_output(run_with_stripe("setup", "--json"))
    [endpoint] = endpoints_of(stripe_client)
    secret = stripe_account.signing_secret(endpoint.id)
    assert stack.secret()["webhook_secrets"] == [secret, "whsec_listen"]


def test_setup_replaces_endpoint_of_another_api_version(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient, stripe_account: StripeAccount
) -> None:
    """Stripe cannot change an endpoint's version. The old secret is kept for events in transit."""
    run_with_stripe("setup")
    [old] = stripe_account.state.all("webhook_endpoint")
    [old_secret] = stack.secret()["webhook_secrets"]
    old["api_version"] = "2020-08-27"
    changes = json_output(run_with_stripe("setup", "--json"))
    assert "2020-08-27" in changes["warnings"][0]
    [new] = endpoints_of(stripe_client)
    assert new.api_version == stripe.api_version
    assert stack.secret()["webhook_secrets"] == [stripe_account.signing_secret(new.id), old_secret]


def test_webhook_url_is_taken_from_option_before_environment(
    run_with_stripe: RunBilling, stripe_client: stripe.StripeClient
) -> None:
    urls = [f"https://{name}.example.com/v1/billing/webhooks" for name in ("environment", "option")]
    for words in ((), ("--rotate-webhook-secret",)):
        json_output(run_with_stripe("setup", *words, "--json", BILLING_WEBHOOK_URL=urls[0]))
        assert [each.url for each in endpoints_of(stripe_client)] == urls[:1]
    json_output(run_with_stripe("setup", "--json", "--webhook-url", urls[1], BILLING_WEBHOOK_URL=urls[0]))
    assert [each.url for each in endpoints_of(stripe_client)] == urls[1:]


def test_setup_with_another_url_moves_the_endpoint_and_keeps_its_signing_secret(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    run_with_stripe("setup")
    [old] = endpoints_of(stripe_client)
    secrets = stack.secret()["webhook_secrets"]
    moved = "https://billing.example.com/v1/billing/webhooks"
    changes = json_output(run_with_stripe("setup", "--webhook-url", moved, "--json"))
    assert outcomes(changes)["webhook endpoint", moved] == "updated"
    [endpoint] = endpoints_of(stripe_client)
    assert (endpoint.id, endpoint.url, endpoint.status) == (old.id, moved, "enabled")
    assert stack.secret()["webhook_secrets"] == secrets


# --- Deployment id ----------------------------------------------------------------------------------------------------


def metadata_of(stripe_account: StripeAccount, kind: str) -> list[dict[str, str]]:
    """Return the metadata of all objects of a kind."""
    return [each["metadata"] for each in stripe_account.state.all(kind)]


@pytest.mark.parametrize("deployment_id", ["", "billing-prod"])
def test_setup_writes_the_deployment_id_into_endpoint_and_portal_configuration(
    deploy: Callable[..., DeployedStack],
    run_with_stripe: RunBilling,
    stripe_account: StripeAccount,
    deployment_id: str,
) -> None:
    """The default is the stack's name."""
    other = deploy(DeploymentId=deployment_id)
    json_output(run_with_stripe("setup", "--stack", other.name, "--json"))
    expected = {"billing_deployment": deployment_id or other.name}
    assert metadata_of(stripe_account, "webhook_endpoint") == [expected]
    written = metadata_of(stripe_account, "billing_portal.configuration")
    by_variant = {each["billing_portal"]: each for each in written}
    assert len(written) == len(by_variant)
    assert by_variant == {
        variant.name: {**expected, "billing_portal": variant.name} for variant in variants(load_catalog())
    }


@pytest.mark.parametrize("words", [[], ["--no-webhook-endpoint"]])
def test_setup_refuses_a_stripe_account_in_which_another_endpoint_has_the_deployment_id(
    deploy: Callable[..., DeployedStack],
    run_with_stripe: RunBilling,
    stripe_account: StripeAccount,
    stripe_client: stripe.StripeClient,
    words: list[str],
) -> None:
    first, second = (deploy(DeploymentId="billing") for _ in range(2))
    first_url, second_url = (f"https://{name}.example.com/v1/billing/webhooks" for name in ("first", "second"))
    json_output(run_with_stripe("setup", "--stack", first.name, "--webhook-url", first_url, "--json"))
    before = list(stripe_account.state.all("product"))
    command = ("setup", "--stack", second.name, "--webhook-url", second_url, *words, "--json")
    error = json_error(run_with_stripe(*command))
    assert error["code"] == "deployment_id_taken"
    assert first_url in error["message"]
    assert second.secret() == {}
    assert (list(stripe_account.state.all("product")), len(endpoints_of(stripe_client))) == (before, 1)
    json_output(run_with_stripe("setup", "--stack", first.name, "--webhook-url", first_url, "--json"))


def test_setup_replaces_the_metadata_of_earlier_versions(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_account: StripeAccount
) -> None:
    run_with_stripe("setup")
    for kind in ("webhook_endpoint", "billing_portal.configuration"):
        for found in stripe_account.state.all(kind):
            del found["metadata"]["billing_deployment"]
            found["metadata"]["serverless_billing"] = stack.name
    changes = outcomes(json_output(run_with_stripe("setup", "--json")))
    assert changes["webhook endpoint", WEBHOOK_URL] == "updated"
    assert {outcome for (kind, _), outcome in changes.items() if kind == "portal configuration"} == {"updated"}
    for kind in ("webhook_endpoint", "billing_portal.configuration"):
        for metadata in metadata_of(stripe_account, kind):
            assert metadata["billing_deployment"] == stack.name
            assert "serverless_billing" not in metadata
    assert set(outcomes(json_output(run_with_stripe("setup", "--json"))).values()) == {"unchanged"}


def test_setup_warns_if_the_deployment_id_changed(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_account: StripeAccount
) -> None:
    run_with_stripe("setup")
    [endpoint] = stripe_account.state.all("webhook_endpoint")
    endpoint["metadata"] = {"billing_deployment": "former"}
    [warning] = json_output(run_with_stripe("setup", "--json"))["warnings"]
    assert "DeploymentId=former" in warning
    assert metadata_of(stripe_account, "webhook_endpoint") == [{"billing_deployment": stack.name}]
    assert json_output(run_with_stripe("setup", "--json"))["warnings"] == []


# --- Rotation ---------------------------------------------------------------------------------------------------------


def assert_every_delivery_is_accepted(stack: DeployedStack, account: StripeAccount) -> None:
    """Check that an endpoint gets events, and that the secret of each such endpoint is stored."""
    receivers = [each for each in account.state.all("webhook_endpoint") if "invoice.paid" in each["enabled_events"]]
    assert receivers
    signing = {account.signing_secret(each["id"]) for each in receivers}
    assert signing <= set(stack.secret()["webhook_secrets"])


def test_rotation_replaces_endpoint_and_keeps_both_secrets_until_next_setup(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    stripe_account: StripeAccount,
    stripe_client: stripe.StripeClient,
    waits: list[float],
) -> None:
    run_with_stripe("setup")
    [old] = stack.secret()["webhook_secrets"]
    assert waits == []
    changes = json_output(run_with_stripe("setup", "--json", "--rotate-webhook-secret"))
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
    again = json_output(run_with_stripe("setup", "--json"))
    assert stack.secret()["webhook_secrets"] == [new]
    assert again["warnings"] == []
    assert [endpoint.id] == [each.id for each in endpoints_of(stripe_client)]
    assert set(outcomes(json_output(run_with_stripe("setup", "--json"))).values()) == {"unchanged"}


def test_second_rotation_drops_the_oldest_secret(run_with_stripe: RunBilling, stack: DeployedStack) -> None:
    run_with_stripe("setup")
    run_with_stripe("setup", "--rotate-webhook-secret")
    newer, oldest = stack.secret()["webhook_secrets"]
    run_with_stripe("setup", "--rotate-webhook-secret")
    newest, previous = stack.secret()["webhook_secrets"]
    assert previous == newer
    assert oldest not in {newest, previous}


def test_rotation_keeps_secrets_of_other_event_destinations(run_with_stripe: RunBilling, stack: DeployedStack) -> None:
    run_with_stripe("setup")
    [old] = stack.secret()["webhook_secrets"]
    run_with_stripe("setup", "--no-webhook-endpoint", STRIPE_WEBHOOK_SECRET="whsec_thin_1")
    run_with_stripe("setup", "--rotate-webhook-secret")
    new = stack.secret()["webhook_secrets"][0]
    assert set(stack.secret()["webhook_secrets"]) == {new, "whsec_thin_1", old}
    run_with_stripe("setup")
    assert stack.secret()["webhook_secrets"] == [new, "whsec_thin_1"]
    for number in (2, 3):
        run_with_stripe("setup", "--no-webhook-endpoint", STRIPE_WEBHOOK_SECRET=f"whsec_thin_{number}")
    assert stack.secret()["webhook_secrets"] == ["whsec_thin_3", "whsec_thin_2", new]
    assert set(outcomes(json_output(run_with_stripe("setup", "--json"))).values()) == {"unchanged"}


CALLS = {
    "making the endpoint": ("POST", "/v1/webhook_endpoints"),
    "opening the endpoint": ("POST", "/v1/webhook_endpoints/"),
    "deleting the old one": ("DELETE", "/v1/webhook_endpoints/"),
}


@pytest.mark.parametrize("resumed_by", [("setup",), ("setup", "--rotate-webhook-secret")])
@pytest.mark.parametrize("call", CALLS)
def test_interrupted_rotation_continues_and_rejects_no_event(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    stripe_account: StripeAccount,
    call: str,
    resumed_by: tuple[str, ...],
) -> None:
    run_with_stripe("setup")
    [old] = stack.secret()["webhook_secrets"]
    stripe_account.fail("status:400", *CALLS[call])
    assert json_error(run_with_stripe("setup", "--json", "--rotate-webhook-secret"))["code"] == "stripe_refused"
    assert_every_delivery_is_accepted(stack, stripe_account)
    json_output(run_with_stripe(*resumed_by, "--json"))
    assert_every_delivery_is_accepted(stack, stripe_account)
    [endpoint] = stripe_account.state.all("webhook_endpoint")
    signing = stripe_account.signing_secret(endpoint["id"])
    not_begun = call == "making the endpoint" and resumed_by == ("setup",)
    assert stack.secret()["webhook_secrets"] == ([old] if not_begun else [signing, old])


def test_rotation_replaces_endpoint_whose_secret_could_not_be_stored(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_account: StripeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That endpoint got no events."""
    run_with_stripe("setup")
    [old] = stack.secret()["webhook_secrets"]
    with monkeypatch.context() as broken:
        broken.setattr("cli.stack.Stack.save_secret", _throttled)
        assert json_error(run_with_stripe("setup", "--json", "--rotate-webhook-secret"))["code"] == "aws_throttled"
    assert len(list(stripe_account.state.all("webhook_endpoint"))) == 2
    assert_every_delivery_is_accepted(stack, stripe_account)
    json_output(run_with_stripe("setup", "--rotate-webhook-secret", "--json"))
    [endpoint] = stripe_account.state.all("webhook_endpoint")
    assert stack.secret()["webhook_secrets"] == [stripe_account.signing_secret(endpoint["id"]), old]


def _throttled(*_: object) -> None:
    raise THROTTLED


def test_rotation_without_endpoint_fails(run_with_stripe: RunBilling) -> None:
    error = json_error(run_with_stripe("setup", "--json", "--no-webhook-endpoint", "--rotate-webhook-secret"))
    assert error["code"] == "rotation_without_endpoint"


# --- No endpoint ------------------------------------------------------------------------------------------------------


def test_setup_without_endpoint_stores_the_given_signing_secret(
    run_with_stripe: RunBilling, stack: DeployedStack, stripe_client: stripe.StripeClient
) -> None:
    setup = ("setup", "--no-webhook-endpoint", "--json")
    json_output(run_with_stripe(*setup, STRIPE_WEBHOOK_SECRET="whsec_1"))
    assert endpoints_of(stripe_client) == []
    assert stack.secret()["webhook_secrets"] == ["whsec_1"]
    json_output(run_with_stripe(*setup, STRIPE_WEBHOOK_SECRET="whsec_2"))
    assert set(outcomes(json_output(run_with_stripe(*setup, STRIPE_WEBHOOK_SECRET="whsec_2"))).values()) == {
        "unchanged"
    }
    assert stack.secret()["webhook_secrets"] == ["whsec_2", "whsec_1"]


def test_setup_without_endpoint_and_secret_stores_a_random_one_and_warns(
    run_with_stripe: RunBilling, stack: DeployedStack
) -> None:
    """An empty secret would let anybody sign events."""
    changes = json_output(run_with_stripe("setup", "--no-webhook-endpoint", "--json"))
    assert "STRIPE_WEBHOOK_SECRET" in changes["warnings"][0]
    [secret] = stack.secret()["webhook_secrets"]
    assert len(secret.removeprefix("whsec_")) >= 32
    again = json_output(run_with_stripe("setup", "--no-webhook-endpoint", "--json"))
    assert set(outcomes(again).values()) == {"unchanged"}
    assert again["warnings"] == []
