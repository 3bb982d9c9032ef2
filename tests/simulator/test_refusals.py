"""Requests that Stripe rejects for the account's state, and Stripe's operations that are not simulated."""

from typing import Any

import pytest
import stripe

from tests.simulator.support import Account, send_raw


def euro_price(account: Account) -> Any:
    """Return a price in EUR."""
    return account.price(currency="eur")


def test_subscription_in_second_currency_is_rejected_while_one_is_current(account: Account) -> None:
    subscription = account.subscribe()
    customer = account.v1.customers.retrieve(subscription.customer)

    with pytest.raises(stripe.InvalidRequestError, match=r"cannot combine currencies .* with currency usd"):
        account.subscribe(euro_price(account), customer)

    account.v1.subscriptions.cancel(subscription.id)
    assert account.subscribe(euro_price(account), customer).currency == "eur"


def test_checkout_session_in_second_currency_is_rejected(account: Account) -> None:
    subscription = account.subscribe()

    with pytest.raises(stripe.InvalidRequestError, match="cannot combine currencies"):
        account.checkout(euro_price(account), customer=subscription.customer)


def test_payment_of_a_checkout_session_in_second_currency_is_rejected(account: Account) -> None:
    """The subscription in the other currency began after the session was created."""
    customer = account.customer()
    session = account.checkout(euro_price(account), customer=customer.id)
    subscription = account.subscribe(customer=customer)
    before = account.event_ids()

    refused = account.browser.post(f"/c/pay/{session.id}", data={"outcome": "pay"})

    assert (refused.status_code, "cannot combine currencies" in refused.text) == (400, True)
    assert account.event_types(before) == []
    assert account.v1.checkout.sessions.retrieve(session.id).status == "open"
    account.v1.subscriptions.cancel(subscription.id)
    assert account.control(f"checkout/{session.id}", {"outcome": "pay"})["status"] == "complete"


@pytest.mark.parametrize("currency", ["zzz", "dollars", "us"])
def test_price_in_unknown_currency_is_rejected(account: Account, currency: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=f"Invalid currency: {currency}. Stripe currently supports"):
        account.price(currency=currency)
    assert account.price(currency="EUR").currency == "eur"


def test_default_price_of_a_product_cannot_be_archived(account: Account) -> None:
    price = account.price()
    account.v1.products.update(price.product, {"default_price": price.id})

    with pytest.raises(stripe.InvalidRequestError, match="cannot be archived because it is the default price"):
        account.v1.prices.update(price.id, {"active": False})

    other = account.v1.prices.create(
        {"product": price.product, "currency": "usd", "unit_amount": 1, "recurring": {"interval": "month"}}
    )
    account.v1.products.update(price.product, {"default_price": other.id})
    assert account.v1.prices.update(price.id, {"active": False}).active is False


def test_change_to_price_in_other_currency_is_rejected(account: Account) -> None:
    subscription = account.subscribe()
    item = subscription["items"].data[0]

    with pytest.raises(stripe.InvalidRequestError, match=r"only supports `eur`.*expected currency: `usd`"):
        account.v1.subscriptions.update(subscription.id, {"items": [{"id": item.id, "price": euro_price(account).id}]})


def test_archived_product_cannot_be_sold(account: Account) -> None:
    price, customer = account.price(), account.customer()
    account.v1.products.update(price.product, {"active": False})

    with pytest.raises(stripe.InvalidRequestError, match="marked as inactive"):
        account.checkout(price)
    with pytest.raises(stripe.InvalidRequestError, match="marked as inactive"):
        account.subscribe(price, customer)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/coupons"),
        ("GET", "/v1/coupons/co_1"),
        ("GET", "/v1/customers/search"),
        ("GET", "/v1/tax_rates"),
        ("POST", "/v1/billing/meters"),
        ("POST", "/v1/invoices/create_preview"),
        ("POST", "/v1/refunds"),
        ("POST", "/v1/setup_intents"),
        ("POST", "/v1/subscription_items"),
        ("POST", "/v2/billing/meter_events"),
    ],
)
def test_operation_of_stripe_that_is_not_simulated_returns_not_simulated(
    account: Account, method: str, path: str
) -> None:
    status, error = send_raw(account, method, path)

    assert (status, error["code"]) == (400, "not_simulated")
    assert f"{method} {path}" in error["message"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/nothing"), ("DELETE", "/v1/coupons"), ("GET", "/v1/customers/")]
)
def test_operation_that_stripe_does_not_have_returns_404(account: Account, method: str, path: str) -> None:
    status, error = send_raw(account, method, path)

    assert (status, error.get("code")) == (404, None)


def test_expansion_that_is_not_simulated_returns_not_simulated(account: Account) -> None:
    subscription = account.subscribe()
    query = {"expand[]": "latest_invoice.confirmation_secret"}

    status, error = send_raw(account, "GET", f"/v1/subscriptions/{subscription.id}", params=query)

    assert (status, error["code"]) == (400, "not_simulated")
    assert "latest_invoice.confirmation_secret" in error["message"]


@pytest.mark.parametrize("parameter", ["default_tax_rates[0]", "discounts[0][coupon]", "items[0][tax_rates][0]"])
def test_parameter_that_is_not_simulated_returns_not_simulated(account: Account, parameter: str) -> None:
    form = {"customer": account.customer().id, "items[0][price]": account.price().id, parameter: "x_1"}

    status, error = send_raw(account, "POST", "/v1/subscriptions", data=form)

    assert (status, error["code"]) == (400, "not_simulated")
    assert parameter.partition("[0]")[0] in error["message"]
