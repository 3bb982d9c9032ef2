"""DynamoDB's errors on the wire: StoreUnavailable, WriteRejected, VersionConflict, or botocore's own error."""

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from billing.adapters.aws import CLIENT_CONFIG, session
from billing.adapters.dynamodb import BATCH_ATTEMPTS_MAX, CancellationReason, Table, WriteRejected, key, put, update
from billing.adapters.repository import (
    Commit,
    EventAlreadyProcessed,
    KeyRecord,
    ProcessedEvent,
    Repository,
    VersionConflict,
)
from billing.domain.accounts import Profile
from billing.domain.errors import StoreUnavailable
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import EventOutcome, ObjectRef
from tests.samples import NOW
from tests.wire import SILENCE_SECONDS, Answer, Wire

COMMIT = Commit(
    ProcessedEvent("evt_1", "invoice.paid", EventOutcome.APPLIED, NOW, account_id="acme"), profile=Profile("acme")
)
READS: Mapping[str, Callable[[Repository], object]] = {
    "load_account": lambda repository: repository.load_account("acme"),
    "load_subscription_rows": lambda repository: repository.load_subscription_rows("acme"),
    "find_key": lambda repository: repository.find_key("digest"),
    "list_keys": lambda repository: repository.list_keys("acme"),
    "revoke_key": lambda repository: repository.revoke_key("acme", "key_1", NOW),
    "read_event_context": lambda repository: repository.read_event_context(
        "evt_1", "cus_1", "acme", [ObjectRef(Subscription, "sub_1")]
    ),
}
WRITES: Mapping[str, Callable[[Repository], object]] = {
    "create_account": lambda repository: repository.create_account(Profile("acme")),
    "save_profile": lambda repository: repository.save_profile(Profile("acme"), new_customer_id="cus_1"),
    "create_key": lambda repository: repository.create_key("digest", KeyRecord("key_1", "acme", "secret", NOW, "abcd")),
    "commit": lambda repository: repository.commit(COMMIT),
}
CALLS = {**READS, **WRITES}

each_call = pytest.mark.parametrize("call", CALLS)
each_write = pytest.mark.parametrize("call", WRITES)


@cache
def connect(url: str, read_timeout: float = 4) -> Table:
    """Return a table whose client is configured as in the functions, but without retries.

    It is cached, because botocore needs half a second to create a client.
    """
    once = CLIENT_CONFIG.merge(Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout))
    client: Any = session().create_client("dynamodb", endpoint_url=url, config=once)
    return Table(client, "billing")


@pytest.fixture
def table(wire: Wire) -> Table:
    """A table on a DynamoDB whose responses the test sets."""
    return connect(wire.url)


@pytest.fixture
def repository(table: Table) -> Repository:
    """A repository on that table."""
    return Repository(table)


def ok(body: object) -> Answer:
    """Return a successful response."""
    return Answer(body=json.dumps(body).encode(), headers={"content-type": "application/x-amz-json-1.0"})


