"""Subscription schedules: the API, phases over renewals, and changes that the portal schedules."""

from typing import Any

import pytest
import stripe

from tests.simulator.support import Account
from tests.simulator.test_portal import open_portal

SCHEDULE_AT_PERIOD_END = {
    "conditions": [{"type": "decreasing_item_amount"}, {"type": "shortening_interval"}],
}


def plan_feature(*prices: Any) -> dict[str, Any]:
    """Return the portal feature that schedules downgrades to the end of the period."""
    update = {
        "enabled": True,
        "default_allowed_updates": ["price"],
        "products": [{"product": price.product, "prices": [price.id]} for price in prices],
        "proration_behavior": "always_invoice",
        "schedule_at_period_end": SCHEDULE_AT_PERIOD_END,
    }
    return {"subscription_update": update}


def phase(price: Any, start: int, end: int, quantity: int = 1) -> dict[str, Any]:
    """Return a phase parameter."""
    return {"items": [{"price": price.id, "quantity": quantity}], "start_date": start, "end_date": end}


def period_of(subscription: Any) -> tuple[int, int]:
    """Return the start and end of the subscription's current period."""
    item = subscription["items"].data[0]
    return item.current_period_start, item.current_period_end


def schedule_change(account: Account, subscription: Any, price: Any) -> Any:
    """Create a schedule that changes to a price at the end of the period."""
    start, end = period_of(subscription)
    schedule = account.v1.subscription_schedules.create({"from_subscription": subscription.id})
    current = subscription["items"].data[0].price
    phases = [phase(current, start, end), phase(price, end, end + (end - start))]
    return account.v1.subscription_schedules.update(schedule.id, {"phases": phases})


def price_of(account: Account, subscription: Any) -> str:
    """Return the id of the subscription's price."""
    return str(account.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.id)


def test_schedule_from_subscription_has_current_period_as_only_phase(account: Account) -> None:
    subscription = account.subscribe()
    before = account.event_ids()

    schedule = account.v1.subscription_schedules.create({"from_subscription": subscription.id})

    start, end = period_of(subscription)
    assert (schedule.status, schedule.end_behavior, schedule.subscription) == ("active", "release", subscription.id)
    assert [(each.start_date, each.end_date) for each in schedule.phases] == [(start, end)]
    assert account.v1.subscriptions.retrieve(subscription.id).schedule == schedule.id
    assert account.event_types(before) == ["subscription_schedule.created", "customer.subscription.updated"]
    assert [each.id for each in account.v1.subscription_schedules.list({"customer": subscription.customer})] == [
        schedule.id
    ]


def test_second_schedule_of_subscription_is_rejected(account: Account) -> None:
    subscription = account.subscribe()
    account.v1.subscription_schedules.create({"from_subscription": subscription.id})

    with pytest.raises(stripe.InvalidRequestError, match="already attached to a schedule"):
        account.v1.subscription_schedules.create({"from_subscription": subscription.id})


def test_second_phase_changes_price_at_renewal_without_proration(account: Account) -> None:
    subscription, cheaper = account.subscribe(account.price(4900)), account.price(1900)
    schedule_change(account, subscription, cheaper)
    assert price_of(account, subscription) != cheaper.id

    account.advance(days=32)

    assert price_of(account, subscription) == cheaper.id
    invoice = account.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert (invoice.billing_reason, invoice.total, len(invoice.lines.data)) == ("subscription_cycle", 1900, 1)


def test_schedule_is_released_after_its_last_phase(account: Account) -> None:
    subscription = account.subscribe(account.price(4900))
    schedule = schedule_change(account, subscription, account.price(1900))

    account.advance(days=65)

    ended = account.v1.subscription_schedules.retrieve(schedule.id)
    assert (ended.status, ended.released_subscription, ended.subscription) == ("released", subscription.id, None)
    current = account.v1.subscriptions.retrieve(subscription.id)
    assert (current.status, current.schedule) == ("active", None)


def test_schedule_with_end_behavior_cancel_cancels_subscription(account: Account) -> None:
    subscription = account.subscribe()
    schedule = account.v1.subscription_schedules.create({"from_subscription": subscription.id})
    account.v1.subscription_schedules.update(schedule.id, {"end_behavior": "cancel"})

    account.advance(days=32)

    assert account.v1.subscription_schedules.retrieve(schedule.id).status == "completed"
    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_release_keeps_price_and_detaches_schedule(account: Account) -> None:
    subscription, cheaper = account.subscribe(account.price(4900)), account.price(1900)
    schedule = schedule_change(account, subscription, cheaper)
    before = account.event_ids()

    account.v1.subscription_schedules.release(schedule.id)

    assert account.event_types(before) == ["subscription_schedule.released", "customer.subscription.updated"]
    account.advance(days=32)
    assert price_of(account, subscription) != cheaper.id
    with pytest.raises(stripe.InvalidRequestError, match="`released`"):
        account.v1.subscription_schedules.release(schedule.id)


