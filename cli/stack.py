"""Deployed stack that a command works on, read from CloudFormation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, overload

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.adapters.sqs import Queue
from billing.adapters.usage_repository import UsageRepository
from billing.adapters.webhook_repository import WebhookRepository
from billing.adapters.webhook_sender import WebhookSender
from billing.domain.accounts import Account
from billing.domain.deployment import Deployment
from billing.domain.subscriptions import AccessPolicy
from billing.services.webhook_queue import DeliveryQueues
from cli.errors import CommandFailed

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_sqs.client import SQSClient

# Longer than in the functions: the operator may be on another continent than the region.
CLIENT_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """Claims of the stack's session tokens. An empty string is an unset parameter.

    Attributes:
        issuer: Required value of `iss`.
        audience: Required value of `aud`.
        account: Name of the claim with the account id.
        role: Name of the claim with the user's role.
    """

    issuer: str
    audience: str
    account: str
    role: str


@dataclass(frozen=True, slots=True)
class WebhookQueueUrls:
    """Queues of outbound events.

    Attributes:
        delivery: Deliveries that may start now.
        retry: Deliveries that are due within 15 minutes.
        delivery_dead_letters: Deliveries that could not be processed.
        dispatch_dead_letters: Events whose deliveries could not be requested.
    """

    delivery: str
    retry: str
    delivery_dead_letters: str
    dispatch_dead_letters: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack, by its outputs and parameters.

    Attributes:
        dead_letter_queue_url: Queue of failed events from EventBridge; None if the stack takes no events from there.
        stripe_api_base: Address of another Stripe; None for Stripe itself.
        outbound_event_bus: EventBridge bus that also receives the outbound events; None for none.
        allows_loopback_webhooks: True if webhook endpoints may have http URLs on the machine of the functions.
    """

    session: Session
    name: str
    table_name: str
    stripe_secret_arn: str
    session_secret_arn: str
    webhook_url: str
    dead_letter_queue_url: str | None
    deployment: Deployment
    stripe_api_base: str | None
    access_policy: AccessPolicy
    session_claims: SessionClaims
    webhook_queues: WebhookQueueUrls
    outbound_event_bus: str | None
    allows_loopback_webhooks: bool

    @property
    def livemode(self) -> bool:
        """True for Stripe's live mode, False for test mode."""
        return self.deployment.livemode

    def repository(self) -> Repository:
        """Return the repository of accounts, keys and events."""
        return Repository(self.table())

    def usage_repository(self) -> UsageRepository:
        """Return the repository of counters and gauges."""
        return UsageRepository(self.table())

    def table(self) -> Table:
        """Return the table."""
        return Table(_client(self.session, "dynamodb"), self.table_name)

    def webhook_repository(self) -> WebhookRepository:
        """Return the repository of webhook endpoints and deliveries."""
        return WebhookRepository(self.table())

    def webhook_sender(self) -> WebhookSender:
        """Return a sender with the functions' rules for URLs."""
        return WebhookSender(allows_loopback=self.allows_loopback_webhooks)

    def delivery_queues(self) -> DeliveryQueues:
        """Return the queues of webhook deliveries."""
        sqs = self.sqs_client()
        return DeliveryQueues(Queue(sqs, self.webhook_queues.delivery), Queue(sqs, self.webhook_queues.retry))

    def sqs_client(self) -> "SQSClient":
        """Return a client for the stack's queues."""
        return _client(self.session, "sqs")

    def load_secret(self, arn: str) -> dict[str, Any]:
        """Return the JSON object that a secret holds; empty if nothing was stored yet. Raises CommandFailed."""
        response = _client(self.session, "secretsmanager").get_secret_value(SecretId=arn)
        try:
            value = json.loads(response["SecretString"])
        except (KeyError, ValueError):
            value = None
        if not isinstance(value, dict):
            raise CommandFailed("secret_unreadable", f"The secret {arn} is not a JSON object: set it to {{}}.")
        return value

    def save_secret(self, arn: str, value: Mapping[str, Any]) -> None:
        """Replace the JSON object that a secret holds."""
        _client(self.session, "secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(value))


def find_stack(name: str, region: str | None) -> Stack:
    """Return the deployed stack. Raises CommandFailed and botocore's errors."""
    session = Session()
    session.set_config_variable("region", region)
    description = _describe(session, name)
    outputs = {each["OutputKey"]: each["OutputValue"] for each in description.get("Outputs", ())}
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in description.get("Parameters", ())}
    try:
        return _create_stack(session, name, outputs, parameters)
    except KeyError as missing:
        raise CommandFailed(
            "stack_unfit",
            f"The stack {name} ({description['StackStatus']}) has no {missing.args[0]}: "
            "deploy this project's template with `sam deploy`, or choose another stack with --stack.",
        ) from None


