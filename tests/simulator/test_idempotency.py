"""Idempotency keys."""

import threading
import time

import pytest
import stripe

from tests.simulator.support import AUTHORIZATION, Account, send_raw


def test_repeated_request_returns_first_response_and_creates_nothing(account: Account) -> None:
    responses = [
        account.browser.post("/v1/customers", data={"name": "a"}, headers={**AUTHORIZATION, "Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert responses[0].json() == responses[1].json()
    assert "Idempotent-Replayed" not in responses[0].headers
    assert responses[1].headers["Idempotent-Replayed"] == "true"
    assert responses[1].headers["Original-Request"] == responses[0].headers["Request-Id"]
    assert len(account.v1.customers.list().data) == 1


def test_key_of_another_request_returns_400(account: Account) -> None:
    account.v1.customers.create({"name": "a"}, {"idempotency_key": "k"})

    for service, name in ((account.v1.customers, "b"), (account.v1.products, "a")):
        with pytest.raises(stripe.IdempotencyError) as raised:
            service.create({"name": name}, {"idempotency_key": "k"})
        assert raised.value.http_status == 400


def test_card_error_is_replayed_and_parameter_error_is_not(account: Account) -> None:
    customer = account.customer("pm_card_chargeCustomerFail")
    order = {
        "customer": customer.id,
        "items": [{"price": account.price().id}],
        "payment_behavior": "error_if_incomplete",
    }
    with pytest.raises(stripe.CardError):
        account.v1.subscriptions.create(order, {"idempotency_key": "k"})
    account.control(f"customers/{customer.id}/payment_method", {"card": "success"})
    with pytest.raises(stripe.CardError):
        account.v1.subscriptions.create(order, {"idempotency_key": "k"})

    with pytest.raises(stripe.InvalidRequestError):
        account.v1.customers.create({"emial": "x"}, {"idempotency_key": "typo"})
    assert account.v1.customers.create({"name": "x"}, {"idempotency_key": "typo"}).name == "x"


def test_key_of_request_in_progress_returns_409(account: Account) -> None:
    account.control("faults", {"match": {"method": "POST", "path_prefix": "/v1/customers"}, "kind": "slow:1"})
    first = threading.Thread(target=lambda: account.v1.customers.create({}, {"idempotency_key": "k"}))
    first.start()
    deadline = time.monotonic() + 5
    while account.control("faults", method="GET")["data"]:
        assert time.monotonic() < deadline

    status, error = send_raw(account, "POST", "/v1/customers", headers={**AUTHORIZATION, "Idempotency-Key": "k"})

    assert (status, error["type"], error["code"]) == (409, "idempotency_error", "idempotency_key_in_use")
    first.join()
    replayed = account.browser.post("/v1/customers", headers={**AUTHORIZATION, "Idempotency-Key": "k"})
    assert replayed.headers["Idempotent-Replayed"] == "true"


def test_key_is_new_after_24_hours(account: Account) -> None:
    first = account.v1.customers.create({}, {"idempotency_key": "k"})

    account.advance(days=1, seconds=1)

    assert account.v1.customers.create({}, {"idempotency_key": "k"}).id != first.id
