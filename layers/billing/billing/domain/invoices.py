"""What a Stripe invoice is to us, and where a list of them goes on."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.domain.errors import RequestInvalid

# https://docs.stripe.com/invoicing/overview#invoice-statuses: from open to paid, void or uncollectible; an
# uncollectible one can still be paid or voided, a paid or void one never changes its status again.
LIFECYCLE_RANK_OF_STATUS = {"draft": 0, "open": 1, "uncollectible": 2, "paid": 3, "void": 3}
ENDED = frozenset({"paid", "void"})

# An invoice's place in its account's list: when it was created, in seconds, and its id.
POSITION = re.compile(r"\d{12}#[!-\"$-~]{1,255}", re.ASCII)


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
    def lifecycle_rank(self) -> int:
        """How far its life has come; it never goes back."""
        return LIFECYCLE_RANK_OF_STATUS.get(self.status, 1)

    @property
    def has_ended(self) -> bool:
        """Whether its status will never be another."""
        return self.status in ENDED

    @property
    def is_issued(self) -> bool:
        """Whether its customer is to see it; Stripe may still change or delete a draft."""
        return self.status != "draft"


@dataclass(frozen=True, slots=True)
class InvoicePage:
    """Part of an account's invoices, newest first, and the position after which there may be more; None at the end."""

    invoices: Sequence[Invoice]
    continues_after: str | None


def cursor_of(position: str) -> str:
    """A position as callers get it: URL-safe, and nothing to build upon."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def position_of(cursor: str) -> str:
    """The position that a cursor stands for. Raises RequestInvalid for what `cursor_of` never made."""
    try:
        position = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        position = ""
    if not POSITION.fullmatch(position) or cursor_of(position) != cursor:
        raise RequestInvalid.at("cursor", "must be a next_cursor that was answered before")
    return position
