"""One client of the throughput measurement: a process of its own, as a Lambda environment is."""

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

from bench.alone import become, load_handler
from bench.deliveries import LambdaEvent, subscription_updated
from billing.adapters.aws import CLIENT_CONFIG, client, session

type Run = Callable[[], list[float]]


@dataclass(frozen=True, slots=True)
class Work:
    """What one client did: the seconds that each event took, and the processor's for all of them."""

    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0


def account_ids(number: int) -> tuple[str, str]:
    """The accounts of a client: whose events it handles, and as whom it repeats the requests."""
    return f"handled{number}", f"repeated{number}"


def serve(connection: Connection, number: int, environment: Mapping[str, str]) -> None:
    """Take tasks until the other end hangs up: prepare, say so, wait for the start, run, say so."""
    become(environment)
    this = Client(*account_ids(number))
    prepare = {"handle": this.prepare_handling, "repeat": this.prepare_repeating}
    with suppress(EOFError, BrokenPipeError):
        while True:
            task, events = connection.recv()
            run = prepare[task](events)
            connection.send("ready")
            connection.recv()
            cpu = time.process_time()
            seconds = run()
            connection.send(Work(seconds, time.process_time() - cpu))


class Client:
    """Handles deliveries for one account, and repeats for another what the store then asked of DynamoDB."""

    def __init__(self, account_id: str, repeated_account_id: str) -> None:
        """Handle the first event of each account, which makes its subscription's row."""
        self._handler = load_handler("stripe_webhook")
        self._account_id = account_id
        self._repeated_account_id = repeated_account_id
        self._handle([subscription_updated(each, 0) for each in (account_id, repeated_account_id)])
        self._events = 0
        self._requests: deque[tuple[str, dict[str, Any]]] = deque()
        client("dynamodb").meta.events.register("provide-client-params.dynamodb", self._record)
        self._bare_client = session().create_client("dynamodb", config=CLIENT_CONFIG)

    def prepare_handling(self, events: int) -> Run:
        """Sign as many deliveries; what is returned handles them."""
        numbers = range(self._events + 1, self._events + 1 + events)
        self._events += events
        return partial(self._handle, [subscription_updated(self._account_id, number) for number in numbers])

    def prepare_repeating(self, events: int) -> Run:
        """Take the two requests of each of as many handled events; what is returned sends them, bare."""
        requests = json.dumps([self._requests.popleft() for _ in range(2 * events)])
        return partial(self._send, json.loads(requests.replace(self._account_id, self._repeated_account_id)))

    def _handle(self, deliveries: list[LambdaEvent]) -> list[float]:
        seconds = []
        for delivery in deliveries:
            started = time.perf_counter()
            answer = self._handler(delivery, None)
            seconds.append(time.perf_counter() - started)
            if json.loads(answer["body"]) != {"received": True, "outcome": "applied"}:
                raise RuntimeError(f"Not the common path: {answer}")
        return seconds

    def _send(self, requests: list[tuple[str, dict[str, Any]]]) -> list[float]:
        """Each event is two requests."""
        started = time.perf_counter()
        for method, params in requests:
            getattr(self._bare_client, method)(**params)
        return [time.perf_counter() - started]

    def _record(self, params: Mapping[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401 - botocore has no types
        # A copy: botocore adds a token to it that must not be sent twice.
        self._requests.append((xform_name(model.name), dict(params)))
