"""A deployed stack on the emulator, a Stripe, and the command as an operator types it."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
import httpx
import pytest
import stripe
from typer.testing import CliRunner, Result

from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.adapters.stripe_gateway import connect
from cli.main import app
from stripe_simulator import running_simulator
from stripe_simulator.state import SimulatorState
from tests.conftest import table_properties, template

WEBHOOK_URL = "https://api.example.com/v1/billing/webhooks"
STRIPE_KEY = "sk_test_operator"
PARAMETERS = (
    "StripeMode",
    "StripeApiBase",
    "PastDueGraceDays",
    "SessionIssuer",
    "SessionAudience",
    "SessionAccountClaim",
    "SessionRoleClaim",
    "StripeEventSource",
)

type Billing = Callable[..., Result]


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack: the parts of template.yaml that the command works on."""

    name: str
    table_name: str
    secret_id: str
    session_secret_id: str
    endpoint_url: str

    def secret(self) -> dict[str, Any]:
        """What the Stripe secret holds."""
        return self._read(self.secret_id)

    def session_secret(self) -> dict[str, Any]:
        """What the session tokens' secret holds."""
        return self._read(self.session_secret_id)

    def secret_version(self) -> str:
        """Changes with each write of the secret."""
        return str(self._secrets.get_secret_value(SecretId=self.secret_id)["VersionId"])

    def write_secret(self, text: str) -> None:
        """Replace what the Stripe secret holds."""
        self._secrets.put_secret_value(SecretId=self.secret_id, SecretString=text)

    def repository(self) -> Repository:
        """The stack's table."""
        return Repository(Table(aws("dynamodb", self.endpoint_url), self.table_name))

    def write_session_secret(self, text: str) -> None:
        """Replace what the session tokens' secret holds."""
        self._secrets.put_secret_value(SecretId=self.session_secret_id, SecretString=text)

    def _read(self, secret_id: str) -> dict[str, Any]:
        return json.loads(self._secrets.get_secret_value(SecretId=secret_id)["SecretString"])  # type: ignore[no-any-return]

    @property
    def _secrets(self) -> Any:
        return aws("secretsmanager", self.endpoint_url)


@pytest.fixture
def deploy(emulator_url: str) -> Iterator[Callable[..., Stack]]:
    """Deploys a stack with some parameters, as often as it is called."""
    cloudformation = aws("cloudformation", emulator_url)
    names: list[str] = []

    def deploy(**parameters: str) -> Stack:
        names.append(f"billing-{uuid.uuid4().hex[:8]}")
        given: Any = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        body = json.dumps(stack_template())
        cloudformation.create_stack(StackName=names[-1], TemplateBody=body, Parameters=given)
        cloudformation.get_waiter("stack_create_complete").wait(StackName=names[-1], WaiterConfig={"Delay": 1})
        [stack] = cloudformation.describe_stacks(StackName=names[-1])["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        secrets = (outputs["StripeSecretArn"], outputs["SessionSecretArn"])
        return Stack(names[-1], outputs["TableName"], *secrets, emulator_url)

    yield deploy
    for name in names:
        cloudformation.delete_stack(StackName=name)


@pytest.fixture
def stack(deploy: Callable[..., Stack]) -> Stack:
    """A stack in test mode that nobody has set up yet."""
    return deploy()


@dataclass(frozen=True, slots=True)
class StripeAccount:
    """A simulated Stripe account: where its API is, and what is in it."""

    url: str
    world: SimulatorState

    def signing_secret(self, endpoint_id: str) -> str:
        """What Stripe signs an endpoint's deliveries with, and tells nobody after its creation."""
        return str(self.world.private[endpoint_id]["secret"])

    def fail(self, kind: str, method: str | None = None, path: str = "/v1/", count: int = 1) -> None:
        """Let the next calls go wrong."""
        fault = {"kind": kind, "count": count, "match": {"method": method, "path_prefix": path}}
        httpx.post(f"{self.url}/_simulator/faults", json=fault, trust_env=False).raise_for_status()


@pytest.fixture
def stripe_account() -> Iterator[StripeAccount]:
    """An empty Stripe account."""
    with running_simulator() as simulator:
        yield StripeAccount(simulator.url, simulator.server.state)


@pytest.fixture
def billing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Billing:
    """Runs `billing` on the stack, without a Stripe."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.endpoint_url)
    monkeypatch.setenv("BILLING_STACK", stack.name)

    def run(*words: str, typed: str | None = None, **environment: str) -> Result:
        return CliRunner().invoke(app, words, input=typed, env=environment)

    return run


@pytest.fixture
def operator(billing: Billing, stripe_account: StripeAccount, monkeypatch: pytest.MonkeyPatch) -> Billing:
    """Runs `billing` on the stack with a key of the Stripe account."""
    monkeypatch.setenv("STRIPE_API_KEY", STRIPE_KEY)
    monkeypatch.setenv("STRIPE_API_BASE", stripe_account.url)
    return billing


@cache
def aws(service: Any, endpoint_url: str) -> Any:
    """A client of the emulator; making one takes longer than most calls."""
    return boto3.client(service, endpoint_url=endpoint_url)


@cache
def stack_template() -> dict[str, Any]:
    """template.yaml without the functions and their API, as CloudFormation's JSON."""
    source = template()
    secrets = {name: source["Resources"][name] for name in ("StripeSecret", "SessionSecret")}
    table = {"Type": "AWS::DynamoDB::Table", "Properties": table_properties()}
    queue = {"Type": "AWS::SQS::Queue", "Condition": "HasStripeEventSource"}
    return {
        "Parameters": {name: source["Parameters"][name] for name in PARAMETERS},
        "Conditions": {"HasStripeEventSource": {"Fn::Not": [{"Fn::Equals": [{"Ref": "StripeEventSource"}, ""]}]}},
        "Resources": {"Table": table, "StripeEventDeadLetters": queue, **secrets},
        "Outputs": {
            "StripeEventDeadLettersUrl": source["Outputs"]["StripeEventDeadLettersUrl"],
            **{name: source["Outputs"][name] for name in ("TableName", "StripeSecretArn", "SessionSecretArn")},
            "WebhookUrl": {"Value": WEBHOOK_URL},
        },
    }


def answer(result: Result) -> dict[str, Any]:
    """What a command that succeeded answered with --json."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def refusal(result: Result) -> Mapping[str, str]:
    """Why a command with --json failed. Nothing is on stdout, and stderr is this one line."""
    assert (result.exit_code, result.stdout) == (1, "")
    error: Mapping[str, str] = json.loads(result.stderr)["error"]
    assert "\n" not in error["message"]
    return error


@pytest.fixture
def stripe_client(stripe_account: StripeAccount) -> stripe.StripeClient:
    """The Stripe account, through the official SDK."""
    return connect(STRIPE_KEY, stripe_account.url)
