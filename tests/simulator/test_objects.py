"""Products, prices, customers, payment methods and events."""

import json

import pytest
import stripe

from tests.simulator.support import Account


def test_lookup_key_in_use_returns_error_unless_transferred(account: Account) -> None:
    first = account.price(lookup_key="pro")
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        account.price(lookup_key="pro")

    second = account.price(lookup_key="pro", transfer_lookup_key=True)

    assert [price.id for price in account.v1.prices.list({"lookup_keys": ["pro", "other"]}).data] == [second.id]
    assert account.v1.prices.retrieve(first.id).lookup_key is None


def test_price_ids_are_numbered_from_123_after_each_reset(account: Account) -> None:
    for _ in range(2):
        account.control("reset", {})
        assert [account.price().id, account.price().id] == ["price_123", "price_124"]


def test_product_is_created_updated_listed_and_deleted(account: Account) -> None:
    product = account.v1.products.create(
        {"id": "pro", "name": "Pro", "default_price_data": {"currency": "usd", "unit_amount": 1}}
    )
    assert account.v1.prices.retrieve(product.default_price).product == "pro"
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        account.v1.products.create({"id": "pro", "name": "Pro"})
    assert account.v1.products.update("pro", {"name": "Professional", "active": False}).name == "Professional"
    plain = account.v1.products.create({"name": "Plain"})
    assert [found.id for found in account.v1.products.list({"active": True}).data] == [plain.id]
    assert account.v1.products.delete(plain.id).deleted is True
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.products.retrieve(plain.id)


def test_metadata_update_merges_keys_and_removes_empty_ones(account: Account) -> None:
    customer = account.v1.customers.create({"metadata": {"a": "1", "b": "2"}})

    changed = account.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}, "name": "Jo"})
    assert changed.metadata.to_dict() == {"a": "1", "c": "3"}
    event = account.events()[-1]
    assert event.data.previous_attributes.to_dict() == {"metadata": {"b": "2", "c": None}, "name": None}
    assert account.v1.customers.update(customer.id, {"metadata": ""}).metadata.to_dict() == {}
    assert account.v1.customers.update(customer.id, {"address": {"city": "Bern"}}).address.city == "Bern"


def test_payment_method_of_another_customer_returns_error(account: Account) -> None:
    jo, di = account.customer(card=None), account.customer(card=None)
    method = account.v1.payment_methods.attach("pm_card_visa", {"customer": jo.id})
    assert (method.customer, method.card.last4) == (jo.id, "4242")

    account.v1.customers.update(jo.id, {"invoice_settings": {"default_payment_method": method.id}})

    assert [found.id for found in account.v1.payment_methods.list({"customer": jo.id}).data] == [method.id]
    with pytest.raises(stripe.InvalidRequestError, match="must be attached"):
        account.v1.customers.update(di.id, {"invoice_settings": {"default_payment_method": method.id}})


def test_customer_deletion_cancels_subscriptions_and_keeps_deleted_object(account: Account) -> None:
    customer = account.customer()
    subscription = account.subscribe(customer=customer)

    deleted = account.v1.customers.delete(customer.id)

    assert deleted.deleted is True
    assert account.event_types()[-2:] == ["customer.subscription.deleted", "customer.deleted"]
    assert account.v1.customers.retrieve(customer.id).deleted is True
    assert account.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        account.v1.customers.update(customer.id, {"name": "x"})


def test_event_snapshot_does_not_change_with_its_object(account: Account) -> None:
    customer = account.v1.customers.create({"name": "before"})
    account.v1.customers.update(customer.id, {"name": "after"})

    created, updated = account.events()
    assert (created.data.object.name, updated.data.object.name) == ("before", "after")
    assert json.loads(str(updated))["data"]["previous_attributes"] == {"name": "before"}
