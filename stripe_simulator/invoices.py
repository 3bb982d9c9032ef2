"""Invoice lifecycle: draft, open, then paid, void or uncollectible."""

from typing import Any

from stripe_simulator.cards import decline_error, payment_method_of
from stripe_simulator.errors import CardError, InvalidRequest
from stripe_simulator.objects import new_invoice
from stripe_simulator.state import DAY, Object, SimulatorState


def draft(state: SimulatorState, subscription: Object, reason: str, lines: list[Object]) -> Object:
    """Store and return a draft invoice of a subscription, without an event."""
    return state.add(new_invoice(state, subscription, state.objects[subscription["customer"]], reason, lines))


def finalize(state: SimulatorState, invoice: Object) -> None:
    """Finalize a draft: set its number and URLs, and apply it to the customer's balance.

    Raises:
        InvalidRequest: The invoice is not a draft.
    """
    if invoice["status"] != "draft":
        raise InvalidRequest("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    now = state.now(invoice)
    customer = state.objects[invoice["customer"]]
    sequence = customer["next_invoice_sequence"]
    ending_balance = min(0, invoice["total"] + invoice["starting_balance"])
    page = f"{state.base_url}/i/{invoice['id']}"
    state.update(
        invoice,
        status="open",
        auto_advance=True,
        automatically_finalizes_at=None,
        effective_at=now,
        ending_balance=ending_balance,
        hosted_invoice_url=page,
        invoice_pdf=f"{page}/pdf",
        number=f"{customer['invoice_prefix']}-{sequence:04d}",
        status_transitions={**invoice["status_transitions"], "finalized_at": now},
    )
    state.update(customer, next_invoice_sequence=sequence + 1)
    state.update(customer, "customer.updated", balance=ending_balance, currency=invoice["currency"])
    state.emit("invoice.finalized", invoice)


def charge(state: SimulatorState, invoice: Object, subscription: Object) -> CardError | None:
    """Charge an open invoice to the subscription's card and emit the events of the result.

    Returns:
        The error of the payment, or None if the invoice is paid.
    """
    if invoice["amount_due"] == 0:
        mark_paid(state, invoice, attempts=0)
        return None
    error = decline_error(state, payment_method_of(state, subscription))
    if error is None:
        mark_paid(state, invoice, attempts=1)
        return None
    # Stripe does not retry a first payment: the customer has to pay the invoice.
    retries = () if subscription["status"] == "incomplete" else state.settings.retry_days
    failures = invoice["attempt_count"]
    next_attempt = state.now(invoice) + retries[failures] * DAY if failures < len(retries) else None
    state.update(
        invoice, "invoice.updated", attempted=True, attempt_count=failures + 1, next_payment_attempt=next_attempt
    )
    if error.code == "authentication_required":
        state.emit("invoice.payment_action_required", invoice)
    state.emit("invoice.payment_failed", invoice)
    return error


def mark_paid(state: SimulatorState, invoice: Object, *, attempts: int) -> None:
    """Mark an invoice as paid after a number of further payment attempts."""
    transitions = {**invoice["status_transitions"], "paid_at": state.now(invoice)}
    state.update(
        invoice,
        "invoice.updated",
        status="paid",
        amount_paid=invoice["amount_due"],
        amount_remaining=0,
        attempt_count=invoice["attempt_count"] + attempts,
        attempted=True,
        auto_advance=False,
        next_payment_attempt=None,
        status_transitions=transitions,
    )
    state.emit("invoice.paid", invoice)
    state.emit("invoice.payment_succeeded", invoice)


def void(state: SimulatorState, invoice: Object) -> None:
    """Void an invoice.

    Raises:
        InvalidRequest: The invoice is neither open nor uncollectible.
    """
    _close(state, invoice, {"open", "uncollectible"}, status="void", stamp="voided_at", event="invoice.voided")


def mark_uncollectible(state: SimulatorState, invoice: Object) -> None:
    """Mark an open invoice as uncollectible.

    Raises:
        InvalidRequest: The invoice is not open.
    """
    _close(
        state,
        invoice,
        {"open"},
        status="uncollectible",
        stamp="marked_uncollectible_at",
        event="invoice.marked_uncollectible",
    )


def stop_collecting(state: SimulatorState, subscription: Object) -> None:
    """Stop further payment attempts for a subscription's unpaid invoices."""
    for invoice in of_subscription(state, subscription):
        if invoice["status"] in {"draft", "open"}:
            state.update(invoice, "invoice.updated", auto_advance=False, next_payment_attempt=None)


def of_subscription(state: SimulatorState, subscription: Object) -> list[Object]:
    """Return a subscription's invoices, newest first."""
    return [invoice for invoice in state.all("invoice") if subscription_id(invoice) == subscription["id"]]


def subscription_id(invoice: Object) -> str:
    """Return the id of an invoice's subscription."""
    identifier: str = invoice["parent"]["subscription_details"]["subscription"]
    return identifier


def _close(state: SimulatorState, invoice: Object, allowed: set[str], *, status: str, stamp: str, event: str) -> None:
    if invoice["status"] not in allowed:
        raise InvalidRequest(
            f"You can only pass in {' or '.join(sorted(allowed))} invoices. This invoice isn't one of them: it is "
            f"{invoice['status']}."
        )
    changes: dict[str, Any] = {"status": status, "auto_advance": False, "next_payment_attempt": None}
    transitions = {**invoice["status_transitions"], stamp: state.now(invoice)}
    state.update(invoice, "invoice.updated", **changes, status_transitions=transitions)
    state.emit(event, invoice)
