"""Stripe events per second of the webhook's handler, as a ratio to the engine's rate for the same requests.

Each client handles complete deliveries, and its DynamoDB requests are recorded. As the baseline, it sends the recorded
requests again with another account's name. Both rates use the same BatchGetItem and TransactWriteItems, SDK and engine.
The difference between them is our own code.
"""

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bench.client import ClientResult, account_ids, serve
from bench.engine import Deployment
from bench.report import Row, SampleSizes, latencies, spread
from billing.domain.accounts import Profile

EVENTS_BY_CLIENTS: Mapping[int, int] = {1: 80, 8: 160, 32: 320}
"""Events of a round, all clients together."""

_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Rate:
    """Events per second of all clients, and the result of each client."""

    events: float
    results: Sequence[ClientResult]


@dataclass(frozen=True, slots=True)
class Round:
    """Rates of the handler and of the baseline, measured directly after each other."""

    handled: Rate
    baseline: Rate


def rows(deployment: Deployment, sizes: SampleSizes) -> Iterator[Row]:
    """Return rates, latencies and processor time of the handler, and the ratio of its rate to the engine's."""
    for number in range(max(EVENTS_BY_CLIENTS)):
        for account_id in account_ids(number):
            deployment.repository.create_account(Profile(account_id))
    with _clients(deployment.environment) as clients:
        for count, events in EVENTS_BY_CLIENTS.items():
            yield from _rows(count, _rounds(clients[:count], events // count, sizes.rounds))


def _rows(clients: int, rounds: Sequence[Round]) -> Iterator[Row]:
    name = f"events, {clients} client{'s' if clients > 1 else ''}"
    results = [result for each in rounds for result in each.handled.results]
    seconds = [one for result in results for one in result.seconds]
    yield Row(f"{name}: handler, per second", spread([each.handled.events for each in rounds], digits=0))
    yield Row(f"{name}: engine alone, per second", spread([each.baseline.events for each in rounds], digits=0))
    ratios = [each.handled.events / each.baseline.events for each in rounds]
    yield Row(f"{name}: handler ÷ engine", spread(ratios, digits=2), "at least 0.7")
    yield Row(f"{name}: p50, p99", latencies(seconds))
    yield Row(
        f"{name}: processor time per event", f"{1000 * sum(result.cpu for result in results) / len(seconds):.1f} ms"
    )


def _rounds(clients: Sequence[Connection], events: int, rounds: int) -> list[Round]:
    """Measure rounds. A round replays the requests of the previous one, so that both measurements can take turns."""
    _rate(clients, "handle", events)
    measured = []
    for number in range(rounds):
        order = ("handle", "replay") if number % 2 else ("replay", "handle")
        rates = {task: _rate(clients, task, events) for task in order}
        measured.append(Round(handled=rates["handle"], baseline=rates["replay"]))
    _rate(clients, "replay", events)
    return measured


def _rate(clients: Sequence[Connection], task: str, events: int) -> Rate:
    """Measure the rate from the start signal, when all clients are ready, until the last client has finished."""
    for client in clients:
        client.send((task, events))
    for client in clients:
        client.recv()
    started = time.perf_counter()
    for client in clients:
        client.send("go")
    results = [client.recv() for client in clients]
    return Rate(events * len(clients) / (time.perf_counter() - started), results)


@contextmanager
def _clients(environment: Mapping[str, str]) -> Iterator[Sequence[Connection]]:
    """Start the maximum number of client processes. Each ends when its connection is closed."""
    processes, connections = [], []
    try:
        for number in range(max(EVENTS_BY_CLIENTS)):
            connection, child_connection = _PROCESSES.Pipe()
            connections.append(connection)
            processes.append(
                _PROCESSES.Process(target=serve, args=(child_connection, number, environment), daemon=True)
            )
            processes[-1].start()
            child_connection.close()
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join()
