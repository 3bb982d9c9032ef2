"""Products and prices."""

from collections.abc import Iterator, Mapping
from typing import Any

from stripe import params

from stripe_simulator.currencies import require_known_currency
from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.objects import new_price, new_product
from stripe_simulator.routing import ResourceRoute, matches_range, merge_metadata, provided, require_simulated
from stripe_simulator.state import Object, SimulatorState

Metadata = Mapping[str, str] | str | None
RangeFilter = int | Mapping[str, int] | None


# --- Products ---------------------------------------------------------------------------------------------------------


def create_product(
    state: SimulatorState,
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
    if id in state.objects:
        raise InvalidRequest(f"Product already exists: {id}", code="resource_already_exists", param="id")
    fields = provided(
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
    product = state.add(new_product(state, {**fields, "metadata": merge_metadata({}, metadata)}))
    state.emit("product.created", product)
    if default_price_data:
        require_simulated(
            default_price_data, "default_price_data", "currency", "metadata", "recurring", "tax_behavior", "unit_amount"
        )
        price = create_price(state, product=product["id"], **default_price_data)
        state.update(product, "product.updated", default_price=price["id"])
    return product


def update_product(
    state: SimulatorState,
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
    product = state.get("product", identifier)
    if default_price:
        state.get("price", default_price, "default_price")
    changes = provided(
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
    changes["metadata"] = merge_metadata(product["metadata"], metadata)
    return state.update(product, "product.updated", **changes, updated=state.now())


def delete_product(state: SimulatorState, identifier: str) -> Object:
    product = state.get("product", identifier)
    if any(price["product"] == identifier for price in state.all("price")):
        raise InvalidRequest("This product cannot be deleted because it has one or more user-created prices.")
    state.emit("product.deleted", product)
    state.remove(product)
    return {"id": identifier, "object": "product", "deleted": True}


def list_products(
    state: SimulatorState,
    *,
    active: bool | None = None,
    created: RangeFilter = None,
    ids: list[str] | None = None,
    url: str | None = None,
) -> Iterator[Object]:
    filters = provided(active=active, url=url)
    for product in state.all("product"):
        matches_id = ids is None or product["id"] in ids
        if matches_id and filters.items() <= product.items() and matches_range(product["created"], created):
            yield product


def retrieve_product(state: SimulatorState, identifier: str) -> Object:
    return state.get("product", identifier)


# --- Prices -----------------------------------------------------------------------------------------------------------


def create_price(
    state: SimulatorState,
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
    require_known_currency(currency)
    if (product is None) == (product_data is None):
        raise InvalidRequest("You must specify either `product` or `product_data` when creating a price.")
    owner = state.get("product", product, "product") if product else _create_inline_product(state, product_data or {})
    _claim_lookup_key(state, lookup_key, transfer=transfer_lookup_key)
    optional = provided(lookup_key=lookup_key, nickname=nickname, tax_behavior=tax_behavior)
    fields = {
        **optional,
        "active": active,
        "currency": currency.lower(),
        "metadata": merge_metadata({}, metadata),
        "product": owner["id"],
        "recurring": _recurring_fields(recurring) if recurring else None,
        "unit_amount": unit_amount,
    }
    price = state.add(new_price(state, fields))
    state.emit("price.created", price)
    return price


def _create_inline_product(state: SimulatorState, data: Mapping[str, Any]) -> Object:
    require_simulated(
        data, "product_data", "active", "id", "metadata", "name", "statement_descriptor", "tax_code", "unit_label"
    )
    return create_product(state, **data)


def _recurring_fields(recurring: Mapping[str, Any]) -> Object:
    if recurring.get("usage_type", "licensed") != "licensed":
        raise NotSimulated("recurring[usage_type]")
    require_simulated(recurring, "recurring", "interval", "interval_count", "usage_type")
    return {"interval_count": 1, "meter": None, "trial_period_days": None, "usage_type": "licensed", **recurring}


def _claim_lookup_key(state: SimulatorState, lookup_key: str | None, *, transfer: bool) -> None:
    for owner_price in state.all("price"):
        if lookup_key and owner_price["lookup_key"] == lookup_key:
            if not transfer:
                raise InvalidRequest(
                    f"A price (`{owner_price['id']}`) already uses that lookup key.",
                    code="resource_already_exists",
                    param="lookup_key",
                )
            state.update(owner_price, "price.updated", lookup_key=None)


def update_price(
    state: SimulatorState,
    identifier: str,
    *,
    active: bool | None = None,
    lookup_key: str | None = None,
    metadata: Metadata = None,
    nickname: str | None = None,
    tax_behavior: str | None = None,
    transfer_lookup_key: bool = False,
) -> Object:
    price = state.get("price", identifier)
    if active is False and state.objects[price["product"]]["default_price"] == identifier:
        raise InvalidRequest("This price cannot be archived because it is the default price of its product.")
    if lookup_key and lookup_key != price["lookup_key"]:
        _claim_lookup_key(state, lookup_key, transfer=transfer_lookup_key)
    changes = provided(active=active, lookup_key=lookup_key, nickname=nickname, tax_behavior=tax_behavior)
    changes["metadata"] = merge_metadata(price["metadata"], metadata)
    return state.update(price, "price.updated", **changes)


def list_prices(
    state: SimulatorState,
    *,
    active: bool | None = None,
    created: RangeFilter = None,
    currency: str | None = None,
    lookup_keys: list[str] | None = None,
    product: str | None = None,
    recurring: Mapping[str, Any] | None = None,
    type: str | None = None,  # noqa: A002 - Stripe's name
) -> Iterator[Object]:
    filters = provided(active=active, currency=currency, product=product, type=type)
    for price in state.all("price"):
        matches_key = lookup_keys is None or price["lookup_key"] in lookup_keys
        matches_recurring = recurring is None or (
            price["recurring"] and recurring.items() <= price["recurring"].items()
        )
        if (
            matches_key
            and matches_recurring
            and filters.items() <= price.items()
            and matches_range(price["created"], created)
        ):
            yield price


def retrieve_price(state: SimulatorState, identifier: str) -> Object:
    return state.get("price", identifier)


ROUTES = (
    ResourceRoute("POST", "/v1/products", params.ProductCreateParams, create_product),
    ResourceRoute("GET", "/v1/products", params.ProductListParams, list_products),
    ResourceRoute("GET", "/v1/products/{}", params.ProductRetrieveParams, retrieve_product),
    ResourceRoute("POST", "/v1/products/{}", params.ProductUpdateParams, update_product),
    ResourceRoute("DELETE", "/v1/products/{}", params.ProductDeleteParams, delete_product),
    ResourceRoute("POST", "/v1/prices", params.PriceCreateParams, create_price),
    ResourceRoute("GET", "/v1/prices", params.PriceListParams, list_prices),
    ResourceRoute("GET", "/v1/prices/{}", params.PriceRetrieveParams, retrieve_price),
    ResourceRoute("POST", "/v1/prices/{}", params.PriceUpdateParams, update_price),
)