def _create_stack(session: Session, name: str, outputs: Mapping[str, str], parameters: Mapping[str, str]) -> Stack:
    """Return the stack of outputs and parameters. Raises KeyError with the name of a missing one."""
    return Stack(
        session=session,
        name=name,
        table_name=outputs["TableName"],
        stripe_secret_arn=outputs["StripeSecretArn"],
        session_secret_arn=outputs["SessionSecretArn"],
        webhook_url=outputs["WebhookUrl"],
        dead_letter_queue_url=outputs.get("StripeEventDeadLettersUrl"),
        deployment=Deployment(
            id=parameters["DeploymentId"] or name,
            livemode=parameters["StripeMode"] == "live",
            links_by_client_reference=parameters["LinkByClientReference"] == "true",
        ),
        stripe_api_base=parameters["StripeApiBase"] or None,
        access_policy=AccessPolicy(
            past_due_grace=timedelta(days=int(parameters["PastDueGraceDays"])),
            pause_collection_grants=parameters["PauseCollectionGrants"] == "true",
        ),
        session_claims=SessionClaims(
            issuer=parameters["SessionIssuer"],
            audience=parameters["SessionAudience"],
            account=parameters["SessionAccountClaim"],
            role=parameters["SessionRoleClaim"],
        ),
        webhook_queues=WebhookQueueUrls(
            delivery=outputs["DeliveryQueueUrl"],
            retry=outputs["RetryQueueUrl"],
            delivery_dead_letters=outputs["DeliveryDeadLettersUrl"],
            dispatch_dead_letters=outputs["DispatchDeadLettersUrl"],
        ),
        outbound_event_bus=parameters["OutboundEventBus"] or None,
        allows_loopback_webhooks=parameters["AllowLoopbackWebhooks"] == "true",
    )


def load_existing_account(repository: Repository, account_id: str) -> Account:
    """Return a stored account. Raises CommandFailed if it does not exist."""
    account = repository.load_account(account_id)
    if account.profile.version == 0:
        raise CommandFailed(
            "account_not_found",
            f"The account {account_id} does not exist: create it with `billing accounts create {account_id}`.",
        )
    return account


def _describe(session: Session, name: str) -> "StackTypeDef":
    try:
        return _client(session, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        raise CommandFailed(
            "stack_not_found",
            f"The stack {name} does not exist in this AWS account and region: "
            "deploy it with `sam deploy`, or choose another with --stack, --region or AWS_PROFILE.",
        ) from error


@overload
def _client(session: Session, service: Literal["cloudformation"]) -> "CloudFormationClient": ...
@overload
def _client(session: Session, service: Literal["dynamodb"]) -> "DynamoDBClient": ...
@overload
def _client(session: Session, service: Literal["secretsmanager"]) -> "SecretsManagerClient": ...
@overload
def _client(session: Session, service: Literal["sqs"]) -> "SQSClient": ...
def _client(session: Session, service: str) -> object:
    return session.create_client(service, config=CLIENT_CONFIG)
