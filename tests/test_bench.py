"""What the bench computes, by hand; what it measures is only for a clock to tell."""

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


def test_the_benchs_table_is_the_templates() -> None:
    """What is measured has the keys and the index of what is deployed."""
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
def test_the_size_of_an_item(value: Mapping[str, Any], size: int) -> None:
    """Names and values as DynamoDB's documentation counts them: a number has two digits a byte, and one byte more."""
    assert item_bytes({"name": value}) == len("name") + size


def test_reads_are_counted_by_four_kilobytes() -> None:
    """Each on its own, and what is not there as one."""
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
def test_writes_are_counted_by_kilobytes(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], alone: int, in_transaction: int
) -> None:
    """The larger of before and after, twice in a transaction; the index once, and twice where its entry moves."""
    assert write_units(before, after, transactional=False) == alone
    assert write_units(before, after, transactional=True) == in_transaction


def test_the_cost_of_a_million_events() -> None:
    """Each part times its price; a duration is rounded up to the millisecond."""
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


def test_rows_are_markdown() -> None:
    """They go into docs/explanation/performance.md as they are."""
    assert lines([Row("a", "1"), Row("b", "2", "at most 3")]) == ["| a |  | 1 |", "| b | at most 3 | 2 |"]
