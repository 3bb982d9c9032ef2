"""Helpers of the command's tests: a deployed stack, a Stripe account, and the output of a command."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3
import httpx
import stripe
from typer.main import get_command
from typer.testing import Result

from billing.adapters.dynamodb import Table
from billing.adapters.repository import Commit, ProcessedEvent, Repository
from billing.domain.accounts import OpenCheckout, Profile
from billing.stripe_events.event_types import EventOutcome
from billing.stripe_events.ordering import StoredObject
from cli.main import app
from stripe_simulator.state import SimulatorState
from tests.conftest import table_properties, template
from tests.samples import SUBSCRIPTION

NOW = datetime.now(UTC).replace(microsecond=0)

WEBHOOK_URL = "https://api.example.com/v1/billing/webhooks"
STRIPE_KEY = "sk_test_operator"
PARAMETERS = (
    "StripeMode",
    "StripeApiBase",
    "DeploymentId",
    "LinkByClientReference",
    "PastDueGraceDays",
    "PauseCollectionGrants",
    "SessionIssuer",
    "SessionAudience",
    "SessionAccountClaim",
    "SessionRoleClaim",
    "StripeEventSource",
    "OutboundEventBus",
    "AllowLoopbackWebhooks",
)
WEBHOOK_QUEUES = ("DeliveryQueue", "DeliveryDeadLetters", "RetryQueue", "DispatchDeadLetters")

type RunBilling = Callable[..., Result]


# --- Registered commands ----------------------------------------------------------------------------------------------


def registered_commands() -> dict[tuple[str, ...], Any]:
    """Return every command of `cli.main` by its words, without groups."""
    return dict(_leaf_commands((), get_command(app)))


def _leaf_commands(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, child in command.commands.items():
        yield from _leaf_commands((*words, name), child)


# --- Output of a command ----------------------------------------------------------------------------------------------


def json_output(result: Result, *, exit_code: int = 0) -> dict[str, Any]:
    """Return what a command printed with --json."""
    assert result.exit_code == exit_code, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def json_error(result: Result) -> Mapping[str, str]:
    """Return the error of a command with --json. Stdout is empty, and stderr is one line."""
    assert (result.exit_code, result.stdout) == (1, "")
    error: Mapping[str, str] = json.loads(result.stderr)["error"]
    assert "\n" not in error["message"]
    return error


def outcomes(changes: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Return the outcome of each object of `billing setup`, by kind and name."""
    return {(each["kind"], each["name"]): each["outcome"] for each in changes["changes"]}


# --- Deployed stack ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """The parts of template.yaml that the command works on, deployed to the emulator."""

    name: str
    table_name: str
    secret_id: str
    session_secret_id: str
    endpoint_url: str

    def secret(self) -> dict[str, Any]:
        """Return the content of the Stripe secret."""
        return self._read(self.secret_id)

    def session_secret(self) -> dict[str, Any]:
        """Return the content of the session secret."""
        return self._read(self.session_secret_id)

    def secret_version(self) -> str:
        """Return the version id of the Stripe secret, which changes with each write."""
        return str(self._secrets.get_secret_value(SecretId=self.secret_id)["VersionId"])

    def write_secret(self, text: str) -> None:
        """Replace the content of the Stripe secret."""
        self._secrets.put_secret_value(SecretId=self.secret_id, SecretString=text)

    def repository(self) -> Repository:
        """Return the repository of the stack's table."""
        return Repository(Table(aws("dynamodb", self.endpoint_url), self.table_name))

    def write_session_secret(self, text: str) -> None:
        """Replace the content of the session secret."""
        self._secrets.put_secret_value(SecretId=self.session_secret_id, SecretString=text)

    def _read(self, secret_id: str) -> dict[str, Any]:
        return json.loads(self._secrets.get_secret_value(SecretId=secret_id)["SecretString"])  # type: ignore[no-any-return]

    @property
    def _secrets(self) -> Any:
        return aws("secretsmanager", self.endpoint_url)


