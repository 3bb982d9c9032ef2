"""GET invoices: list an account's invoices."""

from billing.api.contracts.contract import Operation
from billing.api.operation import ApiRequest, ResponseData, as_dict
from billing.api.request_models import InvoicesRequest
from billing.bootstrap import app
from billing.domain.invoices import decode_cursor, encode_cursor


@app.operation(Operation.INVOICES, input=InvoicesRequest)
def handler(request: ApiRequest) -> ResponseData:
    """Return a page of invoices, newest first."""
    after = decode_cursor(request.input.cursor) if request.input.cursor else None
    page = app.repository.list_invoices(
        request.account_id, request.input.limit, status=request.input.status, after=after
    )
    return {
        "invoices": [as_dict(invoice) for invoice in page.invoices],
        "next_cursor": encode_cursor(page.continues_after) if page.continues_after else None,
    }
