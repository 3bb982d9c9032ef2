"""`python -m bench`: measure, and print one table with the budgets beside the figures."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import quantiles

from rich.console import Console
from rich.table import Table

from bench import cold_start, throughput
from bench.cold_start import Round
from bench.engine import deployment
from bench.throughput import Rates

type Row = tuple[str, str, str]


def main() -> None:
    """Start the engine, run every measurement, print the table."""
    with deployment() as deployed:
        rows = [*_cold_start_rows(cold_start.measure(deployed)), *_throughput_rows(throughput.measure(deployed))]
    table = Table("measured", "median (quartiles)", "budget")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _cold_start_rows(rounds: Sequence[Round]) -> Iterator[Row]:
    for name, starts in (
        ("interpreter alone", [each.nothing for each in rounds]),
        ("DynamoDB client alone", [each.floor for each in rounds]),
        ("webhook", [each.webhook for each in rounds]),
        ("status", [each.status for each in rounds]),
    ):
        yield f"cold start, {name}: ms", _spread([1000 * start.wall for start in starts], digits=0), ""
    for name, budget, pairs in (
        ("webhook", "at most 1.3", [(each.webhook, each.floor) for each in rounds]),
        ("status", "", [(each.status, each.floor) for each in rounds]),
    ):
        wall, cpu = ([one.wall / floor.wall for one, floor in pairs], [one.cpu / floor.cpu for one, floor in pairs])
        yield f"cold start, {name} ÷ client: time", _spread(wall, digits=2), budget
        yield f"cold start, {name} ÷ client: CPU", _spread(cpu, digits=2), budget


def _throughput_rows(rounds_by_clients: Mapping[int, Sequence[Rates]]) -> Iterator[Row]:
    for clients, rounds in rounds_by_clients.items():
        name = f"events, {clients} client{'s' if clients > 1 else ''}"
        yield f"{name}, handler: a second", _spread([each.handled for each in rounds], digits=0), ""
        yield f"{name}, engine: a second", _spread([each.bare for each in rounds], digits=0), ""
        ratios = [each.handled / each.bare for each in rounds]
        yield f"{name}, handler ÷ engine", _spread(ratios, digits=2), "at least 0.7"


def _spread(values: Sequence[float], *, digits: int) -> str:
    """The median and, in brackets, the middle half."""
    lower, middle, upper = quantiles(values, n=4)
    return f"{middle:.{digits}f} ({lower:.{digits}f}-{upper:.{digits}f})"


if __name__ == "__main__":
    main()
