"""Codec between dataclasses and DynamoDB items.

Each stored dataclass has a codec that declares how every field is stored. `tests/adapters/test_item_codec.py` fails for
a field without a declaration.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from billing.adapters.dynamodb import Item


@dataclass(frozen=True, slots=True)
class ItemCodec[T]:
    """Codec of one dataclass. Every field belongs to exactly one of the kinds below.

    Attributes:
        cls: The dataclass.
        plain: Fields stored unchanged: text, integers, booleans and JSON objects.
        times: Fields stored as whole seconds since 1970 (UTC).
        tuples: Fields that hold a tuple of plain values, stored as a list; an empty one is not stored.
        enums: Fields stored as the value of an enum, with its class.
        nested: Fields that hold another dataclass, with its codec.
        lists: Fields that hold a tuple of dataclasses, with their codec; an empty one is not stored.
        attributes: Attribute names that differ from the name of the field.
    """

    cls: type[T]
    plain: tuple[str, ...]
    times: tuple[str, ...] = ()
    tuples: tuple[str, ...] = ()
    enums: Mapping[str, type[StrEnum]] = field(default_factory=dict)
    nested: Mapping[str, "ItemCodec[Any]"] = field(default_factory=dict)
    lists: Mapping[str, "ItemCodec[Any]"] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the declared fields."""
        return (*self.plain, *self.times, *self.tuples, *self.enums, *self.nested, *self.lists)

    def encode(self, value: T) -> Item:
        """Return the attributes of a dataclass; None and an empty tuple are not stored."""
        values = {name: getattr(value, name) for name in self.fields}
        return {
            self.attributes.get(name, name): self._encode_field(name, each)
            for name, each in values.items()
            if each is not None and each != ()
        }

    def decode(self, item: Item) -> T:
        """Return the dataclass of an item. A field without an attribute gets its default, or None."""
        values: dict[str, Any] = {}
        for each in dataclasses.fields(self.cls):  # type: ignore[arg-type]  # T is a dataclass
            stored = item.get(self.attributes.get(each.name, each.name))
            if stored is not None:
                values[each.name] = self._decode_field(each.name, stored)
            elif each.default is dataclasses.MISSING:
                values[each.name] = None
        return self.cls(**values)

    def _encode_field(self, name: str, value: Any) -> Any:  # noqa: ANN401 - type of the field
        if name in self.times:
            return to_seconds(value)
        if name in self.tuples:
            return list(value)
        if name in self.enums:
            return value.value
        if name in self.lists:
            return [self.lists[name].encode(each) for each in value]
        return self.nested[name].encode(value) if name in self.nested else value

    def _decode_field(self, name: str, stored: Any) -> Any:  # noqa: ANN401 - type of the field
        if name in self.times:
            return from_seconds(stored)
        if name in self.tuples:
            return tuple(stored)
        if name in self.enums:
            return self.enums[name](stored)
        if name in self.lists:
            return tuple(self.lists[name].decode(each) for each in stored)
        return self.nested[name].decode(stored) if name in self.nested else stored


def to_seconds(moment: datetime) -> int:
    """Return a time as stored: whole seconds since 1970 (UTC)."""
    return int(moment.timestamp())


def from_seconds(seconds: int) -> datetime:
    """Return a stored time."""
    return datetime.fromtimestamp(seconds, UTC)
