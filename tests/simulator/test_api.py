"""What the API says to right and wrong requests."""

import json
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import stripe

from tests.simulator.conftest import Account

KEY = {"Authorization": "Bearer sk_test_x"}


def error_of(account: Account, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
    """Return the status and the error of a request that is sent as it is."""
    response = account.browser.request(method, path, **{"headers": KEY, **request})
    return response.status_code, response.json()["error"]


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
def test_a_wrong_parameter_is_named(
    account: Account, path: str, form: dict[str, str], code: str | None, param: str, message: str | None
) -> None:
    """Unknown, missing, mistyped and dangling parameters must get Stripe's error, with code and param."""
    status, error = error_of(account, "POST", path, data=form)

    assert (status, error["type"], error.get("code"), error["param"]) == (400, "invalid_request_error", code, param)
    assert message is None or error["message"] == message
    assert error["request_log_url"].startswith("https://dashboard.stripe.com/test/logs/req_")
    assert ("doc_url" in error) == (code is not None)


def test_an_emptied_parameter_must_be_one_that_can_be_unset(account: Account) -> None:
    """An empty string must be refused where Stripe cannot unset the value."""
    status, error = error_of(account, "POST", "/v1/products", data={"name": ""})

    assert (status, error["code"], error["param"]) == (400, "parameter_invalid_empty", "name")


def test_what_is_not_simulated_is_refused(account: Account) -> None:
    """A parameter that Stripe has and the simulator lacks must not be ignored."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        account.v1.products.create({"name": "Boots", "shippable": True})
    assert (refused.value.code, refused.value.param) == ("not_simulated", "shippable")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "You did not provide an API key."),
        ({"Authorization": "Bearer sk_live_abcdefgh1234"}, "Invalid API Key provided: sk_live_********1234"),
        ({"Authorization": "Bearer pk_test_abc"}, "publishable API key"),
        ({"Authorization": "Basic %%%"}, "You did not provide an API key."),
    ],
)
def test_a_key_is_needed(account: Account, headers: dict[str, str], message: str) -> None:
    """Without a test key of the secret or restricted kind there must be a 401."""
    status, error = error_of(account, "GET", "/v1/customers", headers=headers)

    assert (status, error["type"]) == (401, "invalid_request_error")
    assert message in error["message"]


def test_basic_authentication_works(account: Account) -> None:
    """The key may come as the user name, as curl -u sends it."""
    assert account.browser.get("/v1/customers", auth=("sk_test_x", "")).status_code == 200


def test_an_unknown_url_is_not_found(account: Account) -> None:
    """Another path or method must answer 404 in Stripe's shape."""
    for method, path in (("GET", "/v1/unicorns"), ("DELETE", "/v1/events/evt_1"), ("GET", "/")):
        status, error = error_of(account, method, path)
        assert (status, error["type"]) == (404, "invalid_request_error")
        assert error["message"].startswith(f"Unrecognized request URL ({method}: {path})")


def test_json_bodies_are_refused(account: Account) -> None:
    """The v1 API takes forms only."""
    status, error = error_of(account, "POST", "/v1/customers", json={"email": "a@b.example"})
    assert status == 400
    assert "application/x-www-form-urlencoded" in error["message"]


def test_a_missing_object_is_404_in_the_path_and_400_in_a_parameter(account: Account) -> None:
    """Stripe tells apart what was asked for and what was referred to."""
    assert error_of(account, "GET", "/v1/customers/cus_none")[0] == 404
    status, error = error_of(account, "POST", "/v1/billing_portal/sessions", data={"customer": "cus_none"})
    assert (status, error["code"], error["param"]) == (400, "resource_missing", "customer")


def test_every_answer_has_stripes_headers(account: Account) -> None:
    """Date, Request-Id and Stripe-Version must be there, and lead from the request to its event."""
    response = account.browser.post("/v1/customers", data={}, headers={**KEY, "Idempotency-Key": "once"})

    event = account.events()[-1]
    assert event.request.to_dict() == {"id": response.headers["Request-Id"], "idempotency_key": "once"}
    assert response.headers["Stripe-Version"] == event.api_version == stripe.api_version
    assert response.headers["Idempotency-Key"] == "once"
    assert abs(parsedate_to_datetime(response.headers["Date"]).timestamp() - event.created) <= 1


def test_an_object_that_stripe_could_not_send_is_a_loud_failure(account: Account) -> None:
    """A mistake of the simulator must be a 500 that names the field, never an odd answer."""
    customer = account.v1.customers.create({})
    account.simulator.server.state.objects[customer.id]["balance"] = "lots"

    with pytest.raises(stripe.APIError, match=r"customer\.balance"):
        account.v1.customers.retrieve(customer.id)


# --- Lists ------------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other(account: Account) -> None:
    """The SDK's automatic paging must meet every object once, newest first, in both directions."""
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
def test_a_wrong_page_is_refused(account: Account, query: str, param: str) -> None:
    """Limits and cursors must be checked."""
    status, error = error_of(account, "GET", f"/v1/customers?{query}")
    assert (status, error["param"]) == (400, param)


def test_a_cursor_may_name_what_the_filter_leaves_out(account: Account) -> None:
    """Paging events of one type from the last event seen must work whatever its type was."""
    account.v1.products.create({"name": "a"})
    cursor = account.events()[-1].id
    account.v1.customers.create({})

    newer = account.v1.events.list({"ending_before": cursor, "type": "customer.created"})
    assert [event.type for event in newer.data] == ["customer.created"]


def test_events_are_found_by_type_and_time(account: Account) -> None:
    """Events must be listed by type, types, wildcard and range, for 30 days."""
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


def test_customers_are_found_by_email(account: Account) -> None:
    """The e-mail filter must be exact."""
    found = account.v1.customers.create({"email": "jo@acme.example"})
    account.v1.customers.create({"email": "jo@globex.example"})

    assert [customer.id for customer in account.v1.customers.list({"email": "jo@acme.example"}).data] == [found.id]


def test_subscriptions_are_found_by_customer_status_and_price(account: Account) -> None:
    """Canceled subscriptions must be listed only when asked for."""
    price, customer = account.price(), account.customer()
    active, gone = (account.subscribe(price, customer) for _ in range(2))
    account.subscribe()
    account.v1.subscriptions.cancel(gone.id)

    def found(**filters: Any) -> list[str]:
        return [subscription.id for subscription in account.v1.subscriptions.list(filters).data]

    assert found(customer=customer.id) == found(price=price.id) == [active.id]
    assert found(customer=customer.id, status="all") == [gone.id, active.id]
    assert found(status="canceled") == found(status="ended") == [gone.id]


# --- Expansion --------------------------------------------------------------------------------------------------------


def test_ids_can_be_expanded(account: Account) -> None:
    """Dotted paths must lead through objects and lists."""
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
def test_not_everything_can_be_expanded(account: Account, path: str) -> None:
    """A path that leads nowhere must be refused."""
    customer = account.customer()
    with pytest.raises(stripe.InvalidRequestError, match="expand"):
        account.v1.customers.retrieve(customer.id, {"expand": [path]})


# --- Idempotency ------------------------------------------------------------------------------------------------------


def test_a_repeated_request_is_replayed(account: Account) -> None:
    """The same key and parameters must give the first answer and do nothing."""
    answers = [
        account.browser.post("/v1/customers", data={"name": "a"}, headers={**KEY, "Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert answers[0].json() == answers[1].json()
    assert "Idempotent-Replayed" not in answers[0].headers
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert answers[1].headers["Original-Request"] == answers[0].headers["Request-Id"]
    assert len(account.v1.customers.list().data) == 1


def test_a_key_cannot_be_used_for_something_else(account: Account) -> None:
    """Other parameters or another endpoint under a used key must be an idempotency error."""
    account.v1.customers.create({"name": "a"}, {"idempotency_key": "k"})

    for service, name in ((account.v1.customers, "b"), (account.v1.products, "a")):
        with pytest.raises(stripe.IdempotencyError) as refused:
            service.create({"name": name}, {"idempotency_key": "k"})
        assert refused.value.http_status == 400


def test_failures_of_an_operation_are_replayed_too(account: Account) -> None:
    """A card error must be remembered; a request that was refused unread must not."""
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


def test_a_key_in_use_is_a_conflict(account: Account) -> None:
    """A second request must get a 409 while the first one with its key still runs."""
    account.control("faults", {"match": {"method": "POST", "path_prefix": "/v1/customers"}, "kind": "slow:1"})
    first = threading.Thread(target=lambda: account.v1.customers.create({}, {"idempotency_key": "k"}))
    first.start()
    deadline = time.monotonic() + 5
    while account.control("faults", method="GET")["data"]:
        assert time.monotonic() < deadline

    status, error = error_of(account, "POST", "/v1/customers", headers={**KEY, "Idempotency-Key": "k"})

    assert (status, error["type"], error["code"]) == (409, "idempotency_error", "idempotency_key_in_use")
    first.join()
    replayed = account.browser.post("/v1/customers", headers={**KEY, "Idempotency-Key": "k"})
    assert replayed.headers["Idempotent-Replayed"] == "true"


def test_keys_are_forgotten_after_a_day(account: Account) -> None:
    """The same key must work anew after 24 hours."""
    first = account.v1.customers.create({}, {"idempotency_key": "k"})

    account.advance(days=1, seconds=1)

    assert account.v1.customers.create({}, {"idempotency_key": "k"}).id != first.id


# --- The catalog, customers, endpoints --------------------------------------------------------------------------------


def test_a_lookup_key_belongs_to_one_price(account: Account) -> None:
    """A taken lookup key must be refused, or move if asked to."""
    first = account.price(lookup_key="pro")
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        account.price(lookup_key="pro")

    second = account.price(lookup_key="pro", transfer_lookup_key=True)

    assert [price.id for price in account.v1.prices.list({"lookup_keys": ["pro", "other"]}).data] == [second.id]
    assert account.v1.prices.retrieve(first.id).lookup_key is None


def test_prices_are_found_by_product_and_activity(account: Account) -> None:
    """Prices must be listed by what they belong to, and archived ones cannot be sold."""
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


def test_products_live(account: Account) -> None:
    """Products must be created with a given id, changed, found and deleted."""
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


def test_metadata_is_merged(account: Account) -> None:
    """New keys are added, emptied ones removed, an emptied whole cleared."""
    customer = account.v1.customers.create({"metadata": {"a": "1", "b": "2"}})

    changed = account.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}, "name": "Jo"})
    assert changed.metadata.to_dict() == {"a": "1", "c": "3"}
    event = account.events()[-1]
    assert event.data.previous_attributes.to_dict() == {"metadata": {"b": "2", "c": None}, "name": None}
    assert account.v1.customers.update(customer.id, {"metadata": ""}).metadata.to_dict() == {}
    assert account.v1.customers.update(customer.id, {"address": {"city": "Bern"}}).address.city == "Bern"


def test_cards_are_attached_to_their_customer(account: Account) -> None:
    """Test tokens must become payment methods, and another customer's cannot be used."""
    jo, di = account.customer(card=None), account.customer(card=None)
    method = account.v1.payment_methods.attach("pm_card_visa", {"customer": jo.id})
    assert (method.customer, method.card.last4) == (jo.id, "4242")

    account.v1.customers.update(jo.id, {"invoice_settings": {"default_payment_method": method.id}})

    assert [found.id for found in account.v1.payment_methods.list({"customer": jo.id}).data] == [method.id]
    with pytest.raises(stripe.InvalidRequestError, match="must be attached"):
        account.v1.customers.update(di.id, {"invoice_settings": {"default_payment_method": method.id}})


def test_a_secret_is_shown_once(account: Account) -> None:
    """A webhook endpoint must show its secret when it is created and never again."""
    created = account.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:1/", "enabled_events": ["customer.created"], "api_version": stripe.api_version}
    )
    assert created.secret.startswith("whsec_")

    assert "secret" not in account.v1.webhook_endpoints.retrieve(created.id)
    changed = account.v1.webhook_endpoints.update(created.id, {"disabled": True, "enabled_events": ["*"]})
    assert (changed.status, changed.enabled_events) == ("disabled", ["*"])
    assert [found.id for found in account.v1.webhook_endpoints.list().data] == [created.id]
    assert account.v1.webhook_endpoints.delete(created.id).deleted is True
    assert account.v1.webhook_endpoints.list().data == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "payment"}, "does not implement this: mode=payment"),
        ({"success_url": "done"}, "Not a valid URL"),
        ({"customer_email": "a@b.example", "customer": True}, "only specify one of these"),
        ({"expires_at": 1}, "at least 30 minutes"),
        ({"subscription_data": {"trial_period_days": 0}}, "minimum number of trial period days"),
        ({"line_items": []}, "Missing required param: line_items"),
    ],
)
def test_a_wrong_checkout_is_refused(account: Account, fields: dict[str, Any], message: str) -> None:
    """A session that Stripe would not open must not open here."""
    if fields.get("customer"):
        fields = {**fields, "customer": account.customer().id}
    with pytest.raises(stripe.InvalidRequestError, match=message):
        account.checkout(account.price(), **fields)


