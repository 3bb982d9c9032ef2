"""Trouble on demand: what the SDK's user sees."""

import contextlib
from typing import Any

import pytest
import stripe

from tests.simulator.conftest import Account


def patient(account: Account, timeout: float = 5) -> Any:
    """Return a client that gives up after a time and does not retry."""
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
def test_a_fault_strikes_as_often_as_asked(account: Account, kind: str, error: type[Exception]) -> None:
    """Matching calls must fail, and nothing must happen, until the count is used up."""
    account.control("faults", {"match": {"method": "POST", "path_prefix": "/v1/customers"}, "count": 2, "kind": kind})
    v1 = patient(account, timeout=0.3)

    for _ in range(2):
        with pytest.raises(error):
            v1.customers.create({})

    assert v1.customers.list().data == []
    assert v1.customers.create({}).id


def test_only_the_answer_may_be_lost(account: Account) -> None:
    """A fault after the operation must leave its effect, and the key must find it."""
    account.control("faults", {"kind": "reset", "when": "after"})
    with pytest.raises(stripe.APIConnectionError):
        patient(account).customers.create({"name": "a"}, {"idempotency_key": "k"})

    again = account.v1.customers.create({"name": "a"}, {"idempotency_key": "k"})

    assert [customer.id for customer in account.v1.customers.list().data] == [again.id]


def test_slow_answers_come(account: Account) -> None:
    """A slow call must still be answered, and time out for a client with less patience."""
    account.control("faults", {"kind": "slow:0.5", "count": 2})

    with pytest.raises(stripe.APIConnectionError):
        patient(account, timeout=0.1).customers.list()
    assert patient(account).customers.list().data == []


def test_the_sdk_retries_over_faults(account: Account) -> None:
    """The SDK's own retries with its idempotency key must create one customer."""
    account.control("faults", {"kind": "reset", "when": "after"})
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": account.simulator.url}, max_network_retries=2)

    created = client.v1.customers.create({"name": "a"})

    assert [customer.id for customer in account.v1.customers.list().data] == [created.id]


def test_faults_can_be_listed_and_cleared(account: Account) -> None:
    """What is to come must be visible and can be called off."""
    fault = {"match": {"path_prefix": "/v1/prices"}, "kind": "timeout", "count": 3}
    assert account.control("faults", fault)["data"][0]["path_prefix"] == "/v1/prices"

    assert account.control("faults", method="DELETE") == {"data": []}

    assert account.v1.prices.list().data == []


@pytest.mark.parametrize(
    "fault",
    [{}, {"kind": "explode"}, {"kind": "status:x"}, {"kind": "reset", "when": "maybe"}, {"kind": "reset", "x": 1}],
)
def test_a_wrong_fault_is_refused(account: Account, fault: dict[str, Any]) -> None:
    """A fault that does not exist must be a 400."""
    assert account.browser.post("/_simulator/faults", json=fault).status_code == 400


def test_calls_are_counted(account: Account) -> None:
    """Every call must count under its operation, whether it failed or not, and control calls must not."""
    customer = account.v1.customers.create({})
    account.control("faults", {"kind": "status:500"})
    for _ in range(2):
        with contextlib.suppress(stripe.StripeError):
            account.v1.customers.retrieve(customer.id)

    assert account.control("calls", method="GET") == {"data": {"POST /v1/customers": 1, "GET /v1/customers/{}": 2}}
