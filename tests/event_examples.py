"""Examples of docs/guides/receive-events.md, as the code creates them. `python -m tests.event_examples` writes them.

The commands of the page are checked by tests/e2e/test_receivers.py.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from billing.domain.invoices import Invoice
from billing.domain.outbound_events import (
    OutboundEvent,
    OutboundEventType,
    event_id,
    event_object,
    outbound_event_type,
    previous_values,
)
from billing.domain.plans import Catalog, Plan
from billing.domain.subscriptions import PendingChange, Subscription
from billing.domain.timestamps import iso
from billing.domain.webhook_endpoints import SigningSecret, WebhookEndpoint
from billing.services.webhook_delivery import signed_headers
from local.stack import ROOT
from tests.samples import INVOICE, NOW, SUBSCRIPTION

PAGE = ROOT / "docs/guides/receive-events.md"
LINE_LENGTH = 116
CATALOG = Catalog((Plan("free", "Free"), Plan("pro", "Pro"), Plan("team", "Team")))
LATER = NOW + timedelta(days=30)
DISABLED = NOW + timedelta(days=40)
SENT = NOW + timedelta(seconds=2)

ENDPOINT = WebhookEndpoint(
    id="whe_3f2a9c41d07b5e8812ab64f0",
    url="https://example.com/webhooks",
    events=("*",),
    description="",
    created=NOW,
    secrets=(SigningSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),),
)
STARTED = replace(
    SUBSCRIPTION,
    id="sub_1SVqK2",
    price_id="price_1SVpZ7",
    unit_amount=1900,
    currency="usd",
    interval="month",
    interval_count=1,
)
RESCHEDULED = replace(STARTED, pending_change=PendingChange("team", "price_1SVpZ9", 5, LATER, is_per_seat=True))
CANCELED = replace(STARTED, status="canceled", ended_at=LATER)
FAILED = replace(
    INVOICE,
    id="in_1SVqK3",
    number="A1B2C3-0002",
    subscription_id=STARTED.id,
    status="open",
    created=LATER,
    period_start=NOW,
    period_end=LATER,
    amount_paid=0,
    amount_remaining=1900,
    hosted_invoice_url="https://invoice.stripe.com/i/acct_1/live_1",
    invoice_pdf="https://pay.stripe.com/invoice/acct_1/live_1/pdf",
)
PAID = replace(FAILED, status="paid", attempt_count=2, amount_paid=1900, amount_remaining=0)


def about_change[T: (Subscription, Invoice)](before: T | None, after: T, sequence: int, days: int) -> OutboundEvent:
    """Return the event of a change that was committed some days after NOW."""
    committed = NOW + timedelta(days=days)
    event_type = outbound_event_type(before, after, CATALOG)
    assert event_type is not None
    return OutboundEvent(
        id=event_id(committed, "acme", after.id, sequence),
        type=event_type,
        account_id="acme",
        occurred_at=committed,
        sequence=sequence,
        object=event_object(after),
        previous=previous_values(before, after),
    )


def about_endpoint(event_type: OutboundEventType, **fields: object) -> OutboundEvent:
    """Return an event about ENDPOINT."""
    previous = {"enabled": True, "disabled_reason": None, "disabled_at": None} if fields else None
    return OutboundEvent(
        id=event_id(DISABLED, "acme", ENDPOINT.id, 1),
        type=event_type,
        account_id="acme",
        occurred_at=DISABLED,
        sequence=1,
        object={"id": ENDPOINT.id, "url": ENDPOINT.url, **fields},
        previous=previous,
    )


EVENTS = (
    about_change(None, STARTED, 1, days=0),
    about_change(STARTED, RESCHEDULED, 2, days=7),
    about_change(STARTED, CANCELED, 3, days=30),
    about_change(FAILED, PAID, 2, days=33),
    about_change(None, FAILED, 1, days=30),
    about_endpoint(
        OutboundEventType.ENDPOINT_DISABLED, enabled=False, disabled_reason="failing", disabled_at=iso(DISABLED)
    ),
    about_endpoint(OutboundEventType.ENDPOINT_TEST),
)
"""An event of each type."""


def request_lines() -> Iterator[str]:
    """Yield the head of the first example's request, signed as the page says."""
    body = json.dumps(EVENTS[0].body, separators=(",", ":"))
    yield "POST /webhooks HTTP/1.1"
    yield "Host: example.com"
    for name, value in signed_headers(ENDPOINT, EVENTS[0].id, body, SENT).items():
        yield f"{name}: {value}"


def blocks() -> Mapping[str, str]:
    """Return the text of each generated code block of the page by the line before the block."""
    return {
        "Head of the request:": "\n".join(request_lines()),
        **{f"`{event.type}`:": json_text(event.body) for event in EVENTS},
    }


def json_text(value: Any, indent: int = 0, name: str = "") -> str:
    """Return JSON with several scalar fields a line."""
    text = json.dumps(value)
    if not isinstance(value, Mapping) or indent + len(name) + len(text) < LINE_LENGTH:
        return text
    entries = [f"{json.dumps(name)}: {json_text(each, indent + 2, name)}" for name, each in value.items()]
    separator = "\n" + " " * (indent + 2)
    lines = [entries[0]]
    for entry in entries[1:]:
        joined = f"{lines[-1]}, {entry}"
        if "\n" in joined or len(joined) + indent + 2 >= LINE_LENGTH:
            lines.append(entry)
        else:
            lines[-1] = joined
    return "{" + separator + f",{separator}".join(lines) + "\n" + " " * indent + "}"


def block_after(line: str, page: str) -> re.Match[str]:
    """Return the code block after a line; group 2 is its text."""
    found = re.search(rf"(^{re.escape(line)}\n\n```\w+\n)(.*?)(\n```$)", page, re.MULTILINE | re.DOTALL)
    assert found, line
    return found


def main() -> None:
    """Write the examples into the page."""
    page = PAGE.read_text()
    for line, text in blocks().items():
        found = block_after(line, page)
        page = page[: found.start(2)] + text + page[found.end(2) :]
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