@cache
def aws(service: Any, endpoint_url: str) -> Any:
    """Return a client of the emulator. Creating one takes longer than most calls."""
    return boto3.client(service, endpoint_url=endpoint_url)


@cache
def stack_template() -> dict[str, Any]:
    """Return template.yaml without the functions and their API, as JSON."""
    source = template()
    secrets = {name: source["Resources"][name] for name in ("StripeSecret", "SessionSecret")}
    table = {"Type": "AWS::DynamoDB::Table", "Properties": table_properties()}
    queue = {"Type": "AWS::SQS::Queue", "Condition": "HasStripeEventSource"}
    return {
        "Parameters": {name: source["Parameters"][name] for name in PARAMETERS},
        "Conditions": {"HasStripeEventSource": {"Fn::Not": [{"Fn::Equals": [{"Ref": "StripeEventSource"}, ""]}]}},
        "Resources": {"Table": table, "StripeEventDeadLetters": queue, **secrets, **_webhook_queues()},
        "Outputs": {
            "StripeEventDeadLettersUrl": source["Outputs"]["StripeEventDeadLettersUrl"],
            **{name: source["Outputs"][name] for name in ("TableName", "StripeSecretArn", "SessionSecretArn")},
            **{f"{name}Url": source["Outputs"][f"{name}Url"] for name in WEBHOOK_QUEUES},
            "WebhookUrl": {"Value": WEBHOOK_URL},
        },
    }


def _webhook_queues() -> dict[str, Any]:
    """Return the queues of outbound events. The tests put messages into the dead-letter queues themselves."""
    queues = {name: template()["Resources"][name] for name in WEBHOOK_QUEUES}
    return {
        name: {
            **queue,
            "Properties": {key: value for key, value in queue["Properties"].items() if key != "RedrivePolicy"},
        }
        for name, queue in queues.items()
    }


def stack_outputs(stack: DeployedStack) -> dict[str, str]:
    """Return the outputs of the stack by name."""
    [described] = aws("cloudformation", stack.endpoint_url).describe_stacks(StackName=stack.name)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}


def table_items(stack: DeployedStack) -> list[Any]:
    """Return all items of the stack's table."""
    items = aws("dynamodb", stack.endpoint_url).scan(TableName=stack.table_name)["Items"]
    return sorted(items, key=lambda item: (item["pk"]["S"], item["sk"]["S"]))


# --- Stripe account ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StripeAccount:
    """A simulated Stripe account: address of its API, and its state."""

    url: str
    state: SimulatorState

    def signing_secret(self, endpoint_id: str) -> str:
        """Return an endpoint's signing secret, which Stripe shows only when the endpoint is created."""
        return str(self.state.private[endpoint_id]["secret"])

    def fail(self, kind: str, method: str | None = None, path: str = "/v1/", count: int = 1, **options: object) -> None:
        """Let the next requests fail. The options are further fields of the simulator's fault."""
        fault = {"kind": kind, "count": count, "match": {"method": method, "path_prefix": path}, **options}
        httpx.post(f"{self.url}/_simulator/faults", json=fault, trust_env=False).raise_for_status()


def create_price(client: stripe.StripeClient) -> None:
    """Create the catalog's monthly price of Pro."""
    product = client.v1.products.create({"name": "Pro"})
    client.v1.prices.create(
        {
            "product": product.id,
            "lookup_key": "pro_monthly",
            "currency": "usd",
            "unit_amount": 1900,
            "recurring": {"interval": "month"},
        }
    )


def create_subscription(client: stripe.StripeClient, account_id: str | None) -> stripe.Subscription:
    """Create a customer with a paid subscription. If `account_id` is given, their metadata names the account."""
    metadata = {"account_id": account_id} if account_id else {}
    payment = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer_params: Any = {"email": f"{account_id}@example.com", "metadata": metadata, **payment}
    customer = client.v1.customers.create(customer_params)
    [price] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    params: Any = {"customer": customer.id, "items": [{"price": price.id}], "metadata": metadata}
    return client.v1.subscriptions.create(params)


