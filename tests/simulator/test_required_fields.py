"""Objects of the simulator against the required fields of Stripe's OpenAPI document."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.support import Account

# Required fields by object type, from Stripe's OpenAPI document for API version 2026-08-26.dahlia.
REQUIRED_FIELDS: Mapping[str, str] = {
    "billing_portal.configuration": (
        "active business_profile created features id is_default livemode login_page object updated"
    ),
    "billing_portal.session": "configuration created customer id livemode object url",
    "checkout.session": (
        "automatic_tax created custom_fields custom_text expires_at id livemode mode object "
        "payment_method_types payment_status shipping_options"
    ),
    "customer": "created id livemode object",
    "event": "created data id livemode object pending_webhooks type",
    "invoice": (
        "amount_due amount_overpaid amount_paid amount_paid_off_stripe amount_remaining amount_shipping "
        "attempt_count attempted auto_advance automatic_tax collection_method created currency customer "
        "default_tax_rates discounts id issuer lines livemode object payment_settings period_end period_start "
        "post_payment_credit_notes_amount pre_payment_credit_notes_amount starting_balance status_transitions "
        "subtotal total"
    ),
    "item": "amount_discount amount_subtotal amount_tax amount_total currency id object",
    "line_item": "amount currency discountable discounts id livemode metadata object period subtotal",
    "payment_method": "billing_details created id livemode object type",
    "price": "active billing_scheme created currency id livemode metadata object product type",
    "product": "active created id images livemode marketing_features metadata name object updated",
    "subscription": (
        "automatic_tax billing_cycle_anchor billing_mode billing_schedules cancel_at_period_end "
        "collection_method created currency customer discounts id invoice_settings items livemode metadata "
        "object start_date status"
    ),
    "subscription_item": (
        "created current_period_end current_period_start discounts id metadata object price subscription"
    ),
    "subscription_schedule": (
        "billing_mode created customer default_settings end_behavior id livemode object phases status"
    ),
    "test_helpers.test_clock": "created deletes_after frozen_time id livemode object status status_details",
    "webhook_endpoint": "created enabled_events id livemode metadata object status url",
}
STRIPE_MOCK_MODULE = "github.com/stripe/stripe-mock"


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every Stripe object within a JSON value, lists aside."""
    if isinstance(value, dict):
        if isinstance(value.get("object"), str) and value["object"] != "list":
            yield value
        for member in value.values():
            yield from objects_in(member)
    if isinstance(value, list):
        for member in value:
            yield from objects_in(member)


@pytest.fixture
def all_objects(account: Account) -> list[dict[str, Any]]:
    """Return objects of every type, as the API returns them and as events contain them."""
    price = account.price()
    session = account.checkout(price)
    account.browser.post(session.url, data={"outcome": "pay", "email": "jo@acme.example"})
    subscription = account.subscribe(price)
    schedule = account.v1.subscription_schedules.create({"from_subscription": subscription.id})
    configuration = account.v1.billing_portal.configurations.create(
        {"features": {"invoice_history": {"enabled": True}}}
    )
    portal = account.v1.billing_portal.sessions.create(
        {"customer": subscription.customer, "configuration": configuration.id}
    )
    endpoint = account.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    clock = account.v1.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000})
    lines = account.v1.checkout.sessions.line_items.list(session.id)
    listed = [
        account.v1.products.list(),
        account.v1.customers.list(),
        account.v1.payment_methods.list({"customer": subscription.customer}),
        account.v1.invoices.list(),
        account.v1.events.list({"limit": 100}),
        lines,
    ]
    single = [session, subscription, schedule, configuration, portal, endpoint, clock, price]
    return [found for value in (*listed, *single) for found in objects_in(value.to_dict())]


def test_objects_have_every_required_field_of_stripes_document(all_objects: list[dict[str, Any]]) -> None:
    assert {each["object"] for each in all_objects} >= set(REQUIRED_FIELDS)
    for each in all_objects:
        assert set(REQUIRED_FIELDS.get(each["object"], "").split()) <= each.keys(), each["object"]


def openapi_document() -> Path | None:
    """Return the OpenAPI document in stripe-mock's Go module, if Go and the module are installed."""
    go = shutil.which("go")
    if go is None:
        return None
    cache = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True, env=os.environ)  # noqa: S603
    found = sorted(Path(cache.stdout.strip()).glob(f"{STRIPE_MOCK_MODULE}@*/embedded/openapi/spec3.json"))
    return found[-1] if found else None


def test_required_fields_agree_with_installed_openapi_document() -> None:
    document = openapi_document()
    if document is not None:
        schemas = json.loads(document.read_text())["components"]["schemas"]
        required = {name: set(schemas[name]["required"]) for name in REQUIRED_FIELDS}
        assert required == {name: set(fields.split()) for name, fields in REQUIRED_FIELDS.items()}
