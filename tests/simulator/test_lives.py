"""Whole lives of subscriptions, as time passes and cards behave."""

from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from tests.simulator.conftest import DAY, Account

PAID = ["invoice.updated", "invoice.paid", "invoice.payment_succeeded"]


def test_a_paid_checkout_makes_an_active_subscription(account: Account) -> None:
    """Paying must complete the session and announce subscription, invoice and session in Stripe's order."""
    price, customer = account.price(), account.customer(card=None)
    session = account.checkout(
        price, customer=customer.id, client_reference_id="acme", subscription_data={"metadata": {"account_id": "acme"}}
    )
    seen = account.seen()

    outcome = account.control(f"checkout/{session.id}", {"outcome": "pay"})

    assert outcome["redirect"] == f"http://app.example/done?session={session.id}"
    assert account.event_types(seen) == [
        "payment_method.attached",
        "customer.subscription.created",
        "invoice.created",
        "customer.updated",
        "invoice.finalized",
        *PAID,
        "customer.subscription.updated",
        "checkout.session.completed",
    ]
    events = {event.type: event for event in account.events(seen)}
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


def test_a_checkout_without_customer_makes_one(account: Account) -> None:
    """A session that knows no customer must create one with the e-mail that was typed."""
    session = account.checkout(account.price())

    account.control(f"checkout/{session.id}", {"outcome": "pay", "email": "new@acme.example"})

    done = account.v1.checkout.sessions.retrieve(session.id, {"expand": ["customer"]})
    assert done.customer.email == done.customer_details.email == "new@acme.example"


@pytest.mark.parametrize("outcome", ["decline", "requires_action"])
def test_a_refused_card_leaves_the_checkout_open(account: Account, outcome: str) -> None:
    """A refusal must change nothing, so that the customer can try again."""
    session = account.checkout(account.price())
    seen = account.seen()

    refused = account.control(f"checkout/{session.id}", {"outcome": outcome})

    assert refused["error"]["code"] in {"card_declined", "authentication_required"}
    assert account.event_types(seen) == []
    assert account.control(f"checkout/{session.id}", {"outcome": "pay"})["status"] == "complete"


def test_a_checkout_expires_after_a_day(account: Account) -> None:
    """A session that nobody completes must expire, and be closed for good."""
    session = account.checkout(account.price())

    account.advance(days=1, seconds=1)

    assert account.event_types()[-1] == "checkout.session.expired"
    assert account.v1.checkout.sessions.retrieve(session.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError, match=r'status in \["open"\].*`expired`'):
        account.v1.checkout.sessions.expire(session.id)


def test_an_expired_checkout_cannot_be_paid(account: Account) -> None:
    """Expiring a session by the API must announce it and stop its page."""
    session = account.checkout(account.price())

    assert account.v1.checkout.sessions.expire(session.id).status == "expired"

    assert account.event_types()[-1] == "checkout.session.expired"
    assert account.browser.post(f"/c/pay/{session.id}", data={"outcome": "pay"}).status_code == 410


def test_a_subscription_renews_month_by_month(account: Account) -> None:
    """Each period must start where the last one ended and be invoiced once."""
    subscription = account.subscribe()
    first = subscription["items"].data[0]
    seen = account.seen()

    account.advance(days=32)

    renewed = account.v1.subscriptions.retrieve(subscription.id)
    item = renewed["items"].data[0]
    assert item.current_period_start == first.current_period_end
    assert renewed.status == "active"
    assert account.event_types(seen) == [
        "customer.subscription.updated",
        "invoice.created",
        "invoice.finalized",
        *PAID,
    ]
    event = account.events(seen)[0]
    assert event.created == first.current_period_end
    assert event.data.previous_attributes.to_dict().keys() == {"items", "latest_invoice"}
    invoices = account.v1.invoices.list({"subscription": subscription.id}).data
    assert [(invoice.billing_reason, invoice.status) for invoice in invoices] == [
        ("subscription_cycle", "paid"),
        ("subscription_create", "paid"),
    ]
    assert invoices[0].lines.data[0].period.end == item.current_period_end


