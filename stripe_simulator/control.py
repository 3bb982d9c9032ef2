"""The control surface under ``/_simulator/``: what a test or a person may make this Stripe do.

It is described in the package's docstring.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stripe_simulator import agenda, cards, checkout
from stripe_simulator.errors import CardError, StripeError
from stripe_simulator.faults import read_fault
from stripe_simulator.webhooks import DeliveryMode
from stripe_simulator.world import API_VERSION, Object

if TYPE_CHECKING:
    from stripe_simulator.server import Server

Control = Callable[["Server", Request, Object], Awaitable[Object] | Object]
DRAIN_SECONDS = 30.0


def _read_document(body: bytes) -> Object:
    document = json.loads(body or b"{}")
    if not isinstance(document, dict):
        raise TypeError("the body must be a JSON object")
    return document


def _field(document: Object, name: str) -> Any:  # noqa: ANN401 - JSON
    if name not in document:
        raise ValueError(f"missing field: {name}")
    return document[name]


def health(_server: "Server", _request: Request, _document: Object) -> Object:
    return {"status": "ok", "api_version": API_VERSION}


async def reset(server: "Server", request: Request, document: Object) -> Object:
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    await server.reset(replace(server.world.settings, **given))
    return health(server, request, document)


def clock(server: "Server", _request: Request, _document: Object) -> Object:
    return {"now": server.world.now(), "offset_seconds": server.world.offset}


def advance_clock(server: "Server", request: Request, document: Object) -> Object:
    seconds = _field(document, "advance_seconds")
    if not isinstance(seconds, int) or seconds < 0:
        raise ValueError("advance_seconds must be a positive integer: time does not run backwards")
    server.world.offset += seconds
    agenda.settle(server.world, server.world.now())
    return clock(server, request, document)


def delivery(server: "Server", _request: Request, _document: Object) -> Object:
    return {
        "mode": asdict(server.deliveries.mode),
        "waiting": server.deliveries.waiting,
        "held": server.deliveries.held,
    }


def set_delivery(server: "Server", request: Request, document: Object) -> Object:
    server.deliveries.mode = DeliveryMode(**document)
    return delivery(server, request, document)


def flush(server: "Server", _request: Request, _document: Object) -> Object:
    return {"flushed": server.deliveries.flush()}


def redeliver(server: "Server", _request: Request, _document: Object) -> Object:
    return {"redelivered": server.deliveries.redeliver()}


async def drain(server: "Server", _request: Request, document: Object) -> Object:
    server.deliveries.dispatch()
    idle = await server.deliveries.drain(float(document.get("deadline_seconds", DRAIN_SECONDS)))
    return {"idle": idle, "waiting": server.deliveries.waiting, "held": server.deliveries.held}


def deliveries(server: "Server", request: Request, _document: Object) -> Object:
    wanted = request.query_params
    log = [asdict(attempt) for attempt in server.deliveries.log]
    return {"data": [entry for entry in log if all(str(entry.get(name)) == value for name, value in wanted.items())]}


def resend(server: "Server", request: Request, _document: Object) -> Object:
    event = server.world.get("event", request.path_params["id"])
    endpoints = [endpoint for endpoint in server.world.all("webhook_endpoint") if endpoint["status"] == "enabled"]
    for endpoint in endpoints:
        server.deliveries.send(event, endpoint)
    return {"event": event["id"], "endpoints": [endpoint["id"] for endpoint in endpoints]}


def set_card(server: "Server", request: Request, document: Object) -> Object:
    card = _field(document, "card")
    if card not in cards.CARDS:
        raise ValueError(f"card must be one of: {', '.join(cards.CARDS)}")
    customer = server.world.get("customer", request.path_params["id"])
    cards.behave(server.world, customer, card)
    return {"customer": customer["id"], "card": card}


def calls(server: "Server", _request: Request, _document: Object) -> Object:
    return {"data": dict(server.calls)}


def add_fault(server: "Server", _request: Request, document: Object) -> Object:
    server.faults.append(read_fault(document))
    return faults(server, _request, document)


def faults(server: "Server", _request: Request, _document: Object) -> Object:
    return {"data": [asdict(fault) for fault in server.faults if fault.count > 0]}


def clear_faults(server: "Server", request: Request, document: Object) -> Object:
    server.faults.clear()
    return faults(server, request, document)


def act_on_checkout(server: "Server", request: Request, document: Object) -> Object:
    """Do what a customer would do on the checkout page, through the same code."""
    session = server.world.get("checkout.session", request.path_params["id"])
    outcome, authenticated = _field(document, "outcome"), document.get("authenticated", False)
    if outcome not in checkout.OUTCOMES:
        raise ValueError(f"outcome must be one of: {', '.join(checkout.OUTCOMES)}")
    card = checkout.OUTCOMES[outcome]
    error: CardError | None = None
    if card is not None:
        try:
            checkout.pay(server.world, session, card, authenticated=authenticated, email=document.get("email"))
        except CardError as refused:
            error = refused
    return {
        "status": session["status"],
        "redirect": checkout.success_url(session) if session["status"] == "complete" else session["cancel_url"],
        "error": error and {"code": error.code, "message": error.message},
        "subscription": session["subscription"],
    }


CONTROLS: tuple[tuple[str, str, Control], ...] = (
    ("GET", "health", health),
    ("POST", "reset", reset),
    ("GET", "clock", clock),
    ("POST", "clock", advance_clock),
    ("GET", "delivery", delivery),
    ("POST", "delivery", set_delivery),
    ("POST", "delivery/flush", flush),
    ("POST", "delivery/redeliver", redeliver),
    ("POST", "delivery/drain", drain),
    ("GET", "deliveries", deliveries),
    ("POST", "events/{id}/resend", resend),
    ("POST", "customers/{id}/payment_method", set_card),
    ("GET", "calls", calls),
    ("GET", "faults", faults),
    ("POST", "faults", add_fault),
    ("DELETE", "faults", clear_faults),
    ("POST", "checkout/{id}", act_on_checkout),
)


def control_routes(server: "Server") -> list[Route]:
    """Return the routes of the control surface."""
    return [
        Route(f"/_simulator/{path}", _endpoint(server, control), methods=[method]) for method, path, control in CONTROLS
    ]


def _endpoint(server: "Server", control: Control) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            document = _read_document(await request.body())
            result = control(server, request, document)
            if isinstance(result, Awaitable):
                result = await result
        except StripeError as error:
            return JSONResponse({"error": error.message}, error.status)
        except (ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        server.deliveries.dispatch()
        return JSONResponse(result)

    return endpoint
