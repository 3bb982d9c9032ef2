"""Invoices."""

from collections.abc import Iterator, Mapping

from stripe import params

from stripe_simulator import cards, invoices
from stripe_simulator.collection import UPDATED, collect, expire, note_paid
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.routing import Route, given, in_range
from stripe_simulator.world import Object, World

Range = int | Mapping[str, int] | None


def _payable(world: World, identifier: str) -> Object:
    """Return an invoice whose customer still exists."""
    invoice = world.get("invoice", identifier)
    world.get("customer", invoice["customer"], "customer")
    return invoice


def retrieve(world: World, identifier: str) -> Object:
    return world.get("invoice", identifier)


def listed(
    world: World,
    *,
    collection_method: str | None = None,
    created: Range = None,
    customer: str | None = None,
    status: str | None = None,
    subscription: str | None = None,
) -> Iterator[Object]:
    wanted = given(collection_method=collection_method, customer=customer, status=status)
    for invoice in world.all("invoice"):
        billed = subscription is None or invoices.subscription_id(invoice) == subscription
        if billed and wanted.items() <= invoice.items() and in_range(invoice["created"], created):
            yield invoice


def lines(world: World, identifier: str) -> list[Object]:
    data: list[Object] = world.get("invoice", identifier)["lines"]["data"]
    return data


def finalize(world: World, identifier: str) -> Object:
    invoice = _payable(world, identifier)
    invoices.finalize(world, invoice)
    if invoice["amount_due"] == 0:
        collect(world, invoice)
    return invoice


def pay(
    world: World,
    identifier: str,
    *,
    paid_out_of_band: bool = False,
    payment_method: str | None = None,
) -> Object:
    invoice = _payable(world, identifier)
    if invoice["status"] not in {"draft", "open", "uncollectible"}:
        raise InvalidRequest(f"Invoice is already {invoice['status']}", code="invoice_not_editable")
    if invoice["status"] == "draft":
        invoices.finalize(world, invoice)
    if payment_method:
        owner = world.objects[invoice["customer"]]
        cards.set_default(world, owner, cards.attach_token(world, owner, payment_method, "payment_method")["id"])
    if paid_out_of_band:
        world.change(invoice, amount_paid_off_stripe=invoice["amount_due"])
        invoices.mark_paid(world, invoice, attempts=0)
        note_paid(world, invoice)
    elif error := collect(world, invoice):
        raise error
    return invoice


def void(world: World, identifier: str) -> Object:
    invoice = world.get("invoice", identifier)
    invoices.void(world, invoice)
    subscription = world.objects[invoices.subscription_id(invoice)]
    if subscription["latest_invoice"] == identifier:
        if subscription["status"] == "incomplete":
            expire(world, subscription)
        elif subscription["status"] in {"past_due", "unpaid"}:
            world.change(subscription, UPDATED, status="active")
    return invoice


def mark_uncollectible(world: World, identifier: str) -> Object:
    invoice = world.get("invoice", identifier)
    invoices.mark_uncollectible(world, invoice)
    return invoice


ROUTES = (
    Route("GET", "/v1/invoices", params.InvoiceListParams, listed),
    Route("GET", "/v1/invoices/{}", params.InvoiceRetrieveParams, retrieve),
    Route("GET", "/v1/invoices/{}/lines", params.InvoiceLineItemListParams, lines),
    Route("POST", "/v1/invoices/{}/finalize", params.InvoiceFinalizeInvoiceParams, finalize),
    Route("POST", "/v1/invoices/{}/pay", params.InvoicePayParams, pay),
    Route("POST", "/v1/invoices/{}/void", params.InvoiceVoidInvoiceParams, void),
    Route("POST", "/v1/invoices/{}/mark_uncollectible", params.InvoiceMarkUncollectibleParams, mark_uncollectible),
)
