"""Table rows of docs/explanation/performance.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles

HEADER = ("| what | budget | measured |", "|---|---|---|")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. A figure without a limit has no `budget`."""

    what: str
    measured: str
    budget: str = ""


@dataclass(frozen=True, slots=True)
class SampleSizes:
    """Number of cold starts, rounds of events, warm requests, accounts per stream, and events of the memory test."""

    cold_starts: int
    rounds: int
    requests: int
    accounts: int
    memory_events: int


FULL = SampleSizes(cold_starts=15, rounds=7, requests=500, accounts=20, memory_events=100_000)
QUICK = SampleSizes(cold_starts=3, rounds=3, requests=50, accounts=4, memory_events=5_000)


def spread(values: Sequence[float], *, digits: int) -> str:
    """Format the median and, in brackets, the interquartile range."""
    lower, middle, upper = quantiles(values, n=4)
    return f"{middle:,.{digits}f} ({lower:,.{digits}f}-{upper:,.{digits}f})"


def latencies(seconds: Sequence[float]) -> str:
    """Format the 50th and 99th percentile in milliseconds."""
    percentiles = quantiles(seconds, n=100)
    return f"{1000 * percentiles[49]:,.1f}, {1000 * percentiles[98]:,.1f} ms"


def lines(rows: Iterable[Row]) -> list[str]:
    """Format the rows as Markdown."""
    return [f"| {row.what} | {row.budget} | {row.measured} |" for row in rows]