def test_a_failing_card_ends_in_cancellation(account: Account) -> None:
    """A refused renewal must make the subscription past due, be retried, and end it after the last attempt."""
    customer = account.customer()
    subscription = account.subscribe(customer=customer)
    account.control(f"customers/{customer.id}/payment_method", {"card": "declined"})
    seen = account.seen()

    account.advance(days=32)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    assert account.event_types(seen)[-3:] == [
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
    assert account.event_types(seen).count("invoice.payment_failed") == 4
    assert "customer.subscription.deleted" in account.event_types(seen)
    invoice = account.v1.invoices.retrieve(invoice.id)
    assert (invoice.status, invoice.auto_advance, invoice.next_payment_attempt) == ("open", False, None)


def test_a_better_card_ends_the_dunning(account: Account) -> None:
    """The next attempt with a card that pays must make the subscription active again."""
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


def test_an_account_may_keep_unpaid_subscriptions(account: Account) -> None:
    """With that setting dunning must end in unpaid, and later invoices must stay drafts until paid by hand."""
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


def test_drafts_wait_if_the_account_says_so(account: Account) -> None:
    """A renewal's invoice must stay a draft for the set time, as Stripe's do for an hour."""
    account.control("reset", {"draft_seconds": 3600})
    subscription = account.subscribe()
    end = subscription["items"].data[0].current_period_end

    account.advance(seconds=end - account.control("clock", method="GET")["now"])
    assert account.v1.invoices.list({"status": "draft"}).data[0].automatically_finalizes_at == end + 3600

    account.advance(seconds=3601)
    assert account.v1.invoices.list({"status": "draft"}).data == []


# --- Trials -----------------------------------------------------------------------------------------------------------


def test_a_trial_becomes_a_paid_subscription(account: Account) -> None:
    """A trial must cost nothing, be announced three days before its end, and then be billed."""
    session = account.checkout(account.price(), subscription_data={"trial_period_days": 14})
    account.control(f"checkout/{session.id}", {"outcome": "pay"})
    done = account.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription.latest_invoice"]})
    trial = done.subscription
    assert (done.payment_status, trial.status, trial.latest_invoice.total) == ("no_payment_required", "trialing", 0)
    assert trial.trial_end == trial["items"].data[0].current_period_end == trial.trial_start + 14 * DAY
    seen = account.seen()

    account.advance(days=11.5)
    assert account.event_types(seen) == ["customer.subscription.trial_will_end"]

    account.advance(days=3)
    subscription = account.v1.subscriptions.retrieve(trial.id, {"expand": ["latest_invoice"]})
    assert (subscription.status, subscription.latest_invoice.amount_paid) == ("active", 2900)
    assert subscription.trial_end == trial.trial_end


def test_a_trial_with_a_failing_card_becomes_past_due(account: Account) -> None:
    """The end of a trial must be billed like a renewal, with the same consequence of a refusal."""
    subscription = account.subscribe(customer=account.customer("pm_card_chargeCustomerFail"), trial_period_days=7)

    account.advance(days=8)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "past_due"


@pytest.mark.parametrize(
    ("behavior", "status", "event"),
    [
        ("pause", "paused", "customer.subscription.paused"),
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("create_invoice", "past_due", "customer.subscription.updated"),
    ],
)
def test_a_trial_without_a_card_ends_as_it_was_set(account: Account, behavior: str, status: str, event: str) -> None:
    """Without a payment method the subscription's own setting must decide."""
    subscription = account.subscribe(
        customer=account.customer(card=None),
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": behavior}},
    )

    account.advance(days=8)

    assert account.v1.subscriptions.retrieve(subscription.id).status == status
    assert event in account.event_types()


def test_a_paused_subscription_resumes_with_a_new_period(account: Account) -> None:
    """Resuming must bill from now on."""
    customer = account.customer(card=None)
    subscription = account.subscribe(
        customer=customer,
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": "pause"}},
    )
    account.advance(days=8)
    account.control(f"customers/{customer.id}/payment_method", {"card": "success"})

    resumed = account.v1.subscriptions.resume(subscription.id)

    assert resumed.status == "active"
    assert account.event_types()[-1] == "customer.subscription.resumed"
    with pytest.raises(stripe.InvalidRequestError, match="cannot be resumed"):
        account.v1.subscriptions.resume(subscription.id)


def test_a_trial_can_be_ended_and_extended(account: Account) -> None:
    """Setting ``trial_end`` must move the end of the trial, or bill at once."""
    subscription = account.subscribe(trial_period_days=7)

    longer = account.v1.subscriptions.update(subscription.id, {"trial_end": subscription.trial_end + DAY})
    assert longer["items"].data[0].current_period_end == subscription.trial_end + DAY

    ended = account.v1.subscriptions.update(subscription.id, {"trial_end": "now", "expand": ["latest_invoice"]})
    assert (ended.status, ended.latest_invoice.amount_paid) == ("active", 2900)


# --- Ends -------------------------------------------------------------------------------------------------------------


def test_a_subscription_ends_with_its_period_if_asked(account: Account) -> None:
    """``cancel_at_period_end`` must take effect at the end, and can be taken back before."""
    subscription = account.subscribe()
    asked = account.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert asked.cancel_at == asked["items"].data[0].current_period_end
    assert asked.cancellation_details.reason == "cancellation_requested"
    kept = account.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (kept.cancel_at, kept.canceled_at, kept.cancellation_details.reason) == (None, None, None)
    account.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})

    account.advance(days=32)

    ended = account.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.ended_at) == ("canceled", asked.cancel_at)
    assert account.event_types()[-1] == "customer.subscription.deleted"


