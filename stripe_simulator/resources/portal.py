"""Portal configurations and sessions."""

from collections.abc import Iterator, Mapping
from typing import Any

from stripe.params import billing_portal as params

from stripe_simulator.errors import InvalidRequest
from stripe_simulator.objects import new_portal_configuration, new_portal_session
from stripe_simulator.routing import Route, given, merged_metadata
from stripe_simulator.world import Object, World

Metadata = Mapping[str, str] | str | None
# What Stripe fills in for features, and fields of features, that a request leaves out.
FEATURES: Mapping[str, Mapping[str, Any]] = {
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
NO_PROFILE = {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None}


def create_configuration(
    world: World,
    *,
    features: Mapping[str, Any],
    business_profile: Mapping[str, str] | None = None,
    default_return_url: str | None = None,
    login_page: Mapping[str, bool] | None = None,
    metadata: Metadata = None,
    name: str | None = None,
) -> Object:
    fields = {
        **given(default_return_url=default_return_url, name=name),
        "business_profile": {**NO_PROFILE, **given(**(business_profile or {}))},
        "features": {
            feature: _merged(world, feature, FEATURES[feature], features.get(feature)) for feature in FEATURES
        },
        "login_page": {"enabled": False, "url": None, **(login_page or {})},
        "metadata": merged_metadata({}, metadata),
    }
    configuration = world.add(new_portal_configuration(world, fields))
    world.emit("billing_portal.configuration.created", configuration)
    return configuration


def _merged(world: World, name: str, current: Mapping[str, Any], change: Mapping[str, Any] | None) -> Object:
    merged = {**current, **(change or {})}
    for field, value in merged.items():
        if value == "":
            merged[field] = []
    if name == "subscription_update":
        merged["products"] = [_offer(world, offer, index) for index, offer in enumerate(merged["products"])]
    return merged


def _offer(world: World, offer: Mapping[str, Any], index: int) -> Object:
    path = f"features[subscription_update][products][{index}]"
    world.get("product", offer["product"], f"{path}[product]")
    for position, identifier in enumerate(offer["prices"]):
        price = world.get("price", identifier, f"{path}[prices][{position}]")
        if price["product"] != offer["product"]:
            raise InvalidRequest(
                f"The price {identifier} does not belong to the product {offer['product']}.", param=f"{path}[prices]"
            )
    adjustable = {"enabled": False, "maximum": None, "minimum": 0, **offer.get("adjustable_quantity", {})}
    return {**offer, "adjustable_quantity": adjustable}


def update_configuration(
    world: World,
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
    configuration = world.get("billing_portal.configuration", identifier)
    current = configuration["features"]
    changes = {
        **given(active=active, default_return_url=default_return_url, name=name),
        "business_profile": {**configuration["business_profile"], **given(**(business_profile or {}))},
        "features": {
            feature: _merged(world, feature, current[feature], (features or {}).get(feature)) for feature in FEATURES
        },
        "login_page": {**configuration["login_page"], **(login_page or {})},
        "metadata": merged_metadata(configuration["metadata"], metadata),
        "updated": world.now(),
    }
    return world.change(configuration, "billing_portal.configuration.updated", **changes)


def configuration(world: World, identifier: str) -> Object:
    return world.get("billing_portal.configuration", identifier)


def configurations(world: World, *, active: bool | None = None, is_default: bool | None = None) -> Iterator[Object]:
    wanted = given(active=active, is_default=is_default)
    return (each for each in world.all("billing_portal.configuration") if wanted.items() <= each.items())


def create_session(
    world: World,
    *,
    customer: str | None = None,
    configuration: str | None = None,
    locale: str | None = None,
    return_url: str | None = None,
) -> Object:
    if customer is None:
        raise InvalidRequest("Missing required param: customer.", code="parameter_missing", param="customer")
    world.get("customer", customer, "customer")
    if configuration is None:
        raise InvalidRequest(
            "No configuration provided and your test mode default configuration has not been created. Provide a "
            "configuration or create your default by saving your customer portal settings in test mode at "
            "https://dashboard.stripe.com/test/settings/billing/portal."
        )
    settings = world.get("billing_portal.configuration", configuration, "configuration")
    if not settings["active"]:
        raise InvalidRequest("The configuration is not active.", param="configuration")
    fields = given(configuration=configuration, customer=customer, locale=locale)
    fields["return_url"] = return_url or settings["default_return_url"]
    session = world.add(new_portal_session(world, fields))
    world.emit("billing_portal.session.created", session)
    return session


ROUTES = (
    Route("POST", "/v1/billing_portal/configurations", params.ConfigurationCreateParams, create_configuration),
    Route("GET", "/v1/billing_portal/configurations", params.ConfigurationListParams, configurations),
    Route("GET", "/v1/billing_portal/configurations/{}", params.ConfigurationRetrieveParams, configuration),
    Route("POST", "/v1/billing_portal/configurations/{}", params.ConfigurationUpdateParams, update_configuration),
    Route("POST", "/v1/billing_portal/sessions", params.SessionCreateParams, create_session),
)
