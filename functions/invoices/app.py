"""Show my invoices."""

from billing.adapters.repository import open_store
from billing.api.contracts.contract import Operation
from billing.api.operation import Call, Facts, facts_of, operation
from billing.api.request_models import InvoicesInput
from billing.domain.invoices import cursor_of, position_of


@operation(Operation.INVOICES, input=InvoicesInput)
def handler(call: Call) -> Facts:
    """Answer a page of what Stripe's events told."""
    after = position_of(call.input.cursor) if call.input.cursor else None
    page = open_store().list_invoices(call.account_id, call.input.limit, status=call.input.status, after=after)
    return {
        "invoices": [facts_of(invoice) for invoice in page.invoices],
        "next_cursor": cursor_of(page.continues_after) if page.continues_after else None,
    }
