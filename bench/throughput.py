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

from bench.client import account_ids, serve
from bench.engine import Deployment
from billing.domain.accounts import Profile

CLIENTS = (1, 8)
ROUNDS = 7
EVENTS_A_ROUND = 80

_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Rates:
    """Events per second, through the handler and bare, measured one right after the other."""

    handled: float
    bare: float


def measure(deployment: Deployment) -> Mapping[int, Sequence[Rates]]:
    """The rates of every round, by the number of clients."""
    for number in range(max(CLIENTS)):
        for account_id in account_ids(number):
            deployment.store.create_account(Profile(account_id))
    with _clients(deployment.environment) as clients:
        return {count: _rounds(clients[:count]) for count in CLIENTS}


def _rounds(clients: Sequence[Connection]) -> list[Rates]:
    """What is repeated in a round was handled in the one before, so that the two can take turns in being first."""
    events = EVENTS_A_ROUND // len(clients)
    _rate(clients, "handle", events)
    rounds = []
    for number in range(ROUNDS):
        order = ("handle", "repeat") if number % 2 else ("repeat", "handle")
        rates = {task: _rate(clients, task, events) for task in order}
        rounds.append(Rates(handled=rates["handle"], bare=rates["repeat"]))
    _rate(clients, "repeat", events)
    return rounds


def _rate(clients: Sequence[Connection], task: str, events: int) -> float:
    """Events per second of all clients together, from when all are ready until the last has done its part."""
    for client in clients:
        client.send((task, events))
    for client in clients:
        client.recv()
    started = time.perf_counter()
    for client in clients:
        client.send("go")
    for client in clients:
        client.recv()
    return events * len(clients) / (time.perf_counter() - started)


@contextmanager
def _clients(environment: Mapping[str, str]) -> Iterator[Sequence[Connection]]:
    """As many processes as are needed at most; each ends when it is hung up on."""
    processes, connections = [], []
    try:
        for number in range(max(CLIENTS)):
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
