"""A deployed stack: what the operator's commands have to know of it, read from CloudFormation."""

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
from cli.failures import refuse

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_sqs.client import SQSClient

# A person waits, perhaps on another continent than the region.
CLIENT_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """What the stack's session tokens must say, and the names of the claims with account and role; "" is unset."""

    issuer: str
    audience: str
    account: str
    role: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A stack, by its outputs and its parameters. `stripe_api_base` None is Stripe itself.

    `dead_letters_url` is the queue of events from EventBridge that failed; None where none come that way.
    """

    session: Session
    stack_name: str
    table_name: str
    stripe_secret_arn: str
    session_secret_arn: str
    webhook_url: str
    dead_letters_url: str | None
    livemode: bool
    stripe_api_base: str | None
    past_due_grace: timedelta
    session_claims: SessionClaims

    def repository(self) -> Repository:
        """The deployment's table."""
        return Repository(self._table())

    def usage_ledger(self) -> UsageRepository:
        """What the deployment's accounts have used."""
        return UsageRepository(self._table())

    def queue(self) -> "SQSClient":
        """A client for the deployment's queues."""
        return _client(self.session, "sqs")

    def _table(self) -> Table:
        return Table(_client(self.session, "dynamodb"), self.table_name)

    def load_secret(self, arn: str) -> dict[str, Any]:
        """What one of the stack's secrets holds; empty before anything was stored. Raises CommandFailed."""
        answer = _client(self.session, "secretsmanager").get_secret_value(SecretId=arn)
        try:
            value = json.loads(answer["SecretString"])
        except (KeyError, ValueError):
            value = None
        if not isinstance(value, dict):
            refuse("secret_unreadable", f"The secret {arn} is not a JSON object: set it to {{}}.")
        return value

    def save_secret(self, arn: str, value: Mapping[str, Any]) -> None:
        """Replace what one of the stack's secrets holds."""
        _client(self.session, "secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(value))


def find_deployment(stack_name: str, region: str | None) -> Deployment:
    """The deployed stack of that name. Raises CommandFailed, and botocore's errors."""
    session = Session()
    session.set_config_variable("region", region)
    stack = _describe(session, stack_name)
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", ())}
    try:
        return Deployment(
            session=session,
            stack_name=stack_name,
            table_name=outputs["TableName"],
            stripe_secret_arn=outputs["StripeSecretArn"],
            session_secret_arn=outputs["SessionSecretArn"],
            webhook_url=outputs["WebhookUrl"],
            dead_letters_url=outputs.get("StripeEventDeadLettersUrl"),
            livemode=parameters["StripeMode"] == "live",
            stripe_api_base=parameters["StripeApiBase"] or None,
            past_due_grace=timedelta(days=int(parameters["PastDueGraceDays"])),
            session_claims=SessionClaims(
                issuer=parameters["SessionIssuer"],
                audience=parameters["SessionAudience"],
                account=parameters["SessionAccountClaim"],
                role=parameters["SessionRoleClaim"],
            ),
        )
    except KeyError as missing:
        refuse(
            "stack_unfit",
            f"The stack {stack_name} ({stack['StackStatus']}) has no {missing.args[0]}: "
            "deploy this project's template with `sam deploy`, or name another stack with --stack.",
        )


def _describe(session: Session, stack_name: str) -> "StackTypeDef":
    try:
        return _client(session, "cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        refuse(
            "stack_not_found",
            f"There is no stack {stack_name} in this AWS account and region: "
            "deploy it with `sam deploy`, or name another with --stack, --region or AWS_PROFILE.",
        )


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
