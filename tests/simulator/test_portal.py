"""Customer Portal: configurations, sessions and the hosted page."""

from typing import Any

import pytest
import stripe

from tests.simulator.support import DAY, Account

FEATURES: dict[str, Any] = {
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
}


def open_portal(account: Account, **features: Any) -> tuple[Any, Any]:
    """Return a subscription and a portal session of its customer."""
    subscription = account.subscribe()
    configuration = account.v1.billing_portal.configurations.create({"features": {**FEATURES, **features}})
    session = account.v1.billing_portal.sessions.create(
        {"customer": subscription.customer, "configuration": configuration.id, "return_url": "http://app.example/"}
    )
    return subscription, session


def plan_change_feature(*prices: Any) -> dict[str, Any]:
    """Return the feature that allows a change to these prices, with the difference invoiced immediately."""
    products = [{"product": price.product, "prices": [price.id]} for price in prices]
    return {
        "subscription_update": {
            "enabled": True,
            "default_allowed_updates": ["price"],
            "products": products,
            "proration_behavior": "always_invoice",
        }
    }


def test_portal_cancellation_in_flexible_mode_sets_cancel_at_only_and_resume_clears_it(account: Account) -> None:
    subscription, session = open_portal(account)
    before = account.event_ids()

    response = account.browser.post(
        f"{session.url}/cancel", data={"subscription": subscription.id, "feedback": "unused"}
    )

    assert response.status_code == 303
    canceled = account.v1.subscriptions.retrieve(subscription.id)
    assert canceled.cancel_at == canceled["items"].data[0].current_period_end
    assert (canceled.cancel_at_period_end, canceled.cancellation_details.feedback) == (False, "unused")
    assert "cancels on" in account.browser.get(session.url).text
    account.browser.post(f"{session.url}/resume", data={"subscription": subscription.id})
    resumed = account.v1.subscriptions.retrieve(subscription.id)
    assert (resumed.cancel_at, resumed.canceled_at, resumed.cancellation_details.feedback) == (None, None, None)
    assert account.event_types(before) == ["customer.subscription.updated"] * 2


def test_portal_cancellation_in_classic_mode_sets_cancel_at_and_cancel_at_period_end(account: Account) -> None:
    _, session = open_portal(account)
    classic = account.subscribe(
        customer=account.v1.customers.retrieve(session.customer), billing_mode={"type": "classic"}
    )

    account.browser.post(f"{session.url}/cancel", data={"subscription": classic.id})

    canceled = account.v1.subscriptions.retrieve(classic.id)
    assert canceled.cancel_at_period_end is True
    assert canceled.cancel_at == canceled["items"].data[0].current_period_end
    account.advance(days=32)
    assert account.v1.subscriptions.retrieve(classic.id).status == "canceled"


def test_portal_cancellation_with_mode_immediately_ends_subscription(account: Account) -> None:
    subscription, session = open_portal(account, subscription_cancel={"enabled": True, "mode": "immediately"})

    account.browser.post(f"{session.url}/cancel", data={"subscription": subscription.id})

    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert "No subscription." in account.browser.get(session.url).text


def test_portal_plan_change_invoices_difference_and_rejects_other_prices(account: Account) -> None:
    better, unlisted = account.price(9900), account.price(1)
    subscription, session = open_portal(account, **plan_change_feature(better))
    assert "$99.00 per month" in account.browser.get(session.url).text

    rejected = account.browser.post(
        f"{session.url}/change", data={"subscription": subscription.id, "price": unlisted.id}
    )
    assert (rejected.status_code, "not available" in rejected.text) == (400, True)
    account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": better.id})

    changed = account.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert changed["items"].data[0].price.id == better.id
    assert changed.latest_invoice.status == "paid"
    assert changed.latest_invoice.total == pytest.approx(7000, abs=1)


def test_portal_quantity_change_above_maximum_returns_400(account: Account) -> None:
    price = account.price()
    features = plan_change_feature(price)
    features["subscription_update"]["default_allowed_updates"] = ["price", "quantity"]
    limits = {"enabled": True, "minimum": 1, "maximum": 5}
    features["subscription_update"]["products"][0]["adjustable_quantity"] = limits
    subscription, session = open_portal(account, **features)
    assert 'name="quantity"' in account.browser.get(session.url).text

    def choose(quantity: str) -> int:
        form = {"subscription": subscription.id, "price": price.id, "quantity": quantity}
        return account.browser.post(f"{session.url}/change", data=form).status_code

    assert (choose("6"), choose("5")) == (400, 303)
    assert account.v1.subscriptions.retrieve(subscription.id)["items"].data[0].quantity == 5


