"""First payment of a subscription."""

import pytest
import stripe

from tests.simulator.support import Account


def test_declined_first_payment_expires_after_23_hours(account: Account) -> None:
    customer = account.customer("pm_card_chargeCustomerFail")
    subscription = account.subscribe(customer=customer)
    assert subscription.status == "incomplete"

    account.advance(days=1)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "incomplete_expired"
    assert account.v1.invoices.retrieve(subscription.latest_invoice).status == "void"


def test_incomplete_subscription_is_active_after_payment(account: Account) -> None:
    customer = account.customer("pm_card_chargeCustomerFail")
    subscription = account.subscribe(customer=customer)
    with pytest.raises(stripe.CardError) as raised:
        account.v1.invoices.pay(subscription.latest_invoice)
    assert (raised.value.code, raised.value.http_status) == ("card_declined", 402)
    account.control(f"customers/{customer.id}/payment_method", {"card": "success"})

    account.v1.invoices.pay(subscription.latest_invoice)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_subscription_that_cannot_be_paid_returns_error_and_is_not_created(account: Account) -> None:
    customer = account.customer("pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError):
        account.subscribe(customer=customer, payment_behavior="error_if_incomplete")
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        account.subscribe(customer=account.customer(card=None))
    assert account.v1.subscriptions.list({"status": "all"}).data == []
