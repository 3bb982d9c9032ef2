"""The hosted pages, as a browser without scripts uses them."""

import re
from typing import Any

import pytest
import stripe

from tests.simulator.conftest import DAY, Account

FEATURES: dict[str, Any] = {
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
}


def opened(account: Account, **features: Any) -> tuple[Any, Any]:
    """Return a subscription and a portal session of its customer."""
    subscription = account.subscribe()
    configuration = account.v1.billing_portal.configurations.create({"features": {**FEATURES, **features}})
    session = account.v1.billing_portal.sessions.create(
        {"customer": subscription.customer, "configuration": configuration.id, "return_url": "http://app.example/"}
    )
    return subscription, session


def offer(*prices: Any) -> dict[str, Any]:
    """Return the feature that lets customers change to these prices, paying the difference at once."""
    products = [{"product": price.product, "prices": [price.id]} for price in prices]
    return {
        "subscription_update": {
            "enabled": True,
            "default_allowed_updates": ["price"],
            "products": products,
            "proration_behavior": "always_invoice",
        }
    }


# --- Checkout ---------------------------------------------------------------------------------------------------------


def test_the_checkout_page_says_what_is_bought(account: Account) -> None:
    """Plan, price and due amount must be there, and every control have a label."""
    session = account.checkout(account.price())

    page = account.browser.get(session.url)

    assert page.status_code == 200
    assert "Plan at 2900" in page.text
    assert "$29.00 per month" in page.text
    for control in re.findall(r'<input id="([^"]+)"', page.text):
        assert f'<label for="{control}">' in page.text
    assert session.url == f"{account.simulator.url}/c/pay/{session.id}"


def test_a_declined_card_can_be_tried_again_on_the_page(account: Account) -> None:
    """The page must show the decline and take another card."""
    session = account.checkout(account.price())

    declined = account.browser.post(session.url, data={"outcome": "decline"})
    assert declined.status_code == 402
    assert '<p role="alert">Your card was declined.</p>' in declined.text

    paid = account.browser.post(session.url, data={"outcome": "pay", "email": "jo@acme.example"})
    assert (paid.status_code, paid.headers["Location"]) == (303, f"http://app.example/done?session={session.id}")
    assert account.browser.get(session.url).status_code == 410


def test_three_d_secure_takes_a_second_page(account: Account) -> None:
    """Failing the authentication must lead back, completing it must pay."""
    session = account.checkout(account.price())
    asked = account.browser.post(session.url, data={"outcome": "requires_action", "email": "jo@acme.example"})
    page = asked.headers["Location"]
    assert "3-D Secure authentication" in account.browser.get(page).text

    failed = account.browser.post(page, data={"outcome": "fail"})
    assert "unable to authenticate" in failed.text
    assert account.v1.checkout.sessions.retrieve(session.id).status == "open"

    paid = account.browser.post(page, data={"outcome": "complete"})
    assert paid.headers["Location"] == f"http://app.example/done?session={session.id}"
    done = account.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
    assert (done.subscription.status, done.customer_details.email) == ("active", "jo@acme.example")


def test_a_checkout_can_be_abandoned(account: Account) -> None:
    """Going back must lead to the cancel URL and leave the session open."""
    session = account.checkout(account.price())

    left = account.browser.post(session.url, data={"outcome": "abandon"})

    assert (left.status_code, left.headers["Location"]) == (303, "http://app.example/pricing")
    assert account.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_an_unknown_page_is_an_error_page(account: Account) -> None:
    """A session that does not exist must be a readable 404."""
    for path in ("/c/pay/cs_none", "/p/session/bps_none", "/i/in_none"):
        page = account.browser.get(path)
        assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert account.browser.post(account.checkout(account.price()).url, data={"outcome": "bribe"}).status_code == 402


def test_what_people_typed_is_escaped(account: Account) -> None:
    """Names must never become markup."""
    product = account.v1.products.create({"name": "<script>alert(1)</script>"})
    price = account.v1.prices.create(
        {"product": product.id, "currency": "jpy", "unit_amount": 500, "recurring": {"interval": "week"}}
    )

    page = account.browser.get(account.checkout(price).url)

    assert "<script>" not in page.text
    assert "500 JPY per week" in page.text


