"""Webhook endpoints and deliveries: signatures, retries and delivery modes."""

import threading
from typing import Any

import pytest
import stripe

from tests.simulator.support import Account, Receiver


def create_events(account: Account, count: int) -> list[str]:
    """Create events of one type and return their ids."""
    for number in range(count):
        account.v1.customers.create({"name": str(number)})
    return [event.id for event in account.events() if event.type == "customer.created"]


def wait_until_delivered(account: Account) -> None:
    """Wait until no delivery is in progress."""
    assert account.control("delivery/drain", {"deadline_seconds": 10})["idle"]


def test_endpoint_secret_is_returned_only_on_creation(account: Account) -> None:
    created = account.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:1/", "enabled_events": ["customer.created"], "api_version": stripe.api_version}
    )
    assert created.secret.startswith("whsec_")

    assert "secret" not in account.v1.webhook_endpoints.retrieve(created.id)
    changed = account.v1.webhook_endpoints.update(created.id, {"disabled": True, "enabled_events": ["*"]})
    assert (changed.status, changed.enabled_events) == ("disabled", ["*"])
    assert [found.id for found in account.v1.webhook_endpoints.list().data] == [created.id]
    assert account.v1.webhook_endpoints.delete(created.id).deleted is True
    assert account.v1.webhook_endpoints.list().data == []


def test_delivery_is_signed_and_equals_listed_event(account: Account, registered_receiver: Receiver) -> None:
    (identifier,) = create_events(account, 1)

    registered_receiver.wait_for(1)

    (event,) = registered_receiver.events
    listed = account.v1.events.retrieve(identifier)
    assert (event.id, event.created, event.livemode) == (identifier, listed.created, False)
    assert event.data.object.to_dict() == listed.data.object.to_dict()
    assert event.pending_webhooks == 1
    wait_until_delivered(account)
    assert account.v1.events.retrieve(identifier).pending_webhooks == 0


def test_signature_uses_real_time_after_clock_advance(account: Account, registered_receiver: Receiver) -> None:
    """Receivers compare the signature's timestamp with their own clock."""
    account.advance(days=400)

    create_events(account, 1)

    assert registered_receiver.wait_for(1) == ["customer.created"]


def test_endpoint_receives_enabled_events_only_while_it_is_enabled(account: Account, receiver: Receiver) -> None:
    created = account.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["product.created"]})
    receiver.secret = created.secret
    create_events(account, 1)
    account.v1.products.create({"name": "a"})
    assert receiver.wait_for(1) == ["product.created"]

    account.v1.webhook_endpoints.update(created.id, {"disabled": True})
    account.v1.products.create({"name": "b"})
    account.v1.webhook_endpoints.delete(created.id)
    account.v1.products.create({"name": "c"})

    wait_until_delivered(account)
    assert receiver.types == ["product.created"]


def test_failed_delivery_is_retried_and_each_attempt_logged(account: Account, registered_receiver: Receiver) -> None:
    registered_receiver.statuses = [500, 302]
    (identifier,) = create_events(account, 1)

    registered_receiver.wait_for(1)

    wait_until_delivered(account)
    log = account.control("deliveries?type=customer.created", method="GET")["data"]
    assert [(entry["event"], entry["attempt"], entry["status"]) for entry in log] == [
        (identifier, 1, 500),
        (identifier, 2, 302),
        (identifier, 3, 200),
    ]


def test_unreachable_endpoint_is_logged_with_error_and_keeps_waiting(
    account: Account, registered_receiver: Receiver
) -> None:
    account.v1.webhook_endpoints.create({"url": "http://127.0.0.1:1/", "enabled_events": ["*"]})

    create_events(account, 1)
    registered_receiver.wait_for(1)

    assert account.control("delivery/drain", {"deadline_seconds": 0.1}) == {"idle": False, "waiting": 1, "held": 0}
    assert account.v1.events.list({"delivery_success": False}).data
    log = account.control("deliveries?attempt=1", method="GET")["data"]
    assert {entry["error"] for entry in log} == {None, "ConnectError"}


def test_copies_deliver_each_event_several_times(account: Account, registered_receiver: Receiver) -> None:
    account.control("delivery", {"copies": 3})

    (identifier,) = create_events(account, 1)

    registered_receiver.wait_for(3)
    wait_until_delivered(account)
    assert [event.id for event in registered_receiver.events] == [identifier] * 3


