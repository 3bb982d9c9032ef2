"""Requests of the Stripe gateway and its results for successful responses, with Stripe's SDK over HTTP."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import stripe

from billing.adapters import stripe_gateway
from billing.adapters.stripe_gateway import CheckoutSession, StripeGateway, connect, event_type_groups
from billing.catalog import load_catalog
from billing.domain.errors import StripeRefused, StripeUnavailable
from billing.domain.subscriptions import Subscription
from billing.services.reconciler import retry_stripe
from billing.stripe_events.event_types import EVENT_PARSERS, ObjectRef
from tests.adapters.stripe_calls import (
    API_KEY,
    CALLS,
    EMAIL,
    ORDER,
    RESPONDED,
    SESSION,
    SUBSCRIPTION,
    call,
    each_call,
    ok,
    page,
    stripe_error,
)
from tests.wire import Answer, Wire

FINDERS = (
    "find_checkout_session",
    "expire_checkout_session",
    "fetch subscription",
    "fetch invoice",
    "look_up",
    "find_lookup_key",
)

# --- Requests ---------------------------------------------------------------------------------------------------------


def sent(name: str, wire: Wire, gateway: StripeGateway) -> tuple[str, str, Mapping[str, str]]:
    """Return the request of a call that succeeds."""
    wire.answer(ok(CALLS[name][1]))
    call(name, gateway)
    return wire.only.method, wire.only.path, wire.only.form


def test_create_customer_sends_account_id_and_email(wire: Wire, gateway: StripeGateway) -> None:
    assert sent("create_customer", wire, gateway) == (
        "POST",
        "/v1/customers",
        {"metadata[account_id]": "acme", "metadata[billing_deployment]": "billing-test", "email": EMAIL},
    )


def test_create_customer_without_an_email_sends_none(wire: Wire, gateway: StripeGateway) -> None:
    """An empty e-mail address would be stored."""
    wire.answer(ok({"id": "cus_1"}))
    created = gateway.create_customer("acme", None, deployment_id="billing-test", idempotency_key="key-1")
    assert created == "cus_1"
    assert wire.only.form == {"metadata[account_id]": "acme", "metadata[billing_deployment]": "billing-test"}


def test_find_price_id_requests_the_active_price_of_one_lookup_key(wire: Wire, gateway: StripeGateway) -> None:
    assert sent("find_price_id", wire, gateway) == (
        "GET",
        "/v1/prices",
        {"lookup_keys[0]": "pro_monthly", "active": "true", "limit": "1"},
    )


CHECKOUT_FORM = {
    "mode": "subscription",
    "customer": "cus_1",
    "client_reference_id": "acme",
    "line_items[0][price]": "price_1",
    "line_items[0][quantity]": "3",
    "success_url": "https://app.example.com/?checkout=success",
    "cancel_url": "https://app.example.com/?checkout=cancelled",
    "allow_promotion_codes": "true",
    "metadata[account_id]": "acme",
    "metadata[billing_deployment]": "billing-test",
    "subscription_data[metadata][account_id]": "acme",
    "subscription_data[metadata][billing_deployment]": "billing-test",
}


def test_create_checkout_session_names_the_account_in_session_and_subscription(
    wire: Wire, gateway: StripeGateway
) -> None:
    assert sent("create_checkout_session", wire, gateway) == (
        "POST",
        "/v1/checkout/sessions",
        CHECKOUT_FORM | {"subscription_data[trial_period_days]": "14"},
    )


def test_create_checkout_session_without_a_trial_sends_no_trial_period(wire: Wire, gateway: StripeGateway) -> None:
    """Stripe rejects a trial of 0 days."""
    wire.answer(ok(SESSION))
    gateway.create_checkout_session(replace(ORDER, trial_days=0), idempotency_key="key-1")
    assert wire.only.form == CHECKOUT_FORM


def test_find_checkout_session_retrieves_it_by_id(wire: Wire, gateway: StripeGateway) -> None:
    assert sent("find_checkout_session", wire, gateway) == ("GET", "/v1/checkout/sessions/cs_1", {})


def test_expire_checkout_session_expires_it_by_id(wire: Wire, gateway: StripeGateway) -> None:
    assert sent("expire_checkout_session", wire, gateway) == ("POST", "/v1/checkout/sessions/cs_1/expire", {})


PORTAL_FORM = {"customer": "cus_1", "return_url": "https://app.example.com/"}


def test_create_portal_session_sends_customer_and_return_url(wire: Wire, gateway: StripeGateway) -> None:
    assert sent("create_portal_session", wire, gateway) == ("POST", "/v1/billing_portal/sessions", PORTAL_FORM)


def test_create_portal_session_sends_the_deployments_configuration(wire: Wire) -> None:
    wire.answer(ok({"url": "https://portal.test/p/1"}))
    configured = StripeGateway(connect(API_KEY, wire.url), "bpc_1")
    assert configured.create_portal_session("cus_1", "https://app.example.com/") == "https://portal.test/p/1"
    assert wire.only.form == PORTAL_FORM | {"configuration": "bpc_1"}


def test_create_portal_session_with_another_configuration_has_another_idempotency_key(wire: Wire) -> None:
    wire.answer(ok({"url": "https://portal.test/p/1"}))
    gateway = StripeGateway(connect(API_KEY, wire.url), "bpc_1")
    for configuration in (None, "bpc_1", "bpc_2"):
        gateway.create_portal_session("cus_1", "https://app.example.com/", "key", configuration)
    default, same, other = wire.requests
    assert [each.form["configuration"] for each in wire.requests] == ["bpc_1", "bpc_1", "bpc_2"]
    assert default.headers["idempotency-key"] == same.headers["idempotency-key"] != other.headers["idempotency-key"]


def test_fetch_retrieves_subscription_or_invoice_by_id(wire: Wire, gateway: StripeGateway) -> None:
    expanded = {"expand[0]": "schedule.phases.items.price"}
    assert sent("fetch subscription", wire, gateway) == ("GET", "/v1/subscriptions/sub_1", expanded)
    assert sent("fetch invoice", wire, gateway) == ("GET", "/v1/invoices/in_1", {})


@each_call
def test_request_sends_api_key_and_the_sdks_api_version(name: str, wire: Wire, gateway: StripeGateway) -> None:
    """The version does not depend on the Stripe account's default."""
    sent(name, wire, gateway)
    assert wire.only.headers["authorization"] == f"Bearer {API_KEY}"
    assert wire.only.headers["stripe-version"] == stripe.api_version


