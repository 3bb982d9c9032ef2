"""Test clocks: the time of the customers that are assigned to them."""

from collections.abc import Iterator

from stripe.params import test_helpers as params

from stripe_simulator.errors import InvalidRequest
from stripe_simulator.objects import new_test_clock
from stripe_simulator.resources import customers
from stripe_simulator.routing import ResourceRoute
from stripe_simulator.scheduler import advance_test_clock
from stripe_simulator.state import Object, SimulatorState


def create(state: SimulatorState, *, frozen_time: int, name: str | None = None) -> Object:
    clock = state.add(new_test_clock(state, frozen_time, name))
    state.emit("test_helpers.test_clock.created", clock)
    return clock


def retrieve(state: SimulatorState, identifier: str) -> Object:
    return state.get("test_helpers.test_clock", identifier)


def list_all(state: SimulatorState) -> Iterator[Object]:
    return state.all("test_helpers.test_clock")


def advance(state: SimulatorState, identifier: str, *, frozen_time: int) -> Object:
    clock = state.get("test_helpers.test_clock", identifier)
    if frozen_time <= clock["frozen_time"]:
        raise InvalidRequest("You can only advance a test clock forward in time.", param="frozen_time")
    details = {"advancing": {"target_frozen_time": frozen_time}}
    state.update(clock, status="advancing", status_details=details)
    state.emit("test_helpers.test_clock.advancing", clock)
    advance_test_clock(state, clock, frozen_time)
    state.update(clock, status="ready", status_details={})
    state.emit("test_helpers.test_clock.ready", clock)
    return clock


def delete(state: SimulatorState, identifier: str) -> Object:
    clock = state.get("test_helpers.test_clock", identifier)
    for customer in list(customers.list_all(state, test_clock=identifier)):
        customers.delete(state, customer["id"])
    state.emit("test_helpers.test_clock.deleted", clock)
    state.remove(clock)
    return {"id": identifier, "object": "test_helpers.test_clock", "deleted": True}


ROUTES = (
    ResourceRoute("POST", "/v1/test_helpers/test_clocks", params.TestClockCreateParams, create),
    ResourceRoute("GET", "/v1/test_helpers/test_clocks", params.TestClockListParams, list_all),
    ResourceRoute("GET", "/v1/test_helpers/test_clocks/{}", params.TestClockRetrieveParams, retrieve),
    ResourceRoute("DELETE", "/v1/test_helpers/test_clocks/{}", params.TestClockDeleteParams, delete),
    ResourceRoute("POST", "/v1/test_helpers/test_clocks/{}/advance", params.TestClockAdvanceParams, advance),
)
