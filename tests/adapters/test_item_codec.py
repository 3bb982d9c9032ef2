"""Codecs of stored dataclasses: every field is declared, with the kind that its type requires."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from billing.adapters import outbox, reconciliation_checkpoint, repository, webhook_repository
from billing.adapters.item_codec import ItemCodec
from billing.adapters.repository import KeyRecord, ProcessedEvent
from billing.domain.accounts import OpenCheckout, Profile
from billing.domain.invoices import Invoice
from billing.domain.outbound_events import OutboundEvent
from billing.domain.subscriptions import PendingChange, Subscription
from billing.domain.webhook_deliveries import Attempt, Delivery, EndpointHealth
from billing.domain.webhook_endpoints import EndpointList, SigningSecret, WebhookEndpoint
from billing.stripe_events.drift import Checkpoint


def codecs() -> list[ItemCodec[Any]]:
    """Return every codec of the repositories, with the nested ones."""
    modules = (repository, reconciliation_checkpoint, outbox, webhook_repository)
    found = [each for module in modules for each in vars(module).values() if isinstance(each, ItemCodec)]
    nested = [inner for each in found for inner in inner_codecs(each)]
    return list({id(each): each for each in (*found, *nested)}.values())


def inner_codecs(codec: ItemCodec[Any]) -> Iterator[ItemCodec[Any]]:
    """Yield the codecs of fields, at any depth."""
    for each in (*codec.nested.values(), *codec.lists.values()):
        yield each
        yield from inner_codecs(each)


each_codec = pytest.mark.parametrize("codec", codecs(), ids=lambda codec: codec.cls.__name__)


def test_every_stored_dataclass_has_one_codec() -> None:
    accounts = [Profile, OpenCheckout, KeyRecord, Subscription, PendingChange, Invoice]
    webhooks = [EndpointList, WebhookEndpoint, SigningSecret, Delivery, Attempt, EndpointHealth]
    stored = [*accounts, *webhooks, ProcessedEvent, OutboundEvent, Checkpoint]
    assert sorted(codec.cls.__name__ for codec in codecs()) == sorted(each.__name__ for each in stored)


@each_codec
def test_every_field_is_declared_once(codec: ItemCodec[Any]) -> None:
    assert sorted(codec.fields) == sorted(each.name for each in dataclasses.fields(codec.cls))


@each_codec
def test_kind_of_every_field_matches_its_type(codec: ItemCodec[Any]) -> None:
    hints = get_type_hints(codec.cls)
    types = {name: {*get_args(hint)} or {hint} for name, hint in hints.items()}
    assert set(codec.times) == {name for name, each in types.items() if datetime in each}
    enums = {name: each for name, each in types.items() if any(issubclass_of(kind, StrEnum) for kind in each)}
    assert {name: {cls} for name, cls in codec.enums.items()} == {
        name: each - {type(None)} for name, each in enums.items()
    }
    assert {*codec.tuples, *codec.lists} == {name for name, hint in hints.items() if get_origin(hint) is tuple}
    dataclass_fields = {name: each for name, each in types.items() if any(map(dataclasses.is_dataclass, each))}
    assert {name: {inner.cls, ...} for name, inner in codec.lists.items()} == {
        name: each for name, each in dataclass_fields.items() if ... in each
    }
    nested = {name: each for name, each in dataclass_fields.items() if ... not in each}
    assert {name: {inner.cls} for name, inner in codec.nested.items()} == {
        name: each - {type(None)} for name, each in nested.items()
    }


def issubclass_of(kind: object, base: type) -> bool:
    """Return True if `kind` is a subclass of `base`; False if it is no class."""
    return isinstance(kind, type) and issubclass(kind, base)


@each_codec
def test_attribute_names_are_distinct_and_not_those_of_the_key(codec: ItemCodec[Any]) -> None:
    names = [codec.attributes.get(name, name) for name in codec.fields]
    assert set(codec.attributes) <= set(codec.fields)
    assert len({*names, "pk", "sk"}) == len(names) + 2


type Moment = datetime
"""An alias, so that the annotation of a field does not contain the name of the class."""


class Color(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    at: Moment


@dataclass(frozen=True)
class Outer:
    number: int
    at: Moment | None
    color: Color = Color.RED
    inner: Inner | None = None


OUTER = ItemCodec(
    Outer,
    plain=("number",),
    times=("at",),
    enums={"color": Color},
    nested={"inner": ItemCodec(Inner, plain=(), times=("at",))},
    attributes={"number": "n"},
)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECONDS = int(NOON.timestamp())


def test_encode_stores_times_enums_and_nested_dataclasses_as_declared() -> None:
    item = OUTER.encode(Outer(7, NOON, Color.RED, Inner(NOON)))
    assert item == {"n": 7, "at": SECONDS, "color": "red", "inner": {"at": SECONDS}}
    assert OUTER.decode(item) == Outer(7, NOON, Color.RED, Inner(NOON))


def test_encode_does_not_store_none() -> None:
    assert OUTER.encode(Outer(7, None)) == {"n": 7, "color": "red"}


def test_decode_of_missing_attributes_returns_defaults_or_none() -> None:
    assert OUTER.decode({"n": 7}) == Outer(7, None, Color.RED, None)


def test_decode_ignores_unknown_attributes() -> None:
    assert OUTER.decode({"n": 7, "pk": "ACCOUNT#acme", "removed": "old"}) == Outer(7, None)
