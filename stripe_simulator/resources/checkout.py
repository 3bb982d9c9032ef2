"""Checkout Sessions."""

from collections.abc import Iterator, Mapping
from typing import Any

from stripe.params import checkout as params

from stripe_simulator import checkout
from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.resources.subscriptions import read_billing_mode, read_items
from stripe_simulator.routing import ResourceRoute, matches_range, provided, require_simulated
from stripe_simulator.state import Object, SimulatorState
from stripe_simulator.subscriptions import require_currency

HALF_HOUR = 1800
DAY = 86_400


def create(
    state: SimulatorState,
    *,
    mode: str | None = None,
    line_items: list[Mapping[str, Any]] | None = None,
    success_url: str | None = None,
    allow_promotion_codes: bool | None = None,
    cancel_url: str | None = None,
    client_reference_id: str | None = None,
    customer: str | None = None,
    customer_email: str | None = None,
    expires_at: int | None = None,
    locale: str | None = None,
    metadata: Mapping[str, str] | None = None,
    subscription_data: Mapping[str, Any] | None = None,
    ui_mode: str | None = None,
) -> Object:
    _require_parameters(mode=mode, line_items=line_items, success_url=success_url)
    _require_simulated_values(mode=(mode, "subscription"), ui_mode=(ui_mode or "hosted_page", "hosted_page"))
    if customer and customer_email:
        raise InvalidRequest("You may only specify one of these parameters: customer, customer_email.")
    owner = state.get("customer", customer, "customer") if customer else None
    _check_urls(success_url=success_url, cancel_url=cancel_url)
    _check_expiry(state, expires_at)
    fields = provided(
        allow_promotion_codes=allow_promotion_codes,
        cancel_url=cancel_url,
        client_reference_id=client_reference_id,
        customer=customer,
        customer_email=customer_email,
        expires_at=expires_at,
        locale=locale,
        success_url=success_url,
    )
    specs = read_items(state, line_items or [], "line_items")
    if owner:
        require_currency(state, owner, specs[0].price["currency"])
    data = _subscription_data(state, subscription_data or {})
    return checkout.open_session(state, specs, data, {**fields, "metadata": dict(metadata or {})})


def _require_parameters(**parameters: object) -> None:
    for name, value in parameters.items():
        if not value:
            raise InvalidRequest(f"Missing required param: {name}.", code="parameter_missing", param=name)


def _require_simulated_values(**parameters: tuple[str | None, str]) -> None:
    for name, (value, simulated) in parameters.items():
        if value != simulated:
            raise NotSimulated(f"{name}={value}")


def _check_urls(**urls: str | None) -> None:
    for name, url in urls.items():
        if url and not url.startswith(("http://", "https://")):
            raise InvalidRequest("Not a valid URL", code="url_invalid", param=name)


def _check_expiry(state: SimulatorState, expires_at: int | None) -> None:
    if expires_at is not None and not HALF_HOUR <= expires_at - state.now() <= DAY:
        raise InvalidRequest(
            "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout Session "
            "creation.",
            param="expires_at",
        )


def _subscription_data(state: SimulatorState, data: Mapping[str, Any]) -> Object:
    require_simulated(
        data,
        "subscription_data",
        "billing_mode",
        "description",
        "metadata",
        "trial_end",
        "trial_period_days",
        "trial_settings",
    )
    fields = dict(data)
    if "billing_mode" in data:
        fields["billing_mode"] = read_billing_mode(data["billing_mode"])
    if data.get("trial_period_days", 1) < 1:
        raise InvalidRequest(
            "The minimum number of trial period days is 1. ", param="subscription_data[trial_period_days]"
        )
    if "trial_end" in data and data["trial_end"] < state.now() + 2 * DAY:
        raise InvalidRequest(
            "The `trial_end` date has to be at least 2 days in the future.", param="subscription_data[trial_end]"
        )
    return fields


def retrieve(state: SimulatorState, identifier: str) -> Object:
    return state.get("checkout.session", identifier)


def list_all(
    state: SimulatorState,
    *,
    created: int | Mapping[str, int] | None = None,
    customer: str | None = None,
    status: str | None = None,
    subscription: str | None = None,
) -> Iterator[Object]:
    filters = provided(customer=customer, status=status, subscription=subscription)
    for session in state.all("checkout.session"):
        if filters.items() <= session.items() and matches_range(session["created"], created):
            yield session


def expire(state: SimulatorState, identifier: str) -> Object:
    return checkout.expire(state, state.get("checkout.session", identifier))


def list_line_items(state: SimulatorState, identifier: str) -> list[Object]:
    items: list[Object] = checkout.list_line_items(state, state.get("checkout.session", identifier))["data"]
    return items


ROUTES = (
    ResourceRoute("POST", "/v1/checkout/sessions", params.SessionCreateParams, create),
    ResourceRoute("GET", "/v1/checkout/sessions", params.SessionListParams, list_all),
    ResourceRoute("GET", "/v1/checkout/sessions/{}", params.SessionRetrieveParams, retrieve),
    ResourceRoute("POST", "/v1/checkout/sessions/{}/expire", params.SessionExpireParams, expire),
    ResourceRoute("GET", "/v1/checkout/sessions/{}/line_items", params.SessionListLineItemsParams, list_line_items),
)
