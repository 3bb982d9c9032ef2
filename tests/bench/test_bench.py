"""Calculations of the benchmark."""

from collections.abc import Mapping
from typing import Any

import pytest

from bench.capacity import item_bytes, read_units, write_units
from bench.engine import TABLE
from bench.prices import Consumption, Prices, dollars_per_million
from bench.report import Row, lines
from tests.conftest import table_properties

MARKER: Mapping[str, Any] = {"pk": {"S": "EVENT#1"}, "listed_under": {"S": "ACCOUNT#a"}, "processed": {"N": "100"}}
MOVED = {**MARKER, "processed": {"N": "200"}}
CHANGED = {**MARKER, "outcome": {"S": "applied"}}
PLAIN: Mapping[str, Any] = {"pk": {"S": "ACCOUNT#a"}}
LARGE: Mapping[str, Any] = {"pk": {"S": "x" * 1024}}


def test_bench_table_equals_table_of_template() -> None:
    assert table_properties() == TABLE


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "é"}, 2),
        ({"N": "12345"}, 4),
        ({"N": "-1200"}, 2),
        ({"N": "0"}, 2),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"M": {}}, 3),
        ({"M": {"ab": {"S": "cd"}}}, 3 + 1 + 4),
    ],
)
def test_item_bytes_follows_rules_of_dynamodb(value: Mapping[str, Any], size: int) -> None:
    """An item's size includes the names. A number takes one byte per two digits, and one more."""
    assert item_bytes({"name": value}) == len("name") + size


def test_read_units_rounds_each_item_up_to_4_kb() -> None:
    assert read_units([0, 1, 4096, 4097]) == 1 + 1 + 1 + 2


@pytest.mark.parametrize(
    ("before", "after", "alone", "in_transaction"),
    [
        (None, PLAIN, 1, 2),
        (None, LARGE, 2, 4),
        (LARGE, PLAIN, 2, 4),
        (None, MARKER, 1 + 1, 2 + 1),
        (MARKER, MARKER, 1, 2),
        (MARKER, CHANGED, 1 + 1, 2 + 1),
        (MARKER, MOVED, 1 + 2, 2 + 2),
        (MARKER, PLAIN, 1 + 1, 2 + 1),
    ],
)
def test_write_units_follows_rules_of_dynamodb(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], alone: int, in_transaction: int
) -> None:
    """The larger of both items determines the units; a transaction doubles them.

    The index adds one write for a changed entry and two for an entry that moves.
    """
    assert write_units(before, after, transactional=False) == alone
    assert write_units(before, after, transactional=True) == in_transaction


def test_dollars_per_million_multiplies_consumption_by_prices() -> None:
    """A duration is rounded up to the millisecond."""
    one = Consumption(milliseconds=19.2, memory_gb=0.5, read_units=4, write_units=6, log_bytes=1000, traces=0.05)
    assert dollars_per_million(one, Prices()) == pytest.approx(
        {
            "Lambda requests": 0.20,
            "Lambda duration": 0.133334,
            "HTTP API": 1.00,
            "DynamoDB reads": 0.50,
            "DynamoDB writes": 3.75,
            "logs": 0.50,
            "traces": 0.25,
        }
    )


def test_lines_returns_markdown_table_rows() -> None:
    assert lines([Row("a", "1"), Row("b", "2", "at most 3")]) == ["| a |  | 1 |", "| b | at most 3 | 2 |"]
