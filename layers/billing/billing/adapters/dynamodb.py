"""DynamoDB table: the only module that calls DynamoDB.

Items are plain dictionaries. Errors of DynamoDB become:

| DynamoDB | raised |
|---|---|
| throttling, 5xx, no response | StoreUnavailable |
| a condition that failed, a transaction conflict | WriteRejected |
| any other error, such as a wrong request, table or permission | botocore's ClientError |
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from billing.domain.errors import BillingError, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

type Item = dict[str, Any]
type Write = Callable[[str], Any]
"""Function that takes the table's name and returns one write of a transaction."""

TEMPORARY_ERRORS = frozenset(
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
# Cancellation reasons: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
CONDITION_FAILED = "ConditionalCheckFailed"
REJECTIONS = frozenset({CONDITION_FAILED, "TransactionConflict"})
THROTTLING = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError"})
HTTP_SERVER_ERROR = 500
BATCH_ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class CancellationReason:
    """Reason why one write was rejected.

    Attributes:
        by_condition: True if the write's condition failed. False if another transaction was writing the item, or the
            write was throttled beside a rejected one; nothing is known about the item then.
        item: The item that failed the condition; None if there is none.
    """

    by_condition: bool
    item: Item | None = None


class WriteRejected(BillingError):
    """A write whose condition failed or that conflicted with another transaction. Nothing was written.

    Attributes:
        reasons: Reason of each rejected write, by the write's name.
    """

    def __init__(self, reasons: Mapping[str, CancellationReason]) -> None:
        self.reasons = reasons
        super().__init__("The condition of a write failed, or another transaction is writing the item")

    @property
    def has_conflict(self) -> bool:
        """True if another transaction or throttling prevented a write, so that not all items are known."""
        return not all(each.by_condition for each in self.reasons.values())

    def condition_failed(self, name: str) -> bool:
        """Return True if the condition of the write with this name failed."""
        return name in self.reasons and self.reasons[name].by_condition


@dataclass(frozen=True, slots=True)
class Page:
    """Page of a query.

    Attributes:
        continues_after: Sort key after which the next page begins; None at the end.
    """

    items: list[Item]
    continues_after: str | None


class Table:
    """One DynamoDB table. Every read is strongly consistent, except those of an index.

    Every method raises StoreUnavailable if DynamoDB throttles or does not answer.
    """

    def __init__(self, dynamodb: "DynamoDBClient", name: str) -> None:
        """Create a table on a client of any DynamoDB engine."""
        self.client = dynamodb
        self.name = name

    def get(self, pk: str, sk: str) -> Item | None:
        """Return one item; None if there is none."""
        with _map_errors():
            answer = self.client.get_item(TableName=self.name, Key=encode(key(pk, sk)), ConsistentRead=True)
        return decode(answer["Item"]) if "Item" in answer else None

    def query(self, pk: str, first: str, last: str) -> list[Item]:
        """Return every item of a partition from sort key `first` to `last`, in order."""
        request = self._range(pk, first, last)
        items: list[Item] = []
        # Not botocore's paginator: its first use adds 15 ms to a cold start.
        while True:
            with _map_errors():
                answer = self.client.query(**request)
            items += [decode(item) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def query_latest(
        self, pk: str, first: str, last: str, *, limit: int, filters: Item | None = None, before: str | None = None
    ) -> Page:
        """Return the last items of a partition between two sort keys, newest first, in one request.

        Args:
            pk: Partition key.
            first: First sort key of the range.
            last: Last sort key of the range.
            limit: Number of items that are read.
            filters: Values that attributes must have. The filter applies to the items that were read.
            before: Sort key within the range; only items before it are read. No item needs to have it.
        """
        request: Item = self._range(pk, first, last) | {"Limit": limit, "ScanIndexForward": False}
        if before:
            request["ExclusiveStartKey"] = encode(key(pk, before))
        if filters:
            request["FilterExpression"] = " AND ".join(f"#{name} = :{name}" for name in filters)
            request["ExpressionAttributeNames"] = {f"#{name}": name for name in filters}
            request["ExpressionAttributeValues"] |= encode({f":{name}": value for name, value in filters.items()})
        with _map_errors():
            answer = self.client.query(**request)
        after = answer.get("LastEvaluatedKey")
        return Page([decode(item) for item in answer["Items"]], after["sk"]["S"] if after else None)

    def query_first(self, pk: str, first: str, last: str, *, limit: int) -> list[Item]:
        """Return the first `limit` items of a partition between two sort keys, in order."""
        request = self._range(pk, first, last)
        items: list[Item] = []
        while True:
            with _map_errors():
                answer = self.client.query(**request, Limit=limit - len(items))
            items += [decode(item) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer or len(items) == limit:
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def batch_get(self, keys: Sequence[Item]) -> list[Item]:
        """Return the items of at most 100 keys, in no order. Keys without an item are left out."""
        request: Any = {self.name: {"Keys": [encode(each) for each in keys], "ConsistentRead": True}}
        items: list[Item] = []
        for attempt in range(BATCH_ATTEMPTS_MAX):
            with _map_errors():
                answer = self.client.batch_get_item(RequestItems=request)
            items += [decode(item) for item in answer["Responses"].get(self.name, [])]
            request = answer.get("UnprocessedKeys")
            if not request:
                return items
            time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter, no secret
        raise StoreUnavailable

    def scan(self, sk_prefix: str) -> Iterator[Item]:
        """Yield every item whose sort key has this prefix, in no order. Reads the whole table."""
        pages = self.client.get_paginator("scan").paginate(
            TableName=self.name,
            FilterExpression="begins_with(sk, :prefix)",
            ExpressionAttributeValues=encode({":prefix": sk_prefix}),
            ConsistentRead=True,
        )
        with _map_errors():
            yield from (decode(item) for page in pages for item in page["Items"])

    def query_index(
        self, index: str, partition: tuple[str, str], bounds: tuple[str, int, int], *, oldest_first: bool = False
    ) -> Iterator[Item]:
        """Yield the items of an index partition in order; each page is read when it is needed.

        An index is eventually consistent: the latest writes may be missing.

        Args:
            index: Name of the index.
            partition: Name and value of the index's partition key.
            bounds: Name, first and last value of the index's numeric sort key.
            oldest_first: Yield in ascending order; by default, the latest item comes first.
        """
        partition_name, value = partition
        sort_name, first, last = bounds
        pages = self.client.get_paginator("query").paginate(
            TableName=self.name,
            IndexName=index,
            KeyConditionExpression="#partition = :value AND #sort BETWEEN :first AND :last",
            ExpressionAttributeNames={"#partition": partition_name, "#sort": sort_name},
            ExpressionAttributeValues=encode({":value": value, ":first": first, ":last": last}),
            ScanIndexForward=oldest_first,
        )
        with _map_errors():
            yield from (decode(item) for page in pages for item in page["Items"])

    def transact_get(self, keys: Sequence[Item]) -> list[Item]:
        """Return the items of at most 100 keys as of one moment. Keys without an item are left out.

        Raises:
            WriteRejected: Another transaction is writing one of the items.
        """
        gets: Any = [{"Get": {"TableName": self.name, "Key": encode(each)}} for each in keys]
        with _map_errors([f"{each['pk']} {each['sk']}" for each in keys]):
            answer = self.client.transact_get_items(TransactItems=gets)
        return [decode(each["Item"]) for each in answer["Responses"] if "Item" in each]

    def update(self, write: Write) -> Item:
        """Run one update outside a transaction.

        Returns:
            The attributes that it set.

        Raises:
            WriteRejected: The condition failed. `reasons` has one entry, "update".
        """
        [parts] = write(self.name).values()
        with _map_errors(["update"]):
            answer = self.client.update_item(**parts, ReturnValues="UPDATED_NEW")
        return decode(answer.get("Attributes", {}))

    def write(self, write: Write) -> None:
        """Run one put or deletion outside a transaction, which costs half.

        Raises:
            WriteRejected: The condition failed. `reasons` has one entry, "write".
        """
        [(kind, parts)] = write(self.name).items()
        with _map_errors(["write"]):
            self.client.put_item(**parts) if kind == "Put" else self.client.delete_item(**parts)

    def transact(self, writes: Mapping[str, Write]) -> None:
        """Run at most 100 writes, all or none of them, in their order.

        Args:
            writes: Writes by a name of the caller's choice.

        Raises:
            WriteRejected: A condition failed, or another transaction is writing one of the items. Its reasons have the
                names of the writes.
        """
        with _map_errors([*writes]):
            self.client.transact_write_items(TransactItems=[write(self.name) for write in writes.values()])

    def _range(self, pk: str, first: str, last: str) -> Item:
        return {
            "TableName": self.name,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": encode({":pk": pk, ":first": first, ":last": last}),
            "ConsistentRead": True,
        }


@contextmanager
def _map_errors(names: Sequence[str] = ()) -> Iterator[None]:
    """Translate the errors of a call; `names` are those of its writes, in their order."""
    try:
        yield
    except BotoCoreError as error:
        raise StoreUnavailable from error
    except ClientError as error:
        response: Any = error.response
        code = response["Error"]["Code"]
        if code in TEMPORARY_ERRORS or response["ResponseMetadata"]["HTTPStatusCode"] >= HTTP_SERVER_ERROR:
            raise StoreUnavailable from error
        reasons = response.get("CancellationReasons", ())
        if code == "ConditionalCheckFailedException":
            reasons = [{"Code": CONDITION_FAILED, "Item": response.get("Item")}]
        if any(each["Code"] in REJECTIONS for each in reasons):
            raise WriteRejected(_rejections(names, reasons)) from error
        if any(each["Code"] in THROTTLING for each in reasons):
            raise StoreUnavailable from error
        raise


def _rejections(names: Sequence[str], reasons: Sequence[Mapping[str, Any]]) -> Mapping[str, CancellationReason]:
    """Return the reasons of the writes that were rejected or throttled. DynamoDB lists one reason for each write."""
    return {
        name: CancellationReason(each["Code"] == CONDITION_FAILED, decode(each["Item"]) if each.get("Item") else None)
        for name, each in zip(names, reasons, strict=False)
        if each["Code"] in REJECTIONS | THROTTLING
    }


# --- Writes -----------------------------------------------------------------------------------------------------------


def key(pk: str, sk: str) -> Item:
    """Return the key of an item."""
    return {"pk": pk, "sk": sk}


def put(item: Item, condition: str | None = None, values: Item | None = None) -> Write:
    """Return a write that replaces an item. If the condition fails, the stored item is returned with the rejection."""
    return lambda table: {"Put": {"TableName": table, "Item": encode(item)} | _condition(condition, values)}


def put_version(item: Item, expected_version: int) -> Write:
    """Return a write that replaces an item of this version; 0 if the item must not exist."""
    if expected_version == 0:
        return put(item, "attribute_not_exists(pk)")
    return put(item, "version = :expected", {":expected": expected_version})


def update(item_key: Item, expression: str, values: Item, condition: str | None = None) -> Write:
    """Return a write that changes or creates an item.

    If the condition fails, the stored item is returned with the rejection.

    Args:
        item_key: Key of the item.
        expression: Update expression. Write DynamoDB's reserved words as `#name`.
        values: Values of the placeholders in both expressions.
        condition: Condition expression.
    """
    reserved = {word: word[1:] for word in f"{expression} {condition}".replace(",", " ").split() if word[0] == "#"}
    names = {"ExpressionAttributeNames": reserved} if reserved else {}
    change = {"Key": encode(item_key), "UpdateExpression": expression} | names | _condition(condition, values)
    return lambda table: {"Update": change | {"TableName": table}}


def delete(item_key: Item, condition: str | None = None, values: Item | None = None) -> Write:
    """Return a write that deletes an item."""
    return lambda table: {"Delete": {"TableName": table, "Key": encode(item_key)} | _condition(condition, values)}


def check(item_key: Item, condition: str, values: Item) -> Write:
    """Return a condition on an item that a transaction does not write."""
    conditions = {"Key": encode(item_key)} | _condition(condition, values)
    return lambda table: {"ConditionCheck": conditions | {"TableName": table}}


def _condition(condition: str | None, values: Item | None) -> Item:
    expression = {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    return (expression if condition else {}) | ({"ExpressionAttributeValues": encode(values)} if values else {})


# --- DynamoDB's JSON (boto3's serializer would import all of boto3, and return numbers as Decimal) --------------------


def encode(item: Mapping[str, Any]) -> Item:
    """Return an item in DynamoDB's JSON. Raises TypeError for a value that DynamoDB cannot store."""
    return {name: _encode_value(value) for name, value in item.items()}


def _encode_value(value: Any) -> Item:  # noqa: ANN401 - any value of an item
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
            return {"M": encode(value)}
        case list():
            return {"L": [_encode_value(each) for each in value]}
        case _:
            raise TypeError(f"{type(value).__name__} cannot be stored in an item")


def decode(item: Mapping[str, Any]) -> Item:
    """Return the item of DynamoDB's JSON."""
    return {name: _decode_value(value) for name, value in item.items()}


def _decode_value(value: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any value of an item
    [(kind, inner)] = value.items()
    match kind:
        case "NULL":
            return None
        case "N":
            return int(inner)
        case "M":
            return decode(inner)
        case "L":
            return [_decode_value(each) for each in inner]
        case _:
            return inner
