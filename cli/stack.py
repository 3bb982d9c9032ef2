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
from billing.adapters.usage_repository import UsageRepository
from billing.domain.accounts import Account
from billing.domain.deployment import Deployment
from billing.domain.subscriptions import AccessPolicy
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
class Stack:
    """A deployed stack, by its outputs and parameters.

    Attributes:
        dead_letter_queue_url: Queue of failed events from EventBridge; None if the stack takes no events from there.
        stripe_api_base: Address of another Stripe; None for Stripe itself.
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

    @property
    def livemode(self) -> bool:
        """True for Stripe's live mode, False for test mode."""
        return self.deployment.livemode

    def repository(self) -> Repository:
        """Return the repository of accounts, keys and events."""
        return Repository(self._table())

    def usage_repository(self) -> UsageRepository:
        """Return the repository of counters and gauges."""
        return UsageRepository(self._table())

    def sqs_client(self) -> "SQSClient":
        """Return a client for the stack's queues."""
        return _client(self.session, "sqs")

    def _table(self) -> Table:
        return Table(_client(self.session, "dynamodb"), self.table_name)

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
        )
    except KeyError as missing:
        raise CommandFailed(
            "stack_unfit",
            f"The stack {name} ({description['StackStatus']}) has no {missing.args[0]}: "
            "deploy this project's template with `sam deploy`, or choose another stack with --stack.",
        ) from None


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
