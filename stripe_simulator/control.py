"""Control surface under ``/_simulator/``.

The package's docstring bodys its requests.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stripe_simulator import cards, checkout, scheduler
from stripe_simulator.errors import CardError, StripeError
from stripe_simulator.faults import parse_fault
from stripe_simulator.state import API_VERSION, Object
from stripe_simulator.webhooks import DeliveryMode

if TYPE_CHECKING:
    from stripe_simulator.server import Server

Handler = Callable[["Server", Request, Object], Awaitable[Object] | Object]
DRAIN_DEADLINE_SECONDS = 30.0


def _parse_body(content: bytes) -> Object:
    body = json.loads(content or b"{}")
    if not isinstance(body, dict):
        raise TypeError("request body must be a JSON object")
    return body


def _required_field(body: Object, name: str) -> Any:  # noqa: ANN401 - JSON
    if name not in body:
        raise ValueError(f"missing field: {name}")
    return body[name]


def health(_server: "Server", _request: Request, _body: Object) -> Object:
    return {"status": "ok", "api_version": API_VERSION}


async def reset(server: "Server", request: Request, body: Object) -> Object:
    changed: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in body.items()}
    await server.reset(replace(server.state.settings, **changed))
    return health(server, request, body)


def get_clock(server: "Server", _request: Request, _body: Object) -> Object:
    return {"now": server.state.now(), "offset_seconds": server.state.offset}


def advance_clock(server: "Server", request: Request, body: Object) -> Object:
    seconds = _required_field(body, "advance_seconds")
    if not isinstance(seconds, int) or seconds < 0:
        raise ValueError("advance_seconds must be an integer of at least 0: the clock cannot go back")
    server.state.offset += seconds
    scheduler.run_due(server.state, server.state.now())
    return get_clock(server, request, body)


def get_delivery(server: "Server", _request: Request, _body: Object) -> Object:
    return {
        "mode": asdict(server.deliveries.mode),
        "waiting": server.deliveries.waiting,
        "held": server.deliveries.held,
    }


def set_delivery(server: "Server", request: Request, body: Object) -> Object:
    server.deliveries.mode = DeliveryMode(**body)
    return get_delivery(server, request, body)


def flush_deliveries(server: "Server", _request: Request, _body: Object) -> Object:
    return {"flushed": server.deliveries.flush()}


def redeliver(server: "Server", _request: Request, _body: Object) -> Object:
    return {"redelivered": server.deliveries.redeliver()}


async def drain_deliveries(server: "Server", _request: Request, body: Object) -> Object:
    server.deliveries.dispatch()
    idle = await server.deliveries.drain(float(body.get("deadline_seconds", DRAIN_DEADLINE_SECONDS)))
    return {"idle": idle, "waiting": server.deliveries.waiting, "held": server.deliveries.held}


def list_deliveries(server: "Server", request: Request, _body: Object) -> Object:
    filters = request.query_params
    log = [asdict(attempt) for attempt in server.deliveries.log]
    return {"data": [entry for entry in log if all(str(entry.get(name)) == value for name, value in filters.items())]}


def resend_event(server: "Server", request: Request, _body: Object) -> Object:
    event = server.state.get("event", request.path_params["id"])
    endpoints = [endpoint for endpoint in server.state.all("webhook_endpoint") if endpoint["status"] == "enabled"]
    for endpoint in endpoints:
        server.deliveries.send(event, endpoint)
    return {"event": event["id"], "endpoints": [endpoint["id"] for endpoint in endpoints]}


def set_card(server: "Server", request: Request, body: Object) -> Object:
    card = _required_field(body, "card")
    if card not in cards.CARDS:
        raise ValueError(f"card must be one of: {', '.join(cards.CARDS)}")
    customer = server.state.get("customer", request.path_params["id"])
    cards.set_outcome(server.state, customer, card)
    return {"customer": customer["id"], "card": card}


def count_calls(server: "Server", _request: Request, _body: Object) -> Object:
    return {"data": dict(server.calls)}


def add_fault(server: "Server", _request: Request, body: Object) -> Object:
    server.faults.append(parse_fault(body))
    return list_faults(server, _request, body)


def list_faults(server: "Server", _request: Request, _body: Object) -> Object:
    return {"data": [asdict(fault) for fault in server.faults if fault.count > 0]}


def clear_faults(server: "Server", request: Request, body: Object) -> Object:
    server.faults.clear()
    return list_faults(server, request, body)


def submit_checkout(server: "Server", request: Request, body: Object) -> Object:
    """Submit the Checkout page, through the code that the page itself uses."""
    session = server.state.get("checkout.session", request.path_params["id"])
    outcome, authenticated = _required_field(body, "outcome"), body.get("authenticated", False)
    if outcome not in checkout.CARD_BY_OUTCOME:
        raise ValueError(f"outcome must be one of: {', '.join(checkout.CARD_BY_OUTCOME)}")
    card = checkout.CARD_BY_OUTCOME[outcome]
    error: CardError | None = None
    if card is not None:
        try:
            checkout.pay(server.state, session, card, authenticated=authenticated, email=body.get("email"))
        except CardError as declined:
            error = declined
    return {
        "status": session["status"],
        "redirect": checkout.success_url(session) if session["status"] == "complete" else session["cancel_url"],
        "error": error and {"code": error.code, "message": error.message},
        "subscription": session["subscription"],
    }


CONTROL_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "health", health),
    ("POST", "reset", reset),
    ("GET", "clock", get_clock),
    ("POST", "clock", advance_clock),
    ("GET", "delivery", get_delivery),
    ("POST", "delivery", set_delivery),
    ("POST", "delivery/flush", flush_deliveries),
    ("POST", "delivery/redeliver", redeliver),
    ("POST", "delivery/drain", drain_deliveries),
    ("GET", "deliveries", list_deliveries),
    ("POST", "events/{id}/resend", resend_event),
    ("POST", "customers/{id}/payment_method", set_card),
    ("GET", "calls", count_calls),
    ("GET", "faults", list_faults),
    ("POST", "faults", add_fault),
    ("DELETE", "faults", clear_faults),
    ("POST", "checkout/{id}", submit_checkout),
)


def control_routes(server: "Server") -> list[Route]:
    """Return the routes of the control surface."""
    return [
        Route(f"/_simulator/{path}", _endpoint(server, handler), methods=[method])
        for method, path, handler in CONTROL_ROUTES
    ]


def _endpoint(server: "Server", handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = _parse_body(await request.body())
            result = handler(server, request, body)
            if isinstance(result, Awaitable):
                result = await result
        except StripeError as error:
            return JSONResponse({"error": error.message}, error.status)
        except (ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        server.deliveries.dispatch()
        return JSONResponse(result)

    return endpoint
