"""Events and webhook endpoints."""

from collections.abc import Iterator, Mapping

from stripe import params
from stripe.params.v2.core import EventRetrieveParams

from stripe_simulator.errors import InvalidRequest, NoSuchObject, NotSimulated
from stripe_simulator.objects import new_webhook_endpoint
from stripe_simulator.routing import ResourceRoute, matches_range, merge_metadata, provided
from stripe_simulator.state import API_VERSION, DAY, Object, SimulatorState

Metadata = Mapping[str, str] | str | None
EVENT_RETENTION = 30 * DAY
ENDPOINT_LIMIT = 16
TYPES_LIMIT = 20


def list_events(
    state: SimulatorState,
    *,
    created: int | Mapping[str, int] | None = None,
    delivery_success: bool | None = None,
    type: str | None = None,  # noqa: A002 - Stripe's name
    types: list[str] | None = None,
) -> Iterator[Object]:
    if type and types:
        raise InvalidRequest("You may only specify one of these parameters: type, types.")
    if types and len(types) > TYPES_LIMIT:
        raise InvalidRequest(f"Array must have at most {TYPES_LIMIT} elements.", param="types")
    oldest = state.now() - EVENT_RETENTION
    for event in state.all("event"):
        matches_type = _matches_type(event["type"], type) and (types is None or event["type"] in types)
        matches_delivery = delivery_success is None or delivery_success == (event["pending_webhooks"] == 0)
        if matches_type and matches_delivery and event["created"] > oldest and matches_range(event["created"], created):
            yield event


def _matches_type(event_type: str, type_filter: str | None) -> bool:
    if type_filter is None:
        return True
    return event_type.startswith(type_filter[:-1]) if type_filter.endswith("*") else event_type == type_filter


def retrieve_event(state: SimulatorState, identifier: str) -> Object:
    return state.get("event", identifier)


def retrieve_thin_event(_state: SimulatorState, identifier: str) -> Object:
    # The simulator creates no thin events.
    raise NoSuchObject("event", identifier, param="id")


def create_endpoint(
    state: SimulatorState,
    *,
    url: str,
    enabled_events: list[str],
    api_version: str = API_VERSION,
    description: str | None = None,
    metadata: Metadata = None,
) -> Object:
    _check_url(url)
    if api_version != API_VERSION:
        raise NotSimulated(f"api_version={api_version}")
    if sum(1 for _ in state.all("webhook_endpoint")) >= ENDPOINT_LIMIT:
        raise InvalidRequest(f"You have reached the maximum of {ENDPOINT_LIMIT} test webhook endpoints.")
    fields = {
        **provided(description=description),
        "enabled_events": enabled_events,
        "metadata": merge_metadata({}, metadata),
        "url": url,
    }
    endpoint = state.add(new_webhook_endpoint(state, fields))
    state.private[endpoint["id"]]["secret"] = secret = f"whsec_{state.random_string(32)}"
    return {**endpoint, "secret": secret}


def _check_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest("Invalid URL: An explicit scheme (such as https) must be provided.", param="url")


def update_endpoint(
    state: SimulatorState,
    identifier: str,
    *,
    description: str | None = None,
    disabled: bool | None = None,
    enabled_events: list[str] | None = None,
    metadata: Metadata = None,
    url: str | None = None,
) -> Object:
    endpoint = state.get("webhook_endpoint", identifier)
    if url:
        _check_url(url)
    changes = provided(description=description, enabled_events=enabled_events, url=url)
    if disabled is not None:
        changes["status"] = "disabled" if disabled else "enabled"
    return state.update(endpoint, **changes, metadata=merge_metadata(endpoint["metadata"], metadata))


def retrieve_endpoint(state: SimulatorState, identifier: str) -> Object:
    return state.get("webhook_endpoint", identifier)


def list_endpoints(state: SimulatorState) -> Iterator[Object]:
    return state.all("webhook_endpoint")


def delete_endpoint(state: SimulatorState, identifier: str) -> Object:
    state.remove(state.get("webhook_endpoint", identifier))
    return {"id": identifier, "object": "webhook_endpoint", "deleted": True}


ROUTES = (
    ResourceRoute("GET", "/v1/events", params.EventListParams, list_events),
    ResourceRoute("GET", "/v1/events/{}", params.EventRetrieveParams, retrieve_event),
    ResourceRoute("GET", "/v2/core/events/{}", EventRetrieveParams, retrieve_thin_event),
    ResourceRoute("POST", "/v1/webhook_endpoints", params.WebhookEndpointCreateParams, create_endpoint),
    ResourceRoute("GET", "/v1/webhook_endpoints", params.WebhookEndpointListParams, list_endpoints),
    ResourceRoute("GET", "/v1/webhook_endpoints/{}", params.WebhookEndpointRetrieveParams, retrieve_endpoint),
    ResourceRoute("POST", "/v1/webhook_endpoints/{}", params.WebhookEndpointUpdateParams, update_endpoint),
    ResourceRoute("DELETE", "/v1/webhook_endpoints/{}", params.WebhookEndpointDeleteParams, delete_endpoint),
)
