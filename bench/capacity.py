"""Read and write units of DynamoDB, as its documentation counts them and as the engine at hand tells them.

The rules are AWS's; emulators round some of them off, so that both are shown:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html and, for the size of an
item, CapacityUnitCalculations.html beside it.
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
"""A transaction prepares each write and then commits it; an index is written once, after it."""
INDEX_KEY = ("listed_under", "processed")
"""What an item must have to be in the index Events, which projects all attributes."""

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
        """The same for one of so many."""
        return Units(self.reads / count, self.writes / count)


# --- AWS's rules ------------------------------------------------------------------------------------------------------


def item_bytes(item: Item) -> int:
    """The size of an item in DynamoDB's JSON: names and values."""
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
        case _:
            return 1


def read_units(items_bytes: Iterable[int]) -> int:
    """Of strongly consistent reads that are counted one by one; what is not there counts as something small."""
    return sum(max(1, -(-size // READ_BYTES)) for size in items_bytes)


def write_units(before: Item | None, after: Item | None, *, transactional: bool) -> int:
    """Of one write to the table and to its index."""
    larger = max(item_bytes(before or {}), item_bytes(after or {}))
    table = max(1, -(-larger // WRITE_BYTES)) * (TRANSACTION if transactional else 1)
    return table + _index_units(_indexed(before), _indexed(after))


def _indexed(item: Item | None) -> Item | None:
    return item if item and all(name in item for name in INDEX_KEY) else None


def _index_units(before: Item | None, after: Item | None) -> int:
    """Nothing for an entry that stays as it is, one write to make, change or remove one, both for one that moves."""
    if before == after:
        return 0
    sizes = [-(-item_bytes(each) // WRITE_BYTES) for each in (before, after) if each]
    moves = bool(before and after) and any((before or {})[name] != (after or {})[name] for name in INDEX_KEY)
    return sum(sizes) if moves else max(sizes)


# --- what a client's requests consume ---------------------------------------------------------------------------------


class Meter:
    """Adds up what every request of one client consumes. `told` by the engine, `computed` by the rules.

    For the rules, each row of a write is read before and after it by another client.
    """

    def __init__(self, metered: "DynamoDBClient") -> None:
        self.told = self.computed = Units()
        self.requests = 0
        self._reader: Any = session().create_client("dynamodb", config=CLIENT_CONFIG)
        metered.meta.events.register("provide-client-params.dynamodb", self._before)
        metered.meta.events.register("after-call.dynamodb", self._after)

    def _before(self, params: Any, context: Any, **_: object) -> Any:  # noqa: ANN401 - botocore's events are untyped
        places = list(_written(params))
        context["bench"] = params, [(place, self._read(*place)) for place in places]
        return params | {"ReturnConsumedCapacity": "TOTAL"}

    def _after(self, parsed: Any, model: Any, context: Any, **_: object) -> None:  # noqa: ANN401
        params, before = context["bench"]
        self.requests += 1
        transactional = model.name == "TransactWriteItems"
        if before:
            writes = [write_units(item, self._read(*place), transactional=transactional) for place, item in before]
            self.computed += Units(writes=sum(writes))
        else:
            self.computed += Units(reads=_units_read(params, parsed))
        told = sum(each["CapacityUnits"] for each in _listed(parsed.get("ConsumedCapacity", [])))
        self.told += Units(writes=told) if before else Units(reads=told)

    def _read(self, table: str, place: Item) -> Item | None:
        item: Item | None = self._reader.get_item(TableName=table, Key=place, ConsistentRead=True).get("Item")
        return item


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - one, or a list of them
    return value if isinstance(value, list) else [value]


def _written(params: Item) -> Iterator[tuple[str, Item]]:
    """The table and key of each row that a request writes."""
    writes = [write for each in params.get("TransactItems", ()) for write in each.values()]
    if "UpdateExpression" in params:
        writes.append(params)
    for write in writes:
        named = write.get("Key") or write["Item"]
        yield write["TableName"], {name: named[name] for name in ("pk", "sk")}


def _units_read(params: Item, answer: Item) -> int:
    if "RequestItems" in params:
        found = [item for items in answer["Responses"].values() for item in items]
        missing = sum(len(each["Keys"]) for each in params["RequestItems"].values()) - len(found)
        return read_units([*map(item_bytes, found), *[0] * missing])
    found = answer["Items"] if "Items" in answer else [answer.get("Item", {})]
    return read_units([sum(map(item_bytes, found))])
