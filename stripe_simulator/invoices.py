"""An invoice's life: draft, open, and paid, void or uncollectible."""

from typing import Any

from stripe_simulator.cards import payment_method_of, refusal
from stripe_simulator.errors import CardError, InvalidRequest
from stripe_simulator.objects import new_invoice
from stripe_simulator.world import DAY, Object, World


def draft(world: World, subscription: Object, reason: str, lines: list[Object]) -> Object:
    """Return a new draft invoice of a subscription, not announced yet."""
    return world.add(new_invoice(world, subscription, world.objects[subscription["customer"]], reason, lines))


def finalize(world: World, invoice: Object) -> None:
    """Open a draft: it gets its number and page, and uses or becomes the customer's credit.

    Raises:
        InvalidRequest: It is no draft.
    """
    if invoice["status"] != "draft":
        raise InvalidRequest("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    now = world.now(invoice)
    customer = world.objects[invoice["customer"]]
    sequence = customer["next_invoice_sequence"]
    ending_balance = min(0, invoice["total"] + invoice["starting_balance"])
    page = f"{world.base_url}/i/{invoice['id']}"
    world.change(
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
    world.change(customer, next_invoice_sequence=sequence + 1)
    world.change(customer, "customer.updated", balance=ending_balance, currency=invoice["currency"])
    world.emit("invoice.finalized", invoice)


def charge(world: World, invoice: Object, subscription: Object) -> CardError | None:
    """Try to have an open invoice paid by the card on file, and announce how it went.

    Returns:
        Why the payment failed; None where the invoice is paid now.
    """
    if invoice["amount_due"] == 0:
        mark_paid(world, invoice, attempts=0)
        return None
    error = refusal(world, payment_method_of(world, subscription))
    if error is None:
        mark_paid(world, invoice, attempts=1)
        return None
    # A first payment is not tried again by itself: the customer has to come back.
    retries = () if subscription["status"] == "incomplete" else world.settings.retry_days
    failures = invoice["attempt_count"]
    next_attempt = world.now(invoice) + retries[failures] * DAY if failures < len(retries) else None
    world.change(
        invoice, "invoice.updated", attempted=True, attempt_count=failures + 1, next_payment_attempt=next_attempt
    )
    if error.code == "authentication_required":
        world.emit("invoice.payment_action_required", invoice)
    world.emit("invoice.payment_failed", invoice)
    return error


def mark_paid(world: World, invoice: Object, *, attempts: int) -> None:
    """Note that the amount due came in, after so many more attempts."""
    transitions = {**invoice["status_transitions"], "paid_at": world.now(invoice)}
    world.change(
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
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)


def void(world: World, invoice: Object) -> None:
    """Declare that an invoice should never have been.

    Raises:
        InvalidRequest: It is neither open nor uncollectible.
    """
    _close(world, invoice, {"open", "uncollectible"}, status="void", stamp="voided_at", event="invoice.voided")


def mark_uncollectible(world: World, invoice: Object) -> None:
    """Give up an open invoice.

    Raises:
        InvalidRequest: It is not open.
    """
    _close(
        world,
        invoice,
        {"open"},
        status="uncollectible",
        stamp="marked_uncollectible_at",
        event="invoice.marked_uncollectible",
    )


def stop_collecting(world: World, subscription: Object) -> None:
    """Make no further attempts at a subscription's unpaid invoices."""
    for invoice in of_subscription(world, subscription):
        if invoice["status"] in {"draft", "open"}:
            world.change(invoice, "invoice.updated", auto_advance=False, next_payment_attempt=None)


def of_subscription(world: World, subscription: Object) -> list[Object]:
    """Return a subscription's invoices, newest first."""
    return [invoice for invoice in world.all("invoice") if subscription_id(invoice) == subscription["id"]]


def subscription_id(invoice: Object) -> str:
    """Return the id of the subscription that an invoice bills."""
    identifier: str = invoice["parent"]["subscription_details"]["subscription"]
    return identifier


def _close(world: World, invoice: Object, allowed: set[str], *, status: str, stamp: str, event: str) -> None:
    if invoice["status"] not in allowed:
        raise InvalidRequest(
            f"You can only pass in {' or '.join(sorted(allowed))} invoices. This invoice isn't one of them: it is "
            f"{invoice['status']}."
        )
    changes: dict[str, Any] = {"status": status, "auto_advance": False, "next_payment_attempt": None}
    transitions = {**invoice["status_transitions"], stamp: world.now(invoice)}
    world.change(invoice, "invoice.updated", **changes, status_transitions=transitions)
    world.emit(event, invoice)
