"""Stored items, byte for byte: renaming a field or a class must not change what is in the table.

Each case writes through a repository and compares the requests with the items below. A value that differs here is not
found in the tables of existing deployments.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from botocore.config import Config

from billing.adapters.aws import CLIENT_CONFIG, session
from billing.adapters.dynamodb import Table, encode
from billing.adapters.reconciliation_checkpoint import CheckpointRepository
from billing.adapters.repository import Commit, KeyRecord, ProcessedEvent, Repository
from billing.domain.accounts import OpenCheckout, Profile
from billing.domain.invoices import Invoice
from billing.domain.outbound_events import OutboundEvent
from billing.domain.subscriptions import PendingChange, Subscription
from billing.stripe_events.drift import Checkpoint, Phase
from billing.stripe_events.event_types import EventOutcome, Snapshot
from billing.stripe_events.ordering import StoredObject
from tests.wire import Answer, Wire


def at(hour: int) -> datetime:
    """Return a time of 2026-11-21."""
    return datetime(2026, 11, 21, hour, tzinfo=UTC)


SECONDS = int(at(0).timestamp())
HOUR = 3600
SORTABLE = f"{SECONDS + HOUR:012d}"

PROFILE = Profile(
    account_id="acme",
    version=3,
    nonce="5f0c",
    customer_id="cus_1",
    email="billing@acme.test",
    trial_used=True,
    open_checkout=OpenCheckout("cs_1", "fingerprint"),
    created=at(1),
    live_subscription_ids=("sub_1", "sub_2"),
    confirmed_customers=("cus_1",),
    unlinked_customers=("cus_2", "cus_3"),
)
KEY_RECORD = KeyRecord("key_1", "acme", "secret", at(1), "abcd", revoked=at(2))
EVENT = ProcessedEvent(
    event_id="evt_1",
    type="customer.subscription.updated",
    outcome=EventOutcome.APPLIED,
    processed=at(2),
    created=at(1),
    account_id="acme",
    customer_id="cus_1",
    reason="a reason",
)
SUBSCRIPTION = Subscription(
    id="sub_1",
    customer_id="cus_1",
    status="past_due",
    created=at(1),
    plan="pro",
    price_id="price_1",
    quantity=2,
    current_period_start=at(2),
    current_period_end=at(3),
    cancel_at_period_end=False,
    cancel_at=at(4),
    canceled_at=at(5),
    ended_at=at(6),
    trial_end=at(7),
    price_is_mapped=True,
    is_per_seat=True,
    schedule_id="sub_sched_1",
    pending_change=PendingChange("team", "price_2", 1, at(9), is_per_seat=True),
    past_due_since=at(8),
    pause_collection="void",
    pause_resumes_at=at(9),
    unit_amount=4900,
    currency="usd",
    interval="year",
    interval_count=1,
    conflicting_account_id="globex",
)
INVOICE = Invoice(
    id="in_1",
    customer_id="cus_1",
    subscription_id="sub_1",
    status="paid",
    number="A-1",
    created=at(1),
    currency="usd",
    total=1900,
    amount_due=1901,
    amount_paid=1902,
    amount_remaining=0,
    attempt_count=1,
    period_start=at(2),
    period_end=at(3),
    hosted_invoice_url="https://invoice.test/in_1",
    invoice_pdf="https://invoice.test/in_1.pdf",
)
OUTBOUND = OutboundEvent(
    id="msg_0000000a0123456789ab000002",
    type="subscription.updated",
    account_id="acme",
    occurred_at=at(1),
    sequence=2,
    object={"id": "sub_1", "plan": "pro", "ended_at": None},
    previous={"plan": "team"},
)
CHECKPOINT = Checkpoint(
    version=4,
    run_id="run_1",
    leased_until=at(1),
    began=at(2),
    since=at(3),
    full_sync=True,
    phase=Phase.INVOICES,
    after="in_9",
    page_at=at(4),
    incomplete=True,
    events_until=at(5),
    full_sync_at=at(6),
)


def committed(*rows: Snapshot, event: ProcessedEvent = EVENT, **changes: Any) -> Commit:
    """Return the commit of an event that writes these rows."""
    return Commit(event, [StoredObject(row, at(9), at(10), version=1) for row in rows], **changes)


EVENT_ITEM = {
    "pk": "EVENT#evt_1",
    "sk": "RECEIVED",
    "event_id": "evt_1",
    "type": "customer.subscription.updated",
    "outcome": "applied",
    "processed": SECONDS + 2 * HOUR,
    "created": SECONDS + HOUR,
    "account_id": "acme",
    "customer_id": "cus_1",
    "reason": "a reason",
    "expires_at": SECONDS + 2 * HOUR + 35 * 24 * HOUR,
    "listed_under": "ACCOUNT#acme",
}
PROFILE_ITEM = {
    "pk": "ACCOUNT#acme",
    "sk": "PROFILE",
    "account_id": "acme",
    "version": 4,
    "nonce": "5f0c",
    "customer_id": "cus_1",
    "email": "billing@acme.test",
    "trial_used": True,
    "open_checkout": {"session_id": "cs_1", "fingerprint": "fingerprint"},
    "created": SECONDS + HOUR,
    "live_subscription_ids": ["sub_1", "sub_2"],
    "confirmed_customers": ["cus_1"],
    "unlinked_customers": ["cus_2", "cus_3"],
}
CUSTOMER_ITEM = {"pk": "CUSTOMER#cus_1", "sk": "ACCOUNT", "account_id": "acme"}
KEY_ATTRIBUTES = {
    "id": "key_1",
    "account_id": "acme",
    "kind": "secret",
    "created": SECONDS + HOUR,
    "last_characters": "abcd",
    "revoked": SECONDS + 2 * HOUR,
}
INTERVAL = {"seen_from": SECONDS + 9 * HOUR, "seen_to": SECONDS + 10 * HOUR, "version": 1}

type Case = tuple[Callable[[Table], object], list[dict[str, Any]]]
CASES: Mapping[str, Case] = {
    "profile and customer": (
        lambda table: Repository(table).save_profile(PROFILE, new_customer_id="cus_1"),
        [PROFILE_ITEM, CUSTOMER_ITEM],
    ),
    "profile without optional values": (
        lambda table: Repository(table).save_profile(Profile("acme")),
        [{"pk": "ACCOUNT#acme", "sk": "PROFILE", "account_id": "acme", "version": 1, "trial_used": False}],
    ),
    "key": (
        lambda table: Repository(table).create_key("digest", KEY_RECORD),
        [
            {"pk": "KEY#digest", "sk": "KEY", **KEY_ATTRIBUTES},
            {"pk": "ACCOUNT#acme", "sk": "KEY#key_1", **KEY_ATTRIBUTES, "digest": "digest"},
        ],
    ),
    "processed event": (lambda table: Repository(table).commit(committed()), [EVENT_ITEM]),
    "processed event with an open outcome": (
        lambda table: Repository(table).commit(
            committed(event=replace(EVENT, outcome=EventOutcome.UNKNOWN_CUSTOMER, account_id=None, reason=None))
        ),
        [
            {name: value for name, value in EVENT_ITEM.items() if name not in {"account_id", "reason"}}
            | {"outcome": "unknown_customer", "listed_under": "OUTCOME#unknown_customer"}
        ],
    ),
    "subscription": (
        lambda table: Repository(table).commit(committed(SUBSCRIPTION)),
        [
            EVENT_ITEM,
            {
                "pk": "ACCOUNT#acme",
                "sk": "SUB#sub_1",
                "id": "sub_1",
                "customer_id": "cus_1",
                "status": "past_due",
                "created": SECONDS + HOUR,
                "plan": "pro",
                "price_id": "price_1",
                "quantity": 2,
                "current_period_start": SECONDS + 2 * HOUR,
                "current_period_end": SECONDS + 3 * HOUR,
                "cancel_at_period_end": False,
                "cancel_at": SECONDS + 4 * HOUR,
                "canceled_at": SECONDS + 5 * HOUR,
                "ended_at": SECONDS + 6 * HOUR,
                "trial_end": SECONDS + 7 * HOUR,
                "price_is_mapped": True,
                "is_per_seat": True,
                "schedule_id": "sub_sched_1",
                "pending_change": {
                    "plan": "team",
                    "price_id": "price_2",
                    "quantity": 1,
                    "effective_at": SECONDS + 9 * HOUR,
                    "is_per_seat": True,
                },
                "past_due_since": SECONDS + 8 * HOUR,
                "pause_collection": "void",
                "pause_resumes_at": SECONDS + 9 * HOUR,
                "unit_amount": 4900,
                "currency": "usd",
                "interval": "year",
                "interval_count": 1,
                "conflicting_account_id": "globex",
                **INTERVAL,
            },
        ],
    ),
    "invoice": (
        lambda table: Repository(table).commit(committed(INVOICE)),
        [
            EVENT_ITEM,
            {
                "pk": "ACCOUNT#acme",
                "sk": f"INV#{SORTABLE}#in_1",
                "id": "in_1",
                "customer_id": "cus_1",
                "subscription_id": "sub_1",
                "status": "paid",
                "number": "A-1",
                "created": SECONDS + HOUR,
                "currency": "usd",
                "total": 1900,
                "amount_due": 1901,
                "amount_paid": 1902,
                "amount_remaining": 0,
                "attempt_count": 1,
                "period_start": SECONDS + 2 * HOUR,
                "period_end": SECONDS + 3 * HOUR,
                "hosted_invoice_url": "https://invoice.test/in_1",
                "invoice_pdf": "https://invoice.test/in_1.pdf",
                **INTERVAL,
            },
        ],
    ),
    "all parts of a commit, in order": (
        lambda table: Repository(table).commit(
            committed(outbound=(OUTBOUND,), profile=PROFILE, new_customer_id="cus_1")
        ),
        [
            EVENT_ITEM,
            {
                "pk": "ACCOUNT#acme",
                "sk": "OUT#msg_0000000a0123456789ab000002",
                "id": "msg_0000000a0123456789ab000002",
                "type": "subscription.updated",
                "account_id": "acme",
                "occurred_at": SECONDS + HOUR,
                "sequence": 2,
                "object": {"id": "sub_1", "plan": "pro", "ended_at": None},
                "previous": {"plan": "team"},
                "listed_under": "OUTBOX#2026-11-21#3",
                "processed": SECONDS + 2 * HOUR,
                "expires_at": SECONDS + 2 * HOUR + 35 * 24 * HOUR,
            },
            PROFILE_ITEM,
            CUSTOMER_ITEM,
        ],
    ),
    "operator's link of a customer": (
        lambda table: Repository(table).save_profile(PROFILE, new_customer_id="cus_1", audit_entry=EVENT),
        [PROFILE_ITEM, CUSTOMER_ITEM, {name: value for name, value in EVENT_ITEM.items() if name != "expires_at"}],
    ),
    "checkpoint": (
        lambda table: CheckpointRepository(table).save(CHECKPOINT),
        [
            {
                "pk": "RECONCILIATION",
                "sk": "PROGRESS",
                "version": 5,
                "run_id": "run_1",
                "leased_until": SECONDS + HOUR,
                "began": SECONDS + 2 * HOUR,
                "since": SECONDS + 3 * HOUR,
                "sweeps": True,
                "step": "invoices",
                "after": "in_9",
                "turned_at": SECONDS + 4 * HOUR,
                "left_out": True,
                "events_until": SECONDS + 5 * HOUR,
                "swept": SECONDS + 6 * HOUR,
            }
        ],
    ),
}


@cache
def connect(url: str) -> Table:
    """Return a table whose client is configured as in the functions, but without retries."""
    once = CLIENT_CONFIG.merge(Config(retries={"total_max_attempts": 1}))
    client: Any = session().create_client("dynamodb", endpoint_url=url, config=once)
    return Table(client, "billing")


@pytest.mark.parametrize("case", CASES)
def test_stored_item_has_these_attributes_and_values(case: str, wire: Wire) -> None:
    write, expected = CASES[case]
    wire.answer(Answer(200, b"{}", {"content-type": "application/x-amz-json-1.0"}))
    write(connect(wire.url))
    puts = [each["Put"]["Item"] for each in json.loads(wire.only.body)["TransactItems"] if "Put" in each]
    assert puts == [encode(item) for item in expected]
