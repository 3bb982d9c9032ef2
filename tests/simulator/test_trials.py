"""Trials: announcement, end and extension."""

import pytest
import stripe

from tests.simulator.support import DAY, Account


def test_trial_is_free_announced_three_days_before_its_end_and_then_billed(account: Account) -> None:
    session = account.checkout(account.price(), subscription_data={"trial_period_days": 14})
    account.control(f"checkout/{session.id}", {"outcome": "pay"})
    done = account.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription.latest_invoice"]})
    trial = done.subscription
    assert (done.payment_status, trial.status, trial.latest_invoice.total) == ("no_payment_required", "trialing", 0)
    assert trial.trial_end == trial["items"].data[0].current_period_end == trial.trial_start + 14 * DAY
    before = account.event_ids()

    account.advance(days=11.5)
    assert account.event_types(before) == ["customer.subscription.trial_will_end"]

    account.advance(days=3)
    subscription = account.v1.subscriptions.retrieve(trial.id, {"expand": ["latest_invoice"]})
    assert (subscription.status, subscription.latest_invoice.amount_paid) == ("active", 2900)
    assert subscription.trial_end == trial.trial_end


def test_trial_end_with_declined_card_is_past_due(account: Account) -> None:
    subscription = account.subscribe(customer=account.customer("pm_card_chargeCustomerFail"), trial_period_days=7)

    account.advance(days=8)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "past_due"


@pytest.mark.parametrize(
    ("behavior", "status", "event"),
    [
        ("pause", "paused", "customer.subscription.paused"),
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("create_invoice", "past_due", "customer.subscription.updated"),
    ],
)
def test_trial_end_without_card_follows_end_behavior(account: Account, behavior: str, status: str, event: str) -> None:
    subscription = account.subscribe(
        customer=account.customer(card=None),
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": behavior}},
    )

    account.advance(days=8)

    assert account.v1.subscriptions.retrieve(subscription.id).status == status
    assert event in account.event_types()


def test_paused_subscription_resumes_with_new_period(account: Account) -> None:
    customer = account.customer(card=None)
    subscription = account.subscribe(
        customer=customer,
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": "pause"}},
    )
    account.advance(days=8)
    account.control(f"customers/{customer.id}/payment_method", {"card": "success"})

    resumed = account.v1.subscriptions.resume(subscription.id)

    assert resumed.status == "active"
    assert account.event_types()[-1] == "customer.subscription.resumed"
    with pytest.raises(stripe.InvalidRequestError, match="cannot be resumed"):
        account.v1.subscriptions.resume(subscription.id)


def test_trial_end_update_extends_trial_or_bills_now(account: Account) -> None:
    subscription = account.subscribe(trial_period_days=7)

    longer = account.v1.subscriptions.update(subscription.id, {"trial_end": subscription.trial_end + DAY})
    assert longer["items"].data[0].current_period_end == subscription.trial_end + DAY

    ended = account.v1.subscriptions.update(subscription.id, {"trial_end": "now", "expand": ["latest_invoice"]})
    assert (ended.status, ended.latest_invoice.amount_paid) == ("active", 2900)
