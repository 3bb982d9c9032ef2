"""GET invoices: list an account's invoices."""

from typing import Literal

from pydantic import Field

from billing.api.declaration import TIME, URI, OperationDeclaration, integer, list_of, nullable, object_of, string
from billing.api.request_models import QueryInteger, RequestModel

INVOICES_MAX = 100
CURSOR_LENGTH_MAX = 512


class InvoicesRequest(RequestModel):
    """Query string."""

    limit: QueryInteger = Field(10, ge=1, le=INVOICES_MAX, description="Maximum number of invoices to return.")
    status: Literal["paid", "open", "void", "uncollectible"] | None = Field(
        None, description="Return only invoices with this status."
    )
    cursor: str | None = Field(
        None, min_length=1, max_length=CURSOR_LENGTH_MAX, description="`next_cursor` of the previous page."
    )


INVOICES = OperationDeclaration(
    name="invoices",
    operation_id="listInvoices",
    summary="List invoices",
    description="Returns one page of the account's invoices, newest first. Drafts are not included.",
    request=InvoicesRequest,
    response=object_of(
        {
            "invoices": list_of(
                {
                    "id": string("Stripe id of the invoice."),
                    "number": nullable(string("Number printed on the invoice.")),
                    "status": string("Stripe's status of the invoice.", examples=["open", "paid", "void"]),
                    "currency": string("ISO 4217 currency code in lower case."),
                    "total": integer("Total in the currency's minor unit; negative for a credit."),
                    "amount_due": integer("Amount due in the currency's minor unit."),
                    "amount_paid": integer("Amount paid in the currency's minor unit."),
                    "amount_remaining": integer("Amount still to be paid, in the currency's minor unit."),
                    "created": string("Time of creation.", **TIME),
                    "period_start": nullable(string("Start of the billing period.", **TIME)),
                    "period_end": nullable(string("End of the billing period.", **TIME)),
                    "hosted_invoice_url": nullable(string("Stripe's page to view and pay the invoice.", **URI)),
                    "invoice_pdf": nullable(string("URL of the invoice as a PDF.", **URI)),
                }
            ),
            "next_cursor": nullable(string("`cursor` of the next page; null on the last page.")),
        }
    ),
)
