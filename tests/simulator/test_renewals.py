"""Renewals, dunning and the status after it."""

from tests.simulator.support import DAY, PAYMENT_EVENTS, Account


def test_renewal_starts_next_period_and_invoices_it_once(account: Account) -> None:
    subscription = account.subscribe()
    first = subscription["items"].data[0]
    before = account.event_ids()

    account.advance(days=32)

    renewed = account.v1.subscriptions.retrieve(subscription.id)
    item = renewed["items"].data[0]
    assert item.current_period_start == first.current_period_end
    assert renewed.status == "active"
    assert account.event_types(before) == [
        "customer.subscription.updated",
        "invoice.created",
        "invoice.finalized",
        *PAYMENT_EVENTS,
    ]
    event = account.events(before)[0]
    assert event.created == first.current_period_end
    assert event.data.previous_attributes.to_dict().keys() == {"items", "latest_invoice"}
    invoices = account.v1.invoices.list({"subscription": subscription.id}).data
    assert [(invoice.billing_reason, invoice.status) for invoice in invoices] == [
        ("subscription_cycle", "paid"),
        ("subscription_create", "paid"),
    ]
    assert invoices[0].lines.data[0].period.end == item.current_period_end


def test_renewal_with_declined_card_is_past_due_and_canceled_after_last_retry(account: Account) -> None:
    customer = account.customer()
    subscription = account.subscribe(customer=customer)
    account.control(f"customers/{customer.id}/payment_method", {"card": "declined"})
    before = account.event_ids()

    account.advance(days=32)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    assert account.event_types(before)[-3:] == [
        "invoice.updated",
        "invoice.payment_failed",
        "customer.subscription.updated",
    ]
    invoice = account.v1.invoices.list({"status": "open"}).data[0]
    assert (invoice.attempt_count, invoice.amount_remaining) == (1, 2900)
    assert invoice.next_payment_attempt == invoice.created + 3 * DAY

    account.advance(days=15)

    ended = account.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")
    assert account.event_types(before).count("invoice.payment_failed") == 4
    assert "customer.subscription.deleted" in account.event_types(before)
    invoice = account.v1.invoices.retrieve(invoice.id)
    assert (invoice.status, invoice.auto_advance, invoice.next_payment_attempt) == ("open", False, None)


def test_retry_with_valid_card_reactivates_subscription(account: Account) -> None:
    customer = account.customer()
    subscription = account.subscribe(customer=customer)
    account.control(f"customers/{customer.id}/payment_method", {"card": "requires_action"})
    account.advance(days=32)
    assert "invoice.payment_action_required" in account.event_types()
    account.control(f"customers/{customer.id}/payment_method", {"card": "success"})

    account.advance(days=3)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"
    last = account.events()[-1]
    assert (last.type, last.data.previous_attributes.to_dict()) == (
        "customer.subscription.updated",
        {"status": "past_due"},
    )


def test_after_dunning_unpaid_keeps_later_invoices_as_drafts(account: Account) -> None:
    account.control("reset", {"after_dunning": "unpaid", "retry_days": [2]})
    customer = account.customer()
    subscription = account.subscribe(customer=customer)
    account.control(f"customers/{customer.id}/payment_method", {"card": "declined"})

    account.advance(days=66)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "unpaid"
    latest, failed, _ = account.v1.invoices.list({"subscription": subscription.id}).data
    assert (latest.status, latest.auto_advance, failed.status) == ("draft", False, "open")
    account.control(f"customers/{customer.id}/payment_method", {"card": "success"})
    assert account.v1.invoices.pay(latest.id).status == "paid"
    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_draft_seconds_delays_finalization_of_renewal_invoice(account: Account) -> None:
    account.control("reset", {"draft_seconds": 3600})
    subscription = account.subscribe()
    end = subscription["items"].data[0].current_period_end

    account.advance(seconds=end - account.control("clock", method="GET")["now"])
    assert account.v1.invoices.list({"status": "draft"}).data[0].automatically_finalizes_at == end + 3600

    account.advance(seconds=3601)
    assert account.v1.invoices.list({"status": "draft"}).data == []
