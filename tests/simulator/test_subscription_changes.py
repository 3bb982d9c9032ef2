"""Changes of items within a period, and their prorations."""

from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from tests.simulator.support import DAY, Account


def subscribe_half_period_ago(account: Account, **settings: Any) -> tuple[Any, Any]:
    """Return a test clock in the middle of a 30-day period, and the subscription on it."""
    begin = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": begin})
    customer = account.customer(test_clock=clock.id, **settings)
    subscription = account.subscribe(account.price(3000), customer)
    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": begin + 15 * DAY})
    return clock, subscription


def change_price(account: Account, subscription: Any, price: Any, **fields: Any) -> Any:
    """Change the price of a subscription and return it with its latest invoice."""
    item = {"id": subscription["items"].data[0].id, "price": price.id}
    return account.v1.subscriptions.update(subscription.id, {"items": [item], "expand": ["latest_invoice"], **fields})


def test_upgrade_with_always_invoice_charges_half_of_difference_now(account: Account) -> None:
    _, subscription = subscribe_half_period_ago(account)

    changed = change_price(account, subscription, account.price(30_000), proration_behavior="always_invoice")

    invoice = changed.latest_invoice
    assert [line.amount for line in invoice.lines.data] == [-1500, 15_000]
    assert (invoice.total, invoice.amount_paid, invoice.billing_reason) == (13_500, 13_500, "subscription_update")
    assert changed["items"].data[0].id == subscription["items"].data[0].id
    assert changed["items"].data[0].current_period_end == subscription["items"].data[0].current_period_end


def test_upgrade_with_create_prorations_adds_lines_to_renewal(account: Account) -> None:
    clock, subscription = subscribe_half_period_ago(account)
    changed = change_price(account, subscription, account.price(30_000))
    assert changed.latest_invoice.billing_reason == "subscription_create"

    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": clock.frozen_time + 31 * DAY})

    renewed = account.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert [line.amount for line in renewed.latest_invoice.lines.data] == [-1500, 15_000, 30_000]
    assert renewed.latest_invoice.amount_paid == 43_500


def test_upgrade_without_proration_changes_next_period_only(account: Account) -> None:
    clock, subscription = subscribe_half_period_ago(account)
    change_price(account, subscription, account.price(30_000), proration_behavior="none")

    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": clock.frozen_time + 31 * DAY})

    renewed = account.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert renewed.latest_invoice.total == 30_000


def test_downgrade_credits_balance_that_pays_renewal(account: Account) -> None:
    clock, subscription = subscribe_half_period_ago(account)

    changed = change_price(account, subscription, account.price(1000), proration_behavior="always_invoice")

    invoice = changed.latest_invoice
    assert (invoice.total, invoice.amount_due, invoice.status, invoice.ending_balance) == (-1000, 0, "paid", -1000)
    assert account.v1.customers.retrieve(subscription.customer).balance == -1000
    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": clock.frozen_time + 31 * DAY})
    renewal = account.v1.invoices.list({"subscription": subscription.id, "limit": 1}).data[0]
    assert (renewal.total, renewal.starting_balance, renewal.amount_due, renewal.ending_balance) == (1000, -1000, 0, 0)


def test_interval_change_starts_new_period_and_credits_unused_time(account: Account) -> None:
    clock, subscription = subscribe_half_period_ago(account)

    changed = change_price(account, subscription, account.price(30_000, "year"))

    now = clock.frozen_time + 15 * DAY
    item = changed["items"].data[0]
    assert (item.current_period_start, item.current_period_end) == (now, now + 365 * DAY)
    assert changed.billing_cycle_anchor == now
    assert changed.latest_invoice.total == 30_000 - 1500


def test_upgrade_with_declined_card_is_past_due_unless_error_if_incomplete(account: Account) -> None:
    _, subscription = subscribe_half_period_ago(account)
    account.control(f"customers/{subscription.customer}/payment_method", {"card": "declined"})
    expensive = account.price(30_000)
    with pytest.raises(stripe.CardError):
        change_price(
            account,
            subscription,
            expensive,
            proration_behavior="always_invoice",
            payment_behavior="error_if_incomplete",
        )
    assert account.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.unit_amount == 3000

    changed = change_price(account, subscription, expensive, proration_behavior="always_invoice")

    assert (changed.status, changed["items"].data[0].price.id) == ("past_due", expensive.id)


def test_items_can_be_updated_added_and_deleted_but_not_duplicated(account: Account) -> None:
    subscription = account.subscribe()
    extra = account.price(500)
    first = subscription["items"].data[0]

    changed = account.v1.subscriptions.update(
        subscription.id, {"items": [{"id": first.id, "quantity": 3}, {"price": extra.id}]}
    )
    assert [(item.price.id, item.quantity) for item in changed["items"].data] == [(first.price.id, 3), (extra.id, 1)]

    with pytest.raises(stripe.InvalidRequestError, match="same price"):
        account.v1.subscriptions.update(subscription.id, {"items": [{"price": extra.id}]})
    kept = account.v1.subscriptions.update(subscription.id, {"items": [{"id": first.id, "deleted": True}]})
    assert [item.price.id for item in kept["items"].data] == [extra.id]
    assert [item.id for item in account.v1.subscription_items.list({"subscription": subscription.id}).data] == [
        kept["items"].data[0].id
    ]


def test_update_of_several_fields_emits_one_event(account: Account) -> None:
    subscription = account.subscribe()
    before = account.event_ids()

    account.v1.subscriptions.update(
        subscription.id, {"cancel_at_period_end": True, "metadata": {"team": "a"}, "description": "gold"}
    )

    (event,) = account.events(before)
    changed = event.data.previous_attributes.to_dict()
    assert changed.keys() == {
        "cancel_at",
        "cancel_at_period_end",
        "canceled_at",
        "cancellation_details",
        "description",
        "metadata",
    }
    assert changed["cancellation_details"] == {"reason": None}
    assert changed["metadata"] == {"team": None}