def age_events(account: StripeAccount) -> None:
    """Move all events two days into the past."""
    for event in account.state.all("event"):
        event["created"] -= 2 * 86_400


def move_events_to_organization_account(account: StripeAccount) -> None:
    """Let all events belong to another account of an organization."""
    for event in account.state.all("event"):
        event["context"] = "acct_other"


def customer_id_of(subscription: stripe.Subscription) -> str:
    """Return the customer id of a subscription."""
    assert isinstance(subscription.customer, str)
    return subscription.customer


def advance_clock(account: StripeAccount) -> None:
    """Let Stripe be read a minute later, so that a row that was just written is compared again."""
    httpx.post(f"{account.url}/_simulator/clock", json={"advance_seconds": 60}, trust_env=False).raise_for_status()


def change_stored_status(
    stack: DeployedStack, account: StripeAccount, account_id: str, subscription_id: str, status: str
) -> None:
    """Change a stored subscription without an event, a minute before Stripe is read again."""
    advance_clock(account)
    aws("dynamodb", stack.endpoint_url).update_item(
        TableName=stack.table_name,
        Key={"pk": {"S": f"ACCOUNT#{account_id}"}, "sk": {"S": f"SUB#{subscription_id}"}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
    )


def endpoints_of(client: stripe.StripeClient) -> list[stripe.WebhookEndpoint]:
    """Return all webhook endpoints of the account."""
    return list(client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter())


# --- Accounts ---------------------------------------------------------------------------------------------------------


def store_subscription(stack: DeployedStack, account_id: str, **changes: Any) -> None:
    """Store an active subscription with some changes, as an event does."""
    repository = stack.repository()
    repository.save_profile(
        Profile(account_id, version=1, customer_id="cus_1", email="billing@acme.example"), new_customer_id="cus_1"
    )
    subscription = replace(SUBSCRIPTION, current_period_start=NOW, current_period_end=NOW + timedelta(days=30))
    subscription = replace(
        subscription,
        created=NOW,
        cancel_at_period_end=True,
        unit_amount=1900,
        currency="usd",
        interval="year",
        interval_count=1,
        trial_end=NOW + timedelta(days=3),
        cancel_at=NOW + timedelta(days=90),
        pause_collection="void",
        pause_resumes_at=NOW + timedelta(days=9),
    )
    subscription = replace(subscription, **changes)
    marker = ProcessedEvent(
        "evt_1", "customer.subscription.created", EventOutcome.APPLIED, NOW, NOW, account_id, "cus_1"
    )
    repository.commit(Commit(marker, [StoredObject(subscription, NOW, NOW, 1)]))


def audit_entries(run_billing: RunBilling, account_id: str) -> list[tuple[str, str, str]]:
    """Return type, customer and reason of the operators' actions on an account, newest first."""
    events = json_output(run_billing("events", "list", "--account", account_id, "--json"))["events"]
    entries = [each for each in events if each["id"].startswith("operator_")]
    return [(each["type"], each["customer"], each["reason"]) for each in entries]


def stored_statuses(stack: DeployedStack, account_id: str) -> list[tuple[str, str]]:
    """Return plan and status of the account's stored subscriptions."""
    return [(str(each.plan), each.status) for each in stack.repository().load_account(account_id).subscriptions]


def open_checkout(stack: DeployedStack, client: stripe.StripeClient, customer_id: str) -> stripe.checkout.Session:
    """Create a Checkout Session of a customer, and the account acme with both."""
    [price] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer_id,
            "line_items": [{"price": price.id, "quantity": 1}],
            "success_url": "https://app.example.com/",
        }
    )
    checkout = OpenCheckout(session.id, "order")
    stack.repository().create_account(Profile("acme", customer_id=customer_id, open_checkout=checkout))
    return session
