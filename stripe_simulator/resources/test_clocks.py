"""Test clocks: customers on one live in a time of their own."""

from collections.abc import Iterator

from stripe.params import test_helpers as params

from stripe_simulator.agenda import advance_test_clock
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.objects import new_test_clock
from stripe_simulator.resources import customers
from stripe_simulator.routing import Route
from stripe_simulator.world import Object, World


def create(world: World, *, frozen_time: int, name: str | None = None) -> Object:
    clock = world.add(new_test_clock(world, frozen_time, name))
    world.emit("test_helpers.test_clock.created", clock)
    return clock


def retrieve(world: World, identifier: str) -> Object:
    return world.get("test_helpers.test_clock", identifier)


def listed(world: World) -> Iterator[Object]:
    return world.all("test_helpers.test_clock")


def advance(world: World, identifier: str, *, frozen_time: int) -> Object:
    clock = world.get("test_helpers.test_clock", identifier)
    if frozen_time <= clock["frozen_time"]:
        raise InvalidRequest("You can only advance a test clock forward in time.", param="frozen_time")
    details = {"advancing": {"target_frozen_time": frozen_time}}
    world.change(clock, status="advancing", status_details=details)
    world.emit("test_helpers.test_clock.advancing", clock)
    advance_test_clock(world, clock, frozen_time)
    world.change(clock, status="ready", status_details={})
    world.emit("test_helpers.test_clock.ready", clock)
    return clock


def delete(world: World, identifier: str) -> Object:
    clock = world.get("test_helpers.test_clock", identifier)
    for customer in list(customers.listed(world, test_clock=identifier)):
        customers.delete(world, customer["id"])
    world.emit("test_helpers.test_clock.deleted", clock)
    world.forget(clock)
    return {"id": identifier, "object": "test_helpers.test_clock", "deleted": True}


ROUTES = (
    Route("POST", "/v1/test_helpers/test_clocks", params.TestClockCreateParams, create),
    Route("GET", "/v1/test_helpers/test_clocks", params.TestClockListParams, listed),
    Route("GET", "/v1/test_helpers/test_clocks/{}", params.TestClockRetrieveParams, retrieve),
    Route("DELETE", "/v1/test_helpers/test_clocks/{}", params.TestClockDeleteParams, delete),
    Route("POST", "/v1/test_helpers/test_clocks/{}/advance", params.TestClockAdvanceParams, advance),
)
