"""`python -m bench [--quick] [PART ...]`: measure, and print rows for docs/explanation/performance.md."""

import argparse
from collections.abc import Callable, Iterator, Mapping

from bench import cold_start, cost, memory, streams, throughput, warm
from bench.engine import Deployment, deployment
from bench.report import FULL, HEAD, QUICK, Extent, Row, lines

PARTS: Mapping[str, Callable[[Deployment, Extent], Iterator[Row]]] = {
    "cold": cold_start.rows,
    "warm": warm.rows,
    "events": throughput.rows,
    "streams": streams.rows,
    "cost": cost.rows,
    "memory": memory.rows,
}


def main() -> None:
    """Measure each part on an engine of its own, and print its rows as soon as they are known."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it takes")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - PARTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print(*HEAD, sep="\n", flush=True)
    for name in asked.parts or PARTS:
        with deployment() as deployed:
            for row in PARTS[name](deployed, QUICK if asked.quick else FULL):
                print(*lines([row]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