@pytest.mark.parametrize("through", ["schedule", "subscription"])
def test_cancellation_ends_subscription_and_schedule(account: Account, through: str) -> None:
    subscription = account.subscribe()
    schedule = account.v1.subscription_schedules.create({"from_subscription": subscription.id})

    if through == "schedule":
        account.v1.subscription_schedules.cancel(schedule.id)
    else:
        account.v1.subscriptions.cancel(subscription.id)

    assert account.v1.subscription_schedules.retrieve(schedule.id).status == "canceled"
    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_cancellation_parameters_are_rejected_while_schedule_manages_subscription(account: Account) -> None:
    subscription = account.subscribe()
    account.v1.subscription_schedules.create({"from_subscription": subscription.id})

    with pytest.raises(stripe.InvalidRequestError, match="managed by the subscription schedule"):
        account.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})


def test_phases_that_do_not_follow_each_other_are_rejected(account: Account) -> None:
    subscription = account.subscribe()
    start, end = period_of(subscription)
    price = subscription["items"].data[0].price
    schedule = account.v1.subscription_schedules.create({"from_subscription": subscription.id})

    for phases in ([phase(price, start, end), phase(price, end + 1, end + 9)], [phase(price, end, end + 9)]):
        with pytest.raises(stripe.InvalidRequestError):
            account.v1.subscription_schedules.update(schedule.id, {"phases": phases})


def test_phase_that_ends_within_period_prorates_change(account: Account) -> None:
    subscription, dearer = account.subscribe(account.price(1000)), account.price(4000)
    start, end = period_of(subscription)
    middle = (start + end) // 2
    schedule = account.v1.subscription_schedules.create({"from_subscription": subscription.id})
    current = subscription["items"].data[0].price
    phases = [phase(current, start, middle), phase(dearer, middle, end) | {"proration_behavior": "always_invoice"}]
    account.v1.subscription_schedules.update(schedule.id, {"phases": phases})

    account.advance(days=20)

    assert price_of(account, subscription) == dearer.id
    invoice = account.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert (invoice.billing_reason, invoice.total) == ("subscription_update", 1500)


def test_portal_downgrade_is_scheduled_and_shown(account: Account) -> None:
    cheaper = account.price(900)
    subscription, session = open_portal(account, **plan_feature(cheaper))

    response = account.browser.post(
        f"{session.url}/change", data={"subscription": subscription.id, "price": cheaper.id}
    )

    assert response.status_code == 303
    assert price_of(account, subscription) != cheaper.id
    assert "Changes to <strong>Plan at 900</strong>" in account.browser.get(session.url).text
    assert len(account.v1.invoices.list({"subscription": subscription.id}).data) == 1
    account.advance(days=32)
    assert price_of(account, subscription) == cheaper.id


def test_portal_keep_current_plan_withdraws_scheduled_change(account: Account) -> None:
    cheaper = account.price(900)
    subscription, session = open_portal(account, **plan_feature(cheaper))
    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": cheaper.id})

    account.browser.post(f"{session.url}/keep", data={"subscription": subscription.id})

    assert account.v1.subscriptions.retrieve(subscription.id).schedule is None
    account.advance(days=32)
    assert price_of(account, subscription) != cheaper.id


def test_portal_upgrade_takes_effect_immediately_and_withdraws_scheduled_change(account: Account) -> None:
    cheaper, dearer = account.price(900), account.price(9900)
    subscription, session = open_portal(account, **plan_feature(cheaper, dearer))
    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": cheaper.id})

    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": dearer.id})

    current = account.v1.subscriptions.retrieve(subscription.id)
    assert (current["items"].data[0].price.id, current.schedule) == (dearer.id, None)


def test_portal_change_to_shorter_interval_is_scheduled(account: Account) -> None:
    monthly = account.price(5000)
    yearly = account.price(3000, interval="year")
    subscription = account.subscribe(yearly)
    configuration = account.v1.billing_portal.configurations.create({"features": plan_feature(monthly)})
    session = account.v1.billing_portal.sessions.create(
        {"customer": subscription.customer, "configuration": configuration.id}
    )

    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": monthly.id})

    assert price_of(account, subscription) == yearly.id
    account.advance(days=366)
    changed = account.v1.subscriptions.retrieve(subscription.id)
    start, end = period_of(changed)
    assert changed["items"].data[0].price.id == monthly.id
    assert 28 <= (end - start) / 86_400 <= 31


def test_portal_cancellation_withdraws_scheduled_change(account: Account) -> None:
    cheaper = account.price(900)
    subscription, session = open_portal(account, **plan_feature(cheaper))
    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": cheaper.id})

    account.browser.post(f"{session.url}/cancel", data={"subscription": subscription.id})

    canceled = account.v1.subscriptions.retrieve(subscription.id)
    assert (canceled.schedule, canceled.cancel_at) == (None, canceled["items"].data[0].current_period_end)


@pytest.mark.parametrize(
    ("amount", "interval", "is_scheduled"),
    [
        (900, "month", True),
        (900, "year", True),
        (9000, "year", False),
        (9000, "week", True),
    ],
)
def test_portal_schedules_a_change_by_amount_and_interval(
    account: Account, amount: int, interval: str, *, is_scheduled: bool
) -> None:
    """A decreasing amount has precedence over a longer interval. The order of plans does not matter."""
    price = account.price(amount, interval=interval)
    subscription, session = open_portal(account, **plan_feature(price))
    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": price.id})
    assert (price_of(account, subscription) != price.id) is is_scheduled
