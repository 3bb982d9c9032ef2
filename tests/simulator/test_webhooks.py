"""Deliveries of events: signed, repeated, late, out of order."""

import threading
from typing import Any

import pytest
import stripe

from tests.simulator.conftest import Account, Receiver


def some_events(account: Account, count: int) -> list[str]:
    """Make events of one type and return their ids."""
    for number in range(count):
        account.v1.customers.create({"name": str(number)})
    return [event.id for event in account.events() if event.type == "customer.created"]


def drain(account: Account) -> None:
    """Wait until every delivery is made."""
    assert account.control("delivery/drain", {"deadline_seconds": 10})["idle"]


def test_events_arrive_signed(account: Account, listening: Receiver) -> None:
    """The official SDK must accept what arrives as the event that the API lists."""
    (identifier,) = some_events(account, 1)

    listening.wait_for(1)

    (event,) = listening.events
    listed = account.v1.events.retrieve(identifier)
    assert (event.id, event.created, event.livemode) == (identifier, listed.created, False)
    assert event.data.object.to_dict() == listed.data.object.to_dict()
    assert event.pending_webhooks == 1
    drain(account)
    assert account.v1.events.retrieve(identifier).pending_webhooks == 0


def test_a_moved_clock_does_not_make_signatures_stale(account: Account, listening: Receiver) -> None:
    """Receivers compare the signature's time with their own clock: it must be real."""
    account.advance(days=400)

    some_events(account, 1)

    assert listening.wait_for(1) == ["customer.created"]


def test_an_endpoint_gets_what_it_wants(account: Account, receiver: Receiver) -> None:
    """Other types, disabled and deleted endpoints must get nothing."""
    endpoint = account.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["product.created"]})
    receiver.secret = endpoint.secret
    some_events(account, 1)
    account.v1.products.create({"name": "a"})
    assert receiver.wait_for(1) == ["product.created"]

    account.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    account.v1.products.create({"name": "b"})
    account.v1.webhook_endpoints.delete(endpoint.id)
    account.v1.products.create({"name": "c"})

    drain(account)
    assert receiver.types == ["product.created"]


def test_a_refused_event_comes_again(account: Account, listening: Receiver) -> None:
    """A delivery must be retried until it is acknowledged, and each attempt logged."""
    listening.statuses = [500, 302]
    (identifier,) = some_events(account, 1)

    listening.wait_for(1)

    drain(account)
    log = account.control("deliveries?type=customer.created", method="GET")["data"]
    assert [(entry["event"], entry["attempt"], entry["status"]) for entry in log] == [
        (identifier, 1, 500),
        (identifier, 2, 302),
        (identifier, 3, 200),
    ]


def test_an_unreachable_endpoint_is_tried_again(account: Account, listening: Receiver) -> None:
    """A connection that fails must be logged with its error and count as waiting."""
    account.v1.webhook_endpoints.create({"url": "http://127.0.0.1:1/", "enabled_events": ["*"]})

    some_events(account, 1)
    listening.wait_for(1)

    assert account.control("delivery/drain", {"deadline_seconds": 0.1}) == {"idle": False, "waiting": 1, "held": 0}
    assert account.v1.events.list({"delivery_success": False}).data
    log = account.control("deliveries?attempt=1", method="GET")["data"]
    assert {entry["error"] for entry in log} == {None, "ConnectError"}


def test_events_can_come_in_copies(account: Account, listening: Receiver) -> None:
    """With copies every event must arrive so often."""
    account.control("delivery", {"copies": 3})

    (identifier,) = some_events(account, 1)

    listening.wait_for(3)
    drain(account)
    assert [event.id for event in listening.events] == [identifier] * 3


