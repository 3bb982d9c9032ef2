"""Read and write units of DynamoDB: calculated by AWS's rules, and reported by the engine.

Emulators simplify some rules, so the benchmark prints both. Sources:

- https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
- https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html (item sizes)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from billing.adapters.aws import CLIENT_CONFIG, session

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

READ_BYTES = 4096
WRITE_BYTES = 1024
TRANSACTION = 2
"""Factor for writes in a transaction, which prepares and commits each write. Index writes are not doubled."""
INDEX_KEY = ("listed_under", "processed")
"""Key attributes of the index `Events`, which projects all attributes."""

type Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Units:
    """Read and write request units."""

    reads: float = 0
    writes: float = 0

    def __add__(self, other: "Units") -> "Units":
        return Units(self.reads + other.reads, self.writes + other.writes)

    def __sub__(self, other: "Units") -> "Units":
        return Units(self.reads - other.reads, self.writes - other.writes)

    def __str__(self) -> str:
        return f"{self.reads:.1f} read, {self.writes:.1f} written"

    def per(self, count: int) -> "Units":
        """Return the average of `count` requests or events."""
        return Units(self.reads / count, self.writes / count)


# --- Calculated units -------------------------------------------------------------------------------------------------


def item_bytes(item: Item) -> int:
    """Return the size of an item in DynamoDB's JSON: names and values."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Item) -> int:
    [(kind, inner)] = value.items()
    match kind:
        case "S":
            return len(inner.encode())
        case "N":
            return -(-len(inner.strip("-").rstrip("0") or "0") // 2) + 1
        case "M":
            return 3 + len(inner) + item_bytes(inner)
        case "L":
            return 3 + len(inner) + sum(map(_value_bytes, inner))
        case _:
            return 1


def read_units(items_bytes: Iterable[int]) -> int:
    """Return the units of strongly consistent reads, one size per read. A missing item takes one unit."""
    return sum(max(1, -(-size // READ_BYTES)) for size in items_bytes)


def write_units(before: Item | None, after: Item | None, *, transactional: bool) -> int:
    """Return the units of one write to the table and its index."""
    larger = max(item_bytes(before or {}), item_bytes(after or {}))
    table = max(1, -(-larger // WRITE_BYTES)) * (TRANSACTION if transactional else 1)
    return table + _index_units(_indexed(before), _indexed(after))


def _indexed(item: Item | None) -> Item | None:
    return item if item and all(name in item for name in INDEX_KEY) else None


def _index_units(before: Item | None, after: Item | None) -> int:
    """Return the units of the index.

    | index entry | writes |
    |---|---|
    | unchanged | none |
    | created, changed or deleted | one |
    | moved | two |
    """
    if before == after:
        return 0
    sizes = [-(-item_bytes(each) // WRITE_BYTES) for each in (before, after) if each]
    moves = bool(before and after) and any((before or {})[name] != (after or {})[name] for name in INDEX_KEY)
    return sum(sizes) if moves else max(sizes)


# --- Units of a client's requests -------------------------------------------------------------------------------------


class CapacityMeter:
    """Sum of the units of all requests of one client: `reported` by the engine and `calculated` by AWS's rules.

    For the calculation, a second client reads each written row before and after the write.
    """

    def __init__(self, metered: "DynamoDBClient") -> None:
        self.reported = self.calculated = Units()
        self.requests = 0
        self._reader: Any = session().create_client("dynamodb", config=CLIENT_CONFIG)
        metered.meta.events.register("provide-client-params.dynamodb", self._before)
        metered.meta.events.register("after-call.dynamodb", self._after)

    def _before(self, params: Any, context: Any, **_: object) -> Any:  # noqa: ANN401 - botocore's events are untyped
        keys = list(_written_keys(params))
        context["bench"] = params, [(key, self._read(*key)) for key in keys]
        return params | {"ReturnConsumedCapacity": "TOTAL"}

    def _after(self, parsed: Any, model: Any, context: Any, **_: object) -> None:  # noqa: ANN401
        params, before = context["bench"]
        self.requests += 1
        transactional = model.name == "TransactWriteItems"
        if before:
            writes = [write_units(item, self._read(*key), transactional=transactional) for key, item in before]
            self.calculated += Units(writes=sum(writes))
        else:
            self.calculated += Units(reads=_units_of_read(params, parsed))
        reported = sum(each["CapacityUnits"] for each in _as_list(parsed.get("ConsumedCapacity", [])))
        self.reported += Units(writes=reported) if before else Units(reads=reported)

    def _read(self, table: str, key: Item) -> Item | None:
        item: Item | None = self._reader.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
        return item


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401 - one value, or a list of values
    return value if isinstance(value, list) else [value]


def _written_keys(params: Item) -> Iterator[tuple[str, Item]]:
    """Return the table and key of each row that a request writes."""
    writes = [write for each in params.get("TransactItems", ()) for write in each.values()]
    if "UpdateExpression" in params or "Item" in params:
        writes.append(params)
    for write in writes:
        named = write.get("Key") or write["Item"]
        yield write["TableName"], {name: named[name] for name in ("pk", "sk")}


def _units_of_read(params: Item, response: Item) -> int:
    if "RequestItems" in params:
        found = [item for items in response["Responses"].values() for item in items]
        missing = sum(len(each["Keys"]) for each in params["RequestItems"].values()) - len(found)
        return read_units([*map(item_bytes, found), *[0] * missing])
    found = response["Items"] if "Items" in response else [response.get("Item", {})]
    return read_units([sum(map(item_bytes, found))])
