"""Cancellation of subscriptions."""

import pytest
import stripe

from tests.simulator.support import DAY, Account


def test_cancel_at_period_end_can_be_undone_and_takes_effect_at_period_end(account: Account) -> None:
    subscription = account.subscribe()
    scheduled = account.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert scheduled.cancel_at == scheduled["items"].data[0].current_period_end
    assert scheduled.cancellation_details.reason == "cancellation_requested"
    kept = account.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (kept.cancel_at, kept.canceled_at, kept.cancellation_details.reason) == (None, None, None)
    account.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})

    account.advance(days=32)

    ended = account.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", scheduled.cancel_at)
    assert account.event_types()[-1] == "customer.subscription.deleted"


def test_cancel_at_can_be_undone_and_takes_effect_within_period(account: Account) -> None:
    subscription = account.subscribe()
    cancel_at = subscription.start_date + 5 * DAY
    account.v1.subscriptions.update(subscription.id, {"cancel_at": cancel_at})
    assert account.v1.subscriptions.update(subscription.id, {"cancel_at": ""}).cancel_at is None
    account.v1.subscriptions.update(subscription.id, {"cancel_at": cancel_at})

    account.advance(days=6)

    assert account.v1.subscriptions.retrieve(subscription.id).ended_at == cancel_at


def test_canceled_subscription_accepts_only_metadata(account: Account) -> None:
    subscription = account.subscribe()
    canceled = account.v1.subscriptions.cancel(
        subscription.id, {"cancellation_details": {"feedback": "unused", "comment": "bye"}}
    )
    assert (canceled.status, canceled.cancellation_details.feedback) == ("canceled", "unused")

    with pytest.raises(stripe.InvalidRequestError, match="No such subscription") as missing:
        account.v1.subscriptions.cancel(subscription.id)
    assert missing.value.code == "resource_missing"
    with pytest.raises(stripe.InvalidRequestError, match="only update its cancellation_details and metadata"):
        account.v1.subscriptions.update(subscription.id, {"items": []} | {"trial_end": "now"})
    assert account.v1.subscriptions.update(subscription.id, {"metadata": {"a": "b"}}).metadata["a"] == "b"
