"""One function in a process of its own, as Lambda has it: `python -S bench/probe.py functions/NAME < events.json`.

Imports the function, hands it the events one after the other, and writes as JSON what it answered to each, what it sent
to AWS for it, and which modules were imported by then.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Cost:
    """What an answer cost: requests on the wire as "service.Operation", retries included, and what they brought.

    `items_scanned` counts what queries looked at, whether or not they returned it. (Capacity units would say the same
    on AWS; emulators make them up.)
    """

    status: int = 0
    requests: list[str] = field(default_factory=list)
    items_scanned: int = 0
    bytes_received: int = 0


class Meter:
    """Sees every request of every AWS client that is made after it."""

    def __init__(self) -> None:
        """Attach to the session that the product makes its clients with."""
        from billing.adapters import aws  # noqa: PLC0415 - the function's own import comes first

        session = aws.session()
        session.register("before-send", self._see_request)
        session.register("after-call.dynamodb", self._see_answer)
        self.cost = Cost()

    def _see_request(self, **sent: Any) -> None:  # noqa: ANN401 - botocore's events are untyped
        self.cost.requests.append(sent["event_name"].removeprefix("before-send."))

    def _see_answer(self, **received: Any) -> None:  # noqa: ANN401
        self.cost.items_scanned += received["parsed"].get("ScannedCount", 0)
        self.cost.bytes_received += len(received["http_response"].content)


def main() -> None:
    """Answer the events of standard input."""
    sys.path.insert(0, sys.argv[1])
    from app import handler  # type: ignore[import-not-found]  # noqa: PLC0415 - this import is what is probed

    meter = Meter()
    costs = []
    for event in json.load(sys.stdin):
        meter.cost = Cost()
        meter.cost.status = handler(event, None)["statusCode"]
        costs.append(asdict(meter.cost))
    sys.stderr.write(json.dumps({"costs": costs, "modules": sorted(sys.modules)}))


if __name__ == "__main__":
    main()
