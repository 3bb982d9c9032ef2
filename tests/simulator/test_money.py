"""Amounts on the hosted pages."""

import pytest

from stripe_simulator.pages import money
from tests.simulator.support import Account


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (2900, "usd", "$29.00"),
        (-5, "usd", "-$0.05"),
        (500, "jpy", "500 JPY"),
        (-500, "jpy", "-500 JPY"),
        (1250, "kwd", "1.250 KWD"),
        (-1, "bhd", "-0.001 BHD"),
        (50_000, "ugx", "500.00 UGX"),
        (1999, "eur", "€19.99"),
    ],
)
def test_money_has_decimals_of_currency(amount: int, currency: str, text: str) -> None:
    assert money(amount, currency) == text


@pytest.mark.parametrize(("currency", "text"), [("jpy", "2900 JPY"), ("kwd", "2.900 KWD")])
def test_checkout_page_shows_amount_in_decimals_of_currency(account: Account, currency: str, text: str) -> None:
    session = account.checkout(account.price(2900, currency=currency))

    assert text in account.browser.get(session.url).text
