"""Hosted pages: Checkout, Customer Portal and invoice. They are plain HTML forms without scripts."""

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
from stripe_simulator.currencies import THREE_DECIMAL_CURRENCIES, ZERO_DECIMAL_CURRENCIES
from stripe_simulator.dunning import collect_payment
from stripe_simulator.errors import CardError, StripeError
from stripe_simulator.invoice_pdf import invoice_pdf
from stripe_simulator.state import Object

if TYPE_CHECKING:
    from stripe_simulator.server import Server

Page = Callable[["Server", Request], Awaitable[Response]]
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£"}


def money(amount: int, currency: str) -> str:
    """Format an amount in the currency's smallest unit: ``$29.00``, ``500 JPY``, ``1.250 KWD``."""
    digits = 0 if currency in ZERO_DECIMAL_CURRENCIES else 3 if currency in THREE_DECIMAL_CURRENCIES else 2
    whole, fraction = divmod(abs(amount), 10**digits)
    number = f"{whole}.{fraction:0{digits}d}" if digits else str(whole)
    sign = "-" if amount < 0 else ""
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{number}" if symbol else f"{sign}{number} {currency.upper()}"


def date(timestamp: int) -> str:
    """Format a time in epoch seconds as a date."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%-d %B %Y")


def billing_interval(price: Object) -> str:
    """Format the billing interval of a price: ``month``, ``3 months``."""
    recurring = price["recurring"]
    count = recurring["interval_count"]
    return recurring["interval"] if count == 1 else f"{count} {recurring['interval']}s"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, undefined=StrictUndefined
)
TEMPLATES.filters.update(money=money, date=date, billing_interval=billing_interval)


def _render(template: str, status: int = 200, **context: object) -> Response:
    return HTMLResponse(TEMPLATES.get_template(template).render(context), status)


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303)


# --- Checkout ---------------------------------------------------------------------------------------------------------


async def show_checkout(server: "Server", request: Request) -> Response:
    return _checkout_page(server, _checkout_session(server, request))


def _checkout_session(server: "Server", request: Request) -> Object:
    return server.state.get("checkout.session", request.path_params["id"])


def _checkout_page(server: "Server", session: Object, *, error: str | None = None) -> Response:
    if session["status"] != "open":
        return _render("closed.html", 410, session=session)
    private = server.state.private[session["id"]]
    customer = server.state.objects.get(session["customer"], {})
    return _render(
        "checkout.html",
        402 if error else 200,
        session=session,
        items=private["line_items"],
        trial_days=private["subscription_data"].get("trial_period_days"),
        email=customer.get("email") or session["customer_email"],
        error=error,
    )


async def submit_checkout(server: "Server", request: Request) -> Response:
    session, form = _checkout_session(server, request), await request.form()
    outcome = _form_text(form, "outcome") or ""
    if session["status"] != "open" or outcome not in checkout.CARD_BY_OUTCOME:
        return _checkout_page(server, session, error="Select a card.")
    card = checkout.CARD_BY_OUTCOME[outcome]
    if card is None:
        return _redirect(session["cancel_url"] or session["success_url"])
    server.state.private[session["id"]]["email"] = email = _form_text(form, "email")
    if card == "requires_action":
        return _redirect(f"{session['url']}/authenticate")
    try:
        checkout.pay(server.state, session, card, email=email)
    except CardError as error:
        return _checkout_page(server, session, error=error.message)
    return _redirect(checkout.success_url(session))


async def show_authentication(server: "Server", request: Request) -> Response:
    session = _checkout_session(server, request)
    return (
        _checkout_page(server, session)
        if session["status"] != "open"
        else _render("authenticate.html", session=session)
    )


async def submit_authentication(server: "Server", request: Request) -> Response:
    session, form = _checkout_session(server, request), await request.form()
    if _form_text(form, "outcome") != "complete":
        return _checkout_page(
            server,
            session,
            error="We are unable to authenticate your payment method. Please choose a different payment method and try "
            "again.",
        )
    email = server.state.private[session["id"]].get("email")
    checkout.pay(server.state, session, "requires_action", authenticated=True, email=email)
    return _redirect(checkout.success_url(session))


def _form_int(form: FormData, name: str) -> int | None:
    text = _form_text(form, name)
    return int(text) if text and text.isdecimal() else None


def _form_text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


# --- Portal -----------------------------------------------------------------------------------------------------------


async def show_portal(server: "Server", request: Request) -> Response:
    return _portal_page(server, _portal_session(server, request))


def _portal_session(server: "Server", request: Request) -> Object:
    return server.state.get("billing_portal.session", request.path_params["id"])


def _portal_page(server: "Server", session: Object, *, error: str | None = None, status: int = 200) -> Response:
    state = server.state
    invoices = [invoice for invoice in state.all("invoice") if invoice["customer"] == session["customer"]]
    return _render(
        "portal.html",
        status,
        session=session,
        profile=state.objects[session["configuration"]]["business_profile"],
        features=portal.features_of(state, session),
        subscriptions=portal.subscriptions_of(state, session),
        offers=portal.offered_prices(state, session),
        pending={each["id"]: portal.pending_change(state, each) for each in portal.subscriptions_of(state, session)},
        prices=state.objects_by_type["price"],
        adjustable=any(
            portal.adjustable_quantity(state, session, product) for product in state.objects_by_type["product"]
        ),
        products=state.objects_by_type["product"],
        invoices=[invoice for invoice in invoices if invoice["status"] != "draft"],
        error=error,
    )


async def submit_portal(server: "Server", request: Request) -> Response:
    session, form = _portal_session(server, request), await request.form()
    subscription = _form_text(form, "subscription") or ""
    actions: dict[str, Callable[[], None]] = {
        "change": lambda: portal.change_plan(
            server.state, session, subscription, _form_text(form, "price") or "", _form_int(form, "quantity")
        ),
        "cancel": lambda: portal.cancel(server.state, session, subscription, _form_text(form, "feedback")),
        "resume": lambda: portal.resume(server.state, session, subscription),
        "keep": lambda: portal.keep_current_plan(server.state, session, subscription),
        "card": lambda: portal.replace_card(server.state, session, _form_text(form, "card") or "success"),
    }
    action = actions.get(request.path_params["action"])
    if action is None:
        return _portal_page(server, session, error="Unknown action.", status=404)
    try:
        action()
    except StripeError as error:
        return _portal_page(server, session, error=error.message, status=error.status)
    return _redirect(session["url"])


# --- Invoices ---------------------------------------------------------------------------------------------------------


async def show_invoice(server: "Server", request: Request) -> Response:
    return _render("invoice.html", invoice=_invoice(server, request), error=None)


def _invoice(server: "Server", request: Request) -> Object:
    return server.state.get("invoice", request.path_params["id"])


async def pay_invoice(server: "Server", request: Request) -> Response:
    invoice = _invoice(server, request)
    error = collect_payment(server.state, invoice) if invoice["status"] == "open" else None
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
