"""Memory growth of a long-running process: a hundred thousand events in one handler.

No available engine stores that many accounts in reasonable time. DynamoDB's responses are therefore recorded once and
replayed with the account's name replaced. All other steps run as on Lambda, from the signature to botocore's parsing.
"""

import gc
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSResponse, HeadersDict

from bench.deliveries import subscription_updated
from bench.engine import Deployment
from bench.isolated_process import load_handler, run_isolated
from bench.report import Row, SampleSizes
from billing.adapters.aws import client
from billing.domain.accounts import Profile

RECORDED = "mem_recorded"
LAST_OF_A_SUBSCRIPTION = 59
"""Number of the event with the latest time, which does not become too old during the measurement."""
WARM_UP = 0.05
MEGABYTE = 2**20


def rows(deployment: Deployment, sizes: SampleSizes) -> Iterator[Row]:
    """Return the memory of the process after the warm-up and at the end."""
    deployment.repository.create_account(Profile(RECORDED))
    warm, end = run_isolated(deployment.environment, measure, sizes.memory_events)
    measured = f"{warm / MEGABYTE:.1f} to {end / MEGABYTE:.1f} MB, {end / warm - 1:+.1%}"
    yield Row(f"memory over {sizes.memory_events:,} events of one process", measured, "less than +5 %")


def measure(events: int) -> Sequence[int]:
    """Return the resident bytes after the warm-up and at the end."""
    handler = load_handler("stripe_webhook")
    responses = _RecordedResponses()
    resident = []
    # The first event creates the row that the recorded event changes.
    for number in (0, LAST_OF_A_SUBSCRIPTION):
        handler(subscription_updated(RECORDED, number), None)
    responses.replay()
    for number in range(events):
        # Same length as the recorded name: the responses keep their length.
        responses.account_id = f"mem{number:09}"
        response = handler(subscription_updated(responses.account_id, LAST_OF_A_SUBSCRIPTION), None)
        if '"applied"' not in response["body"]:
            raise RuntimeError(f"Not the common path: {response}")
        if number + 1 in {int(events * WARM_UP), events}:
            resident.append(_resident_bytes())
    return resident


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _RecordedResponses:
    """DynamoDB's responses to the last event by operation. Records them, then replays them."""

    def __init__(self) -> None:
        self.account_id = RECORDED
        self._bodies: dict[str, bytes] = {}
        self._events: Any = client("dynamodb").meta.events
        self._events.register("after-call.dynamodb", self._record)

    def replay(self) -> None:
        """Answer all further requests from the recording."""
        self._events.unregister("after-call.dynamodb", self._record)
        self._events.register("before-send.dynamodb", self._respond)

    def _record(self, http_response: Any, model: Any, **_: object) -> None:  # noqa: ANN401 - botocore has no types
        self._bodies[model.name] = http_response.content

    def _respond(self, request: Any, event_name: str, **_: object) -> AWSResponse:  # noqa: ANN401
        body = self._bodies[event_name.rpartition(".")[2]].replace(RECORDED.encode(), self.account_id.encode())
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 200, headers, _RawBody(body))


class _RawBody(io.BytesIO):
    """Response body with urllib3's interface."""

    def stream(self, **_: object) -> Iterator[bytes]:
        """Yield the whole body."""
        yield self.read()
