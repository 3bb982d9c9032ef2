"""Webhook endpoints and deliveries on a real DynamoDB engine over HTTP."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from billing.adapters.dynamodb import Table
from billing.adapters.outbox import INDEX_SHARDS, put_outbound
from billing.adapters.repository import VersionConflict
from billing.adapters.webhook_repository import DELIVERY_RETENTION, DUE_SHARDS, WebhookRepository
from billing.domain.outbound_events import OutboundEvent, event_id
from billing.domain.webhook_deliveries import AttemptResult, Delivery, EndpointHealth
from billing.domain.webhook_endpoints import DisabledReason, EndpointList, SigningSecret, WebhookEndpoint
from tests.adapters.table_support import recorded_calls, run_concurrently
from tests.samples import NOW

pytestmark = pytest.mark.engine

ENDPOINT = WebhookEndpoint(
    id="whe_0a",
    url="https://example.com/hooks",
    events=("*",),
    description="CRM",
    created=NOW,
    secrets=(SigningSecret("whsec_new"), SigningSecret("whsec_old", NOW + timedelta(hours=24))),
    enabled=False,
    disabled_reason=DisabledReason.GONE,
    disabled_at=NOW,
    sequence=2,
)


@pytest.fixture
def webhooks(table: Table) -> WebhookRepository:
    """The repository."""
    return WebhookRepository(table)


def event(number: int = 1, account_id: str | None = "acme", committed: datetime = NOW) -> OutboundEvent:
    """Return an event of an object of its own."""
    return OutboundEvent(
        id=event_id(committed, account_id, f"sub_{number}", 1),
        type="subscription.created",
        account_id=account_id,
        occurred_at=NOW,
        sequence=1,
        object={"id": f"sub_{number}", "pending_change": {"plan": "pro"}, "ended_at": None},
        previous=None,
    )


def commit(table: Table, *events: OutboundEvent, committed: datetime = NOW) -> None:
    """Store events."""
    for each in events:
        table.write(put_outbound(each, committed))


def delivery_of(outbound: OutboundEvent, endpoint_id: str = "whe_0a", **changes: Any) -> Delivery:
    """Return a new delivery."""
    delivery = Delivery(endpoint_id, outbound.id, outbound.type, outbound.account_id, "acme", created=NOW)
    return replace(delivery, **changes)


# --- Endpoints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["acme", None])
def test_endpoints_are_read_as_they_were_written(webhooks: WebhookRepository, owner: str | None) -> None:
    saved = webhooks.save_endpoints(EndpointList(owner).add(ENDPOINT))
    assert webhooks.load_endpoints(owner) == saved == EndpointList(owner, (ENDPOINT,), version=1)
    assert webhooks.load_endpoints("globex") == EndpointList("globex")


def test_concurrent_writers_of_one_version_conflict(webhooks: WebhookRepository) -> None:
    def write(number: int) -> bool:
        try:
            webhooks.save_endpoints(EndpointList("acme").add(replace(ENDPOINT, id=f"whe_{number}")))
        except VersionConflict:
            return False
        return True

    assert sum(run_concurrently(write)) == 1


def test_event_about_an_endpoint_is_committed_with_it_or_not_at_all(webhooks: WebhookRepository) -> None:
    stale = EndpointList("acme", (ENDPOINT,))
    webhooks.save_endpoints(stale, outbound=event(1), now=NOW)
    with pytest.raises(VersionConflict):
        webhooks.save_endpoints(stale, outbound=event(2), now=NOW)
    assert webhooks.list_account_events("acme", NOW, 10) == [event(1)]


def test_receivers_of_an_event_are_one_read(webhooks: WebhookRepository, dynamodb: Any) -> None:
    own, operator = replace(ENDPOINT, enabled=True), replace(ENDPOINT, id="whe_0b", enabled=True)
    webhooks.save_endpoints(EndpointList("acme").add(own).add(ENDPOINT))
    webhooks.save_endpoints(EndpointList(None).add(operator))
    with recorded_calls(dynamodb) as calls:
        assert sorted(webhooks.find_receivers(event()), key=repr) == sorted([("acme", own), (None, operator)], key=repr)
    assert calls == ["BatchGetItem"]
    assert webhooks.find_receivers(event(account_id="globex")) == [(None, operator)]
    assert webhooks.find_receivers(event(account_id=None)) == [(None, operator)]


# --- Deliveries -------------------------------------------------------------------------------------------------------


def test_delivery_context_is_one_read(webhooks: WebhookRepository, table: Table, dynamodb: Any) -> None:
    webhooks.save_endpoints(EndpointList("acme").add(ENDPOINT))
    commit(table, event())
    health = EndpointHealth(NOW, 2, NOW + timedelta(minutes=5), NOW)
    webhooks.save_health(ENDPOINT.id, health)
    saved = webhooks.save_delivery(delivery_of(event()).start(NOW, "claim"))
    with recorded_calls(dynamodb) as calls:
        context = webhooks.read_delivery_context("acme", ENDPOINT.id, "acme", event().id)
    assert calls == ["BatchGetItem"]
    assert (context.endpoint, context.health, context.delivery, context.event) == (
        ENDPOINT,
        replace(health, version=1),
        saved,
        event(),
    )


def test_delivery_context_without_items_is_empty(webhooks: WebhookRepository) -> None:
    context = webhooks.read_delivery_context("acme", "whe_0a", "acme", event().id)
    assert (context.endpoint, context.delivery, context.event) == (None, None, None)
    assert context.health == EndpointHealth()


def test_health_of_an_endpoint_that_works_again_is_deleted(webhooks: WebhookRepository, table: Table) -> None:
    webhooks.save_health("whe_0a", EndpointHealth(NOW, failed_at=NOW))
    webhooks.save_health("whe_0a", EndpointHealth())
    assert table.get("HOOK#whe_0a", "HEALTH") is None


def test_health_that_was_read_before_a_success_is_left_out(webhooks: WebhookRepository) -> None:
    failing = EndpointHealth(NOW, failed_at=NOW)
    webhooks.save_health("whe_0a", failing)
    read = webhooks.find_health("whe_0a")
    webhooks.save_health("whe_0a", EndpointHealth())
    webhooks.save_health("whe_0a", replace(read, failed_at=NOW + timedelta(hours=1)))
    assert webhooks.find_health("whe_0a") == EndpointHealth()


def test_health_of_an_endpoint_expires(webhooks: WebhookRepository, table: Table) -> None:
    webhooks.save_health("whe_0a", EndpointHealth(NOW, failed_at=NOW))
    item = table.get("HOOK#whe_0a", "HEALTH")
    assert item
    assert item["expires_at"] == int((NOW + DELIVERY_RETENTION).timestamp())


def test_attempt_is_claimed_by_one_of_several_writers(webhooks: WebhookRepository) -> None:
    new = delivery_of(event())

    def claim(_number: int) -> bool:
        try:
            webhooks.save_delivery(new.start(NOW, "claim"))
        except VersionConflict:
            return False
        return True

    assert sum(run_concurrently(claim)) == 1


def test_deliveries_are_listed_latest_first_in_pages(webhooks: WebhookRepository) -> None:
    events = [event(number, committed=NOW + timedelta(seconds=number)) for number in range(5)]
    for each in events:
        webhooks.save_delivery(delivery_of(each))
    webhooks.save_delivery(delivery_of(events[0], "whe_0b"))
    first = webhooks.list_deliveries("whe_0a", 3)
    second = webhooks.list_deliveries("whe_0a", 3, first.continues_after)
    ids = [each.event_id for page in (first, second) for each in page.deliveries]
    assert ids == [each.id for each in reversed(events)]
    assert second.continues_after is None


def test_deliveries_are_found_by_event(webhooks: WebhookRepository) -> None:
    events = [event(number) for number in range(120)]
    saved = {each.id: webhooks.save_delivery(delivery_of(each)) for each in events[:101]}
    assert webhooks.find_deliveries("whe_0a", [each.id for each in events]) == saved
    assert webhooks.find_delivery("whe_0a", events[0].id) == saved[events[0].id]
    assert webhooks.find_delivery("whe_0b", events[0].id) is None


def test_delivery_expires_after_thirty_days(webhooks: WebhookRepository, table: Table) -> None:
    webhooks.save_delivery(delivery_of(event()))
    item = table.get("HOOK#whe_0a", f"DEL#{event().id}")
    assert item
    assert item["expires_at"] == int((NOW + DELIVERY_RETENTION).timestamp())


def test_delivery_that_is_requested_again_expires_thirty_days_later(webhooks: WebhookRepository, table: Table) -> None:
    later = NOW + timedelta(days=29)
    webhooks.save_delivery(webhooks.save_delivery(delivery_of(event())).request_again(later))
    item = table.get("HOOK#whe_0a", f"DEL#{event().id}")
    assert item
    assert item["expires_at"] == int((later + DELIVERY_RETENTION).timestamp())


def test_due_deliveries_are_those_with_a_next_attempt_until_now(webhooks: WebhookRepository) -> None:
    endpoints = [f"whe_0{number}" for number in range(10)]
    for number, endpoint_id in enumerate(endpoints):
        webhooks.save_delivery(delivery_of(event(), endpoint_id).postpone(NOW + timedelta(seconds=number)))
    webhooks.save_delivery(delivery_of(event(), "bus").postpone(NOW))
    running = webhooks.save_delivery(delivery_of(event(2)).postpone(NOW)).start(NOW, "claim")
    webhooks.save_delivery(webhooks.save_delivery(running).finish(AttemptResult(204, 1), NOW, 0))
    until = NOW + timedelta(seconds=4)
    due = {each.endpoint_id for shard in range(DUE_SHARDS) for each in webhooks.list_due(until, shard)}
    assert due == {*endpoints[:5], "bus"}


# --- Outbox -----------------------------------------------------------------------------------------------------------


def test_events_of_an_account_are_listed_in_the_order_of_their_commits(
    webhooks: WebhookRepository, table: Table
) -> None:
    moments = [NOW + timedelta(seconds=number) for number in range(5)]
    events = [event(number, committed=moment) for number, moment in enumerate(moments)]
    for each, moment in zip(events, moments, strict=True):
        commit(table, each, committed=moment)
    commit(table, event(9, "globex"))
    assert webhooks.list_account_events("acme", moments[1], 10) == events[1:]
    assert webhooks.list_account_events("acme", moments[1], 2) == events[1:3]
    assert webhooks.list_account_events("acme", moments[1], 2, after=events[2].id) == events[3:]


def test_events_of_an_account_are_listed_beyond_the_size_of_a_page(webhooks: WebhookRepository, table: Table) -> None:
    """A Query returns at most 1 MB."""
    large = [replace(event(number), object={"id": f"sub_{number}", "note": "x" * 300_000}) for number in range(5)]
    commit(table, *large)
    assert len(webhooks.list_account_events("acme", NOW, 10)) == 5


def test_events_of_all_accounts_are_found_over_days_and_index_partitions(
    webhooks: WebhookRepository, table: Table
) -> None:
    yesterday = NOW - timedelta(days=1)
    late = [event(number, f"account-{number}", yesterday) for number in range(40)]
    commit(table, *late, committed=yesterday)
    commit(table, event(1), event(2, None))
    partitions = {item["listed_under"] for item in table.scan("OUT#")}
    assert len(partitions) > INDEX_SHARDS / 2
    found = sorted(each.id for each in webhooks.list_all_events(yesterday, NOW))
    assert found == sorted(each.id for each in (*late, event(1), event(2, None)))
    assert {each.id for each in webhooks.list_all_events(NOW, NOW)} == {event(1).id, event(2, None).id}


def test_event_is_found_by_id(webhooks: WebhookRepository, table: Table) -> None:
    commit(table, event())
    assert webhooks.find_event("acme", event().id) == event()
    assert webhooks.find_event("globex", event().id) is None
