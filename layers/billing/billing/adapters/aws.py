"""AWS clients, created once per process, with short timeouts. boto3 is not used: it adds 10 % to every cold start."""

from functools import cache
from typing import TYPE_CHECKING, Literal, overload

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_events.client import EventBridgeClient
    from mypy_boto3_secretsmanager.client import SecretsManagerClient
    from mypy_boto3_sqs.client import SQSClient

CLIENT_CONFIG = Config(
    connect_timeout=1,
    read_timeout=4,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=50,
)

_clients: dict[str, object] = {}


@cache
def session() -> botocore.session.Session:
    """Return the botocore session of this process."""
    return botocore.session.get_session()


@overload
def client(service: Literal["dynamodb"]) -> "DynamoDBClient": ...
@overload
def client(service: Literal["secretsmanager"]) -> "SecretsManagerClient": ...
@overload
def client(service: Literal["sqs"]) -> "SQSClient": ...
@overload
def client(service: Literal["events"]) -> "EventBridgeClient": ...
def client(service: str) -> object:
    """Return the client of a service. botocore reads region, credentials and AWS_ENDPOINT_URL from the environment."""
    if service not in _clients:
        _clients[service] = session().create_client(service, config=CLIENT_CONFIG)
    return _clients[service]


def reset() -> None:
    """Discard every client, as in a new process."""
    _clients.clear()