@pytest.mark.parametrize("name", ["create_customer", "create_checkout_session"])
def test_creation_sends_the_given_idempotency_key(name: str, wire: Wire, gateway: StripeGateway) -> None:
    """Two processes with the same key get the same object from Stripe."""
    sent(name, wire, gateway)
    assert wire.only.headers["idempotency-key"] == "key-1"


@each_call
def test_retry_repeats_the_request_with_its_idempotency_key(name: str, wire: Wire, gateway: StripeGateway) -> None:
    wire.answer(Answer(cut=True), ok(CALLS[name][1]))
    call(name, gateway)
    first, second = wire.requests
    assert (first.path, first.form) == (second.path, second.form)
    assert first.headers.get("idempotency-key") == second.headers.get("idempotency-key")


def test_client_without_api_base_connects_to_stripe_over_tls() -> None:
    client = connect(API_KEY, None)
    assert client._requestor._options.base_addresses.get("api", stripe.DEFAULT_API_BASE) == "https://api.stripe.com"


# --- Results ----------------------------------------------------------------------------------------------------------


def test_price_id_is_stored_for_five_minutes(
    wire: Wire, gateway: StripeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lookup key that was transferred to another price is found after that time."""
    clock = [1000.0]
    monkeypatch.setattr(stripe_gateway, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    wire.answer(ok(CALLS["find_price_id"][1]), ok({"object": "list", "data": [{"object": "price", "id": "price_2"}]}))
    assert [gateway.find_price_id("pro_monthly") for _ in range(3)] == ["price_1"] * 3
    clock[0] += 300
    assert gateway.find_price_id("pro_monthly") == "price_2"


def test_missing_price_is_requested_again(wire: Wire, gateway: StripeGateway) -> None:
    """An operator who creates the price does not have to wait."""
    wire.answer(ok({"object": "list", "data": []}), ok(CALLS["find_price_id"][1]))
    with pytest.raises(StripeRefused):
        gateway.find_price_id("pro_monthly")
    assert gateway.find_price_id("pro_monthly") == "price_1"


@pytest.mark.parametrize("subscription", ["sub_1", {"object": "subscription", "id": "sub_1"}])
def test_completed_session_has_its_subscription_and_no_url(
    subscription: object, wire: Wire, gateway: StripeGateway
) -> None:
    """An expanded subscription is reduced to its id."""
    wire.answer(ok(SESSION | {"status": "complete", "url": None, "subscription": subscription}))
    assert gateway.find_checkout_session("cs_1") == CheckoutSession("cs_1", "complete", None, "sub_1")


def test_session_that_cannot_be_expired_is_retrieved(wire: Wire, gateway: StripeGateway) -> None:
    """A session that was paid in the meantime cannot be expired."""
    wire.answer(stripe_error(400), ok(SESSION | {"status": "complete", "url": None, "subscription": "sub_1"}))
    assert gateway.expire_checkout_session("cs_1") == CheckoutSession("cs_1", "complete", None, "sub_1")


def test_session_that_stays_open_although_it_was_to_expire_is_an_error(wire: Wire, gateway: StripeGateway) -> None:
    wire.answer(stripe_error(400), ok(SESSION))
    with pytest.raises(StripeRefused) as raised:
        gateway.expire_checkout_session("cs_1")
    assert isinstance(raised.value.__cause__, stripe.InvalidRequestError)


@pytest.mark.parametrize("name", FINDERS)
def test_missing_object_returns_none(name: str, wire: Wire, gateway: StripeGateway) -> None:
    wire.answer(stripe_error(404, code="resource_missing"))
    assert call(name, gateway) is None


def test_add_customer_metadata_sends_these_keys_only(wire: Wire, gateway: StripeGateway) -> None:
    expected = ("POST", "/v1/customers/cus_1", {"metadata[account_id]": "acme"})
    assert sent("add_customer_metadata", wire, gateway) == expected


@pytest.mark.parametrize(
    ("metadata", "missing"),
    [
        ({}, ("account_id", "billing_deployment")),
        ({"account_id": "a b", "billing_deployment": ""}, ("billing_deployment",)),
        ({"account_id": "acme", "billing_deployment": "other"}, ()),
    ],
)
def test_customer_names_the_metadata_that_it_lacks(
    wire: Wire, gateway: StripeGateway, metadata: Mapping[str, str], missing: tuple[str, ...]
) -> None:
    """An account id that is none is not missing: another product may have written it."""
    wire.answer(ok({"id": "cus_1", "object": "customer", "metadata": metadata}))
    found = gateway.find_customer("cus_1")
    assert found
    assert found.missing_metadata == missing


def test_missing_customer_is_deleted(wire: Wire, gateway: StripeGateway) -> None:
    wire.answer(stripe_error(404, code="resource_missing"), ok({"id": "cus_1", "object": "customer"}))
    assert gateway.is_customer_deleted("cus_1")
    assert not gateway.is_customer_deleted("cus_1")


def test_fetched_object_has_the_interval_between_request_and_response(
    wire: Wire, gateway: StripeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interval ends at the response's `Date` and is as long as the call took."""
    readings = iter([10.0, 12.5])
    monkeypatch.setattr(stripe_gateway, "time", SimpleNamespace(monotonic=lambda: next(readings)))
    wire.answer(ok(SUBSCRIPTION))
    fetched = gateway.fetch(ObjectRef(Subscription, "sub_1"), load_catalog())
    assert fetched is not None
    assert (fetched.seen_from, fetched.seen_to) == (RESPONDED - timedelta(seconds=2.5), RESPONDED)
    assert (fetched.content.id, fetched.content.status) == ("sub_1", "active")


@pytest.mark.parametrize("date", [{}, {"date": ""}, {"date": "yesterday"}])
def test_fetch_rejects_a_response_without_valid_date(
    date: Mapping[str, str], wire: Wire, gateway: StripeGateway
) -> None:
    """Without a `Date`, the time at which the object had this content is unknown."""
    wire.answer(Answer(body=json.dumps(SUBSCRIPTION).encode(), headers=date))
    with pytest.raises(StripeRefused):
        gateway.fetch(ObjectRef(Subscription, "sub_1"), load_catalog())


# --- Lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("list_page", "path", "form"),
    [
        (
            lambda gateway: gateway.list_subscriptions("sub_9"),
            "/v1/subscriptions",
            {"status": "all", "expand[0]": "data.schedule"},
        ),
        (lambda gateway: gateway.list_invoices("sub_9", "cus_1"), "/v1/invoices", {"customer": "cus_1"}),
        (lambda gateway: gateway.list_customers("sub_9"), "/v1/customers", {}),
        (
            lambda gateway: gateway.list_events(RESPONDED, "sub_9"),
            "/v1/events",
            {"created[gte]": str(int(RESPONDED.timestamp()))}
            | {f"types[{place}]": name for place, name in enumerate(event_type_groups()[0])},
        ),
    ],
)
def test_list_requests_the_largest_page_after_an_id(
    wire: Wire, gateway: StripeGateway, list_page: Callable[[StripeGateway], Any], path: str, form: Mapping[str, str]
) -> None:
    """The event list is limited to the handled types."""
    wire.answer(ok(page(SUBSCRIPTION)))
    list_page(gateway)
    assert (wire.only.method, wire.only.path) == ("GET", path)
    assert wire.only.form == {"limit": "100", "starting_after": "sub_9", **form}


