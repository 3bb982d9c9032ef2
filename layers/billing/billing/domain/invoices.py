"""What a Stripe invoice is to us."""

from dataclasses import dataclass
from datetime import datetime

# https://docs.stripe.com/invoicing/overview#invoice-statuses: from open to paid, void or uncollectible; an
# uncollectible one can still be paid or voided, a paid or void one never changes its status again.
STAGE_OF_STATUS = {"draft": 0, "open": 1, "uncollectible": 2, "paid": 3, "void": 3}


@dataclass(frozen=True, slots=True)
class Invoice:
    """Stripe's facts about one invoice. Amounts are integers in the currency's minor unit, times are UTC."""

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
    def stage(self) -> int:
        """How far its life has come; it never goes back."""
        return STAGE_OF_STATUS.get(self.status, 1)
