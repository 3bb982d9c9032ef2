"""`python -m bench [--quick] [PART ...]`: print the measurements as table rows for docs/explanation/performance.md."""

import argparse
from collections.abc import Callable, Iterator, Mapping

from bench import cold_start, cost, memory, streams, throughput, warm, webhooks
from bench.engine import Deployment, deployment
from bench.report import FULL, HEADER, QUICK, Row, SampleSizes, lines

PARTS: Mapping[str, Callable[[Deployment, SampleSizes], Iterator[Row]]] = {
    "cold": cold_start.rows,
    "warm": warm.rows,
    "events": throughput.rows,
    "streams": streams.rows,
    "cost": cost.rows,
    "memory": memory.rows,
    "webhooks": webhooks.rows,
}


def main() -> None:
    """Measure each part on a new engine, and print each row when it is complete."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds: checks the benchmark, the figures mean nothing"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"unknown part: {', '.join(sorted(unknown))}. Use {', '.join(PARTS)}.")
    print(*HEADER, sep="\n", flush=True)
    for name in arguments.parts or PARTS:
        with deployment() as deployed:
            for row in PARTS[name](deployed, QUICK if arguments.quick else FULL):
                print(*lines([row]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
