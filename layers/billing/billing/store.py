"""The one table, and the only module that talks to DynamoDB. docs/data.md draws its rows.

Every write that depends on what was read is conditional on the row's `version`, and what belongs together is one
transaction. Errors of DynamoDB become StoreUnavailable; what a condition refuses has a name of its own.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from billing.aws import client
from billing.domain.accounts import Account, OpenCheckout, Profile
from billing.domain.errors import BillingError, StoreUnavailable
from billing.domain.invoices import Invoice
from billing.domain.outbound_events import OutboundEvent
from billing.domain.sightings import Sighting
from billing.domain.stripe_events import Outcome, Snapshot, Target
from billing.domain.subscriptions import Subscription
from billing.settings import load_settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

type Item = dict[str, Any]

EVENT_RETENTION = timedelta(days=35)
"""Longer than the 30 days for which Stripe resends an event."""

UNAVAILABLE = frozenset(
    {
        "InternalServerError",
        "ItemCollectionSizeLimitExceededException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)


REFUSED = frozenset({"ConditionalCheckFailed", "TransactionConflict"})
THROTTLED = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError"})
HTTP_SERVER_ERROR = 500
BATCH_ATTEMPTS_MAX = 5


class VersionConflict(BillingError):
    """Another writer was faster: read again and decide again. `refused_first`: it was the first write's condition."""

    def __init__(self, *, refused_first: bool) -> None:
        self.refused_first = refused_first
        super().__init__("A row is no longer the one that was read")


