"""Fixtures for the operations on webhook endpoints: the delivery queues, and a second account."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import pytest

from billing.adapters.repository import KeyRecord
from billing.api.authentication import KeyKind, digest_of, new_key
from billing.domain.accounts import Profile
from tests.functions.support import FunctionHarness
from tests.functions.webhook_api.support import QueueReader


@pytest.fixture
def delivery_queue(
    deployment: FunctionHarness, emulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[QueueReader]:
    """The delivery queue of a deployment that permits endpoints on this machine."""
    sqs = boto3.client("sqs", endpoint_url=emulator_url)
    name = deployment.table.name
    delivery_url = sqs.create_queue(QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    retry_url = sqs.create_queue(QueueName=f"{name}-retry")["QueueUrl"]
    monkeypatch.setenv("DELIVERY_QUEUE_URL", delivery_url)
    monkeypatch.setenv("RETRY_QUEUE_URL", retry_url)
    monkeypatch.setenv("ALLOW_LOOPBACK_WEBHOOKS", "true")
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "10000")
    yield QueueReader(sqs, delivery_url)
    for url in (delivery_url, retry_url):
        sqs.delete_queue(QueueUrl=url)


@pytest.fixture(autouse=True)
def _queues(delivery_queue: QueueReader) -> None:
    """Create the queues for each test."""


@pytest.fixture
def globex(deployment: FunctionHarness) -> FunctionHarness:
    """The same functions with the secret key of another account."""
    key = new_key(KeyKind.SECRET, livemode=False)
    deployment.repository.create_account(Profile("globex"))
    deployment.repository.create_key(
        digest_of(key), KeyRecord("key_9", "globex", "secret", datetime.now(UTC), key[-4:])
    )
    return dataclasses.replace(deployment, key=key)