def test_portal_plan_change_with_declined_card_keeps_plan(account: Account) -> None:
    better = account.price(9900)
    subscription, session = open_portal(account, **plan_change_feature(better))
    account.browser.post(f"{session.url}/card", data={"card": "declined"})

    rejected = account.browser.post(f"{session.url}/change", data={"subscription": subscription.id, "price": better.id})

    assert (rejected.status_code, "Your card was declined." in rejected.text) == (402, True)
    assert account.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.unit_amount == 2900


def test_portal_rejects_disabled_features_and_other_customers(account: Account) -> None:
    subscription, session = open_portal(account, subscription_cancel={"enabled": False})
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


def test_portal_invoices_have_page_and_pdf_and_can_be_paid(account: Account) -> None:
    subscription, session = open_portal(account)
    account.control(f"customers/{session.customer}/payment_method", {"card": "declined"})
    account.advance(days=32)
    unpaid = account.v1.invoices.list({"status": "open"}).data[0]
    page = account.browser.get(session.url).text
    assert unpaid.number in page
    assert unpaid.hosted_invoice_url in page
    assert 'href="http://app.example/"' in page

    assert account.browser.post(unpaid.hosted_invoice_url).status_code == 402
    account.control(f"customers/{session.customer}/payment_method", {"card": "success"})
    assert "paid" in account.browser.post(unpaid.hosted_invoice_url).text

    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"
    pdf = account.browser.get(unpaid.invoice_pdf)
    assert (pdf.headers["Content-Type"], pdf.content[:5]) == ("application/pdf", b"%PDF-")


def test_portal_plan_change_in_trial_ends_trial(account: Account) -> None:
    """The default of ``trial_update_behavior`` is ``end_trial``."""
    better = account.price(9900)
    _, session = open_portal(account, **plan_change_feature(better))
    customer = account.v1.customers.retrieve(session.customer)
    trial = account.subscribe(customer=customer, trial_period_days=7)

    account.browser.post(f"{session.url}/change", data={"subscription": trial.id, "price": better.id})

    changed = account.v1.subscriptions.retrieve(trial.id, {"expand": ["latest_invoice"]})
    assert (changed.status, changed.latest_invoice.amount_paid) == ("active", 9900)
    assert changed["items"].data[0].current_period_end > changed.trial_end + 27 * DAY


def test_portal_configuration_gets_defaults_and_limits_sessions(account: Account) -> None:
    price = account.price()
    configuration = account.v1.billing_portal.configurations.create(
        {"features": FEATURES, "business_profile": {"headline": "Acme"}, "default_return_url": "http://app.example/"}
    )
    assert configuration.features.subscription_update.enabled is False
    assert configuration.features.subscription_cancel.proration_behavior == "none"

    changed = account.v1.billing_portal.configurations.update(
        configuration.id, {"features": plan_change_feature(price)}
    )
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


def offer(account: Account, *prices: Any) -> Any:
    """Create a portal configuration that offers prices of one product."""
    products = [{"product": prices[0].product, "prices": [price.id for price in prices]}]
    update = {"enabled": True, "default_allowed_updates": ["price"], "products": products}
    return account.v1.billing_portal.configurations.create({"features": {"subscription_update": update}})


def test_portal_configuration_accepts_active_recurring_prices_of_different_intervals_only(account: Account) -> None:
    monthly = account.price()

    def another(**fields: Any) -> Any:
        recurring = {"interval": "month"}
        params = {"product": monthly.product, "currency": "usd", "unit_amount": 5, "recurring": recurring, **fields}
        return account.v1.prices.create({name: value for name, value in params.items() if value})

    yearly = another(recurring={"interval": "year"})
    quarterly = another(recurring={"interval": "month", "interval_count": 3})
    configuration = offer(account, monthly, yearly, quarterly)
    archived = account.v1.prices.update(another().id, {"active": False})
    for price, message in (
        (archived, "is not active"),
        (another(recurring=None), "is not recurring"),
        (another(), "the same billing interval"),
        (another(currency="eur"), "the same billing interval"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match=message):
            offer(account, monthly, price)
    account.v1.prices.update(yearly.id, {"active": False})
    changed = account.v1.billing_portal.configurations.update(
        configuration.id, {"features": {"subscription_cancel": {"enabled": False}}}
    )
    assert changed.features.subscription_cancel.enabled is False
