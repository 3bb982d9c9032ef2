"""Lists: pagination and filters."""

from typing import Any

import pytest
import stripe

from tests.simulator.support import Account, send_raw


def test_pagination_returns_each_object_once_in_both_directions(account: Account) -> None:
    created = [account.v1.customers.create({"name": str(number)}).id for number in range(25)]

    listed = [customer.id for customer in account.v1.customers.list({"limit": 10}).auto_paging_iter()]
    assert listed == created[::-1]
    first = account.v1.customers.list({"limit": 10})
    assert (first.has_more, first.url) == (True, "/v1/customers")
    backwards = account.v1.customers.list({"limit": 4, "ending_before": listed[12]})
    assert ([customer.id for customer in backwards.data], backwards.has_more) == (listed[8:12], True)
    last = account.v1.customers.list({"limit": 10, "starting_after": listed[19]})
    assert ([customer.id for customer in last.data], last.has_more) == (listed[20:], False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("starting_after=cus_none", "starting_after"),
        ("starting_after=a&ending_before=b", "ending_before"),
    ],
)
def test_pagination_with_invalid_parameter_returns_400(account: Account, query: str, param: str) -> None:
    status, error = send_raw(account, "GET", f"/v1/customers?{query}")
    assert (status, error["param"]) == (400, param)


def test_pagination_accepts_cursor_that_filter_excludes(account: Account) -> None:
    """The cursor is the last event received, which may have another type."""
    account.v1.products.create({"name": "a"})
    cursor = account.events()[-1].id
    account.v1.customers.create({})

    newer = account.v1.events.list({"ending_before": cursor, "type": "customer.created"})
    assert [event.type for event in newer.data] == ["customer.created"]


def test_events_filter_by_type_time_and_delivery_for_30_days(account: Account) -> None:
    account.v1.customers.create({})
    account.v1.products.create({"name": "Pro"})
    now = account.control("clock", method="GET")["now"]

    def types(**filters: Any) -> list[str]:
        return [event.type for event in account.v1.events.list(filters).data]

    assert types(type="product.created") == ["product.created"]
    assert types(type="customer.*") == ["customer.created"]
    assert types(types=["customer.created", "product.created"]) == ["product.created", "customer.created"]
    assert types(created={"gte": now - 60, "lte": now}) == ["product.created", "customer.created"]
    assert types(created={"gt": now + 60}) == types(created={"lt": now - 60}) == []
    assert types(delivery_success=True) == ["product.created", "customer.created"]
    account.advance(days=31)
    assert types() == []


def test_customers_filter_by_exact_email(account: Account) -> None:
    found = account.v1.customers.create({"email": "jo@acme.example"})
    account.v1.customers.create({"email": "jo@globex.example"})

    assert [customer.id for customer in account.v1.customers.list({"email": "jo@acme.example"}).data] == [found.id]


def test_subscriptions_filter_by_customer_status_and_price_and_omit_canceled(account: Account) -> None:
    price, customer = account.price(), account.customer()
    active, canceled = (account.subscribe(price, customer) for _ in range(2))
    account.subscribe()
    account.v1.subscriptions.cancel(canceled.id)

    def found(**filters: Any) -> list[str]:
        return [subscription.id for subscription in account.v1.subscriptions.list(filters).data]

    assert found(customer=customer.id) == found(price=price.id) == [active.id]
    assert found(customer=customer.id, status="all") == [canceled.id, active.id]
    assert found(status="canceled") == found(status="ended") == [canceled.id]


def test_prices_filter_by_product_and_active(account: Account) -> None:
    price = account.price()
    account.price(500)
    archived = account.v1.prices.update(price.id, {"active": False, "metadata": {"plan": "old"}})
    assert archived.metadata.to_dict() == {"plan": "old"}

    assert [found.id for found in account.v1.prices.list({"product": price.product}).data] == [price.id]
    assert [found.id for found in account.v1.prices.list({"active": False}).data] == [price.id]
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        account.checkout(price)
    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        account.v1.products.delete(price.product)


def test_checkout_sessions_filter_by_customer_and_status(account: Account) -> None:
    customer = account.customer()
    session = account.checkout(account.price(), customer=customer.id, allow_promotion_codes=True, metadata={"a": "b"})
    account.checkout(account.price())

    found = account.v1.checkout.sessions.list({"customer": customer.id, "status": "open"}).data
    assert [each.id for each in found] == [session.id]
    assert (found[0].allow_promotion_codes, found[0].metadata["a"]) == (True, "b")
    assert account.v1.checkout.sessions.line_items.list(session.id).data[0].amount_total == 2900
