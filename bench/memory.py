"""Whether a process that lives long grows: a hundred thousand events through one handler.

No engine stores so much in bearable time, so DynamoDB's answers are the first event's own, with another account's name
in each: everything else is as it is on Lambda, from the signature to botocore's reading of the answers.
"""

import gc
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSResponse, HeadersDict

from bench.alone import load_handler, run_alone
from bench.deliveries import subscription_updated
from bench.engine import Deployment
from bench.report import Extent, Row
from billing.adapters.aws import client
from billing.domain.accounts import Profile

RECORDED = "mem_recorded"
LAST_OF_A_SUBSCRIPTION = 59
"""The event that is the latest by Stripe's clock, so that it does not grow old while the others are measured."""
WARM_UP = 0.05
MEGABYTE = 2**20


def rows(deployment: Deployment, extent: Extent) -> Iterator[Row]:
    """What the process holds once it is warm, and at the end."""
    deployment.repository.create_account(Profile(RECORDED))
    warm, end = run_alone(deployment.environment, measure, extent.memory_events)
    seen = f"{warm / MEGABYTE:.1f} to {end / MEGABYTE:.1f} MB, {end / warm - 1:+.1%}"
    yield Row(f"memory over {extent.memory_events:,} events of one process", seen, "less than +5 %")


def measure(events: int) -> Sequence[int]:
    """Resident bytes after the warm-up and at the end."""
    handler = load_handler("stripe_webhook")
    answers = _Answers()
    resident = []
    # The first makes the row that the recorded one then changes.
    for number in (0, LAST_OF_A_SUBSCRIPTION):
        handler(subscription_updated(RECORDED, number), None)
    answers.replay()
    for number in range(events):
        # As long as the recorded name: the answers' lengths stay true.
        answers.account_id = f"mem{number:09}"
        answer = handler(subscription_updated(answers.account_id, LAST_OF_A_SUBSCRIPTION), None)
        if '"applied"' not in answer["body"]:
            raise RuntimeError(f"Not the common path: {answer}")
        if number + 1 in {int(events * WARM_UP), events}:
            resident.append(_resident_bytes())
    return resident


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Answers:
    """DynamoDB's answers to the last event, by operation; then in its place."""

    def __init__(self) -> None:
        self.account_id = RECORDED
        self._bodies: dict[str, bytes] = {}
        self._events: Any = client("dynamodb").meta.events
        self._events.register("after-call.dynamodb", self._record)

    def replay(self) -> None:
        """From now on, nothing is sent."""
        self._events.unregister("after-call.dynamodb", self._record)
        self._events.register("before-send.dynamodb", self._answer)

    def _record(self, http_response: Any, model: Any, **_: object) -> None:  # noqa: ANN401 - botocore has no types
        self._bodies[model.name] = http_response.content

    def _answer(self, request: Any, event_name: str, **_: object) -> AWSResponse:  # noqa: ANN401
        body = self._bodies[event_name.rpartition(".")[2]].replace(RECORDED.encode(), self.account_id.encode())
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 200, headers, _Raw(body))


class _Raw(io.BytesIO):
    """A body as urllib3 hands it to botocore."""

    def stream(self, **_: object) -> Iterator[bytes]:
        """All of it at once."""
        yield self.read()