def test_paused_deliveries_are_held_until_flush(account: Account, registered_receiver: Receiver) -> None:
    account.control("delivery", {"paused": True})
    identifiers = create_events(account, 3)
    wait_until_delivered(account)
    assert (registered_receiver.events, account.control("delivery", method="GET")["held"]) == ([], 3)

    assert account.control("delivery/flush") == {"flushed": 3}

    registered_receiver.wait_for(3)
    assert {event.id for event in registered_receiver.events} == set(identifiers)


def test_shuffled_deliveries_have_another_order_repeatable_by_seed(
    account: Account, registered_receiver: Receiver
) -> None:
    orders = []
    for _ in range(2):
        account.control("reset", {"seed": 7})
        created = account.v1.webhook_endpoints.create({"url": registered_receiver.url, "enabled_events": ["*"]})
        registered_receiver.secret, registered_receiver.events = created.secret, []
        account.control("delivery", {"paused": True, "shuffle": True})
        identifiers = create_events(account, 8)
        account.control("delivery/flush")
        registered_receiver.wait_for(8)
        orders.append([identifiers.index(event.id) for event in registered_receiver.events])

    assert sorted(orders[0]) == list(range(8)) != orders[0]
    assert orders[0] == orders[1]


def test_shuffled_deliveries_need_no_flush(account: Account, registered_receiver: Receiver) -> None:
    account.control("delivery", {"shuffle": True})

    identifiers = create_events(account, 4)

    registered_receiver.wait_for(4)
    assert {event.id for event in registered_receiver.events} == set(identifiers)


def test_delay_precedes_first_attempt(account: Account, registered_receiver: Receiver) -> None:
    account.control("delivery", {"delay_seconds": 0.3})
    create_events(account, 1)
    assert account.control("delivery", method="GET")["waiting"] == 1
    assert registered_receiver.events == []

    registered_receiver.wait_for(1)


def test_resend_delivers_event_again(account: Account, registered_receiver: Receiver) -> None:
    (identifier,) = create_events(account, 1)
    registered_receiver.wait_for(1)

    account.control(f"events/{identifier}/resend")

    registered_receiver.wait_for(2)
    assert [event.id for event in registered_receiver.events] == [identifier] * 2


def test_redeliver_sends_only_events_that_were_not_acknowledged(
    account: Account, registered_receiver: Receiver
) -> None:
    create_events(account, 1)
    registered_receiver.wait_for(1)
    wait_until_delivered(account)
    registered_receiver.down = True
    acknowledged, failed = create_events(account, 1)
    with registered_receiver.changed:
        assert registered_receiver.changed.wait_for(lambda: registered_receiver.refused, 5)

    assert account.control("delivery/redeliver") == {"redelivered": 1}

    registered_receiver.down = False
    registered_receiver.wait_for(2)
    assert [event.id for event in registered_receiver.events[:2]] == [acknowledged, failed]


@pytest.mark.parametrize("mode", [{"copies": "many"}, {"speed": 1}, {"copies": 0}, {"delay_seconds": -1}])
def test_invalid_delivery_mode_returns_400(account: Account, mode: dict[str, Any]) -> None:
    assert account.browser.post("/_simulator/delivery", json=mode).status_code == 400


def test_slow_endpoint_does_not_block_other_deliveries(account: Account, registered_receiver: Receiver) -> None:
    barrier = threading.Barrier(2, timeout=5)
    receive = registered_receiver.receive

    def receive_both_at_once(payload: bytes, signature: str) -> int:
        barrier.wait()
        return receive(payload, signature)

    registered_receiver.receive = receive_both_at_once  # type: ignore[method-assign]
    create_events(account, 2)

    assert registered_receiver.wait_for(2) == ["customer.created"] * 2


def test_receiver_rejects_wrong_signature(account: Account, registered_receiver: Receiver) -> None:
    """Verifies the receiver of these tests."""
    create_events(account, 1)
    registered_receiver.wait_for(1)
    payload = str(registered_receiver.events[0]).encode()

    with pytest.raises(stripe.SignatureVerificationError):
        registered_receiver.receive(payload, "t=1,v1=00")