# --- Portal -----------------------------------------------------------------------------------------------------------


def test_the_portal_schedules_a_cancellation_as_stripe_does(account: Account) -> None:
    """In flexible billing mode ``cancel_at`` is set and ``cancel_at_period_end`` stays false; resuming clears it."""
    subscription, session = opened(account)
    seen = account.seen()

    left = account.browser.post(f"{session.url}/cancel", data={"subscription": subscription.id, "feedback": "unused"})

    assert left.status_code == 303
    canceled = account.v1.subscriptions.retrieve(subscription.id)
    assert canceled.cancel_at == canceled["items"].data[0].current_period_end
    assert (canceled.cancel_at_period_end, canceled.cancellation_details.feedback) == (False, "unused")
    assert "cancels on" in account.browser.get(session.url).text
    account.browser.post(f"{session.url}/resume", data={"subscription": subscription.id})
    resumed = account.v1.subscriptions.retrieve(subscription.id)
    assert (resumed.cancel_at, resumed.canceled_at, resumed.cancellation_details.feedback) == (None, None, None)
    assert account.event_types(seen) == ["customer.subscription.updated"] * 2


def test_the_portal_cancels_classic_subscriptions_at_period_end(account: Account) -> None:
    """In classic billing mode both fields are set."""
    _, session = opened(account)
    classic = account.subscribe(
        customer=account.v1.customers.retrieve(session.customer), billing_mode={"type": "classic"}
    )

    account.browser.post(f"{session.url}/cancel", data={"subscription": classic.id})

    canceled = account.v1.subscriptions.retrieve(classic.id)
    assert canceled.cancel_at_period_end is True
    assert canceled.cancel_at == canceled["items"].data[0].current_period_end
    account.advance(days=32)
    assert account.v1.subscriptions.retrieve(classic.id).status == "canceled"


def test_the_portal_cancels_at_once_if_configured(account: Account) -> None:
    """``immediately`` must end the subscription."""
    subscription, session = opened(account, subscription_cancel={"enabled": True, "mode": "immediately"})

    account.browser.post(f"{session.url}/cancel", data={"subscription": subscription.id})

    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert "No subscription." in account.browser.get(session.url).text


def test_the_portal_changes_the_plan(account: Account) -> None:
    """A configured price can be chosen, and the difference is invoiced; others are refused."""
    better, secret = account.price(9900), account.price(1)
    subscription, session = opened(account, **offer(better))
    assert "$99.00 per month" in account.browser.get(session.url).text

    refused = account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": secret.id})
    assert (refused.status_code, "not available" in refused.text) == (400, True)
    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": better.id})

    changed = account.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert changed["items"].data[0].price.id == better.id
    assert changed.latest_invoice.status == "paid"
    assert changed.latest_invoice.total == pytest.approx(7000, abs=1)


def test_the_portal_changes_quantities_within_their_limits(account: Account) -> None:
    """Where the quantity is adjustable it can be chosen, and nowhere else."""
    price = account.price()
    features = offer(price)
    features["subscription_update"]["default_allowed_updates"] = ["price", "quantity"]
    limits = {"enabled": True, "minimum": 1, "maximum": 5}
    features["subscription_update"]["products"][0]["adjustable_quantity"] = limits
    subscription, session = opened(account, **features)
    assert 'name="quantity"' in account.browser.get(session.url).text

    def choose(quantity: str) -> int:
        form = {"subscription": subscription.id, "price": price.id, "quantity": quantity}
        return account.browser.post(f"{session.url}/change", data=form).status_code

    assert (choose("6"), choose("5")) == (400, 303)
    assert account.v1.subscriptions.retrieve(subscription.id)["items"].data[0].quantity == 5


def test_the_portal_shows_a_declined_change(account: Account) -> None:
    """A card that does not pay the difference must leave the plan as it is."""
    better = account.price(9900)
    subscription, session = opened(account, **offer(better))
    account.browser.post(f"{session.url}/card", data={"card": "declined"})

    refused = account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": better.id})

    assert (refused.status_code, "Your card was declined." in refused.text) == (402, True)
    assert account.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.unit_amount == 2900