def test_events_of_more_than_twenty_types_are_listed_group_by_group(wire: Wire, gateway: StripeGateway) -> None:
    """https://docs.stripe.com/api/events/list allows twenty types."""
    wire.answer(ok(page({"id": "evt_1"})), ok(page({"id": "evt_2"}, has_more=True)), ok(page({"id": "evt_3"})))
    after, cursors, requested = None, [], []
    for _ in range(3):
        after = gateway.list_events(RESPONDED, after).after
        cursors.append(after)
        form = wire.requests[-1].form
        requested.append(({form[name] for name in form if name.startswith("types")}, form.get("starting_after")))

    assert cursors == ["1:", "1:evt_2", None]
    first, second = map(set, event_type_groups())
    assert requested == [(first, None), (second, None), (second, "evt_2")]
    assert first | second == set(EVENT_PARSERS)
    assert max(len(first), len(second)) <= 20


@pytest.mark.parametrize(("has_more", "after"), [(True, "sub_2"), (False, None)])
def test_list_page_has_its_objects_its_time_and_the_next_id(
    wire: Wire, gateway: StripeGateway, *, has_more: bool, after: str | None
) -> None:
    second = {**SUBSCRIPTION, "id": "sub_2"}
    wire.answer(ok(page(SUBSCRIPTION, second, has_more=has_more)))
    listing = gateway.list_subscriptions(None)
    assert (listing.objects, listing.after) == ({"sub_1": SUBSCRIPTION, "sub_2": second}, after)
    assert RESPONDED - timedelta(seconds=2) < listing.listed_at < RESPONDED


