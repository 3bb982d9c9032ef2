"""A deployment to measure: the emulator's DynamoDB and Secrets Manager over HTTP, one table, one stored secret."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import boto3

from bench.deliveries import WEBHOOK_SECRET
from billing.auth import digest_of, new_secret_key
from billing.domain.accounts import Profile
from billing.dynamodb import Table
from billing.store import KeyRecord, Store
from local import emulator, stack
from local.processes import start, stop
from local.world import free_port

TABLE_NAME = "bench"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a function needs in its environment, and the key of the account "acme"."""

    environment: Mapping[str, str]
    store: Store
    secret_key: str


@contextmanager
def deployment() -> Iterator[Deployment]:
    """Start the emulator and deploy to it what the functions use; stop it at the end."""
    with _emulator() as url:
        aws = {
            "AWS_ENDPOINT_URL": url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        store = Store(Table(boto3.client("dynamodb", **stack.aws(aws)), _create_table(aws)))
        variables = {
            "TABLE_NAME": TABLE_NAME,
            "STRIPE_SECRET_ID": _create_secret(aws),
            "ALLOWED_ORIGINS": "http://localhost:3000",
            "POWERTOOLS_SERVICE_NAME": "bench",
        }
        yield Deployment(aws | variables, store, _create_key(store, "acme"))


def _create_table(aws: Mapping[str, str]) -> str:
    boto3.client("dynamodb", **stack.aws(aws)).create_table(
        TableName=TABLE_NAME,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return TABLE_NAME


def _create_secret(aws: Mapping[str, str]) -> str:
    value = {"api_key": "sk_test_bench", "webhook_secrets": [WEBHOOK_SECRET]}
    secrets = boto3.client("secretsmanager", **stack.aws(aws))
    return secrets.create_secret(Name="bench", SecretString=json.dumps(value))["ARN"]


def _create_key(store: Store, account_id: str) -> str:
    key = new_secret_key(livemode=False)
    store.create_account(Profile(account_id))
    store.create_key(digest_of(key), KeyRecord("key_bench", account_id, "secret", datetime.now(UTC), key[-4:]))
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
