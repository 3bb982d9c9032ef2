"""Customers and the cards that they have on file."""

from collections.abc import Iterator, Mapping
from typing import Any

from stripe import params

from stripe_simulator import cards
from stripe_simulator.blanks import NO_ADDRESS
from stripe_simulator.collection import OVER, end
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.objects import new_customer
from stripe_simulator.routing import Route, given, in_range, merged_metadata, only
from stripe_simulator.world import Object, World

Metadata = Mapping[str, str] | str | None
Address = Mapping[str, str] | str | None
EMAIL_LIMIT = 512


def create(
    world: World,
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
        world.get("test_helpers.test_clock", test_clock, "test_clock")
    fields = given(
        balance=balance,
        description=description,
        email=_email(email),
        invoice_prefix=invoice_prefix,
        name=name,
        phone=phone,
        preferred_locales=preferred_locales,
    )
    fields["metadata"] = merged_metadata({}, metadata)
    fields["address"] = _address(NO_ADDRESS, address)
    customer = world.add(new_customer(world, fields, test_clock))
    world.emit("customer.created", customer)
    if payment_method:
        method = cards.attach_token(world, customer, payment_method, "payment_method")
        payment_method = method["id"]
    if invoice_settings:
        only(invoice_settings, "invoice_settings", "default_payment_method")
        cards.set_default(world, customer, _attached(payment_method, invoice_settings["default_payment_method"]))
    return customer


def _attached(method: str | None, wanted: str) -> str:
    if method is None:
        param = "invoice_settings[default_payment_method]"
        raise InvalidRequest(f"No such PaymentMethod: '{wanted}'", code="resource_missing", param=param)
    return method


def _address(current: Mapping[str, str | None], change: Address) -> Object | None:
    return {**current, **change} if isinstance(change, Mapping) else None


def _email(email: str | None) -> str | None:
    if email and ("@" not in email or len(email) > EMAIL_LIMIT):
        raise InvalidRequest(f"Invalid email address: {email}", code="email_invalid", param="email")
    return email


def retrieve(world: World, identifier: str) -> Object:
    known = world.objects.get(identifier, {})
    return known if known.get("deleted") and known["object"] == "customer" else world.get("customer", identifier)


def update(
    world: World,
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
    customer = world.get("customer", identifier)
    changes = given(
        balance=balance,
        description=description,
        email=_email(email),
        name=name,
        phone=phone,
        preferred_locales=preferred_locales,
    )
    changes["metadata"] = merged_metadata(customer["metadata"], metadata)
    if address is not None:
        changes["address"] = _address(customer["address"] or NO_ADDRESS, address)
    if invoice_settings is not None:
        only(invoice_settings, "invoice_settings", "default_payment_method")
        token = invoice_settings["default_payment_method"]
        method = cards.attach_token(world, customer, token, "invoice_settings[default_payment_method]")
        changes["invoice_settings"] = {**customer["invoice_settings"], "default_payment_method": method["id"]}
    return world.change(customer, "customer.updated", **changes)


def delete(world: World, identifier: str) -> Object:
    customer = world.get("customer", identifier)
    for subscription in world.all("subscription"):
        if subscription["customer"] == identifier and subscription["status"] not in OVER:
            end(world, subscription, reason="cancellation_requested")
    world.emit("customer.deleted", customer)
    customer_id = customer["id"]
    customer.clear()
    customer.update(id=customer_id, object="customer", deleted=True)
    return customer


def listed(
    world: World,
    *,
    created: int | Mapping[str, int] | None = None,
    email: str | None = None,
    test_clock: str | None = None,
) -> Iterator[Object]:
    for customer in world.all("customer"):
        matches = email is None or customer["email"] == email
        if matches and customer["test_clock"] == test_clock and in_range(customer["created"], created):
            yield customer


def attach(world: World, identifier: str, *, customer: str) -> Object:
    owner = world.get("customer", customer, "customer")
    return cards.attach_token(world, owner, identifier, "payment_method")


def payment_methods(world: World, *, customer: str | None = None, type: str | None = None) -> list[Object]:  # noqa: A002
    wanted = {"customer": customer, "type": type or "card"}
    return [method for method in world.all("payment_method") if wanted.items() <= method.items()]


def payment_method(world: World, identifier: str) -> Object:
    return world.get("payment_method", identifier)


ROUTES = (
    Route("POST", "/v1/customers", params.CustomerCreateParams, create),
    Route("GET", "/v1/customers", params.CustomerListParams, listed),
    Route("GET", "/v1/customers/{}", params.CustomerRetrieveParams, retrieve),
    Route("POST", "/v1/customers/{}", params.CustomerUpdateParams, update),
    Route("DELETE", "/v1/customers/{}", params.CustomerDeleteParams, delete),
    Route("GET", "/v1/payment_methods", params.PaymentMethodListParams, payment_methods),
    Route("GET", "/v1/payment_methods/{}", params.PaymentMethodRetrieveParams, payment_method),
    Route("POST", "/v1/payment_methods/{}/attach", params.PaymentMethodAttachParams, attach),
)
