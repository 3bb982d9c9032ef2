"""Products and prices."""

from collections.abc import Iterator, Mapping
from typing import Any

from stripe import params

from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.objects import new_price, new_product
from stripe_simulator.routing import Route, given, in_range, merged_metadata, only
from stripe_simulator.world import Object, World

Metadata = Mapping[str, str] | str | None
Range = int | Mapping[str, int] | None


# --- Products ---------------------------------------------------------------------------------------------------------


def create_product(
    world: World,
    *,
    name: str,
    active: bool = True,
    default_price_data: Mapping[str, Any] | None = None,
    description: str | None = None,
    id: str | None = None,  # noqa: A002 - Stripe's name
    images: list[str] | None = None,
    marketing_features: list[Mapping[str, str]] | None = None,
    metadata: Metadata = None,
    statement_descriptor: str | None = None,
    tax_code: str | None = None,
    unit_label: str | None = None,
    url: str | None = None,
) -> Object:
    if id in world.objects:
        raise InvalidRequest(f"Product already exists: {id}", code="resource_already_exists", param="id")
    fields = given(
        id=id,
        name=name,
        active=active,
        description=description,
        images=images,
        marketing_features=marketing_features,
        statement_descriptor=statement_descriptor,
        tax_code=tax_code,
        unit_label=unit_label,
        url=url,
    )
    product = world.add(new_product(world, {**fields, "metadata": merged_metadata({}, metadata)}))
    world.emit("product.created", product)
    if default_price_data:
        only(
            default_price_data, "default_price_data", "currency", "metadata", "recurring", "tax_behavior", "unit_amount"
        )
        price = create_price(world, product=product["id"], **default_price_data)
        world.change(product, "product.updated", default_price=price["id"])
    return product


def update_product(
    world: World,
    identifier: str,
    *,
    active: bool | None = None,
    default_price: str | None = None,
    description: str | None = None,
    images: list[str] | None = None,
    marketing_features: list[Mapping[str, str]] | None = None,
    metadata: Metadata = None,
    name: str | None = None,
    statement_descriptor: str | None = None,
    tax_code: str | None = None,
    unit_label: str | None = None,
    url: str | None = None,
) -> Object:
    product = world.get("product", identifier)
    if default_price:
        world.get("price", default_price, "default_price")
    changes = given(
        active=active,
        default_price=default_price,
        description=description,
        images=images or None,
        marketing_features=marketing_features,
        name=name,
        statement_descriptor=statement_descriptor,
        tax_code=tax_code,
        unit_label=unit_label,
        url=url,
    )
    changes["metadata"] = merged_metadata(product["metadata"], metadata)
    return world.change(product, "product.updated", **changes, updated=world.now())


def delete_product(world: World, identifier: str) -> Object:
    product = world.get("product", identifier)
    if any(price["product"] == identifier for price in world.all("price")):
        raise InvalidRequest("This product cannot be deleted because it has one or more user-created prices.")
    world.emit("product.deleted", product)
    world.forget(product)
    return {"id": identifier, "object": "product", "deleted": True}


def products(
    world: World,
    *,
    active: bool | None = None,
    created: Range = None,
    ids: list[str] | None = None,
    url: str | None = None,
) -> Iterator[Object]:
    wanted = given(active=active, url=url)
    for product in world.all("product"):
        listed = ids is None or product["id"] in ids
        if listed and wanted.items() <= product.items() and in_range(product["created"], created):
            yield product


def product(world: World, identifier: str) -> Object:
    return world.get("product", identifier)


# --- Prices -----------------------------------------------------------------------------------------------------------


