"""Cold starts, beside a function that only makes a DynamoDB client.

A cold start is all that a process does from its start to its first answer: interpreter, imports, clients and the first
request itself, which for the webhook is a signed event of the common path. The module that calls the handler is so
small that nothing else counts; Lambda's runtime client would add the same to every function.
"""

import json
import os
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.deliveries import LambdaEvent, status_request, subscription_updated
from bench.engine import Deployment
from bench.report import Extent, Row, spread
from local.stack import ROOT

FLOOR = "DynamoDB client alone"
PRODUCT = ("webhook", "status by secret key", "status by session token")
BUDGET = "at most 1.3"

_NOTHING = "bench/functions/nothing"
_FLOOR = "bench/functions/dynamodb_client"
_WEBHOOK = "functions/stripe_webhook"
_STATUS = "functions/subscription"
_FIRST_ANSWER = "import app, json, sys; assert app.handler(json.load(sys.stdin), None)['statusCode'] == 200"
_PYTHON_PATH = (ROOT / "layers/billing", sysconfig.get_path("purelib"))


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Seconds on the clock, and seconds of processor time that the function's process used."""

    wall: float
    cpu: float


def rows(deployment: Deployment, extent: Extent) -> Iterator[Row]:
    """The times of each, and of the product's functions the ratios to the floor within a round."""
    rounds = measure(deployment, extent.cold_starts)
    for name in rounds[0]:
        milliseconds = [1000 * starts[name].wall for starts in rounds]
        yield Row(f"cold start, {name}", f"{spread(milliseconds, digits=0)} ms")
    for name in PRODUCT:
        pairs = [(starts[name], starts[FLOOR]) for starts in rounds]
        wall, cpu = [one.wall / floor.wall for one, floor in pairs], [one.cpu / floor.cpu for one, floor in pairs]
        yield Row(f"cold start, {name} ÷ {FLOOR}", spread(wall, digits=2), BUDGET)
        yield Row("the same, processor time", spread(cpu, digits=2), BUDGET)


def measure(deployment: Deployment, rounds: int) -> Sequence[Mapping[str, ColdStart]]:
    """Each round starts every function once, so that what else the machine does falls on all of them alike."""
    environment = deployment.environment
    # Makes the subscription's row, and reads every file once.
    _start(_WEBHOOK, subscription_updated("acme", 0), environment)
    return [
        {name: _start(function, event, environment) for name, (function, event) in _functions(deployment, number)}
        for number in range(1, rounds + 1)
    ]


def _functions(deployment: Deployment, number: int) -> Iterator[tuple[str, tuple[str, LambdaEvent]]]:
    webhook, by_key, by_token = PRODUCT
    yield "interpreter alone", (_NOTHING, {})
    yield webhook, (_WEBHOOK, subscription_updated("acme", number))
    yield FLOOR, (_FLOOR, {})
    yield by_key, (_STATUS, status_request(deployment.secret_key))
    yield by_token, (_STATUS, status_request(deployment.session_token))


def _start(function: str, event: LambdaEvent, environment: Mapping[str, str]) -> ColdStart:
    """Start a process for one function and one event. Raises CalledProcessError when the answer is not 200."""
    python_path = os.pathsep.join(map(str, (ROOT / function, *_PYTHON_PATH)))
    cpu_before, started = _cpu_of_children(), time.perf_counter()
    subprocess.run(  # noqa: S603 - our own functions
        # -S: no .pth file of this machine's site-packages is run.
        [sys.executable, "-S", "-c", _FIRST_ANSWER],
        env={**environment, "PYTHONPATH": python_path},
        input=json.dumps(event).encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return ColdStart(time.perf_counter() - started, _cpu_of_children() - cpu_before)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
