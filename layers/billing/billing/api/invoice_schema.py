"""Schema of an invoice in responses and webhook events, as properties by name."""

from collections.abc import Mapping

from billing.api.declaration import TIME, URI, JsonSchema, integer, nullable, string

INVOICE: Mapping[str, JsonSchema] = {
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