@pytest.mark.usefixtures("immediate_retries")
def test_rate_limited_gateway_acquires_a_token_for_each_request_and_retry(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uses at most half of the rate that Stripe allows."""
    acquired: list[float] = []
    monkeypatch.setattr(
        "billing.adapters.token_bucket.TokenBucket.acquire", lambda bucket: acquired.append(bucket.per_second)
    )
    wire.answer(Answer(500), Answer(500), ok(page(SUBSCRIPTION)))
    stripe_gateway.rate_limited_gateway(API_KEY, wire.url).list_subscriptions(None)
    assert acquired == [stripe_gateway.BACKGROUND_REQUESTS_PER_SECOND] * 3
    assert stripe_gateway.BACKGROUND_REQUESTS_PER_SECOND <= 25 / 2


# --- Retries of background work ---------------------------------------------------------------------------------------


def test_retry_stripe_waits_as_long_as_retry_after(wire: Wire, gateway: StripeGateway) -> None:
    limited = Answer(429, b'{"error": {"type": "invalid_request_error"}}', {"retry-after": "17"})
    wire.answer(limited, ok(page(SUBSCRIPTION)))
    pauses: list[float] = []
    listing = retry_stripe(lambda: gateway.list_subscriptions(None), pauses.append)
    assert [*listing.objects] == ["sub_1"]
    assert [17 <= pause < 19 for pause in pauses] == [True]


def test_retry_stripe_gives_up_after_two_retries(wire: Wire, gateway: StripeGateway) -> None:
    wire.answer(Answer(429, b'{"error": {"type": "invalid_request_error"}}', {}))
    pauses: list[float] = []
    with pytest.raises(StripeUnavailable):
        retry_stripe(lambda: gateway.list_subscriptions(None), pauses.append)
    assert len(pauses) == len(wire.requests) - 1 == 2