def failure(code: str, status: int = 400, **rest: object) -> Answer:
    """Return an error response in DynamoDB's format."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "No"} | rest
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/x-amz-json-1.0"})


def canceled(*codes: str) -> Answer:
    """Return the error of a canceled transaction, with the reason of each of its writes."""
    return failure("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])


# --- Outages ----------------------------------------------------------------------------------------------------------

# "OK to retry? Yes" in https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
TEMPORARY = [
    "InternalServerError",
    "ItemCollectionSizeLimitExceededException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionInProgressException",
]


@pytest.mark.parametrize("code", TEMPORARY)
@each_call
def test_retryable_error_raises_store_unavailable(call: str, code: str, wire: Wire, repository: Repository) -> None:
    wire.answer(failure(code))
    with pytest.raises(StoreUnavailable) as raised:
        CALLS[call](repository)
    assert raised.value.retry_after_seconds > 0


OUTAGES = {
    "internal error": failure("InternalServerError", 500),
    "unknown error": failure("SomethingNew", 500),
    "unavailable": Answer(503, b"<html>Service Unavailable</html>", {}),
    "bad gateway": Answer(502, b"", {}),
    "connection closed": Answer(cut=True),
}


@pytest.mark.parametrize("outage", OUTAGES)
@each_call
def test_server_error_raises_store_unavailable(call: str, outage: str, wire: Wire, repository: Repository) -> None:
    wire.answer(OUTAGES[outage])
    with pytest.raises(StoreUnavailable):
        CALLS[call](repository)


@each_call
def test_dynamodb_that_does_not_respond_raises_store_unavailable(call: str, wire: Wire) -> None:
    wire.answer(Answer(silent=True))
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        CALLS[call](Repository(connect(wire.url, read_timeout=0.05)))
    assert time.monotonic() - started < SILENCE_SECONDS


@each_call
def test_unreachable_dynamodb_raises_store_unavailable(call: str) -> None:
    with pytest.raises(StoreUnavailable):
        CALLS[call](Repository(connect("http://127.0.0.1:9")))


@pytest.mark.parametrize(
    "code",
    ["ValidationException", "ResourceNotFoundException", "AccessDeniedException", "UnrecognizedClientException"],
)
@each_call
def test_wrong_request_or_permission_raises_client_error(
    call: str, code: str, wire: Wire, repository: Repository
) -> None:
    """A wrong request, table, policy or credential is a defect, not an outage: it is logged as it is."""
    wire.answer(failure(code))
    with pytest.raises(ClientError, match=code):
        CALLS[call](repository)


# --- Canceled transactions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", [("None", "ConditionalCheckFailed"), ("None", "TransactionConflict")])
@each_write
def test_failed_condition_or_conflict_raises_version_conflict(
    call: str, codes: tuple[str, ...], wire: Wire, repository: Repository
) -> None:
    wire.answer(canceled(*codes))
    with pytest.raises(VersionConflict):
        WRITES[call](repository)


@pytest.mark.parametrize("code", ["ThrottlingError", "ProvisionedThroughputExceeded"])
@each_write
def test_throttled_transaction_raises_store_unavailable(
    call: str, code: str, wire: Wire, repository: Repository
) -> None:
    wire.answer(canceled("None", code))
    with pytest.raises(StoreUnavailable):
        WRITES[call](repository)


@pytest.mark.parametrize("code", ["ValidationError", "ItemCollectionSizeLimitExceeded"])
@each_write
def test_invalid_transaction_raises_client_error(call: str, code: str, wire: Wire, repository: Repository) -> None:
    """A retry or another version does not help."""
    wire.answer(canceled("None", code))
    with pytest.raises(ClientError):
        WRITES[call](repository)


def test_failed_condition_of_marker_raises_event_already_processed(wire: Wire, repository: Repository) -> None:
    """This applies whichever other writes were rejected with the marker."""
    wire.answer(canceled("ConditionalCheckFailed", "ConditionalCheckFailed"))
    with pytest.raises(EventAlreadyProcessed):
        repository.commit(COMMIT)


@pytest.mark.parametrize("codes", [("TransactionConflict", "None"), ("TransactionConflict", "TransactionConflict")])
def test_conflict_on_marker_raises_version_conflict(codes: tuple[str, ...], wire: Wire, repository: Repository) -> None:
    """The other transaction may still fail: a response of 200 could lose the event."""
    wire.answer(canceled(*codes))
    with pytest.raises(VersionConflict):
        repository.commit(COMMIT)


def test_rejected_transaction_names_the_rejected_writes(wire: Wire, table: Table) -> None:
    names = ("accepted", "failed", "missing", "conflicting", "throttled")
    reasons: list[dict[str, Any]] = [
        {"Code": "None"},
        {"Code": "ConditionalCheckFailed", "Item": {"used": {"N": "7"}}},
        {"Code": "ConditionalCheckFailed"},
        {"Code": "TransactionConflict"},
        {"Code": "ThrottlingError"},
    ]
    wire.answer(failure("TransactionCanceledException", CancellationReasons=reasons))
    with pytest.raises(WriteRejected) as rejected:
        table.transact({name: put(key("pk", name)) for name in names})
    assert rejected.value.reasons == {
        "failed": CancellationReason(by_condition=True, item={"used": 7}),
        "missing": CancellationReason(by_condition=True),
        "conflicting": CancellationReason(by_condition=False),
        "throttled": CancellationReason(by_condition=False),
    }
    assert [name for name in names if rejected.value.condition_failed(name)] == ["failed", "missing"]
    assert rejected.value.has_conflict
    sent = [each["Put"]["Item"]["sk"]["S"] for each in json.loads(wire.only.body)["TransactItems"]]
    assert sent == [*names]


def test_rejected_update_returns_the_stored_item(wire: Wire, table: Table) -> None:
    wire.answer(failure("ConditionalCheckFailedException", Item={"used": {"N": "7"}}))
    with pytest.raises(WriteRejected) as rejected:
        table.update(update(key("pk", "sk"), "SET used = :used", {":used": 8}, "used < :used"))
    assert rejected.value.reasons == {"update": CancellationReason(by_condition=True, item={"used": 7})}
    assert not rejected.value.has_conflict


# --- Requests ---------------------------------------------------------------------------------------------------------


@each_call
def test_reads_are_consistent_and_writes_are_transactions(call: str, wire: Wire, repository: Repository) -> None:
    wire.answer(ok({"Items": [], "Responses": {}}))
    CALLS[call](repository)
    operation = wire.only.headers["x-amz-target"].partition(".")[2]
    sent = json.loads(wire.only.body)
    if call in WRITES:
        assert operation == "TransactWriteItems"
    elif operation == "BatchGetItem":
        assert sent["RequestItems"]["billing"]["ConsistentRead"] is True
    else:
        assert sent["ConsistentRead"] is True


KEYS = [{"pk": {"S": "EVENT#evt_1"}, "sk": {"S": "RECEIVED"}}]
UNPROCESSED = {"Responses": {}, "UnprocessedKeys": {"billing": {"Keys": KEYS, "ConsistentRead": True}}}


def test_unprocessed_keys_are_requested_again(wire: Wire, repository: Repository) -> None:
    """An incomplete context would make a processed event look new."""
    marker = KEYS[0] | {"outcome": {"S": "applied"}}
    wire.answer(ok(UNPROCESSED), ok({"Responses": {"billing": [marker]}}))
    assert repository.read_event_context("evt_1", "cus_1", None, ()).outcome is EventOutcome.APPLIED
    assert json.loads(wire.requests[1].body)["RequestItems"]["billing"]["Keys"] == KEYS


def test_keys_that_stay_unprocessed_raise_store_unavailable(wire: Wire, repository: Repository) -> None:
    wire.answer(ok(UNPROCESSED))
    with pytest.raises(StoreUnavailable):
        repository.read_event_context("evt_1", "cus_1", None, ())
    assert len(wire.requests) == BATCH_ATTEMPTS_MAX


def test_client_of_the_functions_waits_seconds_and_not_a_minute() -> None:
    """With the default of a minute, a function would end before it can respond."""
    config: Any = CLIENT_CONFIG
    attempts = config.retries["total_max_attempts"]
    assert attempts * (config.connect_timeout + config.read_timeout) < 20