class EventAlreadyProcessed(BillingError):
    """The event's marker is there: somebody else committed its effect."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A secret key as it is kept: never the key itself. `id` is how an operator names it."""

    id: str
    account_id: str
    kind: str
    created: datetime
    last_characters: str
    revoked: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventMarker:
    """What became of an event."""

    event_id: str
    type: str
    outcome: Outcome
    processed: datetime
    created: datetime | None = None
    account_id: str | None = None
    customer_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that one event writes, in one transaction. A `profile` is written on its `version`."""

    marker: EventMarker
    rows: Sequence[Sighting[Snapshot]] = ()
    outbound: Sequence[OutboundEvent] = ()
    profile: Profile | None = None
    new_customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class EventContext:
    """What is known of the things an event names. `rows` holds only those that exist."""

    outcome: Outcome | None
    account_of_customer: str | None
    profile: Profile | None
    rows: Mapping[str, Sighting[Snapshot]]


class Store:
    """The table, by what is asked of it."""

    def __init__(self, dynamodb: "DynamoDBClient", table_name: str) -> None:
        """Take a client of any DynamoDB engine."""
        self._dynamodb = dynamodb
        self._table_name = table_name

    # --- accounts -----------------------------------------------------------------------------------------------------

    def load_account(self, account_id: str) -> Account:
        """The profile and all subscriptions, in one strongly consistent Query. Nothing stored is an empty account."""
        items = self._query(account_id, "PROFILE", "SUB#~")
        profile = next((_profile(item) for item in items if item["sk"] == "PROFILE"), Profile(account_id))
        subscriptions = tuple(_sighting(item).content for item in items if item["sk"].startswith("SUB#"))
        return Account(profile, tuple(each for each in subscriptions if isinstance(each, Subscription)))

    def load_subscription_rows(self, account_id: str) -> Mapping[str, Sighting[Snapshot]]:
        """Every subscription row of an account by its id, with what the event protocol needs of it."""
        rows = [_sighting(item) for item in self._query(account_id, "SUB#", "SUB#~")]
        return {row.content.id: row for row in rows}

    def create_account(self, profile: Profile) -> None:
        """Write a new account, with a nonce of its own. Raises VersionConflict if it is there."""
        created = replace(profile, version=1, nonce=secrets.token_hex(16))
        self._transact([_put_profile(created, expected_version=0)])

    def save_profile(self, profile: Profile, *, new_customer_id: str | None = None) -> Profile:
        """Write the profile over the version it was read at. Raises VersionConflict.

        `new_customer_id` also makes that Stripe customer findable, in the same transaction.
        """
        saved = replace(profile, version=profile.version + 1)
        writes = [_put_profile(saved, expected_version=profile.version)]
        if new_customer_id:
            writes.append(_put_customer(new_customer_id, profile.account_id))
        self._transact(writes)
        return saved

    # --- keys ---------------------------------------------------------------------------------------------------------

    def find_key(self, digest: str) -> KeyRecord | None:
        """The key with this SHA-256, revoked ones too; None if there never was one."""
        with _translated():
            answer = self._dynamodb.get_item(
                TableName=self._table_name, Key=_encode(_key(f"KEY#{digest}", "KEY")), ConsistentRead=True
            )
        return _key_record(_decode(answer["Item"])) if "Item" in answer else None

    def create_key(self, digest: str, record: KeyRecord) -> None:
        """Store a key, findable by its digest and listed with its account."""
        facts = _dump(record)
        self._transact(
            [
                _put(_key(f"KEY#{digest}", "KEY") | facts, "attribute_not_exists(pk)"),
                _put(_key(f"ACCOUNT#{record.account_id}", f"KEY#{record.id}") | facts | {"digest": digest}),
            ]
        )

    def list_keys(self, account_id: str) -> list[KeyRecord]:
        """All keys an account ever had."""
        return [_key_record(item) for item in self._query(account_id, "KEY#", "KEY#~")]

    def revoke_key(self, account_id: str, key_id: str, now: datetime) -> KeyRecord | None:
        """Stop a key from working, for good. None if the account has no such key."""
        item = next((item for item in self._query(account_id, "KEY#", "KEY#~") if item["id"] == key_id), None)
        if item is None:
            return None
        places = (_key(f"KEY#{item['digest']}", "KEY"), _key(f"ACCOUNT#{account_id}", f"KEY#{key_id}"))
        self._transact(
            [_update(place, "SET revoked = if_not_exists(revoked, :now)", {":now": _seconds(now)}) for place in places]
        )
        return replace(_key_record(item), revoked=_key_record(item).revoked or now)

    # --- Stripe's events ----------------------------------------------------------------------------------------------

    def read_event_context(
        self, event_id: str, customer_id: str, account_id: str | None, targets: Sequence[Target]
    ) -> EventContext:
        """The event's marker, whose customer it is, that account and its rows: one strongly consistent BatchGetItem."""
        wanted = [_key(f"EVENT#{event_id}", "RECEIVED"), _key(f"CUSTOMER#{customer_id}", "ACCOUNT")]
        if account_id:
            wanted.append(_key(f"ACCOUNT#{account_id}", "PROFILE"))
            wanted += [_key(f"ACCOUNT#{account_id}", _row_sk(target)) for target in targets]
        found = {(item["pk"], item["sk"]): item for item in self._batch_get(wanted)}
        marker = found.get((f"EVENT#{event_id}", "RECEIVED"))
        customer = found.get((f"CUSTOMER#{customer_id}", "ACCOUNT"))
        profile = found.get((f"ACCOUNT#{account_id}", "PROFILE"))
        rows = [_sighting(item) for (_, sk), item in found.items() if sk.startswith(("SUB#", "INV#"))]
        return EventContext(
            outcome=Outcome(marker["outcome"]) if marker else None,
            account_of_customer=customer["account_id"] if customer else None,
            profile=_profile(profile) if profile else None,
            rows={row.content.id: row for row in rows},
        )

    def commit(self, commit: Commit) -> None:
        """Write an event's marker and its whole effect, or nothing.

        Raises EventAlreadyProcessed if its marker is there with a final outcome, VersionConflict if a row or the
        profile is no longer the one that was read.
        """
        account_id = commit.marker.account_id
        writes = [_put_marker(commit.marker)]
        writes += [_put_row(f"ACCOUNT#{account_id}", row) for row in commit.rows]
        writes += [_put_outbound(event) for event in commit.outbound]
        if commit.profile:
            saved = replace(commit.profile, version=commit.profile.version + 1)
            writes.append(_put_profile(saved, expected_version=commit.profile.version))
        if commit.new_customer_id and account_id:
            writes.append(_put_customer(commit.new_customer_id, account_id))
        try:
            self._transact(writes)
        except VersionConflict as conflict:
            if conflict.refused_first:
                raise EventAlreadyProcessed from conflict
            raise

    # --- DynamoDB -----------------------------------------------------------------------------------------------------

    def _query(self, account_id: str, first: str, last: str) -> list[Item]:
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table_name,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues=_encode({":pk": f"ACCOUNT#{account_id}", ":first": first, ":last": last}),
            ConsistentRead=True,
        )
        with _translated():
            return [_decode(item) for page in pages for item in page["Items"]]

    def _batch_get(self, keys: Sequence[Item]) -> list[Item]:
        request: Any = {self._table_name: {"Keys": [_encode(key) for key in keys], "ConsistentRead": True}}
        items: list[Item] = []
        for attempt in range(BATCH_ATTEMPTS_MAX):
            with _translated():
                answer = self._dynamodb.batch_get_item(RequestItems=request)
            items += [_decode(item) for item in answer["Responses"].get(self._table_name, [])]
            request = answer.get("UnprocessedKeys")
            if not request:
                return items
            time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter, no secret
        raise StoreUnavailable

    def _transact(self, writes: Iterable[Callable[[str], "TransactWriteItemTypeDef"]]) -> None:
        items = [write(self._table_name) for write in writes]
        with _translated():
            self._dynamodb.transact_write_items(TransactItems=items)


