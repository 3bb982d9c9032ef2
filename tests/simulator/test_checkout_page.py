"""Hosted Checkout page, as a browser without scripts uses it."""

import re

from tests.simulator.support import Account


def test_checkout_page_shows_plan_price_and_labels(account: Account) -> None:
    session = account.checkout(account.price())

    page = account.browser.get(session.url)

    assert page.status_code == 200
    assert "Plan at 2900" in page.text
    assert "$29.00 per month" in page.text
    for control in re.findall(r'<input id="([^"]+)"', page.text):
        assert f'<label for="{control}">' in page.text
    assert session.url == f"{account.simulator.url}/c/pay/{session.id}"


def test_checkout_page_after_declined_card_accepts_another(account: Account) -> None:
    session = account.checkout(account.price())

    declined = account.browser.post(session.url, data={"outcome": "decline"})
    assert declined.status_code == 402
    assert '<p role="alert">Your card was declined.</p>' in declined.text

    paid = account.browser.post(session.url, data={"outcome": "pay", "email": "jo@acme.example"})
    assert (paid.status_code, paid.headers["Location"]) == (303, f"http://app.example/done?session={session.id}")
    assert account.browser.get(session.url).status_code == 410


def test_three_d_secure_page_pays_only_after_authentication(account: Account) -> None:
    session = account.checkout(account.price())
    redirected = account.browser.post(session.url, data={"outcome": "requires_action", "email": "jo@acme.example"})
    page = redirected.headers["Location"]
    assert "3-D Secure authentication" in account.browser.get(page).text

    failed = account.browser.post(page, data={"outcome": "fail"})
    assert "unable to authenticate" in failed.text
    assert account.v1.checkout.sessions.retrieve(session.id).status == "open"

    paid = account.browser.post(page, data={"outcome": "complete"})
    assert paid.headers["Location"] == f"http://app.example/done?session={session.id}"
    done = account.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
    assert (done.subscription.status, done.customer_details.email) == ("active", "jo@acme.example")


def test_abandoned_checkout_redirects_to_cancel_url_and_stays_open(account: Account) -> None:
    session = account.checkout(account.price())

    response = account.browser.post(session.url, data={"outcome": "abandon"})

    assert (response.status_code, response.headers["Location"]) == (303, "http://app.example/pricing")
    assert account.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_unknown_page_returns_404_as_html(account: Account) -> None:
    for path in ("/c/pay/cs_none", "/p/session/bps_none", "/i/in_none"):
        page = account.browser.get(path)
        assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert account.browser.post(account.checkout(account.price()).url, data={"outcome": "unknown"}).status_code == 402


def test_checkout_page_escapes_product_name(account: Account) -> None:
    product = account.v1.products.create({"name": "<script>alert(1)</script>"})
    price = account.v1.prices.create(
        {"product": product.id, "currency": "jpy", "unit_amount": 500, "recurring": {"interval": "week"}}
    )

    page = account.browser.get(account.checkout(price).url)

    assert "<script>" not in page.text
    assert "500 JPY per week" in page.text
