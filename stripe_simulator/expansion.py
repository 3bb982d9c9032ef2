"""``expand[]``: replace ids in a response by the objects with these ids."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

from stripe_simulator import checkout
from stripe_simulator.dunning import ENDED_STATUSES
from stripe_simulator.errors import InvalidRequest, NotSimulated
from stripe_simulator.objects import list_object
from stripe_simulator.response_validation import sdk_fields
from stripe_simulator.state import Object, SimulatorState

MAX_DEPTH = 4


def _list_subscriptions(state: SimulatorState, customer: Object) -> Object:
    subscriptions = [
        subscription
        for subscription in state.all("subscription")
        if subscription["customer"] == customer["id"] and subscription["status"] not in ENDED_STATUSES
    ]
    return list_object(subscriptions, f"/v1/customers/{customer['id']}/subscriptions")


# Top-level properties that a response contains only if they are expanded.
INCLUDABLE_PROPERTIES: Mapping[tuple[str, str], Callable[[SimulatorState, Object], Object]] = {
    ("checkout.session", "line_items"): checkout.list_line_items,
    ("customer", "subscriptions"): _list_subscriptions,
}
# Nested properties that a response contains only if they are expanded, by object type.
NESTED_INCLUDABLE_PROPERTIES = {"billing_portal.configuration": "features.subscription_update.products"}


def expand_properties(state: SimulatorState, obj: Object, paths: Sequence[str]) -> Object:
    """Return a copy of an object or list with the properties at the dotted paths expanded.

    Raises:
        InvalidRequest: A path is too deep or leads to a property that cannot be expanded.
    """
    copy = deepcopy(obj)
    if obj["object"] == "list":
        for member in copy["data"]:
            _remove_includable(member, paths, "data.")
    else:
        _remove_includable(copy, paths, "")
    for path in paths:
        parts = path.split(".")
        if len(parts) > MAX_DEPTH:
            raise InvalidRequest(f"You cannot expand more than {MAX_DEPTH} levels of a property.", param="expand")
        _expand(state, copy, parts, path)
    return copy


def _remove_includable(obj: Object, paths: Sequence[str], prefix: str) -> None:
    optional = NESTED_INCLUDABLE_PROPERTIES.get(obj["object"])
    if optional is None or prefix + optional in paths:
        return
    *parents, name = optional.split(".")
    for parent in parents:
        obj = obj[parent]
    obj.pop(name)


def _expand(state: SimulatorState, parent: Object, parts: Sequence[str], path: str) -> None:
    name, rest = parts[0], parts[1:]
    include = INCLUDABLE_PROPERTIES.get((parent.get("object", ""), name))
    if include and name not in parent:
        parent[name] = deepcopy(include(state, parent))
    if name not in parent:
        if name in sdk_fields(parent.get("object", "")):
            raise NotSimulated(f"expand[]={path}")
        raise InvalidRequest(f"This property cannot be expanded ({path}).", param="expand")
    parent[name] = _expanded_value(state, parent[name], path, last=not rest)
    if rest:
        members = parent[name] if isinstance(parent[name], list) else [parent[name]]
        for member in members:
            if member is not None:
                _expand(state, member, rest, path)


def _expanded_value(state: SimulatorState, value: object, path: str, *, last: bool) -> object:
    if isinstance(value, str):
        if value not in state.objects:
            raise InvalidRequest(f"This property cannot be expanded ({path}).", param="expand")
        return deepcopy(state.objects[value])
    if isinstance(value, list) and last:
        return [_expanded_value(state, member, path, last=last) for member in value]
    if value is not None and not isinstance(value, dict | list):
        raise InvalidRequest(f"This property cannot be expanded ({path}).", param="expand")
    return value