def test_a_subscription_ends_at_a_given_moment(account: Account) -> None:
    """``cancel_at`` must end the subscription in the middle of a period, and an empty value take it back."""
    subscription = account.subscribe()
    moment = subscription.start_date + 5 * DAY
    account.v1.subscriptions.update(subscription.id, {"cancel_at": moment})
    assert account.v1.subscriptions.update(subscription.id, {"cancel_at": ""}).cancel_at is None
    account.v1.subscriptions.update(subscription.id, {"cancel_at": moment})

    account.advance(days=6)

    assert account.v1.subscriptions.retrieve(subscription.id).ended_at == moment


def test_a_canceled_subscription_stays_so(account: Account) -> None:
    """After a cancellation only metadata may change, and it cannot be canceled again."""
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


def test_deleting_a_customer_cancels_first(account: Account) -> None:
    """A deleted customer must leave no subscription, and be remembered as deleted."""
    customer = account.customer()
    subscription = account.subscribe(customer=customer)

    deleted = account.v1.customers.delete(customer.id)

    assert deleted.deleted is True
    assert account.event_types()[-2:] == ["customer.subscription.deleted", "customer.deleted"]
    assert account.v1.customers.retrieve(customer.id).deleted is True
    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        account.v1.customers.update(customer.id, {"name": "x"})


# --- First payments ---------------------------------------------------------------------------------------------------


def test_a_refused_first_payment_leaves_an_incomplete_subscription(account: Account) -> None:
    """It must wait 23 hours for the payment and then give up."""
    customer = account.customer("pm_card_chargeCustomerFail")
    subscription = account.subscribe(customer=customer)
    assert subscription.status == "incomplete"

    account.advance(days=1)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "incomplete_expired"
    assert account.v1.invoices.retrieve(subscription.latest_invoice).status == "void"


