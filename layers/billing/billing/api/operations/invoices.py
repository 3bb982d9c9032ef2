"""GET invoices: list an account's invoices."""

from typing import Literal

from pydantic import Field

from billing.api.declaration import OperationDeclaration, list_of, nullable, object_of, string
from billing.api.invoice_schema import INVOICE
from billing.api.request_models import Cursor, QueryInteger, RequestModel

INVOICES_MAX = 100


class InvoicesRequest(RequestModel):
    """Query string."""

    limit: QueryInteger = Field(10, ge=1, le=INVOICES_MAX, description="Maximum number of invoices to return.")
    status: Literal["paid", "open", "void", "uncollectible"] | None = Field(
        None, description="Return only invoices with this status."
    )
    cursor: Cursor | None = Field(None, description="`next_cursor` of the previous page.")


INVOICES = OperationDeclaration(
    name="invoices",
    operation_id="listInvoices",
    summary="List invoices",
    description="Returns one page of the account's invoices, newest first. Drafts are not included.",
    request=InvoicesRequest,
    response=object_of(
        {
            "invoices": list_of(INVOICE),
            "next_cursor": nullable(string("`cursor` of the next page; null on the last page.")),
        }
    ),
)
