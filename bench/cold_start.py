"""Cold starts, as a ratio to a function that only creates a DynamoDB client.

A cold start is the time from the start of a process to its first response: interpreter, imports, clients and the first
request. For the webhook, the request is a signed event of the common path. The code that calls the handler is
negligible. Lambda's runtime client would add the same time to every function.
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
from bench.report import Row, SampleSizes, spread
from local.stack import ROOT

BASELINE = "DynamoDB client alone"
PRODUCT = ("webhook", "status by secret key", "status by session token")
BUDGET = "at most 1.3"

_NOTHING = "bench/functions/nothing"
_BASELINE = "bench/functions/dynamodb_client"
_WEBHOOK = "functions/stripe_webhook"
_STATUS = "functions/subscription"
_FIRST_RESPONSE = "import app, json, sys; assert app.handler(json.load(sys.stdin), None)['statusCode'] == 200"
_PYTHON_PATH = (ROOT / "layers/billing", sysconfig.get_path("purelib"))


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Seconds of elapsed time and of processor time of the function's process."""

    wall: float
    cpu: float


def rows(deployment: Deployment, sizes: SampleSizes) -> Iterator[Row]:
    """Return the cold start times, and for the product's functions the ratios to the baseline of the same round."""
    rounds = measure(deployment, sizes.cold_starts)
    for name in rounds[0]:
        milliseconds = [1000 * starts[name].wall for starts in rounds]
        yield Row(f"cold start, {name}", f"{spread(milliseconds, digits=0)} ms")
    for name in PRODUCT:
        pairs = [(starts[name], starts[BASELINE]) for starts in rounds]
        wall = [start.wall / baseline.wall for start, baseline in pairs]
        cpu = [start.cpu / baseline.cpu for start, baseline in pairs]
        yield Row(f"cold start, {name} ÷ {BASELINE}", spread(wall, digits=2), BUDGET)
        yield Row("the same, processor time", spread(cpu, digits=2), BUDGET)


def measure(deployment: Deployment, rounds: int) -> Sequence[Mapping[str, ColdStart]]:
    """Start every function once per round, so that other load on the machine affects all functions alike."""
    environment = deployment.environment
    # Creates the subscription's row, and loads all files into the page cache.
    _start(_WEBHOOK, subscription_updated("acme", 0), environment)
    return [
        {name: _start(function, event, environment) for name, (function, event) in _functions(deployment, number)}
        for number in range(1, rounds + 1)
    ]


def _functions(deployment: Deployment, number: int) -> Iterator[tuple[str, tuple[str, LambdaEvent]]]:
    webhook, by_key, by_token = PRODUCT
    yield "interpreter alone", (_NOTHING, {})
    yield webhook, (_WEBHOOK, subscription_updated("acme", number))
    yield BASELINE, (_BASELINE, {})
    yield by_key, (_STATUS, status_request(deployment.secret_key))
    yield by_token, (_STATUS, status_request(deployment.session_token))


def _start(function: str, event: LambdaEvent, environment: Mapping[str, str]) -> ColdStart:
    """Start a process for one function and one event. Raises CalledProcessError if the response is not 200."""
    python_path = os.pathsep.join(map(str, (ROOT / function, *_PYTHON_PATH)))
    cpu_before, started = _cpu_of_children(), time.perf_counter()
    subprocess.run(  # noqa: S603 - our own functions
        # -S: run no .pth file of this machine's site-packages.
        [sys.executable, "-S", "-c", _FIRST_RESPONSE],
        env={**environment, "PYTHONPATH": python_path},
        input=json.dumps(event).encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return ColdStart(time.perf_counter() - started, _cpu_of_children() - cpu_before)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
