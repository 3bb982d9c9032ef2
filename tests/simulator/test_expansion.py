"""Expansion of ids to objects with ``expand[]``."""

import pytest
import stripe

from tests.simulator.support import Account


def test_expand_replaces_ids_in_objects_and_lists(account: Account) -> None:
    customer = account.customer()
    subscription = account.subscribe(customer=customer)

    one = account.v1.subscriptions.retrieve(
        subscription.id, {"expand": ["customer.subscriptions", "latest_invoice", "items.data.price.product"]}
    )
    assert one.customer.email == "jo@acme.example"
    assert one.customer.subscriptions.data[0].id == subscription.id
    assert one.latest_invoice.status == "paid"
    assert one["items"].data[0].price.product.name == "Plan at 2900"
    listed = account.v1.invoices.list({"expand": ["data.customer", "data.parent.subscription_details.subscription"]})
    assert listed.data[0].customer.id == customer.id
    assert listed.data[0].parent.subscription_details.subscription.id == subscription.id
    assert account.v1.subscriptions.retrieve(subscription.id).customer == customer.id


@pytest.mark.parametrize("path", ["email", "unicorn", "a.b.c.d.e"])
def test_expand_with_invalid_path_returns_error(account: Account, path: str) -> None:
    customer = account.customer()
    with pytest.raises(stripe.InvalidRequestError, match="expand"):
        account.v1.customers.retrieve(customer.id, {"expand": [path]})