def test_checkouts_are_listed(account: Account) -> None:
    """Sessions must be found by customer and status, with their lines."""
    customer = account.customer()
    session = account.checkout(account.price(), customer=customer.id, allow_promotion_codes=True, metadata={"a": "b"})
    account.checkout(account.price())

    found = account.v1.checkout.sessions.list({"customer": customer.id, "status": "open"}).data
    assert [each.id for each in found] == [session.id]
    assert (found[0].allow_promotion_codes, found[0].metadata["a"]) == (True, "b")
    assert account.v1.checkout.sessions.line_items.list(session.id).data[0].amount_total == 2900


def test_events_survive_json(account: Account) -> None:
    """An event's snapshot must not change when its object does later."""
    customer = account.v1.customers.create({"name": "before"})
    account.v1.customers.update(customer.id, {"name": "after"})

    created, updated = account.events()
    assert (created.data.object.name, updated.data.object.name) == ("before", "after")
    assert json.loads(str(updated))["data"]["previous_attributes"] == {"name": "before"}


def test_price_ids_are_counted(account: Account) -> None:
    """Prices are `price_123`, `price_124`, … in the order of their creation, anew after each reset."""
    for _ in range(2):
        account.control("reset", {})
        assert [account.price().id, account.price().id] == ["price_123", "price_124"]
