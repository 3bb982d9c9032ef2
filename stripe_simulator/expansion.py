"""``expand[]``: ids in an answer replaced by the objects that they name."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

from stripe_simulator import checkout
from stripe_simulator.collection import OVER
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.objects import list_of
from stripe_simulator.world import Object, World

DEEPEST = 4


def _subscriptions_of(world: World, customer: Object) -> Object:
    subscriptions = [
        subscription
        for subscription in world.all("subscription")
        if subscription["customer"] == customer["id"] and subscription["status"] not in OVER
    ]
    return list_of(subscriptions, f"/v1/customers/{customer['id']}/subscriptions")


# What an object shows only when it is asked to.
INCLUDABLE: Mapping[tuple[str, str], Callable[[World, Object], Object]] = {
    ("checkout.session", "line_items"): checkout.line_items,
    ("customer", "subscriptions"): _subscriptions_of,
}


# What deep inside an object is left out unless it is asked for.
ON_REQUEST = {"billing_portal.configuration": "features.subscription_update.products"}


def expanded(world: World, subject: Object, paths: Sequence[str]) -> Object:
    """Return a copy of an object or list with the fields at some dotted paths expanded.

    Raises:
        InvalidRequest: A path is too deep, or leads to nothing that can be expanded.
    """
    copy = deepcopy(subject)
    if subject["object"] == "list":
        for member in copy["data"]:
            _leave_out(member, paths, "data.")
    else:
        _leave_out(copy, paths, "")
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEEPEST + (parts[0] == "data"):
            raise InvalidRequest(f"You cannot expand more than {DEEPEST} levels of a property.", param="expand")
        _expand(world, copy, parts, path)
    return copy


def _leave_out(subject: Object, paths: Sequence[str], prefix: str) -> None:
    optional = ON_REQUEST.get(subject["object"])
    if optional is None or prefix + optional in paths:
        return
    *parents, name = optional.split(".")
    for parent in parents:
        subject = subject[parent]
    subject.pop(name)


def _expand(world: World, holder: Object, parts: Sequence[str], path: str) -> None:
    name, rest = parts[0], parts[1:]
    include = INCLUDABLE.get((holder.get("object", ""), name))
    if include and name not in holder:
        holder[name] = deepcopy(include(world, holder))
    if name not in holder:
        raise InvalidRequest(f"This property cannot be expanded ({path}).", param="expand")
    holder[name] = _object_at(world, holder[name], path, last=not rest)
    if rest:
        found = holder[name] if isinstance(holder[name], list) else [holder[name]]
        for each in found:
            if each is not None:
                _expand(world, each, rest, path)


def _object_at(world: World, value: object, path: str, *, last: bool) -> object:
    if isinstance(value, str):
        if value not in world.objects:
            raise InvalidRequest(f"This property cannot be expanded ({path}).", param="expand")
        return deepcopy(world.objects[value])
    if isinstance(value, list) and last:
        return [_object_at(world, each, path, last=last) for each in value]
    if value is not None and not isinstance(value, dict | list):
        raise InvalidRequest(f"This property cannot be expanded ({path}).", param="expand")
    return value
