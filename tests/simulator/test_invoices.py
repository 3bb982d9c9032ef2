"""Invoices: paused collection, void and uncollectible."""

import pytest
import stripe

from tests.simulator.support import DAY, Account


@pytest.mark.parametrize(
    ("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")]
)
def test_paused_collection_handles_renewal_invoice_and_resumes(account: Account, behavior: str, status: str) -> None:
    subscription = account.subscribe()
    resumes_at = subscription.start_date + 40 * DAY
    account.v1.subscriptions.update(
        subscription.id, {"pause_collection": {"behavior": behavior, "resumes_at": resumes_at}}
    )

    account.advance(days=32)
    renewed = account.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert (renewed.status, renewed.latest_invoice.status) == ("active", status)

    account.advance(days=10)
    assert account.v1.subscriptions.retrieve(subscription.id).pause_collection is None


def test_void_of_latest_invoice_reactivates_subscription_and_paid_invoice_cannot_be_void(account: Account) -> None:
    customer = account.customer()
    subscription = account.subscribe(customer=customer)
    account.control(f"customers/{customer.id}/payment_method", {"card": "declined"})
    account.advance(days=32)
    unpaid = account.v1.subscriptions.retrieve(subscription.id).latest_invoice

    assert account.v1.invoices.void_invoice(unpaid).status == "void"

    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.invoices.void_invoice(subscription.latest_invoice)


def test_uncollectible_invoice_can_be_paid_out_of_band(account: Account) -> None:
    subscription = account.subscribe(customer=account.customer("pm_card_chargeCustomerFail"))

    uncollectible = account.v1.invoices.mark_uncollectible(subscription.latest_invoice)
    assert uncollectible.status == "uncollectible"
    assert account.event_types()[-1] == "invoice.marked_uncollectible"

    paid = account.v1.invoices.pay(subscription.latest_invoice, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid_off_stripe) == ("paid", 2900)
    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"