def test_an_incomplete_subscription_becomes_active_when_paid(account: Account) -> None:
    """Paying the first invoice must activate the subscription; a refusal is a card error."""
    customer = account.customer("pm_card_chargeCustomerFail")
    subscription = account.subscribe(customer=customer)
    with pytest.raises(stripe.CardError) as refused:
        account.v1.invoices.pay(subscription.latest_invoice)
    assert (refused.value.code, refused.value.http_status) == ("card_declined", 402)
    account.control(f"customers/{customer.id}/payment_method", {"card": "success"})

    account.v1.invoices.pay(subscription.latest_invoice)

    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_an_unpayable_subscription_can_be_an_error(account: Account) -> None:
    """``error_if_incomplete`` must create nothing where the card does not pay; no card at all is an error too."""
    customer = account.customer("pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError):
        account.subscribe(customer=customer, payment_behavior="error_if_incomplete")
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        account.subscribe(customer=account.customer(card=None))
    assert account.v1.subscriptions.list({"status": "all"}).data == []


# --- Changes of plan --------------------------------------------------------------------------------------------------


def half_used(account: Account, **settings: Any) -> tuple[Any, Any]:
    """Return a clock in the middle of a 30-day period, and the subscription on it."""
    begin = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": begin})
    customer = account.customer(test_clock=clock.id, **settings)
    subscription = account.subscribe(account.price(3000), customer)
    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": begin + 15 * DAY})
    return clock, subscription


def change_price(account: Account, subscription: Any, price: Any, **fields: Any) -> Any:
    """Move a subscription to another price and return it with its latest invoice."""
    item = {"id": subscription["items"].data[0].id, "price": price.id}
    return account.v1.subscriptions.update(subscription.id, {"items": [item], "expand": ["latest_invoice"], **fields})


def test_an_upgrade_is_prorated_and_invoiced_at_once(account: Account) -> None:
    """Half a period of a price ten times as high must cost half the difference."""
    _, subscription = half_used(account)

    changed = change_price(account, subscription, account.price(30_000), proration_behavior="always_invoice")

    invoice = changed.latest_invoice
    assert [line.amount for line in invoice.lines.data] == [-1500, 15_000]
    assert (invoice.total, invoice.amount_paid, invoice.billing_reason) == (13_500, 13_500, "subscription_update")
    assert changed["items"].data[0].id == subscription["items"].data[0].id
    assert changed["items"].data[0].current_period_end == subscription["items"].data[0].current_period_end


def test_prorations_wait_for_the_next_invoice_by_default(account: Account) -> None:
    """``create_prorations`` must add the lines to the renewal."""
    clock, subscription = half_used(account)
    changed = change_price(account, subscription, account.price(30_000))
    assert changed.latest_invoice.billing_reason == "subscription_create"

    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": clock.frozen_time + 31 * DAY})

    renewed = account.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert [line.amount for line in renewed.latest_invoice.lines.data] == [-1500, 15_000, 30_000]
    assert renewed.latest_invoice.amount_paid == 43_500


def test_a_change_without_proration_costs_nothing(account: Account) -> None:
    """``none`` must only change what the next period costs."""
    clock, subscription = half_used(account)
    change_price(account, subscription, account.price(30_000), proration_behavior="none")

    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": clock.frozen_time + 31 * DAY})

    renewed = account.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert renewed.latest_invoice.total == 30_000


def test_a_downgrade_leaves_credit(account: Account) -> None:
    """What is given back must become the customer's balance and pay for later invoices."""
    clock, subscription = half_used(account)

    changed = change_price(account, subscription, account.price(1000), proration_behavior="always_invoice")

    invoice = changed.latest_invoice
    assert (invoice.total, invoice.amount_due, invoice.status, invoice.ending_balance) == (-1000, 0, "paid", -1000)
    assert account.v1.customers.retrieve(subscription.customer).balance == -1000
    account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": clock.frozen_time + 31 * DAY})
    renewal = account.v1.invoices.list({"subscription": subscription.id, "limit": 1}).data[0]
    assert (renewal.total, renewal.starting_balance, renewal.amount_due, renewal.ending_balance) == (1000, -1000, 0, 0)


def test_another_interval_starts_a_new_period(account: Account) -> None:
    """Moving from a month to a year must bill the year now, less what is left of the month."""
    clock, subscription = half_used(account)

    changed = change_price(account, subscription, account.price(30_000, "year"))

    now = clock.frozen_time + 15 * DAY
    item = changed["items"].data[0]
    assert (item.current_period_start, item.current_period_end) == (now, now + 365 * DAY)
    assert changed.billing_cycle_anchor == now
    assert changed.latest_invoice.total == 30_000 - 1500


def test_an_unpayable_upgrade_makes_the_subscription_past_due(account: Account) -> None:
    """The change must stand and the subscription owe it, unless the request asked for an error."""
    _, subscription = half_used(account)
    account.control(f"customers/{subscription.customer}/payment_method", {"card": "declined"})
    expensive = account.price(30_000)
    with pytest.raises(stripe.CardError):
        change_price(
            account,
            subscription,
            expensive,
            proration_behavior="always_invoice",
            payment_behavior="error_if_incomplete",
        )
    assert account.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.unit_amount == 3000

    changed = change_price(account, subscription, expensive, proration_behavior="always_invoice")

    assert (changed.status, changed["items"].data[0].price.id) == ("past_due", expensive.id)


def test_quantities_and_items_can_change(account: Account) -> None:
    """Items can be counted up, added and removed; the same price twice is refused."""
    subscription = account.subscribe()
    extra = account.price(500)
    first = subscription["items"].data[0]

    changed = account.v1.subscriptions.update(
        subscription.id, {"items": [{"id": first.id, "quantity": 3}, {"price": extra.id}]}
    )
    assert [(item.price.id, item.quantity) for item in changed["items"].data] == [(first.price.id, 3), (extra.id, 1)]

    with pytest.raises(stripe.InvalidRequestError, match="same price"):
        account.v1.subscriptions.update(subscription.id, {"items": [{"price": extra.id}]})
    kept = account.v1.subscriptions.update(subscription.id, {"items": [{"id": first.id, "deleted": True}]})
    assert [item.price.id for item in kept["items"].data] == [extra.id]
    assert [item.id for item in account.v1.subscription_items.list({"subscription": subscription.id}).data] == [
        kept["items"].data[0].id
    ]


def test_one_update_is_one_event(account: Account) -> None:
    """Several changed fields in one request must be announced together."""
    subscription = account.subscribe()
    seen = account.seen()

    account.v1.subscriptions.update(
        subscription.id, {"cancel_at_period_end": True, "metadata": {"team": "a"}, "description": "gold"}
    )

    (event,) = account.events(seen)
    changed = event.data.previous_attributes.to_dict()
    assert changed.keys() == {
        "cancel_at",
        "cancel_at_period_end",
        "canceled_at",
        "cancellation_details",
        "description",
        "metadata",
    }
    assert changed["cancellation_details"] == {"reason": None}
    assert changed["metadata"] == {"team": None}


@pytest.mark.parametrize(
    ("behavior", "status"), [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")]
)
def test_paused_collection_leaves_invoices_alone(account: Account, behavior: str, status: str) -> None:
    """While collection is paused a renewal must be invoiced as the pause says, and end when it says."""
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


def test_voiding_forgives(account: Account) -> None:
    """A voided latest invoice must end past due; what is paid cannot be voided."""
    customer = account.customer()
    subscription = account.subscribe(customer=customer)
    account.control(f"customers/{customer.id}/payment_method", {"card": "declined"})
    account.advance(days=32)
    owed = account.v1.subscriptions.retrieve(subscription.id).latest_invoice

    assert account.v1.invoices.void_invoice(owed).status == "void"

    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.invoices.void_invoice(subscription.latest_invoice)


def test_an_invoice_can_be_given_up(account: Account) -> None:
    """An open invoice can be marked uncollectible and still be paid outside of Stripe."""
    subscription = account.subscribe(customer=account.customer("pm_card_chargeCustomerFail"))

    given_up = account.v1.invoices.mark_uncollectible(subscription.latest_invoice)
    assert given_up.status == "uncollectible"
    assert account.event_types()[-1] == "invoice.marked_uncollectible"

    paid = account.v1.invoices.pay(subscription.latest_invoice, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid_off_stripe) == ("paid", 2900)
    assert account.v1.subscriptions.retrieve(subscription.id).status == "active"


# --- Clocks -----------------------------------------------------------------------------------------------------------


def test_months_end_where_the_calendar_lets_them(account: Account) -> None:
    """A subscription of 31 January must renew on the last of February and on 31 March again."""
    begin = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": begin})
    subscription = account.subscribe(customer=account.customer(test_clock=clock.id))
    ends = []

    for days in (0, 29, 60):
        if days:
            account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": begin + days * DAY})
        item = account.v1.subscriptions.retrieve(subscription.id)["items"].data[0]
        ends.append(datetime.fromtimestamp(item.current_period_end, UTC).strftime("%m-%d %H"))

    assert ends == ["02-28 12", "03-31 12", "04-30 12"]


def test_a_test_clock_moves_only_its_own_customers(account: Account) -> None:
    """Objects on a clock must live in its time, and be listed only for it."""
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000, "name": "mine"})
    timed, other = account.customer(test_clock=clock.id), account.customer()
    subscription, untouched = account.subscribe(customer=timed), account.subscribe(customer=other)
    assert subscription.start_date == timed.created == 1_800_000_000

    advanced = account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_800_000_000 + 40 * DAY})

    assert advanced.status == "ready"
    assert len(account.v1.invoices.list({"subscription": subscription.id}).data) == 2
    assert len(account.v1.invoices.list({"subscription": untouched.id}).data) == 1
    assert [found.id for found in account.v1.customers.list().data] == [other.id]
    assert [found.id for found in account.v1.customers.list({"test_clock": clock.id}).data] == [timed.id]
    with pytest.raises(stripe.InvalidRequestError, match="forward"):
        account.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_800_000_000})
    account.v1.test_helpers.test_clocks.delete(clock.id)
    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_time_only_goes_forward(account: Account) -> None:
    """The clock must refuse to be put back, and every answer's Date must agree with it."""
    documents: list[Any] = [{"advance_seconds": -1}, {"advance_seconds": "1"}, {}, []]
    for document in documents:
        assert account.browser.post("/_simulator/clock", json=document).status_code == 400

    account.advance(days=400)

    now = account.control("clock", method="GET")["now"]
    response = account.browser.get("/v1/events", headers={"Authorization": "Bearer sk_test_x"})
    date = datetime.strptime(response.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    assert abs(date.timestamp() - now) <= 2
