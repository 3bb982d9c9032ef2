"""Clients of AWS, made once per process and bounded in time. botocore alone: boto3 adds a tenth to every cold start."""

from functools import cache
from typing import TYPE_CHECKING, Literal, overload

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_sqs.client import SQSClient

CLIENT_CONFIG = Config(
    connect_timeout=1,
    read_timeout=4,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=50,
)

session = cache(botocore.session.get_session)


@overload
def client(service: Literal["dynamodb"]) -> "DynamoDBClient": ...
@overload
def client(service: Literal["secretsmanager"]) -> "SecretsManagerClient": ...
@overload
def client(service: Literal["sqs"]) -> "SQSClient": ...
@cache
def client(service: str) -> object:
    """The client of a service. Region, credentials and AWS_ENDPOINT_URL come from the environment, read by botocore."""
    return session().create_client(service, config=CLIENT_CONFIG)
