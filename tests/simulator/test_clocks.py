"""Simulator clock and test clocks."""

from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from tests.simulator.support import DAY, Account


def test_renewal_on_31st_uses_last_day_of_shorter_months(account: Account) -> None:
    begin = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": begin})
    subscription = account.subscribe(customer=account.customer(test_clock=clock.id))
    ends = []

    for days in (0, 29, 60):
        if days:
            account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": begin + days * DAY})
        item = account.v1.subscriptions.retrieve(subscription.id)["items"].data[0]
        ends.append(datetime.fromtimestamp(item.current_period_end, UTC).strftime("%m-%d %H"))

    assert ends == ["02-28 12", "03-31 12", "04-30 12"]


def test_test_clock_affects_only_its_customers(account: Account) -> None:
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000, "name": "mine"})
    timed, other = account.customer(test_clock=clock.id), account.customer()
    subscription, untouched = account.subscribe(customer=timed), account.subscribe(customer=other)
    assert subscription.start_date == timed.created == 1_800_000_000

    advanced = account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_800_000_000 + 40 * DAY})

    assert advanced.status == "ready"
    assert len(account.v1.invoices.list({"subscription": subscription.id}).data) == 2
    assert len(account.v1.invoices.list({"subscription": untouched.id}).data) == 1
    assert [found.id for found in account.v1.customers.list().data] == [other.id]
    assert [found.id for found in account.v1.customers.list({"test_clock": clock.id}).data] == [timed.id]
    with pytest.raises(stripe.InvalidRequestError, match="forward"):
        account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_800_000_000})
    account.v1.test_helpers.test_clocks.delete(clock.id)
    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_clock_rejects_negative_advance_and_sets_date_header(account: Account) -> None:
    documents: list[Any] = [{"advance_seconds": -1}, {"advance_seconds": "1"}, {}, []]
    for document in documents:
        assert account.browser.post("/_simulator/clock", json=document).status_code == 400

    account.advance(days=400)

    now = account.control("clock", method="GET")["now"]
    response = account.browser.get("/v1/events", headers={"Authorization": "Bearer sk_test_x"})
    date = datetime.strptime(response.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    assert abs(date.timestamp() - now) <= 2


@pytest.mark.parametrize("frozen_time", [1_700_000_000, 1_900_000_000])
def test_event_of_object_on_test_clock_has_wall_clock_time(account: Account, frozen_time: int) -> None:
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": frozen_time})
    before = account.event_ids()

    subscription = account.subscribe(customer=account.customer(test_clock=clock.id))

    now = datetime.now(UTC).timestamp()
    events = account.events(before)
    assert subscription.created == frozen_time
    assert all(now - 60 <= event.created <= now for event in events)
    created = next(event for event in events if event.type == "customer.subscription.created")
    assert created.data.object.created == frozen_time