def test_events_can_be_held_and_released(account: Account, listening: Receiver) -> None:
    """A pause must hold everything until it is flushed."""
    account.control("delivery", {"paused": True})
    identifiers = some_events(account, 3)
    drain(account)
    assert (listening.events, account.control("delivery", method="GET")["held"]) == ([], 3)

    assert account.control("delivery/flush") == {"flushed": 3}

    listening.wait_for(3)
    assert {event.id for event in listening.events} == set(identifiers)


def test_events_can_come_out_of_order(account: Account, listening: Receiver) -> None:
    """Shuffled deliveries must arrive in another order, the same one for the same seed."""
    orders = []
    for _ in range(2):
        account.control("reset", {"seed": 7})
        endpoint = account.v1.webhook_endpoints.create({"url": listening.url, "enabled_events": ["*"]})
        listening.secret, listening.events = endpoint.secret, []
        account.control("delivery", {"paused": True, "shuffle": True})
        identifiers = some_events(account, 8)
        account.control("delivery/flush")
        listening.wait_for(8)
        orders.append([identifiers.index(event.id) for event in listening.events])

    assert sorted(orders[0]) == list(range(8)) != orders[0]
    assert orders[0] == orders[1]


def test_shuffled_events_come_without_a_flush(account: Account, listening: Receiver) -> None:
    """Shuffling alone must collect for a moment and deliver by itself."""
    account.control("delivery", {"shuffle": True})

    identifiers = some_events(account, 4)

    listening.wait_for(4)
    assert {event.id for event in listening.events} == set(identifiers)


def test_events_can_be_late(account: Account, listening: Receiver) -> None:
    """A delay must pass before the first attempt."""
    account.control("delivery", {"delay_seconds": 0.3})
    some_events(account, 1)
    assert account.control("delivery", method="GET")["waiting"] == 1
    assert listening.events == []

    listening.wait_for(1)


def test_an_event_can_be_sent_again(account: Account, listening: Receiver) -> None:
    """Resending must deliver the same event once more."""
    (identifier,) = some_events(account, 1)
    listening.wait_for(1)

    account.control(f"events/{identifier}/resend")

    listening.wait_for(2)
    assert [event.id for event in listening.events] == [identifier] * 2


def test_what_was_not_acknowledged_can_be_delivered_again(account: Account, listening: Receiver) -> None:
    """After an outage only the events that nobody took must come again."""
    some_events(account, 1)
    listening.wait_for(1)
    drain(account)
    listening.down = True
    taken, lost = some_events(account, 1)
    with listening.changed:
        assert listening.changed.wait_for(lambda: listening.refused, 5)

    assert account.control("delivery/redeliver") == {"redelivered": 1}

    listening.down = False
    listening.wait_for(2)
    assert [event.id for event in listening.events[:2]] == [taken, lost]


@pytest.mark.parametrize("mode", [{"copies": "many"}, {"speed": 1}, {"copies": 0}, {"delay_seconds": -1}])
def test_a_wrong_mode_is_refused(account: Account, mode: dict[str, Any]) -> None:
    """A delivery mode that does not exist must be a 400, not silence."""
    assert account.browser.post("/_simulator/delivery", json=mode).status_code == 400


def test_deliveries_are_concurrent(account: Account, listening: Receiver) -> None:
    """One slow receiver's answer must not hold up the other deliveries."""
    barrier = threading.Barrier(2, timeout=5)
    take = listening.take

    def wait_for_the_other(payload: bytes, signature: str) -> int:
        barrier.wait()
        return take(payload, signature)

    listening.take = wait_for_the_other  # type: ignore[method-assign]
    some_events(account, 2)

    assert listening.wait_for(2) == ["customer.created"] * 2


def test_a_signature_of_another_secret_is_refused(account: Account, listening: Receiver) -> None:
    """The receiver of these tests must be able to tell: a wrong secret fails."""
    some_events(account, 1)
    listening.wait_for(1)
    payload = str(listening.events[0]).encode()

    with pytest.raises(stripe.SignatureVerificationError):
        listening.take(payload, "t=1,v1=00")
