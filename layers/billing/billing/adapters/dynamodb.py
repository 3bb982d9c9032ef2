"""The one table on the wire, and the only module that talks to DynamoDB.

Rows go in and out as plain dictionaries. Errors of DynamoDB become StoreUnavailable; what a condition or another
transaction refuses is WriteRejected. What is none of them is a fault of ours and passes through.
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
"""A part of a transaction that still lacks the table's name."""

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
CONDITION_FAILED = "ConditionalCheckFailed"
REFUSED = frozenset({CONDITION_FAILED, "TransactionConflict"})
THROTTLED = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError"})
HTTP_SERVER_ERROR = 500
BATCH_ATTEMPTS_MAX = 5


@dataclass(frozen=True, slots=True)
class CancellationReason:
    """Why one write was refused: by its condition (with the row that it met, if any), or by what passes.

    That is another transaction or, beside a refusal, throttling: nothing was found out about the row.
    """

    by_condition: bool
    found: Item | None = None


class WriteRejected(BillingError):
    """Nothing was written. `refusals` has an entry for each write that stood in the way, by its place."""

    def __init__(self, reasons: Mapping[int, CancellationReason]) -> None:
        self.reasons = reasons
        super().__init__("A row is not as the write expects it")


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a query, and the sort key after which there are more; None at the end."""

    items: list[Item]
    continues_after: str | None


class Table:
    """The table, by DynamoDB's own operations. Every read is strongly consistent."""

    def __init__(self, dynamodb: "DynamoDBClient", name: str) -> None:
        """Take a client of any DynamoDB engine."""
        self.client = dynamodb
        self.name = name

    def get(self, pk: str, sk: str) -> Item | None:
        """One row, if it is there."""
        with _map_errors():
            answer = self.client.get_item(TableName=self.name, Key=encode(key(pk, sk)), ConsistentRead=True)
        return decode(answer["Item"]) if "Item" in answer else None

    def query(self, pk: str, first: str, last: str) -> list[Item]:
        """Every row of a partition from sort key `first` to `last`, in order."""
        request = self._range(pk, first, last)
        items: list[Item] = []
        # Not botocore's paginator, whose first use costs a cold start 15 ms.
        while True:
            with _map_errors():
                answer = self.client.query(**request)
            items += [decode(item) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return items
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def latest(
        self, pk: str, first: str, last: str, *, limit: int, only: Item | None = None, before: str | None = None
    ) -> Page:
        """The last `limit` rows of a range, newest first, in one request; of those, the ones as `only` says.

        `before` is a sort key of the range, of a row or not: only what comes before it counts.
        """
        request: Item = self._range(pk, first, last) | {"Limit": limit, "ScanIndexForward": False}
        if before:
            request["ExclusiveStartKey"] = encode(key(pk, before))
        if only:
            request["FilterExpression"] = " AND ".join(f"#{name} = :{name}" for name in only)
            request["ExpressionAttributeNames"] = {f"#{name}": name for name in only}
            request["ExpressionAttributeValues"] |= encode({f":{name}": value for name, value in only.items()})
        with _map_errors():
            answer = self.client.query(**request)
        after = answer.get("LastEvaluatedKey")
        return Page([decode(item) for item in answer["Items"]], after["sk"]["S"] if after else None)

    def batch_get(self, keys: Sequence[Item]) -> list[Item]:
        """The rows of at most 100 keys that are there, in no order."""
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
        """Every row whose sort key begins so, in no order, by reading the whole table."""
        pages = self.client.get_paginator("scan").paginate(
            TableName=self.name,
            FilterExpression="begins_with(sk, :prefix)",
            ExpressionAttributeValues=encode({":prefix": sk_prefix}),
            ConsistentRead=True,
        )
        with _map_errors():
            yield from (decode(item) for page in pages for item in page["Items"])

    def by_index(self, index: str, place: tuple[str, str], bounds: tuple[str, int, int]) -> Iterator[Item]:
        """The rows of an index, latest first, a page read when it is asked for; writes of the last moment may lack.

        `place` is the name and value of its partition key, `bounds` the name, first and last of its numeric sort key.
        """
        partition, value = place
        order, first, last = bounds
        pages = self.client.get_paginator("query").paginate(
            TableName=self.name,
            IndexName=index,
            KeyConditionExpression="#partition = :value AND #order BETWEEN :first AND :last",
            ExpressionAttributeNames={"#partition": partition, "#order": order},
            ExpressionAttributeValues=encode({":value": value, ":first": first, ":last": last}),
            ScanIndexForward=False,
        )
        with _map_errors():
            yield from (decode(item) for page in pages for item in page["Items"])

    def snapshot(self, keys: Sequence[Item]) -> list[Item]:
        """The rows of at most 100 keys that are there, as at one moment. Raises WriteRejected while one is written."""
        gets: Any = [{"Get": {"TableName": self.name, "Key": encode(each)}} for each in keys]
        with _map_errors():
            answer = self.client.transact_get_items(TransactItems=gets)
        return [decode(each["Item"]) for each in answer["Responses"] if "Item" in each]

    def update(self, write: Write) -> Item:
        """One update on its own; what it set, as it is now. Raises WriteRejected."""
        [parts] = write(self.name).values()
        with _map_errors():
            answer = self.client.update_item(**parts, ReturnValues="UPDATED_NEW")
        return decode(answer.get("Attributes", {}))

    def transact(self, writes: Sequence[Write]) -> None:
        """At most 100 writes, or none of them. Raises WriteRejected."""
        with _map_errors():
            self.client.transact_write_items(TransactItems=[write(self.name) for write in writes])

    def _range(self, pk: str, first: str, last: str) -> Item:
        return {
            "TableName": self.name,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": encode({":pk": pk, ":first": first, ":last": last}),
            "ConsistentRead": True,
        }


@contextmanager
def _map_errors() -> Iterator[None]:
    try:
        yield
    except BotoCoreError as error:
        raise StoreUnavailable from error
    except ClientError as error:
        response: Any = error.response
        code = response["Error"]["Code"]
        if code in UNAVAILABLE or response["ResponseMetadata"]["HTTPStatusCode"] >= HTTP_SERVER_ERROR:
            raise StoreUnavailable from error
        reasons = response.get("CancellationReasons", ())
        if code == "ConditionalCheckFailedException":
            reasons = [{"Code": CONDITION_FAILED, "Item": response.get("Item")}]
        if any(each["Code"] in REFUSED for each in reasons):
            in_the_way = REFUSED | THROTTLED
            raise WriteRejected(
                {place: _refusal(each) for place, each in enumerate(reasons) if each["Code"] in in_the_way}
            ) from error
        if any(each["Code"] in THROTTLED for each in reasons):
            raise StoreUnavailable from error
        raise


def _refusal(reason: Mapping[str, Any]) -> CancellationReason:
    item = reason.get("Item")
    return CancellationReason(reason["Code"] == CONDITION_FAILED, decode(item) if item else None)


# --- writes -----------------------------------------------------------------------------------------------------------


def key(pk: str, sk: str) -> Item:
    """What names a row."""
    return {"pk": pk, "sk": sk}


def put(item: Item, condition: str | None = None, values: Item | None = None) -> Write:
    """Write a whole row. A refusal by the condition tells the row that is there."""
    return lambda table: {"Put": {"TableName": table, "Item": encode(item)} | _condition(condition, values)}


def update(place: Item, expression: str, values: Item, condition: str | None = None) -> Write:
    """Change a row, or begin it; reserved names are written `#name`. A refusal tells the row that is there."""
    reserved = {word: word[1:] for word in f"{expression} {condition}".replace(",", " ").split() if word[0] == "#"}
    names = {"ExpressionAttributeNames": reserved} if reserved else {}
    change = {"Key": encode(place), "UpdateExpression": expression} | names | _condition(condition, values)
    return lambda table: {"Update": change | {"TableName": table}}


def _condition(condition: str | None, values: Item | None) -> Item:
    told = {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if condition else {}
    return told | ({"ExpressionAttributeValues": encode(values)} if values else {})


# --- DynamoDB's JSON (boto3's serializer would bring all of boto3 with it, and numbers as Decimal) --------------------


def encode(item: Mapping[str, Any]) -> Item:
    """A row as DynamoDB writes it. Raises TypeError for what has no place in one."""
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
            return {"M": encode(value)}
        case _:
            raise TypeError(f"{type(value).__name__} has no place in an item")


def decode(item: Mapping[str, Any]) -> Item:
    """A row out of what DynamoDB writes."""
    return {name: _decode_value(value) for name, value in item.items()}


def _decode_value(value: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever an item holds
    [(kind, inner)] = value.items()
    match kind:
        case "NULL":
            return None
        case "N":
            return int(inner)
        case "M":
            return decode(inner)
        case _:
            return inner
