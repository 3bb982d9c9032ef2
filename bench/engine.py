"""Deployment for measurements: the emulator's DynamoDB and Secrets Manager over HTTP, one table, two secrets."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from bench.deliveries import DEPLOYMENT, SESSION_ISSUER, SESSION_SECRET, WEBHOOK_SECRET, session_token
from billing.adapters.dynamodb import Table
from billing.adapters.repository import KeyRecord, Repository
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.domain.accounts import Profile
from billing.settings import RATE_LIMIT_MAX
from local import emulator, stack
from local.ports import free_port
from local.processes import start, stop

TABLE_NAME = "bench"
RATE_LIMIT = str(RATE_LIMIT_MAX)
TABLE: Any = {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
        {"AttributeName": "listed_under", "AttributeType": "S"},
        {"AttributeName": "processed", "AttributeType": "N"},
    ],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "Events",
            "KeySchema": [
                {"AttributeName": "listed_under", "KeyType": "HASH"},
                {"AttributeName": "processed", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
"""The template's table (tests/bench/test_bench.py)."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Environment variables of the functions, the repository, and the credentials of the account "acme"."""

    environment: Mapping[str, str]
    repository: Repository
    secret_key: str
    session_token: str


@contextmanager
def deployment() -> Iterator[Deployment]:
    """Start the emulator and create the table and secrets. Stop the emulator on exit."""
    with _emulator() as url:
        aws = {
            "AWS_ENDPOINT_URL": url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        repository = Repository(Table(boto3.client("dynamodb", **stack.client_options(aws)), _create_table(aws)))
        variables = {
            "TABLE_NAME": TABLE_NAME,
            "DEPLOYMENT_ID": DEPLOYMENT.id,
            "STRIPE_SECRET_ID": _create_secret(
                aws, "stripe", {"api_key": "sk_test_bench", "webhook_secrets": [WEBHOOK_SECRET]}
            ),
            "SESSION_SECRET_ID": _create_secret(aws, "session", {"shared_secrets": [SESSION_SECRET]}),
            "SESSION_ISSUER": SESSION_ISSUER,
            "RATE_LIMIT_PER_MINUTE": RATE_LIMIT,
            "RATE_LIMIT_PER_HOUR": RATE_LIMIT,
            "ALLOWED_ORIGINS": "http://localhost:3000",
            "POWERTOOLS_SERVICE_NAME": "bench",
        }
        yield Deployment(aws | variables, repository, _create_key(repository, "acme"), session_token("acme"))


def _create_table(aws: Mapping[str, str]) -> str:
    boto3.client("dynamodb", **stack.client_options(aws)).create_table(TableName=TABLE_NAME, **TABLE)
    return TABLE_NAME


def _create_secret(aws: Mapping[str, str], name: str, value: Mapping[str, object]) -> str:
    secrets = boto3.client("secretsmanager", **stack.client_options(aws))
    return secrets.create_secret(Name=name, SecretString=json.dumps(value))["ARN"]


def _create_key(repository: Repository, account_id: str) -> str:
    key = new_key(KeyKind.SECRET, livemode=False)
    repository.create_account(Profile(account_id))
    repository.create_key(digest_of(key), KeyRecord("key_bench", account_id, "secret", datetime.now(UTC), key[-4:]))
    return key


@contextmanager
def _emulator() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        child = start("emulator", emulator.COMMAND, emulator.environment(port, scratch), scratch / "emulator.log")
        try:
            emulator.wait_until_healthy(url, child)
            yield url
        finally:
            stop([child])
