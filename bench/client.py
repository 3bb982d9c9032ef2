"""Client process of the throughput benchmark. It corresponds to a Lambda execution environment."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from botocore import xform_name

from bench.deliveries import LambdaEvent, subscription_updated
from bench.isolated_process import load_handler, replace_environment
from billing.adapters.aws import CLIENT_CONFIG, client, session

type Run = Callable[[], list[float]]


@dataclass(frozen=True, slots=True)
class ClientResult:
    """Measurements of one client: seconds per event, and seconds of processor time for all events."""

    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0


def account_ids(number: int) -> tuple[str, str]:
    """Return the two accounts of a client: one for handled events, one for replayed requests."""
    return f"handled{number}", f"replayed{number}"


def serve(connection: Connection, number: int, environment: Mapping[str, str]) -> None:
    """Run tasks until the parent closes the connection.

    The steps of a task: receive it, prepare, send "ready", receive the start signal, run, send the result.
    """
    replace_environment(environment)
    bench_client = BenchClient(*account_ids(number))
    prepare = {"handle": bench_client.prepare_handling, "replay": bench_client.prepare_replay}
    with suppress(EOFError, BrokenPipeError):
        while True:
            task, events = connection.recv()
            run = prepare[task](events)
            connection.send("ready")
            connection.recv()
            cpu = time.process_time()
            seconds = run()
            connection.send(ClientResult(seconds, time.process_time() - cpu))


class BenchClient:
    """Handles deliveries for one account, and replays their DynamoDB requests for another account."""

    def __init__(self, account_id: str, replayed_account_id: str) -> None:
        """Handle the first event of each account, which creates the row of its subscription."""
        self._handler = load_handler("stripe_webhook")
        self._account_id = account_id
        self._replayed_account_id = replayed_account_id
        self._handle([subscription_updated(each, 0) for each in (account_id, replayed_account_id)])
        self._events = 0
        self._requests: deque[tuple[str, dict[str, Any]]] = deque()
        client("dynamodb").meta.events.register("provide-client-params.dynamodb", self._record)
        self._baseline_client = session().create_client("dynamodb", config=CLIENT_CONFIG)

    def prepare_handling(self, events: int) -> Run:
        """Sign deliveries. Returns a callable that handles them."""
        numbers = range(self._events + 1, self._events + 1 + events)
        self._events += events
        return partial(self._handle, [subscription_updated(self._account_id, number) for number in numbers])

    def prepare_replay(self, events: int) -> Run:
        """Take the two recorded requests of each handled event. Returns a callable that sends them directly."""
        requests = json.dumps([self._requests.popleft() for _ in range(2 * events)])
        return partial(self._send, json.loads(requests.replace(self._account_id, self._replayed_account_id)))

    def _handle(self, deliveries: list[LambdaEvent]) -> list[float]:
        seconds = []
        for delivery in deliveries:
            started = time.perf_counter()
            response = self._handler(delivery, None)
            seconds.append(time.perf_counter() - started)
            if json.loads(response["body"]) != {"received": True, "outcome": "applied"}:
                raise RuntimeError(f"Not the common path: {response}")
        return seconds

    def _send(self, requests: list[tuple[str, dict[str, Any]]]) -> list[float]:
        """Send the requests. Returns the total time only."""
        started = time.perf_counter()
        for method, params in requests:
            getattr(self._baseline_client, method)(**params)
        return [time.perf_counter() - started]

    def _record(self, params: Mapping[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401 - botocore has no types
        # A copy, because botocore adds a token that must not be sent twice.
        self._requests.append((xform_name(model.name), dict(params)))