def create_price(
    world: World,
    *,
    currency: str,
    active: bool = True,
    lookup_key: str | None = None,
    metadata: Metadata = None,
    nickname: str | None = None,
    product: str | None = None,
    product_data: Mapping[str, Any] | None = None,
    recurring: Mapping[str, Any] | None = None,
    tax_behavior: str | None = None,
    transfer_lookup_key: bool = False,
    unit_amount: int | None = None,
) -> Object:
    if unit_amount is None:
        raise InvalidRequest("Missing required param: unit_amount.", code="parameter_missing", param="unit_amount")
    if unit_amount < 0:
        raise InvalidRequest("This value must be greater than or equal to 0.", param="unit_amount")
    if (product is None) == (product_data is None):
        raise InvalidRequest("You must specify either `product` or `product_data` when creating a price.")
    owner = world.get("product", product, "product") if product else _product_of_data(world, product_data or {})
    _claim_lookup_key(world, lookup_key, transfer=transfer_lookup_key)
    optional = given(lookup_key=lookup_key, nickname=nickname, tax_behavior=tax_behavior)
    fields = {
        **optional,
        "active": active,
        "currency": currency.lower(),
        "metadata": merged_metadata({}, metadata),
        "product": owner["id"],
        "recurring": _recurring(recurring) if recurring else None,
        "unit_amount": unit_amount,
    }
    price = world.add(new_price(world, fields))
    world.emit("price.created", price)
    return price


def _product_of_data(world: World, data: Mapping[str, Any]) -> Object:
    only(data, "product_data", "active", "id", "metadata", "name", "statement_descriptor", "tax_code", "unit_label")
    return create_product(world, **data)


def _recurring(recurring: Mapping[str, Any]) -> Object:
    if recurring.get("usage_type", "licensed") != "licensed":
        raise NotSimulated("recurring[usage_type]")
    only(recurring, "recurring", "interval", "interval_count", "usage_type")
    return {"interval_count": 1, "meter": None, "trial_period_days": None, "usage_type": "licensed", **recurring}


def _claim_lookup_key(world: World, lookup_key: str | None, *, transfer: bool) -> None:
    for holder in world.all("price"):
        if lookup_key and holder["lookup_key"] == lookup_key:
            if not transfer:
                raise InvalidRequest(
                    f"A price (`{holder['id']}`) already uses that lookup key.",
                    code="resource_already_exists",
                    param="lookup_key",
                )
            world.change(holder, "price.updated", lookup_key=None)


def update_price(
    world: World,
    identifier: str,
    *,
    active: bool | None = None,
    lookup_key: str | None = None,
    metadata: Metadata = None,
    nickname: str | None = None,
    tax_behavior: str | None = None,
    transfer_lookup_key: bool = False,
) -> Object:
    price = world.get("price", identifier)
    if lookup_key and lookup_key != price["lookup_key"]:
        _claim_lookup_key(world, lookup_key, transfer=transfer_lookup_key)
    changes = given(active=active, lookup_key=lookup_key, nickname=nickname, tax_behavior=tax_behavior)
    changes["metadata"] = merged_metadata(price["metadata"], metadata)
    return world.change(price, "price.updated", **changes)


def prices(
    world: World,
    *,
    active: bool | None = None,
    created: Range = None,
    currency: str | None = None,
    lookup_keys: list[str] | None = None,
    product: str | None = None,
    recurring: Mapping[str, Any] | None = None,
    type: str | None = None,  # noqa: A002 - Stripe's name
) -> Iterator[Object]:
    wanted = given(active=active, currency=currency, product=product, type=type)
    for price in world.all("price"):
        keyed = lookup_keys is None or price["lookup_key"] in lookup_keys
        rhythm = recurring is None or (price["recurring"] and recurring.items() <= price["recurring"].items())
        if keyed and rhythm and wanted.items() <= price.items() and in_range(price["created"], created):
            yield price


def price(world: World, identifier: str) -> Object:
    return world.get("price", identifier)


ROUTES = (
    Route("POST", "/v1/products", params.ProductCreateParams, create_product),
    Route("GET", "/v1/products", params.ProductListParams, products),
    Route("GET", "/v1/products/{}", params.ProductRetrieveParams, product),
    Route("POST", "/v1/products/{}", params.ProductUpdateParams, update_product),
    Route("DELETE", "/v1/products/{}", params.ProductDeleteParams, delete_product),
    Route("POST", "/v1/prices", params.PriceCreateParams, create_price),
    Route("GET", "/v1/prices", params.PriceListParams, prices),
    Route("GET", "/v1/prices/{}", params.PriceRetrieveParams, price),
    Route("POST", "/v1/prices/{}", params.PriceUpdateParams, update_price),
)