@cache
def open_store() -> Store:
    """The store of this deployment, made on first use."""
    return Store(client("dynamodb"), load_settings().table_name)


@contextmanager
def _translated() -> Iterator[None]:
    """DynamoDB's errors in our words; what is none of them is a fault of ours and passes through."""
    try:
        yield
    except BotoCoreError as error:
        raise StoreUnavailable from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", ())]
        if code in UNAVAILABLE or error.response["ResponseMetadata"]["HTTPStatusCode"] >= HTTP_SERVER_ERROR:
            raise StoreUnavailable from error
        if any(reason in REFUSED for reason in reasons):
            raise VersionConflict(refused_first=reasons[0] == "ConditionalCheckFailed") from error
        if any(reason in THROTTLED for reason in reasons):
            raise StoreUnavailable from error
        raise


# --- writes: each is a part of a transaction that still lacks the table's name ----------------------------------------


def _put(item: Item, condition: str | None = None, values: Item | None = None) -> Callable[[str], Any]:
    put: Item = {"Item": _encode(item)}
    if condition:
        put["ConditionExpression"] = condition
    if values:
        put["ExpressionAttributeValues"] = _encode(values)
    return lambda table_name: {"Put": put | {"TableName": table_name}}


def _update(key: Item, expression: str, values: Item) -> Callable[[str], Any]:
    update = {"Key": _encode(key), "UpdateExpression": expression, "ExpressionAttributeValues": _encode(values)}
    return lambda table_name: {"Update": update | {"TableName": table_name}}


def _put_versioned(item: Item, expected_version: int) -> Callable[[str], Any]:
    if expected_version == 0:
        return _put(item, "attribute_not_exists(pk)")
    return _put(item, "version = :expected", {":expected": expected_version})


def _put_profile(profile: Profile, *, expected_version: int) -> Callable[[str], Any]:
    return _put_versioned(_key(f"ACCOUNT#{profile.account_id}", "PROFILE") | _dump(profile), expected_version)


def _put_customer(customer_id: str, account_id: str) -> Callable[[str], Any]:
    """A Stripe customer belongs to one account for good: writing it once more for the same account is no conflict."""
    item = _key(f"CUSTOMER#{customer_id}", "ACCOUNT") | {"account_id": account_id}
    return _put(item, "attribute_not_exists(pk) OR account_id = :account_id", {":account_id": account_id})


