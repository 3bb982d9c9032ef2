"""Fixtures: a deployed stack on the emulator, a simulated Stripe account, and the `billing` command."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe
from typer.testing import CliRunner, Result

import billing.adapters.stripe_gateway
from billing.adapters.stripe_gateway import connect
from billing.domain.accounts import Profile
from cli.main import app
from stripe_simulator import running_simulator
from tests.cli.support import (
    STRIPE_KEY,
    DeployedStack,
    RunBilling,
    StripeAccount,
    aws,
    create_price,
    stack_template,
)


@pytest.fixture
def deploy(emulator_url: str) -> Iterator[Callable[..., DeployedStack]]:
    """Function that deploys a stack with the given parameters."""
    cloudformation = aws("cloudformation", emulator_url)
    names: list[str] = []

    def deploy(**parameters: str) -> DeployedStack:
        names.append(f"billing-{uuid.uuid4().hex[:8]}")
        given: Any = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        body = json.dumps(stack_template())
        cloudformation.create_stack(StackName=names[-1], TemplateBody=body, Parameters=given)
        cloudformation.get_waiter("stack_create_complete").wait(StackName=names[-1], WaiterConfig={"Delay": 1})
        [stack] = cloudformation.describe_stacks(StackName=names[-1])["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        secrets = (outputs["StripeSecretArn"], outputs["SessionSecretArn"])
        return DeployedStack(names[-1], outputs["TableName"], *secrets, emulator_url)

    yield deploy
    for name in names:
        cloudformation.delete_stack(StackName=name)


@pytest.fixture
def stack(deploy: Callable[..., DeployedStack]) -> DeployedStack:
    """Stack in test mode, without keys."""
    return deploy()


@pytest.fixture
def stripe_account() -> Iterator[StripeAccount]:
    """Empty Stripe account."""
    with running_simulator() as simulator:
        yield StripeAccount(simulator.url, simulator.server.state)


@pytest.fixture
def stripe_client(stripe_account: StripeAccount) -> stripe.StripeClient:
    """Official SDK, connected to the Stripe account."""
    return connect(STRIPE_KEY, stripe_account.url)


@pytest.fixture
def stripe_price(monkeypatch: pytest.MonkeyPatch, stripe_client: stripe.StripeClient) -> None:
    """Price of the catalog in the Stripe account, and no limit on the rate of list requests."""
    monkeypatch.setattr(billing.adapters.stripe_gateway, "BACKGROUND_REQUESTS_PER_SECOND", 10_000)
    create_price(stripe_client)


@pytest.fixture
def run_billing(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> RunBilling:
    """Function that runs `billing` on the stack, without a Stripe key."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.endpoint_url)
    monkeypatch.setenv("BILLING_STACK", stack.name)

    def run(*words: str, typed: str | None = None, **environment: str) -> Result:
        return CliRunner().invoke(app, words, input=typed, env=environment)

    return run


@pytest.fixture
def loopback_stack(deploy: Callable[..., DeployedStack]) -> DeployedStack:
    """Stack in test mode whose webhook endpoints may be on this machine."""
    return deploy(AllowLoopbackWebhooks="true")


@pytest.fixture
def run_on_loopback(loopback_stack: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> RunBilling:
    """Function that runs `billing` on the stack whose webhook endpoints may be on this machine."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", loopback_stack.endpoint_url)
    monkeypatch.setenv("BILLING_STACK", loopback_stack.name)

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    return run


@pytest.fixture
def run_with_stripe(
    run_billing: RunBilling, stripe_account: StripeAccount, monkeypatch: pytest.MonkeyPatch
) -> RunBilling:
    """Function that runs `billing` on the stack, with a key of the Stripe account."""
    monkeypatch.setenv("STRIPE_API_KEY", STRIPE_KEY)
    monkeypatch.setenv("STRIPE_API_BASE", stripe_account.url)
    return run_billing


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that `billing setup` would wait until the functions load a new secret. The tests do not wait."""
    waited: list[float] = []
    monkeypatch.setattr("cli.webhook_setup.sleep", waited.append)
    return waited


@pytest.fixture
def globex_customer(
    run_with_stripe: RunBilling,
    stack: DeployedStack,
    stripe_client: stripe.StripeClient,
    stripe_price: None,  # noqa: ARG001 - the price is needed
) -> str:
    """A customer with a subscription whose metadata names globex. Neither globex nor acme has a customer."""
    for account_id in ("acme", "globex"):
        stack.repository().create_account(Profile(account_id))
    params: Any = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    params["metadata"] = {"account_id": "globex"}
    customer = stripe_client.v1.customers.create(params)
    [price] = stripe_client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    stripe_client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    assert run_with_stripe("accounts", "show", "globex").exit_code == 0
    return customer.id
