"""Portal configurations and sessions."""

from collections.abc import Iterator, Mapping
from typing import Any

from stripe.params import billing_portal as params

from stripe_simulator.errors import InvalidRequest
from stripe_simulator.objects import new_portal_configuration, new_portal_session
from stripe_simulator.routing import ResourceRoute, merge_metadata, provided
from stripe_simulator.state import Object, SimulatorState

Metadata = Mapping[str, str] | str | None
# Default values of features and their fields that a request omits.
DEFAULT_FEATURES: Mapping[str, Mapping[str, Any]] = {
    "customer_update": {"allowed_updates": [], "enabled": False},
    "invoice_history": {"enabled": False},
    "payment_method_update": {"enabled": False, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {
            "enabled": False,
            "options": ["too_expensive", "missing_features", "switched_service", "unused", "other"],
        },
        "enabled": False,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_pause": {"duration": {"interval_options": [], "type": "indefinite"}, "enabled": False},
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": [],
        "enabled": False,
        "products": [],
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}
DEFAULT_BUSINESS_PROFILE = {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None}


def create_configuration(
    state: SimulatorState,
    *,
    features: Mapping[str, Any],
    business_profile: Mapping[str, str] | None = None,
    default_return_url: str | None = None,
    login_page: Mapping[str, bool] | None = None,
    metadata: Metadata = None,
    name: str | None = None,
) -> Object:
    fields = {
        **provided(default_return_url=default_return_url, name=name),
        "business_profile": {**DEFAULT_BUSINESS_PROFILE, **provided(**(business_profile or {}))},
        "features": {
            feature: _merge_feature(state, feature, DEFAULT_FEATURES[feature], features.get(feature))
            for feature in DEFAULT_FEATURES
        },
        "login_page": {"enabled": False, "url": None, **(login_page or {})},
        "metadata": merge_metadata({}, metadata),
    }
    configuration = state.add(new_portal_configuration(state, fields))
    state.emit("billing_portal.configuration.created", configuration)
    return configuration


def _merge_feature(
    state: SimulatorState, name: str, current: Mapping[str, Any], change: Mapping[str, Any] | None
) -> Object:
    merged = {**current, **(change or {})}
    for field, value in merged.items():
        if value == "":
            merged[field] = []
    if name == "subscription_update":
        conditions = (merged["schedule_at_period_end"] or {}).get("conditions") or []
        merged["schedule_at_period_end"] = {"conditions": conditions}
        if change and "products" in change:
            products = enumerate(merged["products"])
            merged["products"] = [_read_product(state, product, index) for index, product in products]
    return merged


def _read_product(state: SimulatorState, product: Mapping[str, Any], index: int) -> Object:
    path = f"features[subscription_update][products][{index}]"
    state.get("product", product["product"], f"{path}[product]")
    intervals: set[tuple[str, int]] = set()
    for position, identifier in enumerate(product["prices"]):
        price = state.get("price", identifier, f"{path}[prices][{position}]")
        problem = _price_problem(price, product["product"], intervals)
        if problem:
            raise InvalidRequest(f"The price {identifier} {problem}.", param=f"{path}[prices]")
        intervals.add(_interval(price))
    adjustable = {"enabled": False, "maximum": None, "minimum": 0, **product.get("adjustable_quantity", {})}
    return {**product, "adjustable_quantity": adjustable}


def _price_problem(price: Object, product_id: str, intervals: set[tuple[str, int]]) -> str | None:
    """Return why a configuration cannot offer a price; None if it can. `intervals` are those of the other prices."""
    if price["product"] != product_id:
        return f"does not belong to the product {product_id}"
    if not price["active"]:
        return "is not active"
    if price["recurring"] is None:
        return "is not recurring"
    if _interval(price) in intervals:
        return f"has the same billing interval as another price of the product {product_id}"
    return None


def _interval(price: Object) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def update_configuration(
    state: SimulatorState,
    identifier: str,
    *,
    active: bool | None = None,
    business_profile: Mapping[str, str] | None = None,
    default_return_url: str | None = None,
    features: Mapping[str, Any] | None = None,
    login_page: Mapping[str, bool] | None = None,
    metadata: Metadata = None,
    name: str | None = None,
) -> Object:
    configuration = state.get("billing_portal.configuration", identifier)
    current = configuration["features"]
    changes = {
        **provided(active=active, default_return_url=default_return_url, name=name),
        "business_profile": {**configuration["business_profile"], **provided(**(business_profile or {}))},
        "features": {
            feature: _merge_feature(state, feature, current[feature], (features or {}).get(feature))
            for feature in DEFAULT_FEATURES
        },
        "login_page": {**configuration["login_page"], **(login_page or {})},
        "metadata": merge_metadata(configuration["metadata"], metadata),
        "updated": state.now(),
    }
    return state.update(configuration, "billing_portal.configuration.updated", **changes)


def retrieve_configuration(state: SimulatorState, identifier: str) -> Object:
    return state.get("billing_portal.configuration", identifier)


def list_configurations(
    state: SimulatorState, *, active: bool | None = None, is_default: bool | None = None
) -> Iterator[Object]:
    filters = provided(active=active, is_default=is_default)
    return (
        configuration
        for configuration in state.all("billing_portal.configuration")
        if filters.items() <= configuration.items()
    )


def create_session(
    state: SimulatorState,
    *,
    customer: str | None = None,
    configuration: str | None = None,
    locale: str | None = None,
    return_url: str | None = None,
) -> Object:
    if customer is None:
        raise InvalidRequest("Missing required param: customer.", code="parameter_missing", param="customer")
    state.get("customer", customer, "customer")
    if configuration is None:
        raise InvalidRequest(
            "No configuration provided and your test mode default configuration has not been created. Provide a "
            "configuration or create your default by saving your customer portal settings in test mode at "
            "https://dashboard.stripe.com/test/settings/billing/portal."
        )
    settings = state.get("billing_portal.configuration", configuration, "configuration")
    if not settings["active"]:
        raise InvalidRequest("The configuration is not active.", param="configuration")
    fields = provided(configuration=configuration, customer=customer, locale=locale)
    fields["return_url"] = return_url or settings["default_return_url"]
    session = state.add(new_portal_session(state, fields))
    state.emit("billing_portal.session.created", session)
    return session


ROUTES = (
    ResourceRoute("POST", "/v1/billing_portal/configurations", params.ConfigurationCreateParams, create_configuration),
    ResourceRoute("GET", "/v1/billing_portal/configurations", params.ConfigurationListParams, list_configurations),
    ResourceRoute(
        "GET", "/v1/billing_portal/configurations/{}", params.ConfigurationRetrieveParams, retrieve_configuration
    ),
    ResourceRoute(
        "POST", "/v1/billing_portal/configurations/{}", params.ConfigurationUpdateParams, update_configuration
    ),
    ResourceRoute("POST", "/v1/billing_portal/sessions", params.SessionCreateParams, create_session),
)
