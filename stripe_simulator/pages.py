"""The pages that Stripe hosts: checkout, the customer portal, an invoice. Plain forms, without scripts."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from stripe_simulator import checkout, portal
from stripe_simulator.collection import collect
from stripe_simulator.errors import CardError, StripeError
from stripe_simulator.invoice_pdf import invoice_pdf
from stripe_simulator.world import Object

if TYPE_CHECKING:
    from stripe_simulator.server import Server

Page = Callable[["Server", Request], Awaitable[Response]]
ZERO_DECIMAL = {
    "bif",
    "clp",
    "djf",
    "gnf",
    "jpy",
    "kmf",
    "krw",
    "mga",
    "pyg",
    "rwf",
    "ugx",
    "vnd",
    "vuv",
    "xaf",
    "xof",
    "xpf",
}
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£"}


def money(amount: int, currency: str) -> str:
    """Return an amount in the currency's smallest unit as people write it."""
    whole = f"{amount}" if currency in ZERO_DECIMAL else f"{abs(amount) // 100}.{abs(amount) % 100:02d}"
    sign = "-" if amount < 0 and currency not in ZERO_DECIMAL else ""
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{whole}" if symbol else f"{sign}{whole} {currency.upper()}"


def date(timestamp: int) -> str:
    """Return an epoch second as a day."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%-d %B %Y")


def rhythm(price: Object) -> str:
    """Return how often a price is billed: ``month``, ``3 months``."""
    recurring = price["recurring"]
    count = recurring["interval_count"]
    return recurring["interval"] if count == 1 else f"{count} {recurring['interval']}s"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, undefined=StrictUndefined
)
TEMPLATES.filters.update(money=money, date=date, rhythm=rhythm)


def _render(template: str, status: int = 200, **context: object) -> Response:
    return HTMLResponse(TEMPLATES.get_template(template).render(context), status)


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303)


# --- Checkout ---------------------------------------------------------------------------------------------------------


async def show_checkout(server: "Server", request: Request) -> Response:
    return _checkout_page(server, _session(server, request))


def _session(server: "Server", request: Request) -> Object:
    return server.world.get("checkout.session", request.path_params["id"])


def _checkout_page(server: "Server", session: Object, *, error: str | None = None) -> Response:
    if session["status"] != "open":
        return _render("closed.html", 410, session=session)
    hidden = server.world.hidden[session["id"]]
    known = server.world.objects.get(session["customer"], {})
    return _render(
        "checkout.html",
        402 if error else 200,
        session=session,
        items=hidden["items"],
        trial_days=hidden["subscription_data"].get("trial_period_days"),
        email=known.get("email") or session["customer_email"],
        error=error,
    )


async def submit_checkout(server: "Server", request: Request) -> Response:
    session, form = _session(server, request), await request.form()
    outcome = _text(form, "outcome") or ""
    if session["status"] != "open" or outcome not in checkout.OUTCOMES:
        return _checkout_page(server, session, error="Choose a card.")
    card = checkout.OUTCOMES[outcome]
    if card is None:
        return _redirect(session["cancel_url"] or session["success_url"])
    server.world.hidden[session["id"]]["email"] = email = _text(form, "email")
    if card == "requires_action":
        return _redirect(f"{session['url']}/authenticate")
    try:
        checkout.pay(server.world, session, card, email=email)
    except CardError as refused:
        return _checkout_page(server, session, error=refused.message)
    return _redirect(checkout.success_url(session))


async def show_authentication(server: "Server", request: Request) -> Response:
    session = _session(server, request)
    return (
        _checkout_page(server, session)
        if session["status"] != "open"
        else _render("authenticate.html", session=session)
    )


async def submit_authentication(server: "Server", request: Request) -> Response:
    session, form = _session(server, request), await request.form()
    if _text(form, "outcome") != "complete":
        return _checkout_page(
            server,
            session,
            error="We are unable to authenticate your payment method. Please choose a different payment method and try "
            "again.",
        )
    email = server.world.hidden[session["id"]].get("email")
    checkout.pay(server.world, session, "requires_action", authenticated=True, email=email)
    return _redirect(checkout.success_url(session))


def _number(form: FormData, name: str) -> int | None:
    text = _text(form, name)
    return int(text) if text and text.isdecimal() else None


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


# --- Portal -----------------------------------------------------------------------------------------------------------


async def show_portal(server: "Server", request: Request) -> Response:
    return _portal_page(server, _portal_session(server, request))


def _portal_session(server: "Server", request: Request) -> Object:
    return server.world.get("billing_portal.session", request.path_params["id"])


def _portal_page(server: "Server", session: Object, *, error: str | None = None, status: int = 200) -> Response:
    world = server.world
    invoices = [each for each in world.all("invoice") if each["customer"] == session["customer"]]
    return _render(
        "portal.html",
        status,
        session=session,
        profile=world.objects[session["configuration"]]["business_profile"],
        features=portal.features_of(world, session),
        subscriptions=portal.subscriptions_of(world, session),
        offers=portal.offers(world, session),
        adjustable=any(portal.adjustable_quantity(world, session, product) for product in world.tables["product"]),
        products=world.tables["product"],
        invoices=[each for each in invoices if each["status"] != "draft"],
        error=error,
    )


async def submit_portal(server: "Server", request: Request) -> Response:
    session, form = _portal_session(server, request), await request.form()
    subscription = _text(form, "subscription") or ""
    actions: dict[str, Callable[[], None]] = {
        "change": lambda: portal.change_plan(
            server.world, session, subscription, _text(form, "price") or "", _number(form, "quantity")
        ),
        "cancel": lambda: portal.cancel(server.world, session, subscription, _text(form, "feedback")),
        "resume": lambda: portal.resume(server.world, session, subscription),
        "card": lambda: portal.replace_card(server.world, session, _text(form, "card") or "success"),
    }
    action = actions.get(request.path_params["action"])
    if action is None:
        return _portal_page(server, session, error="There is no such action.", status=404)
    try:
        action()
    except StripeError as error:
        return _portal_page(server, session, error=error.message, status=error.status)
    return _redirect(session["url"])


# --- Invoices ---------------------------------------------------------------------------------------------------------


async def show_invoice(server: "Server", request: Request) -> Response:
    return _render("invoice.html", invoice=_invoice(server, request), error=None)


def _invoice(server: "Server", request: Request) -> Object:
    return server.world.get("invoice", request.path_params["id"])


async def pay_invoice(server: "Server", request: Request) -> Response:
    invoice = _invoice(server, request)
    error = collect(server.world, invoice) if invoice["status"] == "open" else None
    return _render("invoice.html", 402 if error else 200, invoice=invoice, error=error and error.message)


async def show_invoice_pdf(server: "Server", request: Request) -> Response:
    invoice = _invoice(server, request)
    lines = [f"{line['description']}   {money(line['amount'], line['currency'])}" for line in invoice["lines"]["data"]]
    total = f"Total   {money(invoice['total'], invoice['currency'])}   ({invoice['status']})"
    content = invoice_pdf([f"Invoice {invoice['number']}", date(invoice["created"]), *lines, total])
    return Response(content, media_type="application/pdf")


PAGES: tuple[tuple[str, str, Page], ...] = (
    ("GET", "/c/pay/{id}", show_checkout),
    ("POST", "/c/pay/{id}", submit_checkout),
    ("GET", "/c/pay/{id}/authenticate", show_authentication),
    ("POST", "/c/pay/{id}/authenticate", submit_authentication),
    ("GET", "/p/session/{id}", show_portal),
    ("POST", "/p/session/{id}/{action}", submit_portal),
    ("GET", "/i/{id}", show_invoice),
    ("POST", "/i/{id}", pay_invoice),
    ("GET", "/i/{id}/pdf", show_invoice_pdf),
)


def page_routes(server: "Server") -> list[Route]:
    """Return the routes of the hosted pages."""
    return [Route(path, _endpoint(server, page), methods=[method]) for method, path, page in PAGES]


def _endpoint(server: "Server", page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            response = await page(server, request)
        except StripeError as error:
            response = _render("error.html", error.status, message=error.message)
        server.deliveries.dispatch()
        return response

    return endpoint
