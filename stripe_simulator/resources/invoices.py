"""Invoices."""

from collections.abc import Iterator, Mapping

from stripe import params

from stripe_simulator import cards, invoices
from stripe_simulator.dunning import SUBSCRIPTION_UPDATED, activate_if_paid, collect_payment, expire_incomplete
from stripe_simulator.errors import InvalidRequest
from stripe_simulator.routing import ResourceRoute, matches_range, provided
from stripe_simulator.state import Object, SimulatorState

RangeFilter = int | Mapping[str, int] | None


def _get_payable(state: SimulatorState, identifier: str) -> Object:
    """Return an invoice. Its customer must exist."""
    invoice = state.get("invoice", identifier)
    state.get("customer", invoice["customer"], "customer")
    return invoice


def retrieve(state: SimulatorState, identifier: str) -> Object:
    return state.get("invoice", identifier)


def list_all(
    state: SimulatorState,
    *,
    collection_method: str | None = None,
    created: RangeFilter = None,
    customer: str | None = None,
    status: str | None = None,
    subscription: str | None = None,
) -> Iterator[Object]:
    filters = provided(collection_method=collection_method, customer=customer, status=status)
    for invoice in state.all("invoice"):
        matches_subscription = subscription is None or invoices.subscription_id(invoice) == subscription
        if matches_subscription and filters.items() <= invoice.items() and matches_range(invoice["created"], created):
            yield invoice


def list_lines(state: SimulatorState, identifier: str) -> list[Object]:
    data: list[Object] = state.get("invoice", identifier)["lines"]["data"]
    return data


def finalize(state: SimulatorState, identifier: str) -> Object:
    invoice = _get_payable(state, identifier)
    invoices.finalize(state, invoice)
    if invoice["amount_due"] == 0:
        collect_payment(state, invoice)
    return invoice


def pay(
    state: SimulatorState,
    identifier: str,
    *,
    paid_out_of_band: bool = False,
    payment_method: str | None = None,
) -> Object:
    invoice = _get_payable(state, identifier)
    if invoice["status"] not in {"draft", "open", "uncollectible"}:
        raise InvalidRequest(f"Invoice is already {invoice['status']}", code="invoice_not_editable")
    if invoice["status"] == "draft":
        invoices.finalize(state, invoice)
    if payment_method:
        owner = state.objects[invoice["customer"]]
        cards.set_default(state, owner, cards.attach_token(state, owner, payment_method, "payment_method")["id"])
    if paid_out_of_band:
        state.update(invoice, amount_paid_off_stripe=invoice["amount_due"])
        invoices.mark_paid(state, invoice, attempts=0)
        activate_if_paid(state, invoice)
    elif error := collect_payment(state, invoice):
        raise error
    return invoice


def void(state: SimulatorState, identifier: str) -> Object:
    invoice = state.get("invoice", identifier)
    invoices.void(state, invoice)
    subscription = state.objects[invoices.subscription_id(invoice)]
    if subscription["latest_invoice"] == identifier:
        if subscription["status"] == "incomplete":
            expire_incomplete(state, subscription)
        elif subscription["status"] in {"past_due", "unpaid"}:
            state.update(subscription, SUBSCRIPTION_UPDATED, status="active")
    return invoice


def mark_uncollectible(state: SimulatorState, identifier: str) -> Object:
    invoice = state.get("invoice", identifier)
    invoices.mark_uncollectible(state, invoice)
    return invoice


ROUTES = (
    ResourceRoute("GET", "/v1/invoices", params.InvoiceListParams, list_all),
    ResourceRoute("GET", "/v1/invoices/{}", params.InvoiceRetrieveParams, retrieve),
    ResourceRoute("GET", "/v1/invoices/{}/lines", params.InvoiceLineItemListParams, list_lines),
    ResourceRoute("POST", "/v1/invoices/{}/finalize", params.InvoiceFinalizeInvoiceParams, finalize),
    ResourceRoute("POST", "/v1/invoices/{}/pay", params.InvoicePayParams, pay),
    ResourceRoute("POST", "/v1/invoices/{}/void", params.InvoiceVoidInvoiceParams, void),
    ResourceRoute(
        "POST", "/v1/invoices/{}/mark_uncollectible", params.InvoiceMarkUncollectibleParams, mark_uncollectible
    ),
)
