"""Invoices, and the pages of a list of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

# https://docs.stripe.com/invoicing/overview#invoice-statuses
# An uncollectible invoice can still be paid or voided. A paid or void invoice never changes its status. A status that
# is not listed has rank 1.
LIFECYCLE_RANK_OF_STATUS = {"draft": 0, "open": 1, "uncollectible": 2, "paid": 3, "void": 3}
ENDED_STATUSES = frozenset({"paid", "void"})

# Position of an invoice in its account's list: creation in seconds, and id.
POSITION = re.compile(r"\d{12}#[!-\"$-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Invoice:
    """A Stripe invoice, reduced to the fields that are used.

    Amounts are integers in the currency's minor unit, times are UTC.
    """

    id: str
    customer_id: str
    subscription_id: str | None
    status: str
    number: str | None
    created: datetime
    currency: str
    total: int
    amount_due: int
    amount_paid: int
    amount_remaining: int
    attempt_count: int
    period_start: datetime | None
    period_end: datetime | None
    hosted_invoice_url: str | None
    invoice_pdf: str | None

    @property
    def lifecycle_rank(self) -> int:
        """Position in the lifecycle, which never decreases: see `LIFECYCLE_RANK_OF_STATUS`."""
        return LIFECYCLE_RANK_OF_STATUS.get(self.status, 1)

    @property
    def has_ended(self) -> bool:
        """True if the status never changes again."""
        return self.status in ENDED_STATUSES

    @property
    def is_issued(self) -> bool:
        """True if the customer may see the invoice. Stripe may still change or delete a draft."""
        return self.status != "draft"


@dataclass(frozen=True, slots=True)
class InvoicePage:
    """A page of an account's invoices, newest first.

    Attributes:
        invoices: Invoices of the page.
        continues_after: Position after which the next page begins; None on the last page.
    """

    invoices: Sequence[Invoice]
    continues_after: str | None
