"""Rows of docs/explanation/performance.md: what was measured, its budget, what was seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles

HEAD = ("| what | budget | seen |", "|---|---|---|")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; a figure that only informs has no `budget`."""

    what: str
    seen: str
    budget: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: cold starts, rounds of events, warm requests, accounts a stream, events held in memory."""

    cold_starts: int
    rounds: int
    requests: int
    accounts: int
    memory_events: int


FULL = Extent(cold_starts=15, rounds=7, requests=500, accounts=20, memory_events=100_000)
QUICK = Extent(cold_starts=3, rounds=3, requests=50, accounts=4, memory_events=5_000)


def spread(values: Sequence[float], *, digits: int) -> str:
    """The median and, in brackets, the middle half."""
    lower, middle, upper = quantiles(values, n=4)
    return f"{middle:,.{digits}f} ({lower:,.{digits}f}-{upper:,.{digits}f})"


def latencies(seconds: Sequence[float]) -> str:
    """What half of them and what 99 of a hundred stay below, in milliseconds."""
    percentiles = quantiles(seconds, n=100)
    return f"{1000 * percentiles[49]:,.1f}, {1000 * percentiles[98]:,.1f} ms"


def lines(rows: Iterable[Row]) -> list[str]:
    """The rows as Markdown."""
    return [f"| {row.what} | {row.budget} | {row.seen} |" for row in rows]
