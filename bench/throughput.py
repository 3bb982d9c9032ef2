"""Stripe events per second through the webhook's handler, beside what the engine does of the same requests alone.

Each client handles deliveries, signature and all, and the requests that the store sends meanwhile are recorded. Then it
sends these again, bare, with another account's name in them. So both rates are of the same BatchGetItem and
TransactWriteItems through the same SDK to the same engine, and what is between them is our own work.
"""

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bench.client import Work, account_ids, serve
from bench.engine import Deployment
from bench.report import Extent, Row, latencies, spread
from billing.domain.accounts import Profile

EVENTS_BY_CLIENTS: Mapping[int, int] = {1: 80, 8: 160, 32: 320}
"""How many events a round has, all clients together."""

_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Rate:
    """Events per second of all clients, and what each of these did."""

    events: float
    works: Sequence[Work]


@dataclass(frozen=True, slots=True)
class Round:
    """Through the handler and bare, measured one right after the other."""

    handled: Rate
    bare: Rate


def rows(deployment: Deployment, extent: Extent) -> Iterator[Row]:
    """Rates, latencies and processor time of the handler, and its rate as a share of the engine's."""
    for number in range(max(EVENTS_BY_CLIENTS)):
        for account_id in account_ids(number):
            deployment.repository.create_account(Profile(account_id))
    with _clients(deployment.environment) as clients:
        for count, events in EVENTS_BY_CLIENTS.items():
            yield from _rows(count, _rounds(clients[:count], events // count, extent.rounds))


def _rows(clients: int, rounds: Sequence[Round]) -> Iterator[Row]:
    name = f"events, {clients} client{'s' if clients > 1 else ''}"
    works = [work for each in rounds for work in each.handled.works]
    seconds = [one for work in works for one in work.seconds]
    yield Row(f"{name}: a second, handler", spread([each.handled.events for each in rounds], digits=0))
    yield Row(f"{name}: a second, engine alone", spread([each.bare.events for each in rounds], digits=0))
    ratios = [each.handled.events / each.bare.events for each in rounds]
    yield Row(f"{name}: handler ÷ engine", spread(ratios, digits=2), "at least 0.7")
    yield Row(f"{name}: p50, p99", latencies(seconds))
    yield Row(f"{name}: processor time an event", f"{1000 * sum(work.cpu for work in works) / len(seconds):.1f} ms")


def _rounds(clients: Sequence[Connection], events: int, rounds: int) -> list[Round]:
    """What is repeated in a round was handled in the one before, so that the two can take turns in being first."""
    _rate(clients, "handle", events)
    seen = []
    for number in range(rounds):
        order = ("handle", "repeat") if number % 2 else ("repeat", "handle")
        rates = {task: _rate(clients, task, events) for task in order}
        seen.append(Round(handled=rates["handle"], bare=rates["repeat"]))
    _rate(clients, "repeat", events)
    return seen


def _rate(clients: Sequence[Connection], task: str, events: int) -> Rate:
    """From when all clients are ready until the last has done its part."""
    for client in clients:
        client.send((task, events))
    for client in clients:
        client.recv()
    started = time.perf_counter()
    for client in clients:
        client.send("go")
    works = [client.recv() for client in clients]
    return Rate(events * len(clients) / (time.perf_counter() - started), works)


@contextmanager
def _clients(environment: Mapping[str, str]) -> Iterator[Sequence[Connection]]:
    """As many processes as are needed at most; each ends when it is hung up on."""
    processes, connections = [], []
    try:
        for number in range(max(EVENTS_BY_CLIENTS)):
            ours, theirs = _PROCESSES.Pipe()
            connections.append(ours)
            processes.append(_PROCESSES.Process(target=serve, args=(theirs, number, environment), daemon=True))
            processes[-1].start()
            theirs.close()
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join()
