"""Injected faults and the call counter of the control surface."""

import contextlib
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import stripe

from tests.simulator.support import Account


def client_with_timeout(account: Account, timeout: float = 5) -> Any:
    """Return a client with a timeout and without retries."""
    http_client = stripe.RequestsClient(timeout=timeout)
    return stripe.StripeClient(
        "sk_test_x",
        base_addresses={"api": account.simulator.url},
        http_client=http_client,
        max_network_retries=0,
    ).v1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("status:500", stripe.APIError),
        ("status:503", stripe.APIError),
        ("status:429", stripe.RateLimitError),
        ("timeout", stripe.APIConnectionError),
        ("reset", stripe.APIConnectionError),
        ("nonsense", stripe.APIError),
    ],
)
def test_fault_fails_matching_calls_without_effect_until_count_is_used(
    account: Account, kind: str, error: type[Exception]
) -> None:
    account.control("faults", {"match": {"method": "POST", "path_prefix": "/v1/customers"}, "count": 2, "kind": kind})
    v1 = client_with_timeout(account, timeout=0.3)

    for _ in range(2):
        with pytest.raises(error):
            v1.customers.create({})

    assert v1.customers.list().data == []
    assert v1.customers.create({}).id


def test_fault_after_operation_keeps_effect_and_key_returns_it(account: Account) -> None:
    account.control("faults", {"kind": "reset", "when": "after"})
    with pytest.raises(stripe.APIConnectionError):
        client_with_timeout(account).customers.create({"name": "a"}, {"idempotency_key": "k"})

    again = account.v1.customers.create({"name": "a"}, {"idempotency_key": "k"})

    assert [customer.id for customer in account.v1.customers.list().data] == [again.id]


def test_slow_fault_responds_after_delay(account: Account) -> None:
    account.control("faults", {"kind": "slow:0.5", "count": 2})

    with pytest.raises(stripe.APIConnectionError):
        client_with_timeout(account, timeout=0.1).customers.list()
    assert client_with_timeout(account).customers.list().data == []


@pytest.mark.parametrize("seconds", [-600, 0, 600])
def test_date_fault_responds_with_wrong_date(account: Account, seconds: int) -> None:
    account.control("faults", {"kind": f"date:{seconds}"})

    dated = client_with_timeout(account).customers.list().last_response.headers["date"]
    right = client_with_timeout(account).customers.list().last_response.headers["date"]

    difference = parsedate_to_datetime(dated) - parsedate_to_datetime(right)
    assert abs(difference.total_seconds() - seconds) <= 2


def test_sdk_retry_after_lost_response_creates_one_customer(account: Account) -> None:
    account.control("faults", {"kind": "reset", "when": "after"})
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": account.simulator.url}, max_network_retries=2)

    created = client.v1.customers.create({"name": "a"})

    assert [customer.id for customer in account.v1.customers.list().data] == [created.id]


def test_faults_are_listed_and_removed(account: Account) -> None:
    fault = {"match": {"path_prefix": "/v1/prices"}, "kind": "timeout", "count": 3}
    assert account.control("faults", fault)["data"][0]["path_prefix"] == "/v1/prices"

    assert account.control("faults", method="DELETE") == {"data": []}

    assert account.v1.prices.list().data == []


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"kind": "explode"},
        {"kind": "status:x"},
        {"kind": "reset", "code": "x"},
        {"kind": "reset", "when": "maybe"},
        {"kind": "reset", "x": 1},
    ],
)
def test_invalid_fault_returns_400(account: Account, fault: dict[str, Any]) -> None:
    assert account.browser.post("/_simulator/faults", json=fault).status_code == 400


def test_calls_include_failed_calls_and_omit_control_calls(account: Account) -> None:
    customer = account.v1.customers.create({})
    account.control("faults", {"kind": "status:500"})
    for _ in range(2):
        with contextlib.suppress(stripe.StripeError):
            account.v1.customers.retrieve(customer.id)

    assert account.control("calls", method="GET") == {"data": {"POST /v1/customers": 1, "GET /v1/customers/{}": 2}}


@pytest.mark.parametrize(("when", "customers"), [("before", 0), ("after", 1)])
def test_stored_fault_is_replayed_for_its_key_and_not_for_another(account: Account, when: str, customers: int) -> None:
    account.control("faults", {"kind": "status:500", "when": when, "stored": True})

    for _ in range(2):
        with pytest.raises(stripe.APIError):
            account.v1.customers.create({}, {"idempotency_key": "k"})

    assert len(account.v1.customers.list().data) == customers
    assert account.v1.customers.create({}, {"idempotency_key": "another"}).id


def test_stored_fault_is_replayed_for_24_hours(account: Account) -> None:
    account.control("faults", {"kind": "status:402", "stored": True})
    with pytest.raises(stripe.StripeError):
        account.v1.customers.create({}, {"idempotency_key": "k"})

    account.advance(seconds=24 * 3600 + 60)

    assert account.v1.customers.create({}, {"idempotency_key": "k"}).id


def test_stored_fault_of_other_kind_is_rejected(account: Account) -> None:
    response = account.browser.post("/_simulator/faults", json={"kind": "timeout", "stored": True})

    assert response.status_code == 400
    assert "stored and code require" in response.json()["error"]


def test_fault_with_code_returns_stripes_error_code(account: Account) -> None:
    account.control("faults", {"kind": "status:401", "code": "api_key_expired"})

    with pytest.raises(stripe.AuthenticationError) as raised:
        account.v1.customers.list()

    assert raised.value.error is not None
    assert raised.value.error.code == "api_key_expired"
