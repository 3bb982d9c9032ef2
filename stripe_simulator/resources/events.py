"""Events, and the webhook endpoints that they are sent to."""

from collections.abc import Iterator, Mapping

from stripe import params

from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.objects import new_webhook_endpoint
from stripe_simulator.routing import Route, given, in_range, merged_metadata
from stripe_simulator.world import API_VERSION, DAY, Object, World

Metadata = Mapping[str, str] | str | None
RETENTION = 30 * DAY
ENDPOINT_LIMIT = 16


def events(
    world: World,
    *,
    created: int | Mapping[str, int] | None = None,
    delivery_success: bool | None = None,
    type: str | None = None,  # noqa: A002 - Stripe's name
    types: list[str] | None = None,
) -> Iterator[Object]:
    if type and types:
        raise InvalidRequest("You may only specify one of these parameters: type, types.")
    oldest = world.now() - RETENTION
    for event in world.all("event"):
        named = _is_of_type(event["type"], type) and (types is None or event["type"] in types)
        delivered = delivery_success is None or delivery_success == (event["pending_webhooks"] == 0)
        if named and delivered and event["created"] > oldest and in_range(event["created"], created):
            yield event


def _is_of_type(event_type: str, wanted: str | None) -> bool:
    if wanted is None:
        return True
    return event_type.startswith(wanted[:-1]) if wanted.endswith("*") else event_type == wanted


def event(world: World, identifier: str) -> Object:
    return world.get("event", identifier)


def create_endpoint(
    world: World,
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
    if sum(1 for _ in world.all("webhook_endpoint")) >= ENDPOINT_LIMIT:
        raise InvalidRequest(f"You have reached the maximum of {ENDPOINT_LIMIT} test webhook endpoints.")
    fields = {
        **given(description=description),
        "enabled_events": enabled_events,
        "metadata": merged_metadata({}, metadata),
        "url": url,
    }
    endpoint = world.add(new_webhook_endpoint(world, fields))
    world.hidden[endpoint["id"]]["secret"] = secret = f"whsec_{world.token(32)}"
    return {**endpoint, "secret": secret}


def _check_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest("Invalid URL: An explicit scheme (such as https) must be provided.", param="url")


def update_endpoint(
    world: World,
    identifier: str,
    *,
    description: str | None = None,
    disabled: bool | None = None,
    enabled_events: list[str] | None = None,
    metadata: Metadata = None,
    url: str | None = None,
) -> Object:
    endpoint = world.get("webhook_endpoint", identifier)
    if url:
        _check_url(url)
    changes = given(description=description, enabled_events=enabled_events, url=url)
    if disabled is not None:
        changes["status"] = "disabled" if disabled else "enabled"
    return world.change(endpoint, **changes, metadata=merged_metadata(endpoint["metadata"], metadata))


def endpoint(world: World, identifier: str) -> Object:
    return world.get("webhook_endpoint", identifier)


def endpoints(world: World) -> Iterator[Object]:
    return world.all("webhook_endpoint")


def delete_endpoint(world: World, identifier: str) -> Object:
    world.forget(world.get("webhook_endpoint", identifier))
    return {"id": identifier, "object": "webhook_endpoint", "deleted": True}


ROUTES = (
    Route("GET", "/v1/events", params.EventListParams, events),
    Route("GET", "/v1/events/{}", params.EventRetrieveParams, event),
    Route("POST", "/v1/webhook_endpoints", params.WebhookEndpointCreateParams, create_endpoint),
    Route("GET", "/v1/webhook_endpoints", params.WebhookEndpointListParams, endpoints),
    Route("GET", "/v1/webhook_endpoints/{}", params.WebhookEndpointRetrieveParams, endpoint),
    Route("POST", "/v1/webhook_endpoints/{}", params.WebhookEndpointUpdateParams, update_endpoint),
    Route("DELETE", "/v1/webhook_endpoints/{}", params.WebhookEndpointDeleteParams, delete_endpoint),
)
