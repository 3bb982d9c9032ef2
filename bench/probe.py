"""Probe of one function in a separate process: `python -S bench/probe.py functions/NAME < events.json`.

Invokes the function with one event after the other. Writes as JSON the status and AWS requests of each event, and the
imported modules.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Cost:
    """Cost of one response.

    Attributes:
        status: HTTP status.
        requests: Requests sent to AWS as "service.Operation", including retries.
        items_scanned: Items that queries read, returned or not. (Emulators report no reliable capacity units.)
        bytes_received: Bytes of DynamoDB's responses.
    """

    status: int = 0
    requests: list[str] = field(default_factory=list)
    items_scanned: int = 0
    bytes_received: int = 0


class RequestMeter:
    """Records all requests of AWS clients that are created after it."""

    def __init__(self) -> None:
        """Register with the session that creates the product's clients."""
        from billing.adapters import aws  # noqa: PLC0415 - the function's own import comes first

        session = aws.session()
        session.register("before-send", self._record_request)
        session.register("after-call.dynamodb", self._record_response)
        self.cost = Cost()

    def _record_request(self, **sent: Any) -> None:  # noqa: ANN401 - botocore's events are untyped
        self.cost.requests.append(sent["event_name"].removeprefix("before-send."))

    def _record_response(self, **received: Any) -> None:  # noqa: ANN401
        self.cost.items_scanned += received["parsed"].get("ScannedCount", 0)
        self.cost.bytes_received += len(received["http_response"].content)


def main() -> None:
    """Invoke the function with the events of standard input."""
    sys.path.insert(0, sys.argv[1])
    from app import handler  # type: ignore[import-not-found]  # noqa: PLC0415 - this import is measured

    meter = RequestMeter()
    costs = []
    for event in json.load(sys.stdin):
        meter.cost = Cost()
        meter.cost.status = handler(event, None)["statusCode"]
        costs.append(asdict(meter.cost))
    sys.stderr.write(json.dumps({"costs": costs, "modules": sorted(sys.modules)}))


if __name__ == "__main__":
    main()