def _put_row(pk: str, row: Sighting[Snapshot]) -> Callable[[str], Any]:
    interval = {"seen_from": _seconds(row.seen_from), "seen_to": _seconds(row.seen_to), "version": row.version}
    item = _key(pk, _row_sk(Target(type(row.content), row.content.id, row.content))) | _dump(row.content) | interval
    return _put_versioned(item, row.version - 1)


def _put_marker(marker: EventMarker) -> Callable[[str], Any]:
    """The first line of defence against a second delivery: refused if the event already has a final outcome.

    Event seen first          -> no item, written.
    Delivered again, later    -> the reader finds the marker; this is never reached.
    Delivered again, meanwhile -> both read no marker, one is refused here.
    Was unmatched, seen again -> its outcome is not final, overwritten.
    """
    item = _key(f"EVENT#{marker.event_id}", "RECEIVED") | _dump(marker)
    item["expires_at"] = _seconds(marker.processed + EVENT_RETENTION)
    open_outcomes = {f":{outcome}": outcome.value for outcome in Outcome if not outcome.is_final}
    return _put(item, f"attribute_not_exists(pk) OR outcome IN ({', '.join(open_outcomes)})", open_outcomes)


def _put_outbound(event: OutboundEvent) -> Callable[[str], Any]:
    item = _key(f"ACCOUNT#{event.account_id}", f"OUT#{_seconds(event.occurred_at):012d}#{event.id}") | _dump(event)
    return _put(item | {"expires_at": _seconds(event.occurred_at + EVENT_RETENTION)})


# --- rows -------------------------------------------------------------------------------------------------------------


def _key(pk: str, sk: str) -> Item:
    return {"pk": pk, "sk": sk}


def _row_sk(target: Target) -> str:
    if isinstance(target.snapshot, Invoice):
        return f"INV#{_seconds(target.snapshot.created):012d}#{target.id}"
    return f"SUB#{target.id}"


def _sighting(item: Item) -> Sighting[Snapshot]:
    content = _load(Invoice, item) if item["sk"].startswith("INV#") else _load(Subscription, item)
    return Sighting(content, _moment(item["seen_from"]), _moment(item["seen_to"]), item["version"])


def _profile(item: Item) -> Profile:
    checkout = item.get("open_checkout")
    return _load(Profile, item | {"open_checkout": OpenCheckout(**checkout) if checkout else None})


def _key_record(item: Item) -> KeyRecord:
    return _load(KeyRecord, item)


def _dump(value: Any) -> Item:  # noqa: ANN401 - any of our frozen dataclasses
    """A dataclass as an item: times as seconds, what is None left out."""
    facts = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: _plain(fact) for name, fact in facts.items() if fact is not None}


def _plain(fact: Any) -> Any:  # noqa: ANN401 - whatever a field holds
    if isinstance(fact, datetime):
        return _seconds(fact)
    return _dump(fact) if isinstance(fact, OpenCheckout) else fact


def _load[T](cls: type[T], item: Item) -> T:
    """The dataclass that `_dump` made an item of. A field that older rows lack gets its default, or None."""
    known: Item = {}
    for field in fields(cls):  # type: ignore[arg-type]
        fact = item.get(field.name)
        if fact is not None or field.default is MISSING:
            known[field.name] = _moment(fact) if isinstance(fact, int) and "datetime" in str(field.type) else fact
    return cls(**known)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- DynamoDB's JSON (boto3's serializer would bring all of boto3 with it, and numbers as Decimal) --------------------


def _encode(item: Mapping[str, Any]) -> Item:
    return {name: _encode_value(value) for name, value in item.items()}


def _encode_value(value: Any) -> Item:  # noqa: ANN401 - whatever an item holds
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": str(value)}
        case Mapping():
            return {"M": _encode(value)}
        case _:
            raise TypeError(f"{type(value).__name__} has no place in an item")


def _decode(item: Mapping[str, Any]) -> Item:
    return {name: _decode_value(value) for name, value in item.items()}


def _decode_value(value: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever an item holds
    [(kind, inner)] = value.items()
    match kind:
        case "NULL":
            return None
        case "N":
            return int(inner)
        case "M":
            return _decode(inner)
        case _:
            return inner
