"""One client of the throughput measurement: a process of its own, as a Lambda environment is."""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from botocore import xform_name

from bench.deliveries import LambdaEvent, subscription_updated
from billing.aws import CLIENT_CONFIG, client, session
from local.stack import ROOT

type Run = Callable[[], None]


def account_ids(number: int) -> tuple[str, str]:
    """The accounts of a client: whose events it handles, and as whom it repeats the requests."""
    return f"handled{number}", f"repeated{number}"


def serve(connection: Connection, number: int, environment: Mapping[str, str]) -> None:
    """Take tasks until the other end hangs up: prepare, say so, wait for the start, run, say so."""
    os.environ.clear()
    os.environ.update(environment)
    # What the function logs is written, and read by nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    this = Client(*account_ids(number))
    prepare = {"handle": this.prepare_handling, "repeat": this.prepare_repeating}
    with suppress(EOFError, BrokenPipeError):
        while True:
            task, events = connection.recv()
            run = prepare[task](events)
            connection.send("ready")
            connection.recv()
            run()
            connection.send("done")


class Client:
    """Handles deliveries for one account, and repeats for another what the store then asked of DynamoDB."""

    def __init__(self, account_id: str, repeated_account_id: str) -> None:
        """Handle the first event of each account, which makes its subscription's row."""
        sys.path.insert(0, str(ROOT / "functions/stripe_webhook"))
        from app import handler  # type: ignore[import-not-found]  # noqa: PLC0415 - as Lambda finds it

        self._handler: Callable[[LambdaEvent, object], dict[str, Any]] = handler
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

    def _handle(self, deliveries: list[LambdaEvent]) -> None:
        for delivery in deliveries:
            answer = self._handler(delivery, None)
            if json.loads(answer["body"]) != {"received": True, "outcome": "applied"}:
                raise RuntimeError(f"Not the common path: {answer}")

    def _send(self, requests: list[tuple[str, dict[str, Any]]]) -> None:
        for method, params in requests:
            getattr(self._bare_client, method)(**params)

    def _record(self, params: Mapping[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401 - botocore has no types
        # A copy: botocore adds a token to it that must not be sent twice.
        self._requests.append((xform_name(model.name), dict(params)))