def test_the_portal_keeps_to_its_configuration_and_customer(account: Account) -> None:
    """What is not enabled, and what belongs to others, must be refused."""
    subscription, session = opened(account, subscription_cancel={"enabled": False})
    other = account.subscribe()

    page = account.browser.get(session.url).text
    assert "Cancel subscription" not in page
    assert "Update plan" not in page
    for action, target in (
        ("cancel", subscription),
        ("change", subscription),
        ("resume", other),
        ("resume", subscription),
    ):
        response = account.browser.post(f"{session.url}/{action}", data={"subscription": target.id})
        assert response.status_code == 400
    assert account.browser.post(f"{session.url}/explode").status_code == 404


def test_the_portal_lists_invoices_that_can_be_read(account: Account) -> None:
    """Each invoice must lead to a page and a PDF, and an unpaid one can be paid there."""
    subscription, session = opened(account)
    account.control(f"customers/{session.customer}/payment_method", {"card": "declined"})
    account.advance(days=32)
    owed = account.v1.invoices.list({"status": "open"}).data[0]
    page = account.browser.get(session.url).text
    assert owed.number in page
    assert owed.hosted_invoice_url in page
    assert 'href="http://app.example/"' in page

    assert account.browser.post(owed.hosted_invoice_url).status_code == 402
    account.control(f"customers/{session.customer}/payment_method", {"card": "success"})
    assert "paid" in account.browser.post(owed.hosted_invoice_url).text

    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"
    pdf = account.browser.get(owed.invoice_pdf)
    assert (pdf.headers["Content-Type"], pdf.content[:5]) == ("application/pdf", b"%PDF-")


def test_a_plan_change_ends_a_trial(account: Account) -> None:
    """With the default ``trial_update_behavior`` the new plan must be billed from now on."""
    better = account.price(9900)
    _, session = opened(account, **offer(better))
    customer = account.v1.customers.retrieve(session.customer)
    trial = account.subscribe(customer=customer, trial_period_days=7)

    account.browser.post(f"{session.url}/change", data={"subscription": trial.id, "price": better.id})

    changed = account.v1.subscriptions.retrieve(trial.id, {"expand": ["latest_invoice"]})
    assert (changed.status, changed.latest_invoice.amount_paid) == ("active", 9900)
    assert changed["items"].data[0].current_period_end > changed.trial_end + 27 * DAY


def test_configurations_live(account: Account) -> None:
    """Configurations must be filled in, changed, listed; without one there is no portal."""
    price = account.price()
    configuration = account.v1.billing_portal.configurations.create(
        {"features": FEATURES, "business_profile": {"headline": "Acme"}, "default_return_url": "http://app.example/"}
    )
    assert configuration.features.subscription_update.enabled is False
    assert configuration.features.subscription_cancel.proration_behavior == "none"

    changed = account.v1.billing_portal.configurations.update(configuration.id, {"features": offer(price)})
    assert "products" not in changed.features.subscription_update
    products = ["features.subscription_update.products"]
    shown = account.v1.billing_portal.configurations.retrieve(configuration.id, {"expand": products})
    assert shown.features.subscription_update.products[0].prices == [price.id]
    assert changed.features.invoice_history.enabled is True
    assert account.event_types()[-1] == "billing_portal.configuration.updated"
    listed = account.v1.billing_portal.configurations.list({"active": True}).data
    assert [found.id for found in listed] == [configuration.id]
    customer = account.customer()
    session = account.v1.billing_portal.sessions.create({"customer": customer.id, "configuration": configuration.id})
    assert session.return_url == "http://app.example/"
    assert "Acme" in account.browser.get(session.url).text
    with pytest.raises(stripe.InvalidRequestError, match="No configuration provided"):
        account.v1.billing_portal.sessions.create({"customer": customer.id})
    account.v1.billing_portal.configurations.update(configuration.id, {"active": False})
    with pytest.raises(stripe.InvalidRequestError, match="not active"):
        account.v1.billing_portal.sessions.create({"customer": customer.id, "configuration": configuration.id})
    wrong = {"enabled": True, "products": [{"product": account.price().product, "prices": [price.id]}]}
    with pytest.raises(stripe.InvalidRequestError, match="does not belong"):
        account.v1.billing_portal.configurations.update(configuration.id, {"features": {"subscription_update": wrong}})
