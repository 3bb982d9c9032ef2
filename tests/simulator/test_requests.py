"""API requests: parameters, authentication, URLs and response headers."""

from email.utils import parsedate_to_datetime

import pytest
import stripe

from tests.simulator.support import AUTHORIZATION, Account, send_raw


@pytest.mark.parametrize(
    ("path", "form", "code", "param", "message"),
    [
        (
            "/v1/customers",
            {"emial": "a@b.example"},
            "parameter_unknown",
            "emial",
            "Received unknown parameter: emial. Did you mean email?",
        ),
        (
            "/v1/checkout/sessions",
            {"line_items[0][pric]": "x"},
            "parameter_unknown",
            "line_items[0][pric]",
            "Received unknown parameter: line_items[0][pric]. Did you mean line_items[0][price]?",
        ),
        ("/v1/products", {"active": "true"}, "parameter_missing", "name", "Missing required param: name."),
        (
            "/v1/prices",
            {"currency": "usd", "recurring[interval_count]": "2"},
            "parameter_missing",
            "recurring[interval]",
            "Missing required param: recurring[interval].",
        ),
        (
            "/v1/prices",
            {"currency": "usd", "unit_amount": "29.00"},
            "parameter_invalid_integer",
            "unit_amount",
            "Invalid integer: 29.00",
        ),
        ("/v1/products", {"name": "x", "active": "yes"}, None, "active", "Invalid boolean: yes"),
        (
            "/v1/checkout/sessions",
            {"mode": "rent"},
            None,
            "mode",
            "Invalid mode: must be one of payment, setup, or subscription",
        ),
        ("/v1/checkout/sessions", {"line_items": "x"}, None, "line_items", "Invalid array: x"),
        ("/v1/products", {"name[a]": "x"}, None, "name", "Invalid string: name"),
        ("/v1/customers", {"email": "nobody"}, "email_invalid", "email", "Invalid email address: nobody"),
        (
            "/v1/webhook_endpoints",
            {"url": "http://x.example", "enabled_events[]": "customer.exploded"},
            None,
            "enabled_events[0]",
            None,
        ),
        (
            "/v1/checkout/sessions",
            {"mode": "subscription", "success_url": "http://x.example", "line_items[0][price]": "price_none"},
            "resource_missing",
            "line_items[0][price]",
            "No such price: 'price_none'",
        ),
    ],
)
def test_invalid_parameter_returns_400_with_code_and_param(
    account: Account, path: str, form: dict[str, str], code: str | None, param: str, message: str | None
) -> None:
    status, error = send_raw(account, "POST", path, data=form)

    assert (status, error["type"], error.get("code"), error["param"]) == (400, "invalid_request_error", code, param)
    assert message is None or error["message"] == message
    assert error["request_log_url"].startswith("https://dashboard.stripe.com/test/logs/req_")
    assert ("doc_url" in error) == (code is not None)


def test_empty_parameter_that_cannot_be_unset_returns_400(account: Account) -> None:
    status, error = send_raw(account, "POST", "/v1/products", data={"name": ""})

    assert (status, error["code"], error["param"]) == (400, "parameter_invalid_empty", "name")


def test_parameter_that_is_not_simulated_returns_not_simulated(account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as raised:
        account.v1.products.create({"name": "Boots", "shippable": True})
    assert (raised.value.code, raised.value.param) == ("not_simulated", "shippable")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "You did not provide an API key."),
        ({"Authorization": "Bearer sk_live_abcdefgh1234"}, "Invalid API Key provided: sk_live_********1234"),
        ({"Authorization": "Bearer pk_test_abc"}, "publishable API key"),
        ({"Authorization": "Basic %%%"}, "You did not provide an API key."),
    ],
)
def test_request_without_secret_test_key_returns_401(account: Account, headers: dict[str, str], message: str) -> None:
    status, error = send_raw(account, "GET", "/v1/customers", headers=headers)

    assert (status, error["type"]) == (401, "invalid_request_error")
    assert message in error["message"]


def test_basic_authentication_with_key_as_user_name_is_accepted(account: Account) -> None:
    assert account.browser.get("/v1/customers", auth=("sk_test_x", "")).status_code == 200


def test_unknown_url_returns_404(account: Account) -> None:
    for method, path in (("GET", "/v1/unicorns"), ("DELETE", "/v1/events/evt_1"), ("GET", "/")):
        status, error = send_raw(account, method, path)
        assert (status, error["type"]) == (404, "invalid_request_error")
        assert error["message"].startswith(f"Unrecognized request URL ({method}: {path})")


def test_json_body_returns_400(account: Account) -> None:
    status, error = send_raw(account, "POST", "/v1/customers", json={"email": "a@b.example"})
    assert status == 400
    assert "application/x-www-form-urlencoded" in error["message"]


def test_missing_object_returns_404_in_path_and_400_in_parameter(account: Account) -> None:
    assert send_raw(account, "GET", "/v1/customers/cus_none")[0] == 404
    status, error = send_raw(account, "POST", "/v1/billing_portal/sessions", data={"customer": "cus_none"})
    assert (status, error["code"], error["param"]) == (400, "resource_missing", "customer")


def test_response_contains_stripe_headers_that_match_its_event(account: Account) -> None:
    response = account.browser.post("/v1/customers", data={}, headers={**AUTHORIZATION, "Idempotency-Key": "once"})

    event = account.events()[-1]
    assert event.request.to_dict() == {"id": response.headers["Request-Id"], "idempotency_key": "once"}
    assert response.headers["Stripe-Version"] == event.api_version == stripe.api_version
    assert response.headers["Idempotency-Key"] == "once"
    assert abs(parsedate_to_datetime(response.headers["Date"]).timestamp() - event.created) <= 1


def test_invalid_object_returns_500_with_path_of_field(account: Account) -> None:
    customer = account.v1.customers.create({})
    account.simulator.server.state.objects[customer.id]["balance"] = "lots"

    with pytest.raises(stripe.APIError, match=r"customer\.balance"):
        account.v1.customers.retrieve(customer.id)
