"""Customers and their payment methods."""

from collections.abc import Iterator, Mapping
from typing import Any

from stripe import params

from stripe_simulator import cards
from stripe_simulator.default_fields import NO_ADDRESS
from stripe_simulator.dunning import ENDED_STATUSES, cancel_immediately
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.objects import new_customer
from stripe_simulator.routing import ResourceRoute, matches_range, merge_metadata, provided, require_simulated
from stripe_simulator.state import Object, SimulatorState

Metadata = Mapping[str, str] | str | None
Address = Mapping[str, str] | str | None
EMAIL_LIMIT = 512


def create(
    state: SimulatorState,
    *,
    address: Address = None,
    balance: int | None = None,
    description: str | None = None,
    email: str | None = None,
    invoice_prefix: str | None = None,
    invoice_settings: Mapping[str, Any] | None = None,
    metadata: Metadata = None,
    name: str | None = None,
    payment_method: str | None = None,
    phone: str | None = None,
    preferred_locales: list[str] | None = None,
    test_clock: str | None = None,
) -> Object:
    if test_clock:
        state.get("test_helpers.test_clock", test_clock, "test_clock")
    fields = provided(
        balance=balance,
        description=description,
        email=_checked_email(email),
        invoice_prefix=invoice_prefix,
        name=name,
        phone=phone,
        preferred_locales=preferred_locales,
    )
    fields["metadata"] = merge_metadata({}, metadata)
    fields["address"] = _address(NO_ADDRESS, address)
    customer = state.add(new_customer(state, fields, test_clock))
    state.emit("customer.created", customer)
    if payment_method:
        method = cards.attach_token(state, customer, payment_method, "payment_method")
        payment_method = method["id"]
    if invoice_settings:
        require_simulated(invoice_settings, "invoice_settings", "default_payment_method")
        cards.set_default(
            state, customer, _require_attached(payment_method, invoice_settings["default_payment_method"])
        )
    return customer


def _require_attached(method: str | None, filters: str) -> str:
    if method is None:
        param = "invoice_settings[default_payment_method]"
        raise InvalidRequest(f"No such PaymentMethod: '{filters}'", code="resource_missing", param=param)
    return method


def _address(current: Mapping[str, str | None], change: Address) -> Object | None:
    return {**current, **change} if isinstance(change, Mapping) else None


def _checked_email(email: str | None) -> str | None:
    if email and ("@" not in email or len(email) > EMAIL_LIMIT):
        raise InvalidRequest(f"Invalid email address: {email}", code="email_invalid", param="email")
    return email


def retrieve(state: SimulatorState, identifier: str) -> Object:
    stored = state.objects.get(identifier, {})
    return stored if stored.get("deleted") and stored["object"] == "customer" else state.get("customer", identifier)


def update(
    state: SimulatorState,
    identifier: str,
    *,
    address: Address = None,
    balance: int | None = None,
    description: str | None = None,
    email: str | None = None,
    invoice_settings: Mapping[str, Any] | None = None,
    metadata: Metadata = None,
    name: str | None = None,
    phone: str | None = None,
    preferred_locales: list[str] | None = None,
) -> Object:
    customer = state.get("customer", identifier)
    changes = provided(
        balance=balance,
        description=description,
        email=_checked_email(email),
        name=name,
        phone=phone,
        preferred_locales=preferred_locales,
    )
    changes["metadata"] = merge_metadata(customer["metadata"], metadata)
    if address is not None:
        changes["address"] = _address(customer["address"] or NO_ADDRESS, address)
    if invoice_settings is not None:
        require_simulated(invoice_settings, "invoice_settings", "default_payment_method")
        token = invoice_settings["default_payment_method"]
        method = cards.attach_token(state, customer, token, "invoice_settings[default_payment_method]")
        changes["invoice_settings"] = {**customer["invoice_settings"], "default_payment_method": method["id"]}
    return state.update(customer, "customer.updated", **changes)


def delete(state: SimulatorState, identifier: str) -> Object:
    customer = state.get("customer", identifier)
    for subscription in state.all("subscription"):
        if subscription["customer"] == identifier and subscription["status"] not in ENDED_STATUSES:
            cancel_immediately(state, subscription, reason="cancellation_requested")
    state.emit("customer.deleted", customer)
    customer_id = customer["id"]
    customer.clear()
    customer.update(id=customer_id, object="customer", deleted=True)
    return customer


def list_all(
    state: SimulatorState,
    *,
    created: int | Mapping[str, int] | None = None,
    email: str | None = None,
    test_clock: str | None = None,
) -> Iterator[Object]:
    for customer in state.all("customer"):
        matches = email is None or customer["email"] == email
        if matches and customer["test_clock"] == test_clock and matches_range(customer["created"], created):
            yield customer


def attach(state: SimulatorState, identifier: str, *, customer: str) -> Object:
    owner = state.get("customer", customer, "customer")
    return cards.attach_token(state, owner, identifier, "payment_method")


def list_payment_methods(
    state: SimulatorState,
    *,
    customer: str | None = None,
    type: str | None = None,  # noqa: A002 - Stripe's name
) -> list[Object]:
    filters = {"customer": customer, "type": type or "card"}
    return [method for method in state.all("payment_method") if filters.items() <= method.items()]


def retrieve_payment_method(state: SimulatorState, identifier: str) -> Object:
    return state.get("payment_method", identifier)


ROUTES = (
    ResourceRoute("POST", "/v1/customers", params.CustomerCreateParams, create),
    ResourceRoute("GET", "/v1/customers", params.CustomerListParams, list_all),
    ResourceRoute("GET", "/v1/customers/{}", params.CustomerRetrieveParams, retrieve),
    ResourceRoute("POST", "/v1/customers/{}", params.CustomerUpdateParams, update),
    ResourceRoute("DELETE", "/v1/customers/{}", params.CustomerDeleteParams, delete),
    ResourceRoute("GET", "/v1/payment_methods", params.PaymentMethodListParams, list_payment_methods),
    ResourceRoute("GET", "/v1/payment_methods/{}", params.PaymentMethodRetrieveParams, retrieve_payment_method),
    ResourceRoute("POST", "/v1/payment_methods/{}/attach", params.PaymentMethodAttachParams, attach),
)
