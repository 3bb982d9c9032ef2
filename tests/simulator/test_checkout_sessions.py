"""Checkout Sessions: creation, payment and expiry."""

from typing import Any

import pytest
import stripe

from tests.simulator.support import PAYMENT_EVENTS, Account


def test_paid_checkout_activates_subscription_and_emits_events_in_stripe_order(account: Account) -> None:
    price, customer = account.price(), account.customer(card=None)
    session = account.checkout(
        price, customer=customer.id, client_reference_id="acme", subscription_data={"metadata": {"account_id": "acme"}}
    )
    before = account.event_ids()

    outcome = account.control(f"checkout/{session.id}", {"outcome": "pay"})

    assert outcome["redirect"] == f"http://app.example/done?session={session.id}"
    assert account.event_types(before) == [
        "payment_method.attached",
        "customer.subscription.created",
        "invoice.created",
        "customer.updated",
        "invoice.finalized",
        *PAYMENT_EVENTS,
        "customer.subscription.updated",
        "checkout.session.completed",
    ]
    events = {event.type: event for event in account.events(before)}
    assert events["customer.subscription.created"].data.object.status == "incomplete"
    updated = events["customer.subscription.updated"].data
    assert updated.previous_attributes.to_dict() == {"status": "incomplete"}
    assert updated.object.status == "active"
    done = account.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "line_items", "invoice"]})
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert done.subscription.metadata["account_id"] == "acme"
    assert done.subscription.customer == customer.id
    assert done.client_reference_id == "acme"
    assert done.amount_total == done.invoice.total == done.line_items.data[0].amount_total == 2900
    assert done.invoice.parent.subscription_details.subscription == done.subscription.id


def test_paid_checkout_without_customer_creates_one_with_entered_email(account: Account) -> None:
    session = account.checkout(account.price())

    account.control(f"checkout/{session.id}", {"outcome": "pay", "email": "new@acme.example"})

    done = account.v1.checkout.sessions.retrieve(session.id, {"expand": ["customer"]})
    assert done.customer.email == done.customer_details.email == "new@acme.example"


@pytest.mark.parametrize("outcome", ["decline", "requires_action"])
def test_declined_checkout_changes_nothing_and_can_be_paid(account: Account, outcome: str) -> None:
    session = account.checkout(account.price())
    before = account.event_ids()

    declined = account.control(f"checkout/{session.id}", {"outcome": outcome})

    assert declined["error"]["code"] in {"card_declined", "authentication_required"}
    assert account.event_types(before) == []
    assert account.control(f"checkout/{session.id}", {"outcome": "pay"})["status"] == "complete"


def test_unpaid_checkout_expires_after_a_day(account: Account) -> None:
    session = account.checkout(account.price())

    account.advance(days=1, seconds=1)

    assert account.event_types()[-1] == "checkout.session.expired"
    assert account.v1.checkout.sessions.retrieve(session.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError, match=r'status in \["open"\].*`expired`'):
        account.v1.checkout.sessions.expire(session.id)


def test_expired_checkout_emits_event_and_closes_its_page(account: Account) -> None:
    session = account.checkout(account.price())

    assert account.v1.checkout.sessions.expire(session.id).status == "expired"

    assert account.event_types()[-1] == "checkout.session.expired"
    assert account.browser.post(f"/c/pay/{session.id}", data={"outcome": "pay"}).status_code == 410


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "payment"}, "does not implement this: mode=payment"),
        ({"success_url": "done"}, "Not a valid URL"),
        ({"customer_email": "a@b.example", "customer": True}, "only specify one of these"),
        ({"expires_at": 1}, "at least 30 minutes"),
        ({"subscription_data": {"trial_period_days": 0}}, "minimum number of trial period days"),
        ({"line_items": []}, "Missing required param: line_items"),
    ],
)
def test_checkout_with_invalid_parameter_returns_error(account: Account, fields: dict[str, Any], message: str) -> None:
    if fields.get("customer"):
        fields = {**fields, "customer": account.customer().id}
    with pytest.raises(stripe.InvalidRequestError, match=message):
        account.checkout(account.price(), **fields)
