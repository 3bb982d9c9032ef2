"""docs/guides/receive-events.md: its examples are events of the product, and its rules have the product's numbers."""

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from inspect import signature

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from billing.adapters.outbox import OUTBOX_RETENTION
from billing.adapters.webhook_repository import DELIVERY_RETENTION
from billing.adapters.webhook_sender import (
    REQUEST_BYTES_MAX,
    RESPONSE_BODY_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    WebhookSender,
)
from billing.api.webhook_events import WEBHOOK_EVENTS
from billing.domain.outbound_events import OutboundEvent, OutboundEventType
from billing.domain.webhook_deliveries import (
    ATTEMPTS_MAX,
    FAILING_MAX,
    RETRY_AFTER_MAX,
    RETRY_AFTER_STATUSES,
    RETRY_DELAYS,
    SLOW_LATENCY_MS,
    SLOW_PAUSES,
)
from billing.domain.webhook_endpoints import ENDPOINTS_MAX, ROTATION_PERIOD
from billing.domain.webhook_urls import PORT_MAX, UNPRIVILEGED_PORT_MIN, URL_LENGTH_MAX
from billing.services.webhook_endpoints import SECRET_BYTES
from tests.event_examples import ENDPOINT, EVENTS, PAGE, block_after, blocks

TEXT = PAGE.read_text()
SCHEMAS = {event_type: each.schema for each in WEBHOOK_EVENTS for event_type in each.types}
HOUR = timedelta(hours=1)
RECEIVER_LINES_MAX = 15


@pytest.mark.parametrize("line", blocks())
def test_generated_block_is_up_to_date(line: str) -> None:
    """If it is not: `python -m tests.event_examples`."""
    assert block_after(line, TEXT)[2] == blocks()[line]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event.type))
def test_example_matches_the_schema_of_its_type(event: OutboundEvent) -> None:
    OAS31Validator(SCHEMAS[OutboundEventType(event.type)], format_checker=oas31_format_checker).validate(event.body)


def test_page_describes_every_type_with_one_example() -> None:
    section = TEXT.partition("\n## Event types\n")[2]
    assert re.findall(r"^\| `(\w+\.\w+)` \|", section, re.MULTILINE) == [*OutboundEventType]
    assert [event.type for event in EVENTS] == [*OutboundEventType]
    assert re.findall(r"^`(\w+\.\w+)`:$", section, re.MULTILINE) == [*OutboundEventType]


def test_fields_of_a_request_are_those_of_an_event() -> None:
    section = TEXT.partition("\n## Requests\n")[2].partition("\n## ")[0]
    fields = re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)
    assert fields == [*(name for name in EVENTS[0].body if name != "data"), "data.object", "data.previous"]


def test_secret_of_the_example_has_the_described_form() -> None:
    assert ENDPOINT.secret.startswith("whsec_")
    assert len(base64.b64decode(ENDPOINT.secret.removeprefix("whsec_"), validate=True)) == SECRET_BYTES


def test_receivers_have_at_most_15_lines_of_code() -> None:
    for language in ("python", "ts"):
        [receiver] = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
        assert sum(line != "" for line in receiver.splitlines()) <= RECEIVER_LINES_MAX


def short(delay: timedelta) -> str:
    """Return a delay in its greatest unit."""
    seconds = int(delay.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h"


def listed(values: list[str], conjunction: str) -> str:
    """Return a list as text."""
    return f"{', '.join(values[:-1])} {conjunction} {values[-1]}"


RULES: Mapping[str, str] = {
    "delays": f"again after about {listed([short(each) for each in RETRY_DELAYS], 'and')}:",
    "attempts": f"{ATTEMPTS_MAX} attempts in about {round(sum(RETRY_DELAYS, timedelta()) / (24 * HOUR))} days.",
    "timeout": f"| 2xx within {signature(WebhookSender.send).parameters['timeout_seconds'].default} seconds |",
    "retry after": f"| {listed([str(each) for each in sorted(RETRY_AFTER_STATUSES)], 'or')} with `Retry-After` |",
    "longest retry after": f"waits at least that long, up to {RETRY_AFTER_MAX // HOUR} hours",
    "slow": f"An endpoint that takes longer than {SLOW_LATENCY_MS // 1000} seconds",
    "first pause": f"is paused for {SLOW_PAUSES[0] // timedelta(seconds=1)} seconds to",
    "longest pause": f"seconds to {SLOW_PAUSES[-1] // timedelta(minutes=1)} minutes; its events wait",
    "failing": f"If attempts fail for {FAILING_MAX.days} days and none succeeds",
    "retention": f"Events are kept for {OUTBOX_RETENTION.days} days, deliveries for {DELIVERY_RETENTION.days}.",
    "secret": f"a key of {SECRET_BYTES} bytes in base64",
    "rotation": f"For {ROTATION_PERIOD // HOUR} hours, each request has",
    "endpoints": f"| endpoints of an account | {ENDPOINTS_MAX} |",
    "request": f"| size of a request | {REQUEST_BYTES_MAX // 1024} KB |",
    "response": f"first {RESPONSE_BODY_BYTES_MAX // 1024} KB of the body",
    "response headers": f"more than {RESPONSE_BYTES_MAX // 1024} KB are a failure",
    "ports": f"port 443 or a port from {UNPRIVILEGED_PORT_MIN} to {PORT_MAX}",
    "length": f"at most {URL_LENGTH_MAX:,} characters",
}


@pytest.mark.parametrize("rule", RULES)
def test_page_has_the_number_of_the_rule(rule: str) -> None:
    assert RULES[rule] in " ".join(TEXT.split())
