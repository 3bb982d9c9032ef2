"""GET invoices: list an account's invoices."""

from billing.api.endpoint import ResponseData
from billing.api.operations.invoices import INVOICES
from billing.api.pipeline import ApiRequest
from billing.bootstrap import app
from billing.domain.cursors import decode_cursor, encode_cursor
from billing.domain.invoices import POSITION


@app.operation(INVOICES)
def handler(request: ApiRequest) -> ResponseData:
    """Return a page of invoices, newest first."""
    after = decode_cursor(request.input.cursor, POSITION) if request.input.cursor else None
    page = app.repository.list_invoices(
        request.account_id, request.input.limit, status=request.input.status, after=after
    )
    return {
        "invoices": page.invoices,
        "next_cursor": encode_cursor(page.continues_after) if page.continues_after else None,
    }
