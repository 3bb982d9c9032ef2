"""DynamoDB's errors on the wire: StoreUnavailable, VersionConflict, or passed on as the fault of ours that they are."""

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from billing.adapters.aws import CLIENT_CONFIG, session
from billing.adapters.dynamodb import BATCH_ATTEMPTS_MAX, Table
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
def connect(url: str, read_timeout: float = 4) -> Repository:
    """A store whose client is as the functions', but asks once. Made once: a client takes botocore half a second."""
    once = CLIENT_CONFIG.merge(Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout))
    client: Any = session().create_client("dynamodb", endpoint_url=url, config=once)
    return Repository(Table(client, "billing"))


@pytest.fixture
def unsure(wire: Wire) -> Repository:
    """The store over a DynamoDB that answers what it is told."""
    return connect(wire.url)


def ok(body: object) -> Answer:
    """A good answer."""
    return Answer(body=json.dumps(body).encode(), headers={"content-type": "application/x-amz-json-1.0"})


def failure(code: str, status: int = 400, **rest: object) -> Answer:
    """An error in DynamoDB's own shape."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "No"} | rest
    return Answer(status, json.dumps(body).encode(), {"content-type": "application/x-amz-json-1.0"})


def cancelled(*reasons: str) -> Answer:
    """A transaction that was not made, with the reason of each of its writes."""
    return failure("TransactionCanceledException", CancellationReasons=[{"Code": reason} for reason in reasons])


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
def test_throttling_is_worth_another_try(call: str, code: str, wire: Wire, unsure: Repository) -> None:
    """What DynamoDB cannot do now it may do soon: nothing was written, and the caller is told so."""
    wire.answer(failure(code))
    with pytest.raises(StoreUnavailable) as refused:
        CALLS[call](unsure)
    assert refused.value.retry_after_seconds > 0


OUTAGES = {
    "internal error": failure("InternalServerError", 500),
    "an error nobody knows": failure("SomethingNew", 500),
    "unavailable": Answer(503, b"<html>Service Unavailable</html>", {}),
    "bad gateway": Answer(502, b"", {}),
    "cut off": Answer(cut=True),
}


@pytest.mark.parametrize("outage", OUTAGES)
@each_call
def test_an_outage_is_worth_another_try(call: str, outage: str, wire: Wire, unsure: Repository) -> None:
    """Any failure on DynamoDB's side is StoreUnavailable."""
    wire.answer(OUTAGES[outage])
    with pytest.raises(StoreUnavailable):
        CALLS[call](unsure)


@each_call
def test_a_silent_table_is_unavailable(call: str, wire: Wire) -> None:
    """A call that is not answered ends by itself."""
    wire.answer(Answer(silent=True))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        CALLS[call](connect(wire.url, read_timeout=0.05))
    assert time.monotonic() - began < SILENCE_SECONDS


@each_call
def test_an_unreachable_table_is_unavailable(call: str) -> None:
    """Nobody listens: the same."""
    with pytest.raises(StoreUnavailable):
        CALLS[call](connect("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    "code",
    ["ValidationException", "ResourceNotFoundException", "AccessDeniedException", "UnrecognizedClientException"],
)
@each_call
def test_a_fault_of_ours_is_not_hidden(call: str, code: str, wire: Wire, unsure: Repository) -> None:
    """A wrong request, table, policy or credential is no outage: it passes through and is logged as it is."""
    wire.answer(failure(code))
    with pytest.raises(ClientError, match=code):
        CALLS[call](unsure)


@pytest.mark.parametrize("reasons", [("None", "ConditionalCheckFailed"), ("None", "TransactionConflict")])
@each_write
def test_another_writer_was_faster(call: str, reasons: tuple[str, ...], wire: Wire, unsure: Repository) -> None:
    """A refused condition and a collision with another transaction are both reasons to read again."""
    wire.answer(cancelled(*reasons))
    with pytest.raises(VersionConflict):
        WRITES[call](unsure)


@pytest.mark.parametrize("reason", ["ThrottlingError", "ProvisionedThroughputExceeded"])
@each_write
def test_a_throttled_transaction_is_worth_another_try(call: str, reason: str, wire: Wire, unsure: Repository) -> None:
    """A transaction that was only throttled says nothing of versions."""
    wire.answer(cancelled("None", reason))
    with pytest.raises(StoreUnavailable):
        WRITES[call](unsure)


@pytest.mark.parametrize("reason", ["ValidationError", "ItemCollectionSizeLimitExceeded"])
@each_write
def test_an_impossible_transaction_is_a_fault_of_ours(call: str, reason: str, wire: Wire, unsure: Repository) -> None:
    """Neither another try nor another version would help."""
    wire.answer(cancelled("None", reason))
    with pytest.raises(ClientError):
        WRITES[call](unsure)


def test_the_markers_condition_means_a_duplicate(wire: Wire, unsure: Repository) -> None:
    """A refused marker is an event that somebody else has committed, whatever else was refused with it."""
    wire.answer(cancelled("ConditionalCheckFailed", "ConditionalCheckFailed"))
    with pytest.raises(EventAlreadyProcessed):
        unsure.commit(COMMIT)


@pytest.mark.parametrize("reasons", [("TransactionConflict", "None"), ("TransactionConflict", "TransactionConflict")])
def test_a_collision_on_the_marker_is_no_duplicate(reasons: tuple[str, ...], wire: Wire, unsure: Repository) -> None:
    """The other transaction may yet fail: to answer 200 now could lose the event."""
    wire.answer(cancelled(*reasons))
    with pytest.raises(VersionConflict) as refused:
        unsure.commit(COMMIT)
    assert not refused.value.first_write_rejected


@each_call
def test_reads_are_consistent(call: str, wire: Wire, unsure: Repository) -> None:
    """No answer is given from a replica that may lag; every write is one transaction."""
    wire.answer(ok({"Items": [], "Responses": {}}))
    CALLS[call](unsure)
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


def test_unprocessed_keys_are_asked_for_again(wire: Wire, unsure: Repository) -> None:
    """A read that DynamoDB did only in part is completed: half a context would look like an unknown event."""
    marker = KEYS[0] | {"outcome": {"S": "applied"}}
    wire.answer(ok(UNPROCESSED), ok({"Responses": {"billing": [marker]}}))
    assert unsure.read_event_context("evt_1", "cus_1", None, ()).outcome is EventOutcome.APPLIED
    assert json.loads(wire.requests[1].body)["RequestItems"]["billing"]["Keys"] == KEYS


def test_a_read_that_is_never_completed_is_unavailable(wire: Wire, unsure: Repository) -> None:
    """DynamoDB may go on answering in part: after a few times it counts as unavailable."""
    wire.answer(ok(UNPROCESSED))
    with pytest.raises(StoreUnavailable):
        unsure.read_event_context("evt_1", "cus_1", None, ())
    assert len(wire.requests) == BATCH_ATTEMPTS_MAX


def test_the_functions_client_is_bounded() -> None:
    """The client waits seconds, not botocore's minute, so that a function can answer before it is ended."""
    config: Any = CLIENT_CONFIG
    tries = config.retries["total_max_attempts"]
    assert tries * (config.connect_timeout + config.read_timeout) < 20
